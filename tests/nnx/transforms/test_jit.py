"""`nnx.jit`: changes come back, identity and sharing are kept, options, ahead-of-time compilation, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.core.walk import walk


class Counter(nnx.Module):
    def __init__(self, value=0.0):
        self.count = nnx.Variable(jnp.array(value))
        self.scale = nnx.Param(jnp.ones(2))
        self.step = 1

    def __call__(self, x):
        self.count += self.step
        return x * self.scale

    @nnx.jit
    def compiled(self, x, *, times=1):
        self.count += times
        return x * self.scale


call = nnx.jit(lambda model, x: model(x))


# -- changes come back


def test_new_values_are_written_back():
    model = Counter()
    assert call(model, 3.0).tolist() == [3, 3]
    assert call(model, jnp.array([1.0, 2.0])).tolist() == [1, 2]
    assert float(model.count.value) == 2


def test_what_did_not_change_stays_the_same_array():
    model = Counter()
    model.array = jnp.ones(3)
    before = model.scale.value, model.array
    call(model, 3.0)
    nnx.jit(lambda model: setattr(model, "step", 2))(model)
    assert model.step == 2
    assert model.scale.value is before[0]
    assert model.array is before[1]


def test_attributes_can_be_set_deleted_and_created():
    model = Counter()
    count = model.count

    def f(model, x):
        model.step = model.step + 1
        model.kept, model.more = model.count, [nnx.Param(x), {"y": nnx.Linear(2, 2, rngs=nnx.Rngs(0))}]
        del model.count

    f = nnx.jit(f)
    f(model, 5.0)
    assert not hasattr(model, "count")
    assert model.kept is count
    assert (model.step, float(model.more[0].value)) == (2, 5)
    assert isinstance(model.more[1]["y"], nnx.Linear)
    assert model.more[1]["y"].kernel.shape == (2, 2)


def test_variables_and_modules_can_change_places():
    model = nnx.Dict(a=Counter(1.0), b=Counter(2.0))
    a, b, count = model.a, model.b, model.a.count

    def swap(model):
        model.a, model.b = model.b, model.a
        model.a.count, model.b.count = model.b.count, model.a.count

    nnx.jit(swap)(model)
    assert (model.a, model.b) == (b, a)
    assert b.count is count


def test_metadata_and_kinds_can_change():
    model = Counter()

    def f(model):
        model.scale.note = "a"
        model.count = nnx.BatchStat(model.count.value)

    nnx.jit(f)(model)
    assert model.scale.note == "a"
    assert type(model.count) is nnx.BatchStat


def test_plain_containers_are_changed_in_place():
    items, table = [nnx.Param(jnp.ones(1))], {"n": 1}
    model = nnx.Dict(items=items, table=table, pair=(jnp.ones(1), nnx.Param(jnp.ones(1))))
    inside = model.pair[1]

    def f(model):
        model["items"].append(nnx.Param(jnp.zeros(1)))
        model.table["n"] += 1
        model.pair = (model.pair[0] + 1, model.pair[1])
        model.pair[1].value += 1

    f = nnx.jit(f)
    f(model)
    f(model)
    assert model["items"] is items
    assert (len(items), table) == (3, {"n": 3})
    assert model.pair[1] is inside
    assert (model.pair[0].tolist(), inside.value.tolist()) == ([3], [3])


def test_nothing_is_changed_by_a_function_that_raises():
    model = Counter()

    def f(model):
        model.count += 1
        model.step = 5
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        nnx.jit(f)(model)
    assert (float(model.count.value), model.step) == (0, 1)


def test_values_need_not_be_arrays():
    model = nnx.Dict(number=nnx.Variable(1), tree=nnx.Variable({"a": jnp.ones(1)}), none=nnx.Variable(None))

    def f(model):
        model.number += 1
        model.tree["b"] = model.tree["a"] * 2
        model.none.value = model.number.value

    nnx.jit(f)(model)
    assert (int(model.number.value), sorted(model.tree.value), int(model.none.value)) == (2, ["a", "b"], 2)


# -- arguments and outputs


def test_modules_come_in_any_container_and_keep_their_identity():
    a, b = Counter(1.0), Counter(2.0)

    @nnx.jit
    def f(pair, x, *, table):
        assert pair[0] is table["a"]
        assert pair[0] is not pair[1]
        pair[0].count += x
        table["b"]["c"].count += 10
        return {"out": (pair[1], pair[0].count), "x": x}

    out = f([a, b], 3.0, table={"a": a, "b": {"c": b}})
    assert out["out"] == (b, a.count)
    assert out["out"][0] is b
    assert (float(a.count.value), float(b.count.value), float(out["x"])) == (4, 12, 3)


def test_the_same_module_given_twice_is_one_inside():
    model = Counter()

    @nnx.jit
    def f(a, b):
        assert a is b
        a.count += 1
        b.count += 1

    f(model, model)
    f(model, b=model)
    assert float(model.count.value) == 4


def test_new_modules_can_be_returned():
    @nnx.jit
    def make(key):
        layer = nnx.Linear(2, 3, rngs=nnx.Rngs(key))
        return layer, [layer, nnx.Rngs(key)]

    layer, (same, rngs) = make(jax.random.key(0))
    assert layer is same
    expected = nnx.Linear(2, 3, rngs=nnx.Rngs(jax.random.key(0)))
    np.testing.assert_array_equal(layer.kernel, expected.kernel)
    layer.kernel += 1  # it belongs to the caller
    assert jax.random.key_data(rngs()).tolist() == jax.random.key_data(nnx.Rngs(0)()).tolist()


def test_variables_and_states_are_arguments_as_well():
    v, state = nnx.Param(jnp.ones(2)), nnx.State({"a": nnx.Param(jnp.ones(1))})

    @nnx.jit
    def f(v, state):
        v += 1
        state.a += 1
        state["b"] = nnx.Param(v.value)
        return state, v

    out = f(v, state)
    assert out[0] is state
    assert out[1] is v
    assert (v.value.tolist(), state.a.value.tolist(), state.b.value.tolist()) == ([2, 2], [2], [2, 2])


def test_cycles_and_sharing_are_kept():
    model = nnx.Dict(a=Counter())
    model.b, model.me = model.a, model

    @nnx.jit
    def f(model):
        assert model.a is model.b
        assert model.me is model
        model.b.count += 1
        model.c = model.a

    f(model)
    assert model.c is model.a
    assert float(model.a.count.value) == 1


def test_functions_nest():
    @nnx.jit
    def inner(model, x):
        model.count += x
        model.inner = nnx.Param(x)
        return model

    @nnx.jit
    def outer(model, x):
        assert inner(model, x) is model
        return inner(model, 2 * x).inner * 1

    model = Counter()
    assert outer(model, 1.0) == 2
    assert (float(model.count.value), float(model.inner.value)) == (3, 2)


# -- methods and bound functions


def test_methods_can_be_decorated():
    a, b = Counter(), Counter(10.0)
    assert a.compiled(2.0).tolist() == [2, 2]
    b.compiled(2.0, times=5)
    Counter.compiled(a, 2.0)
    assert (float(a.count.value), float(b.count.value)) == (2, 15)
    assert "mul" in a.compiled.lower(2.0).as_text()


def test_bound_methods_can_be_compiled():
    model = Counter()
    f = nnx.jit(model.__call__)
    f(1.0)
    f(x=1.0)
    assert float(model.count.value) == 2


def test_init_can_be_compiled():
    class Layer(nnx.Module):
        @functools.partial(nnx.jit, static_argnums=(1,))
        def __init__(self, features, rngs):
            self.kernel = nnx.Param(rngs.params.normal((features,)))
            self.features = features

    layer = Layer(3, nnx.Rngs(0))
    np.testing.assert_array_equal(layer.kernel, nnx.Rngs(0).params.normal((3,)))
    assert layer.features == 3


def test_name_and_documentation_are_kept():
    @nnx.jit
    def documented(x):
        """What it does."""
        return x

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")
    assert "documented" in documented.lower(1.0).as_text()


# -- options


@pytest.mark.parametrize(
    ("options", "args", "kwargs"),
    [
        ({"static_argnums": 2}, (1.0, "double"), {}),
        ({"static_argnums": -1}, (1.0, "double"), {}),
        ({"static_argnums": (2,)}, (1.0,), {"mode": "double"}),
        ({"static_argnames": "mode"}, (1.0,), {"mode": "double"}),
        ({"static_argnames": ("mode",)}, (1.0, "double"), {}),
    ],
)
def test_static_arguments_are_python_values(options, args, kwargs):
    def f(model, x, mode):
        assert isinstance(mode, str)
        return model(x) * (2 if mode == "double" else 1)

    model = Counter()
    assert nnx.jit(f, **options)(model, *args, **kwargs).tolist() == [2, 2]
    assert nnx.jit(**options)(f)(model, *args, **kwargs).tolist() == [2, 2]
    assert float(model.count.value) == 2


@pytest.mark.parametrize(
    ("options", "wrap"),
    [
        ({"donate_argnums": 0}, lambda model: ((model,), {})),
        ({"donate_argnames": "model"}, lambda model: ((), {"model": model})),
        ({"donate_argnames": "model"}, lambda model: ((model,), {})),
        ({"donate_argnums": (0,)}, lambda model: ((), {"model": model})),
        ({"donate_argnums": 0}, lambda model: (({"x": [model]},), {})),
    ],
)
def test_donated_modules_are_consumed_and_filled_again(options, wrap):
    model = Counter()
    model.array = jnp.ones(3) + 1
    old = [model.count.value, model.scale.value, model.array]

    def f(model):
        model = model["x"][0] if isinstance(model, dict) else model
        model.count += 1
        model.array = model.array * 2

    args, kwargs = wrap(model)
    nnx.jit(f, **options)(*args, **kwargs)
    assert all(array.is_deleted() for array in old)
    assert (float(model.count.value), model.scale.value.tolist(), model.array.tolist()) == (
        1,
        [1, 1],
        [4] * 3,
    )


def test_only_the_donated_argument_is_consumed():
    donated, kept, x = Counter(), Counter(), jnp.ones(2) + 1
    scale = kept.scale.value
    f = nnx.jit(lambda a, x, b: a(x) + b(x), donate_argnums=(0, 1))
    assert f(donated, x, kept).tolist() == [4, 4]
    assert x.is_deleted()
    assert kept.scale.value is scale
    assert kept(1.0).tolist() == [1, 1]


def test_donation_survives_changes_of_structure():
    model = Counter()

    def f(model):
        model.more = nnx.Param(jnp.zeros(1))
        del model.count

    nnx.jit(f, donate_argnums=0)(model)
    assert model.scale.value.tolist() == [1, 1]
    assert model.more.value.tolist() == [0]


def test_unused_arrays_can_be_kept_and_functions_inlined():
    model = Counter()
    for keep in (False, True):
        text = nnx.jit(lambda model: model.scale + 1, keep_unused=keep).lower(model).as_text()
        assert ("%arg1:" in text) == keep  # the counter
    for inline in (False, True):  # when jax inlines depends on its version
        ours, plain = jaxpr_of(nnx.jit, inline=inline), jaxpr_of(jax.jit, inline=inline)
        assert ours.count("jit[") == plain.count("jit[")


def jaxpr_of(jit, **options):
    compiled = jit(lambda x: x * 2, **options)
    return str(jax.make_jaxpr(lambda x: compiled(x) + 1)(1.0))


# -- errors


def test_modules_that_were_not_passed_cannot_be_changed_or_returned():
    model = Counter()

    def change(x):
        model.count += x

    def smuggle(other):
        other.stolen = model

    with pytest.raises(nnx.TraceContextError, match=r"Cannot change a Variable of shape \(\) here"):
        nnx.jit(change)(1.0)
    for f, args in ((lambda: model, ()), (lambda: [model.count], ()), (smuggle, (nnx.Dict(),))):
        with pytest.raises(nnx.TraceContextError, match="was made outside of nnx"):
            nnx.jit(f)(*args)
    assert float(model.count.value) == 0


# -- arrays without a variable


def test_a_donated_array_without_a_variable_may_be_in_several_places_afterwards():
    box = nnx.Dict(a=jnp.ones(2))

    def f(box):
        box.b = box.a

    nnx.jit(f, donate_argnums=0)(box)
    assert box.a.tolist() == box.b.tolist() == [1, 1]


def test_a_donated_array_in_a_tuple_comes_back():
    box = nnx.Dict(a=(jnp.ones(2),))
    nnx.jit(lambda box: 1, donate_argnums=0)(box)
    assert box.a[0].tolist() == [1, 1]


def test_what_is_donated_depends_on_the_argument_that_holds_it():
    first, second = nnx.Param(jnp.ones(2)), nnx.Param(jnp.ones(3))
    add = nnx.jit(lambda given, kept: sum(v.sum() for v in (*given, *kept)), donate_argnums=0)
    assert float(add((first, second), (second,))) == 8
    before = second.get_raw_value()
    assert float(add((first,), (second,))) == 5
    assert second.get_raw_value() is before


def test_new_objects_that_are_returned_leave_those_of_the_caller_alone():
    model = nnx.Dict(
        layer=nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
        pair=(1, nnx.Param(jnp.ones(2))),
        array=jnp.ones(3),
    )

    @nnx.jit
    def call(model, x):
        model.layer.bias.value += 1
        model.array = model.array * 2
        fresh = nnx.Dict(old=model.layer, own=nnx.BatchStat(x), copy=model.layer.kernel * 2, pair=model.pair)
        return {"fresh": fresh, "grads": nnx.State({"w": {"x": nnx.Param(x + 1)}})}, [model.layer.bias]

    kept = walk(model)
    for calls in (1, 2):
        out, (bias,) = call(model, jnp.ones(2))
        assert walk(model) is kept
        assert out["fresh"].old is model.layer
        assert out["fresh"].pair[1] is model.pair[1]
        assert bias is model.layer.bias
        assert bias.value.tolist() == [calls] * 3
        assert model.array.tolist() == [2**calls] * 3
        assert out["fresh"].own.value.tolist() == [1, 1]
        np.testing.assert_array_equal(out["fresh"].copy, model.layer.kernel * 2)
        assert out["grads"].w.x.value.tolist() == [2, 2]
        assert isinstance(out["grads"].w.x, nnx.Param)
