"""`nnx.while_loop` and `nnx.fori_loop`: against Python loops, what is carried, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = jnp.ones(2)


class Model(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        self.count = nnx.Variable(jnp.array(0))
        self.rngs = nnx.Rngs(3)

    def __call__(self, x):
        self.count += 1
        return jnp.tanh(self.linear(x)) + self.rngs.normal(x.shape)

    def add(self, i, x):
        self.count += i
        return x + 1

    def is_small(self, x):
        return self.count < 10

    def add_five(self, x):
        return self.add(5, x)


def fori(steps, body, value):
    return nnx.fori_loop(0, steps, lambda i, value: body(value), value)


def while_(steps, body, value):
    test = lambda pair: pair[0] < steps  # noqa: E731
    return nnx.while_loop(test, lambda pair: (pair[0] + 1, body(pair[1])), (0, value))[1]


LOOPS = pytest.mark.parametrize("loop", [fori, while_])


def call(pair):
    model, x = pair
    return model, model(x)


def count_up(model):
    model.count += 1
    return model


# -- values


@LOOPS
@pytest.mark.parametrize("wrap", [lambda f: f, nnx.jit], ids=["eager", "jit"])
def test_a_loop_is_a_loop_in_python(loop, wrap):
    model, expected, want = Model(), Model(), X
    for _ in range(3):
        want = expected(want)
    same, x = wrap(lambda model, x: loop(3, call, (model, x)))(model, X)
    np.testing.assert_allclose(x, want, rtol=1e-5)
    assert same is model
    assert int(model.count) == int(model.rngs.default.count) == 3


@LOOPS
def test_the_value_may_be_a_module_or_hold_modules_anywhere(loop):
    model = Model()
    assert loop(3, count_up, model) is model

    def body(tree):
        count_up(tree["a"][1])
        tree["v"][...] += tree["a"][0]
        return tree

    variable = nnx.Variable(jnp.array(0.0))
    out = loop(2, body, {"a": [2.0, model], "v": variable, "none": None})
    assert out["a"][1] is model
    assert out["v"] is variable
    assert out["none"] is None
    assert int(model.count) == 5
    assert float(variable) == 4


@LOOPS
def test_one_module_in_two_places_stays_one(loop):
    model = Model()
    seen = []

    def body(pair):
        seen.append(pair[0] is pair[1]["again"])
        count_up(pair[1]["again"])
        return pair

    out = loop(2, body, (model, {"again": model}))
    assert out[0] is model
    assert out[1]["again"] is model
    assert int(model.count) == 2
    assert all(seen)


def test_bounds_are_numbers_arrays_and_variables():
    total = nnx.Variable(jnp.array(0))

    def body(i, total):
        total[...] += i
        return total

    nnx.fori_loop(nnx.Variable(jnp.array(2)), 5, body, total)
    assert int(total) == 2 + 3 + 4
    nnx.jit(lambda total, n: nnx.fori_loop(0, n, body, total))(total, 3)
    assert int(total) == 9 + 3
    nnx.fori_loop(3, 3, body, total)
    assert int(total) == 12


@pytest.mark.parametrize("unroll", [2, True])
def test_unrolling_changes_nothing(unroll):
    model, expected = Model(), Model()
    out = [
        nnx.fori_loop(0, 5, lambda i, v: call(v), (m, X), unroll=u)[1]
        for m, u in ((model, unroll), (expected, None))
    ]
    np.testing.assert_allclose(*out, rtol=1e-5)
    assert int(model.count) == 5


def test_methods_of_modules_change_their_modules():
    model = Model()
    assert int(nnx.fori_loop(0, 4, model.add, 0)) == 4
    assert int(model.count) == 6
    assert int(nnx.while_loop(model.is_small, model.add_five, 0)) == 1
    assert int(model.count) == 11


def test_arrays_without_a_variable_are_carried():
    model = nnx.Dict(array=jnp.zeros(2), pair=(jnp.zeros(2), X))

    def body(i, model):
        model.array = model.array + i
        model.pair = (model.pair[0] + 1, model.pair[1])
        return model

    nnx.fori_loop(0, 3, body, model)
    assert model.array.tolist() == [3, 3]
    assert model.pair[0].tolist() == [3, 3]


@LOOPS
def test_what_the_body_does_not_change_stays_the_same_array(loop):
    model = Model()
    kernel, key = model.linear.kernel.value, model.rngs.default.key.value

    def body(model):
        model.linear.bias[...] += model.linear.kernel[0]
        return model

    loop(2, body, model)
    assert model.linear.kernel.value is kernel
    assert model.rngs.default.key.value is key

    @nnx.jit
    def f(model):
        before = model.linear.kernel.value
        loop(2, body, model)
        return jnp.array(before is model.linear.kernel.value)

    assert f(model)


# -- new modules in place of those that were passed


@LOOPS
def test_a_new_state_is_carried_and_the_one_passed_stays_as_it_was(loop):
    model = Model()
    zeros = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))

    def accumulate(pair):
        model, total = pair
        grads = nnx.grad(lambda model: model.linear(X).sum())(count_up(model))
        return model, jax.tree.map(jnp.add, total, grads)

    same, total = loop(3, accumulate, (model, zeros))
    assert same is model
    assert int(model.count) == 3
    assert isinstance(total, nnx.State)
    assert total.linear.bias.value.tolist() == [3, 3]
    assert zeros.linear.bias.value.tolist() == [0, 0]


@LOOPS
def test_new_modules_that_share_come_out_sharing(loop):
    layer = nnx.Dict(w=nnx.Param(X), pair=(jnp.zeros(2), {"x": jnp.zeros(2)}), name="a")
    model = nnx.Dict(first=layer, second=layer)

    def body(pair):
        old = pair[0].first
        new = nnx.Dict(w=nnx.Param(old.w + 1), pair=(old.pair[0] + 1, {"x": X}), name="a")
        return nnx.Dict(first=new, second=new), pair[1]

    out, other = loop(3, body, (model, nnx.Param(X)))
    assert out is not model
    assert out.first is out.second
    assert out.first.w.value.tolist() == [4, 4]
    assert out.first.pair[0].tolist() == [3, 3]
    assert out.first.pair[1]["x"].tolist() == [1, 1]
    assert layer.w.value.tolist() == [1, 1]
    assert other.value.tolist() == [1, 1]


@LOOPS
def test_modules_that_change_places_are_new(loop):
    a, b = nnx.Param(jnp.array(0.0)), nnx.Param(jnp.array(1.0))
    out = loop(3, lambda pair: (pair[1], pair[0]), (a, b))
    assert [float(v) for v in (*out, a, b)] == [1, 0, 0, 1]


# -- nesting


def test_reverse_mode_goes_through_a_fori_loop_of_known_length():
    def loss(weight):
        return nnx.fori_loop(0, 3, lambda i, pair: (pair[0], pair[1] * pair[0]), (weight, 1.0))[1]

    assert float(nnx.grad(loss)(nnx.Param(jnp.array(2.0))).value) == 3 * 2.0**2


def test_loops_nest_in_each_other_and_in_vmap():
    def body(i, model):
        return nnx.cond(i % 2 == 0, lambda model: fori(2, count_up, model), lambda model: model, model)

    class Counter(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.zeros(3, int))

    counter = Counter()
    nnx.vmap(lambda counter, n: nnx.fori_loop(0, n, body, counter) and None)(counter, jnp.array([1, 2, 3]))
    assert counter.count.value.tolist() == [2, 2, 4]


def test_it_runs_with_jit_disabled():
    model, expected = Model(), Model()
    state = nnx.state(Model(), nnx.Param)

    def body(i, pair):
        return count_up(pair[0]), jax.tree.map(lambda x: x + 1, pair[1])

    with jax.disable_jit():
        same, out = nnx.fori_loop(0, 2, body, (model, state))
        nnx.fori_loop(0, 0, body, (model, state))
        assert while_(0, count_up, model) is model
    assert same is model
    assert int(model.count) == 2
    np.testing.assert_allclose(out.linear.kernel.value, expected.linear.kernel.value + 2)


def test_a_function_is_traced_once_for_equal_values():
    traces = []

    def body(i, model):
        traces.append(i)
        return count_up(model)

    model = Model()
    for _ in range(3):
        nnx.fori_loop(0, 2, body, model)
    assert int(model.count) == 6
    assert len(traces) == 1


# -- errors


def set_attribute(model):
    model.linear.extra = nnx.Param(X)
    return model


def set_static(model):
    model.mode = "train"
    return model


def replace(model):
    model.linear.kernel = nnx.Param(model.linear.kernel.value)
    return model


def another(model):
    return nnx.Linear(2, 2, rngs=nnx.Rngs(0))


@LOOPS
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            set_attribute,
            r"body_fun.* structure than it was passed: 'init_val.*/linear/extra': a Param is new",
        ),
        (set_static, r"body_fun.*: 'init_val.*/mode': 'train' is new.*\n.*before the loop"),
        (replace, r"body_fun.*: 'init_val.*/linear/kernel': is another object"),
        (another, r"body_fun.*: 'init_val.*': Model became Linear"),
        (lambda model: None, r"body_fun.* got a module or variable at 'init_val.*' and returned None"),
        (
            lambda model: X,
            r"body_fun.* got a module or variable at 'init_val.*' and returned an array.*\n.*same containers",
        ),
        (
            lambda model: (model, model),
            r"body_fun.* got a module .* at 'init_val.*' and returned a tuple of 2",
        ),
    ],
)
def test_another_structure_is_named(loop, body, message):
    model = Model()
    with pytest.raises(ValueError, match=message):
        loop(3, body, model)
    assert int(model.count) == 0


def test_messages_name_the_function_and_the_place():
    message = r"nnx.while_loop: body_fun \('set_attribute'\) .*: 'init_val/linear/extra'"
    with pytest.raises(ValueError, match=message):
        nnx.while_loop(lambda model: True, set_attribute, Model())
    message = r"nnx.fori_loop: body_fun .* got a tuple of 2 at 'init_val\['x'\]' and returned a tuple of 3"
    with pytest.raises(ValueError, match=message):
        nnx.fori_loop(0, 3, lambda i, v: {"x": (*v["x"], 1)}, {"x": (Model(), 1)})
    message = r"'init_val\[1\]': is no longer the same object as 'init_val\[0\]'"
    model = Model()
    with pytest.raises(ValueError, match=message):
        fori(3, lambda pair: (pair[0], jax.tree.map(lambda x: x, pair[1])), (model, model))


def change_shape(pair):
    pair[0].set_value(jnp.ones(3))
    return pair


@LOOPS
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (change_shape, r"got float32\[2\] at 'init_val.*\[0\]' and returned float32\[3\].*\nKeep the shape"),
        (
            lambda pair: (pair[0], pair[1] * 1.5),
            r"got int32\[2\] at 'init_val.*\[1\]' and returned float32\[2\]",
        ),
    ],
)
def test_another_shape_or_dtype_is_named(loop, body, message):
    with pytest.raises(TypeError, match=message):
        loop(3, body, (nnx.Param(X), jnp.arange(2)))


def test_a_type_error_in_the_body_is_passed_on():
    def fail(model):
        raise TypeError("of my own")

    with pytest.raises(TypeError, match="of my own"):
        fori(3, fail, Model())


@pytest.mark.parametrize(
    "test", [lambda model: count_up(model).count < 3, lambda model: set_static(model) and True]
)
def test_a_condition_must_not_change_modules(test):
    with pytest.raises(
        ValueError, match=r"cond_fun \('<lambda>'\) changed 'init_val.*\nMake the change in body_fun"
    ):
        nnx.while_loop(test, count_up, Model())


def test_a_module_from_outside_can_be_read_but_not_changed():
    model = Model()
    out = fori(2, lambda x: x + model.linear.bias, X)
    assert out.tolist() == [1, 1]
    with pytest.raises(nnx.TraceContextError, match="Cannot change a Variable"):
        fori(2, lambda x: count_up(model) and x, X)
