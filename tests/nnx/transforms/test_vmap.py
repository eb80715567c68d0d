"""`nnx.vmap`: against loops over the members, axes by argument and by filter, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.count = nnx.BatchStat(jnp.array(0.0))

    def __call__(self, x):
        self.count += x.sum()
        return self.linear(x)


KEYS = 4


def keys():
    return jax.random.split(jax.random.key(0), KEYS)


def make(key):
    return Model(nnx.Rngs(key))


X = np.random.default_rng(0).normal(size=(KEYS, 2)).astype("float32")


def assert_stack(stack, members):
    """`stack` is what stacking the states of `members` along the first axis gives."""
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(nnx.state, members))
    assert nnx.to_flat_state(nnx.state(stack)).paths == nnx.to_flat_state(expected).paths
    for ours, leaf in zip(jax.tree.leaves(nnx.state(stack)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, leaf, rtol=1e-6, atol=1e-7)


# -- against loops


def test_a_stack_of_models_is_what_a_loop_makes_and_computes():
    stack, members = nnx.vmap(make)(keys()), [make(key) for key in keys()]
    assert_stack(stack, members)
    y = nnx.vmap(lambda model, x: model(x))(stack, X)
    np.testing.assert_allclose(y, np.stack([m(x) for m, x in zip(members, X, strict=True)]), rtol=1e-6)
    assert_stack(stack, members)  # the counts changed alike


def test_one_model_can_be_applied_to_many_inputs():
    model = make(jax.random.key(0))
    y = nnx.vmap(lambda model, x: model.linear(x), in_axes=(None, 0))(model, X)
    np.testing.assert_allclose(y, model.linear(X), rtol=1e-5, atol=1e-6)


def test_many_models_can_be_applied_to_one_input():
    stack = nnx.vmap(make)(keys())
    y = nnx.vmap(lambda model, x: model.linear(x), in_axes=(0, None))(stack, X[0])
    np.testing.assert_allclose(y, [make(key).linear(X[0]) for key in keys()], rtol=1e-6)


def test_vmap_and_jit_compose():
    stack, same = nnx.vmap(make)(keys()), nnx.vmap(make)(keys())
    f = nnx.vmap(lambda model, x: model(x))
    np.testing.assert_allclose(nnx.jit(f)(stack, X), f(same, X), rtol=1e-6)
    np.testing.assert_allclose(stack.count, same.count, rtol=1e-6)
    nested = nnx.vmap(nnx.vmap(lambda key: nnx.Linear(1, 1, rngs=nnx.Rngs(key))))(keys().reshape(2, 2))
    np.testing.assert_array_equal(
        nested.kernel.value.reshape(KEYS, 1, 1),
        nnx.vmap(lambda key: nnx.Linear(1, 1, rngs=nnx.Rngs(key)))(keys()).kernel,
    )


# -- axes


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_any_axis_of_modules_and_arrays_can_be_mapped(axis):
    w = np.arange(6.0).reshape(2, 3)
    model = nnx.Dict(w=nnx.Param(jnp.asarray(w)))

    def f(model, x):
        model.w += 1
        model.new = nnx.Param(model.w * 2)
        return x * 2

    y = nnx.vmap(f, in_axes=axis, out_axes=axis)(model, w)
    np.testing.assert_array_equal(y, 2 * w)
    np.testing.assert_array_equal(model.w, w + 1)
    np.testing.assert_array_equal(model.new, 2 * (w + 1))


def test_axes_by_filter():
    axes = nnx.StateAxes({nnx.Param: 0, "shared": None, ...: 1})
    model = nnx.Dict(
        w=nnx.Param(jnp.arange(3.0)),
        tagged=nnx.Variable(jnp.array(5.0), tag="shared"),
        stat=nnx.BatchStat(jnp.ones((2, 3))),
    )

    def f(model):
        assert (model.w.shape, model.tagged.shape, model.stat.shape) == ((), (), (2,))
        model.stat += model.w
        model.made = nnx.Param(model.w + 1)
        model.cache = nnx.Cache(jnp.stack([model.w.value, model.w.value]))
        return model.w * model.tagged

    y = nnx.vmap(f, in_axes=(axes,))(model)
    assert y.tolist() == [0, 5, 10]
    assert model.stat.value.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert model.made.value.tolist() == [1, 2, 3]
    assert model.cache.value.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert model.tagged.value == 5


def test_axes_by_filter_for_what_is_returned():
    axes = nnx.StateAxes({nnx.PathContains("kernel"): 1, nnx.BatchStat: None, ...: 0})

    def make(key):
        model = Model(nnx.Rngs(key))
        return {"model": model}, key

    out, _ = nnx.vmap(make, out_axes=({"model": axes}, 0))(keys())
    model = out["model"]
    assert (model.linear.kernel.shape, model.linear.bias.shape, model.count.shape) == ((2, 4, 3), (4, 3), ())


def test_axes_can_be_given_by_a_state():
    model = nnx.Dict(
        a=nnx.Dict(w=nnx.Param(jnp.ones((2, 3)))), b=nnx.Param(jnp.ones(3)), c=nnx.Param(jnp.ones(1))
    )
    axes = nnx.state(model)
    axes.a.w, axes.b, axes.c = 1, 0, None
    shapes = []

    def f(model):
        shapes.extend([model.a.w.shape, model.b.shape, model.c.shape])

    nnx.vmap(f, in_axes=(nnx.StateAxes(axes),))(model)
    assert shapes == [(2,), (), (1,)]


def test_a_variable_that_moves_keeps_its_axis():
    axes = nnx.StateAxes({nnx.PathContains("a"): 0, ...: 1})
    model = nnx.Dict(a=nnx.Param(jnp.arange(6.0).reshape(3, 2)), b=nnx.Param(jnp.zeros((2, 3))))

    def f(model):
        model.a += 1
        model.b, model.c = model.a, model.b
        del model.a

    nnx.vmap(f, in_axes=(axes,))(model)
    np.testing.assert_array_equal(model.b, np.arange(6.0).reshape(3, 2) + 1)
    assert model.c.shape == (2, 3)


def test_state_axes_are_mappings_equal_by_content():
    axes = nnx.StateAxes({nnx.Param: 0, ...: None})
    assert axes == nnx.StateAxes([(nnx.Param, 0), (..., None)])
    assert hash(axes) == hash(nnx.StateAxes({nnx.Param: 0, ...: None}))
    assert (axes.filters, axes.axes, len(axes), list(axes)) == (
        (nnx.Param, ...),
        (0, None),
        2,
        [nnx.Param, ...],
    )
    assert axes[nnx.Param] == 0
    assert axes != nnx.StateAxes({nnx.Param: 1, ...: None})
    assert repr(axes).startswith("StateAxes({")
    with pytest.raises(KeyError):
        axes[nnx.BatchStat]


def test_axes_of_containers_are_trees():
    a, b = nnx.Dict(w=nnx.Param(jnp.arange(3.0))), nnx.Dict(w=nnx.Param(jnp.array(10.0)))

    def f(pair, table):
        pair[0].w += table["x"]
        return pair[0].w + pair[1].w

    y = nnx.vmap(f, in_axes=((0, None), {"x": 0}))((a, b), {"x": jnp.ones(3)})
    assert y.tolist() == [11, 12, 13]
    assert a.w.value.tolist() == [1, 2, 3]


def test_arguments_by_name_have_the_axis_of_their_position():
    x, y = jnp.arange(3.0), jnp.ones(2)
    f = nnx.vmap(lambda x, y: x + y, in_axes=(0, None))
    np.testing.assert_array_equal(f(x, y=y), f(x, y))
    np.testing.assert_array_equal(f(y=y, x=x), f(x, y))
    only = nnx.vmap(lambda x, *, scale: x * scale.w, in_axes=(0,))
    assert only(x, scale=nnx.Dict(w=nnx.Param(x))).tolist() == [0, 1, 4]


def test_methods_are_mapped_with_their_module():
    class Stack(nnx.Module):
        @nnx.vmap
        def __init__(self, key):
            self.linear = nnx.Linear(2, 3, rngs=nnx.Rngs(key))

        @nnx.vmap(in_axes=(0, None))
        def __call__(self, x):
            return self.linear(x)

    stack = Stack(keys())
    assert stack.linear.kernel.shape == (KEYS, 2, 3)
    assert stack(X[0]).shape == (KEYS, 3)
    by_name = Stack(key=keys())
    np.testing.assert_array_equal(by_name.linear.kernel, stack.linear.kernel)


def test_bound_methods_are_mapped_over_their_arguments():
    model = make(jax.random.key(0))
    np.testing.assert_allclose(nnx.vmap(model.linear.__call__)(X), model.linear(X), rtol=1e-5, atol=1e-6)


# -- names, sizes, changes


def test_axis_names_and_sizes():
    total = nnx.vmap(lambda m: jax.lax.psum(m.w.value, "members"), axis_name="members")
    assert total(nnx.Dict(w=nnx.Param(jnp.arange(3.0)))).tolist() == [3, 3, 3]
    made = nnx.vmap(lambda: nnx.Dict(w=nnx.Param(jnp.ones(2))), axis_size=5)()
    assert made.w.shape == (5, 2)


def test_a_shared_variable_may_change_if_all_members_change_it_alike():
    count = nnx.Variable(jnp.array(0))

    def f(count, x):
        count += 1
        return x

    nnx.vmap(f, in_axes=(None, 0))(count, jnp.arange(3))
    assert int(count.value) == 1


def test_modules_that_are_passed_and_returned_stay_themselves():
    stack = nnx.vmap(make)(keys())
    out = nnx.vmap(lambda model, x: (model, [model.linear]), in_axes=(0, None))(stack, 1.0)
    assert out[0] is stack
    assert out[1][0] is stack.linear


# -- errors


def test_sharing_must_be_mapped_alike():
    model = nnx.Dict(w=nnx.Param(jnp.ones((3, 3))))
    pattern = r"the same Param has axis 0 in argument 0, 'w' and axis 1 in argument 1, 'w'\. Map"
    with pytest.raises(ValueError, match=pattern):
        nnx.vmap(lambda a, b: None, in_axes=(0, 1))(model, model)
    with pytest.raises(ValueError, match="has axis 0 in argument 0, 'x/w' and axis None in argument 1, 'w'"):
        nnx.vmap(lambda a, b: None, in_axes=(0, None))(nnx.Dict(x=model), model)
    with pytest.raises(ValueError, match="has axis 0 in an argument and axis 1 in the output, 'w'"):
        nnx.vmap(lambda a: a, in_axes=0, out_axes=1)(model)
    alike = nnx.StateAxes({nnx.Param: 0})
    nnx.vmap(lambda a, b, c: None, in_axes=(0, alike, nnx.StateAxes({...: 0})))(model, model, model)


def test_filters_must_cover_all_variables():
    model = nnx.Dict(w=nnx.Param(jnp.ones(3)), s=nnx.BatchStat(jnp.ones(3)))
    with pytest.raises(ValueError, match="StateAxes has no filter for the BatchStat at 's'"):
        nnx.vmap(lambda m: None, in_axes=(nnx.StateAxes({nnx.Param: 0}),))(model)


def test_in_axes_must_fit_the_arguments():
    with pytest.raises(ValueError, match="vmap got in_axes of length 2 for 1 positional arguments"):
        nnx.vmap(lambda x: x, in_axes=(0, 1))(jnp.ones(2))
    with pytest.raises(TypeError, match="vmap got in_axes of type Dict, expected an axis or a tuple"):
        nnx.vmap(lambda m: 1, in_axes=nnx.Dict())(nnx.Dict())


def test_a_shared_variable_cannot_take_different_values():
    count = nnx.Variable(jnp.array(0))

    def f(count, x):
        count += x

    with pytest.raises(ValueError, match="'the argument itself': got axis spec None but output was batched"):
        nnx.vmap(f, in_axes=(None, 0))(count, jnp.arange(3))


def test_a_module_that_was_not_passed_cannot_be_returned():
    model = nnx.Dict(w=nnx.Param(jnp.ones(2)))
    with pytest.raises(nnx.TraceContextError, match="was made outside of nnx"):
        nnx.vmap(lambda x: model)(jnp.ones(2))


def batch_of(count):
    return nnx.vmap(lambda key: nnx.Linear(2, 3, rngs=nnx.Rngs(key)))(
        jax.random.split(jax.random.key(0), count)
    )


def test_what_cannot_be_mapped_is_named():
    model = nnx.Dict(layer=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), count=nnx.Variable(jnp.array(0)))
    with pytest.raises(ValueError, match=r"got 'count' of argument 0 of shape \(\), which has no axis 0"):
        nnx.vmap(lambda m: 1)(model)
    with pytest.raises(ValueError, match=r"'default/count' of argument 1 of shape \(\).*\n.*nnx.split_rngs"):
        nnx.vmap(lambda x, r: r.normal(()))(jnp.ones(2), nnx.Rngs(0))
    with pytest.raises(
        ValueError,
        match=r"different sizes of the mapped axis: 2 in 'bias' of argument 0 .*, 4 in 'bias' of a",
    ):
        nnx.vmap(lambda a, b: 1)(batch_of(2), batch_of(4))
    with pytest.raises(ValueError, match="of my own"):
        nnx.vmap(fail)(batch_of(2))


def fail(model):
    raise ValueError("of my own")


def test_a_shared_variable_that_gets_different_values_is_named():
    def f(d):
        d["m"].layer.count.value = d["x"]

    model = nnx.Dict(layer=nnx.Dict(count=nnx.Variable(jnp.array(0.0)), w=nnx.Param(jnp.ones(2))))
    message = (
        "at vmap, '{}': got axis spec None but output was batched on axis 0: the function gave it a value"
    )
    with pytest.raises(ValueError, match=message.format("layer/count")):
        nnx.vmap(f, in_axes=({"m": None, "x": 0},))({"m": model, "x": jnp.ones(3)})
    with pytest.raises(ValueError, match=message.format("a")):
        nnx.vmap(lambda x: nnx.Dict(a=nnx.Param(x)), out_axes=None)(jnp.ones(3))
    with pytest.raises(ValueError, match="at vmap out_axes"):  # no variable: jax says it
        nnx.vmap(lambda m, x: x, in_axes=(None, 0), out_axes=None)(model, jnp.ones(3))
