"""`nnx.cond` and `nnx.switch`: against calling the function directly, what is unchanged, and errors."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Pair(nnx.Module):
    def __init__(self):
        self.a = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        self.b = nnx.Linear(2, 2, rngs=nnx.Rngs(1))
        self.count = nnx.Variable(jnp.array(0))
        self.rngs = nnx.Rngs(3)

    def step(self, x):
        self.count += 1
        return x + self.rngs.normal(x.shape)

    def stay(self, x):
        return x


X = jnp.ones(2)


# -- values


@pytest.mark.parametrize("wrap", [lambda f: f, nnx.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("pred", [True, False])
def test_cond_is_a_call_of_one_function(pred, wrap):
    model, expected = Pair(), Pair()
    f = wrap(lambda model, pred, x: nnx.cond(pred, Pair.step, Pair.stay, model, x))
    np.testing.assert_allclose(f(model, pred, X), expected.step(X) if pred else X, rtol=1e-6)
    assert int(model.count) == int(pred)
    assert int(model.rngs.default.count) == int(pred)


@pytest.mark.parametrize("pred", [jnp.array(True), np.bool_(True), 1, 2.0, nnx.Variable(jnp.array(True))])
def test_predicates_are_what_jax_takes_and_variables(pred):
    assert nnx.cond(pred, lambda x: x, lambda x: -x, 1.0) == 1


@pytest.mark.parametrize(("index", "called"), [(0, 0), (2, 2), (-5, 0), (9, 2)])
def test_switch_clamps_its_index(index, called):
    layers = [nnx.BatchNorm(2, rngs=nnx.Rngs(0)) for _ in range(3)]
    nnx.switch(index, layers, jnp.ones((4, 2)))
    changed = [bool(layer.mean.value.any()) for layer in layers]
    assert changed == [i == called for i in range(3)]


def test_switch_takes_one_branch_and_an_index_in_a_variable():
    model = Pair()
    assert nnx.switch(nnx.Variable(jnp.array(1)), [lambda x: x, lambda x: -x], 1.0) == -1
    nnx.switch(0, [Pair.step], model, X)
    assert int(model.count) == 1


def test_branches_may_be_methods_of_modules_and_modules():
    model, other = Pair(), Pair()
    nnx.cond(True, model.step, other.stay, X)
    nnx.cond(False, model.stay, other.step, X)
    assert [int(model.count), int(other.count)] == [1, 1]
    np.testing.assert_allclose(nnx.cond(False, model.a, model.b, X), model.b(X), rtol=1e-6)


def test_modules_may_be_anywhere_in_the_operands_and_shared():
    model, seen = Pair(), []

    def step(tree, same, nothing):
        seen.append(tree["x"][1] is same and nothing is None)
        same.count += tree["n"]

    nnx.cond(True, step, lambda *_: None, {"x": [0, model], "n": jnp.array(5)}, model, None)
    assert int(model.count) == 5
    assert seen == [True]


def test_modules_come_back_as_themselves_and_new_ones_can_be_made():
    model = Pair()

    def make(model, x):
        return {"same": model.a, "new": nnx.Linear(2, 2, rngs=nnx.Rngs(7))}, x

    out, _ = nnx.cond(X.sum() > 0, make, make, model, X)
    assert out["same"] is model.a
    assert out["new"].kernel.shape == (2, 2)


def test_structure_changes_that_all_branches_make_are_kept():
    model = Pair()
    a, b = model.a, model.b

    def change(factor):
        def f(model):
            model.a, model.b = model.b, model.a
            model.extra = nnx.Param(factor * X)
            model.tag = "new"
            del model.rngs

        return f

    nnx.switch(1, [change(1), change(2), change(3)], model)
    assert model.a is b
    assert model.b is a
    assert model.extra.value.tolist() == [2, 2]
    assert model.tag == "new"
    assert not hasattr(model, "rngs")


def test_arrays_in_tuples_and_trees_in_variables_change():
    model = nnx.Dict(pair=(jnp.zeros(2), X), tree=nnx.Variable({"x": X, "y": jnp.zeros(2)}))

    def change(model):
        model.pair = (model.pair[0] + 1, model.pair[1])
        model.tree.set_value({**model.tree.get_value(), "y": X})

    kept = model.pair[1], model.tree.get_value()["x"]
    nnx.cond(True, change, lambda model: None, model)
    assert model.pair[0].tolist() == [1, 1]
    assert model.tree.get_value()["y"].tolist() == [1, 1]
    assert model.pair[1] is kept[0]
    assert model.tree.get_value()["x"] is kept[1]


# -- what no branch changed


def test_values_that_no_branch_changes_stay_the_same_arrays():
    model = Pair()
    before = [
        v.get_raw_value() for v in jax.tree.leaves(model, is_leaf=lambda v: isinstance(v, nnx.Variable))
    ]
    nnx.cond(True, Pair.step, Pair.stay, model, X)
    after = [v.get_raw_value() for v in jax.tree.leaves(model, is_leaf=lambda v: isinstance(v, nnx.Variable))]
    assert sum(a is not b for a, b in zip(before, after, strict=True)) == 2  # the counts


@pytest.mark.slow
def test_a_transform_around_sees_only_what_changed():
    model, tree = Pair(), nnx.Variable({"x": X})

    @nnx.jit
    def f(model, tree, x):
        before = model.a.kernel.value, tree.get_value()["x"]
        nnx.cond(x.sum() > 0, lambda m, t, x: m.step(x), lambda m, t, x: x, model, tree, x)
        return jnp.array([before[0] is model.a.kernel.value, before[1] is tree.get_value()["x"]])

    assert f(model, tree, X).all()
    axes = nnx.StateAxes({nnx.Param: None, nnx.RngState: None, ...: 0})
    model.count.set_value(jnp.arange(4))

    def increment(model):
        model.count += 10

    nnx.vmap(lambda m: nnx.cond(m.count % 2 == 0, increment, lambda m: None, m), in_axes=(axes,))(model)
    assert model.count.value.tolist() == [10, 1, 12, 3]


# -- nesting


def test_gradients_go_through_the_branch_that_is_taken():
    def loss(model, x):
        return nnx.cond(x.sum() > 0, lambda m, x: m.a(x), lambda m, x: 2 * m.b(x), model, x).sum()

    grads = nnx.grad(loss)(Pair(), -X)
    assert grads.a.bias.value.tolist() == [0, 0]
    assert grads.b.bias.value.tolist() == [2, 2]


def test_branches_nest():
    def inner(model, x):
        return nnx.cond(x.sum() > 5, Pair.step, Pair.stay, model, x)

    model = Pair()
    f = nnx.jit(lambda model, x: nnx.cond(x.sum() > 0, inner, Pair.stay, model, x))
    for x in (X, 5 * X, -X):
        f(model, x)
    assert int(model.count) == 1


def test_it_runs_with_jit_disabled():
    model = Pair()
    with jax.disable_jit():
        nnx.cond(True, Pair.step, Pair.stay, model, X)
    assert int(model.count) == 1


# -- what is kept between calls


def test_a_function_is_traced_once_for_equal_operands():
    traces = []

    def step(model, x):
        traces.append(x)
        model.count += 1
        return x

    model = Pair()
    for _ in range(3):
        nnx.cond(True, step, Pair.stay, model, X)
    assert len(traces) == 1
    assert int(model.count) == 3
    nnx.cond(True, step, Pair.stay, model, jnp.ones(3))
    model.tag = "new"
    nnx.cond(True, step, Pair.stay, model, X)
    assert len(traces) == 3


def test_functions_and_models_are_freed():
    model, array = Pair(), jnp.ones(2)

    def step(model):
        model.count += array.sum().astype(int)

    nnx.cond(True, step, lambda model: None, model)
    alive = weakref.ref(model), weakref.ref(step)
    gc.collect()
    del model, step
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


# -- errors


def add_attribute(model):
    model.extra = nnx.Param(X)


def do_nothing(model):
    pass


def test_an_attribute_set_in_one_branch_is_named():
    message = r"true_fun \('add_attribute'\) changed 'operands\[0\]/extra': a Param is new, and false_fun "
    message += r"\('do_nothing'\) changed no attribute.*\n.*set an attribute before, or in all"
    with pytest.raises(TypeError, match=message):
        nnx.cond(True, add_attribute, do_nothing, Pair())
    message = r"nnx.switch differ: branches\[0\] \('do_nothing'\) changed no attribute, and branches\[2\] "
    message += r"\('add_attribute'\) changed 'operands\[0\]\['m'\]/extra': a Param is new"
    functions = [lambda d: do_nothing(d["m"]), lambda d: None, lambda d: add_attribute(d["m"])]
    for f, name in zip(functions, ("do_nothing", "do_nothing", "add_attribute"), strict=True):
        f.__name__ = name
    with pytest.raises(TypeError, match=message):
        nnx.switch(1, functions, {"m": Pair()})


def swap(model):
    model.a, model.b = model.b, model.a


def set_static(model):
    model.mode = "train"


def replace(model):
    model.a = nnx.Linear(2, 2, rngs=nnx.Rngs(0))


def change_dtype(model):
    model.count.set_value(1.5)


def change_shape(model):
    model.count.set_value(jnp.zeros(3, int))


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (
            swap,
            "leaves what was at 'operands.0./b' at 'operands.0./a', .* leaves what was at 'operands.0./a'",
        ),
        (set_static, "changed 'operands.0./mode': 'train' is new"),
        (replace, "leaves a new one at 'operands.0./a', and .* leaves what was at 'operands.0./a'"),
        (change_dtype, r"leaves float32\[\] at 'operands.0./count', and .* leaves int32\[\]"),
        (change_shape, r"leaves int32\[3\] at 'operands.0./count', and .* leaves int32\[\]"),
    ],
)
def test_a_module_left_in_another_state_is_named(branch, message):
    model = Pair()
    with pytest.raises(TypeError, match=message):
        nnx.cond(True, branch, do_nothing, model)
    assert "mode" not in vars(model)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            lambda m: {"x": X},
            lambda m: {"y": X},
            r"returns a dict of \['x'\] at 'output', .* a dict of \['y'\]",
        ),
        (lambda m: (X, X), lambda m: (X, None), r"returns an array at 'output\[1\]', .* returns None"),
        (lambda m: [X], lambda m: [X, X], "returns a list of 1 at 'output', .* returns a list of 2"),
        (lambda m: m.a, lambda m: X, "returns a module or variable at 'output', .* returns an array"),
        (lambda m: [m.a], lambda m: [m.count], r"returns others: 'output\[0\]': a Linear became a Variable"),
        (lambda m: m.a, lambda m: m.b, "returns what was at 'operands.0./a' at 'output', .*operands.0./b'"),
        (
            lambda m: [1, nnx.State({"x": m.a})],
            lambda m: [1, nnx.State({"x": m.b})],
            "returns what was at 'operands.0./a' at 'output.1./x', .*operands.0./b'",
        ),
        (lambda m: X, lambda m: X > 0, r"returns float32\[2\] at 'output', .* returns bool\[2\]"),
    ],
)
def test_another_output_is_named(one, other, message):
    with pytest.raises(TypeError, match=message):
        nnx.cond(True, one, other, Pair())


def test_a_type_error_in_a_branch_is_passed_on():
    def fail(x):
        raise TypeError("of my own")

    with pytest.raises(TypeError, match="of my own"):
        nnx.cond(True, fail, lambda x: x, 1.0)
    with pytest.raises(TypeError, match="'a'"):
        nnx.cond(True, lambda x: 0, lambda x: 0, "a")


def test_a_module_that_is_no_operand_can_be_read_but_not_changed():
    model = Pair()
    np.testing.assert_allclose(nnx.cond(True, lambda x: model.a(x), lambda x: x, X), model.a(X), rtol=1e-6)
    with pytest.raises(nnx.TraceContextError, match="Cannot change a Param"):
        nnx.cond(True, lambda x: model.a.bias.set_value(x), lambda x: None, X)
    with pytest.raises(nnx.TraceContextError, match="random stream 'default'"):
        nnx.cond(True, lambda x: model.rngs.normal(), lambda x: x, 1.0)
