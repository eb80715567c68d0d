"""Changes from the wrong trace level: messages name the variable, the transform and its function."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from easyflax import nnx


def sharded(f):
    mesh = jax.make_mesh((1,), ("x",), devices=jax.devices()[:1])
    spec = PartitionSpec()
    return nnx.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)


def call(transform):
    return lambda f: transform(f)(1.0)


TRANSFORMS = {
    "jit": call(nnx.jit),
    "grad": call(nnx.grad),
    "vjp": lambda f: nnx.vjp(f, 1.0),
    "jvp": lambda f: nnx.jvp(f, (1.0,), (1.0,)),
    "vmap": lambda f: nnx.vmap(f)(jnp.ones(2)),
    "scan": lambda f: nnx.scan(f, in_axes=0, out_axes=0)(jnp.ones(2)),
    "remat": call(nnx.remat),
    "cond": lambda f: nnx.cond(True, f, lambda x: x, 1.0),
    "switch": lambda f: nnx.switch(0, [f, f], 1.0),
    "while_loop": lambda f: nnx.while_loop(lambda x: x < 3, f, 1.0),
    "fori_loop": lambda f: nnx.fori_loop(0, 3, lambda i, x: f(x), 1.0),
    "checkify": call(nnx.checkify),
    "make_jaxpr": call(nnx.make_jaxpr),
    "eval_shape": lambda f: nnx.eval_shape(f, 1.0),
    "shard_map": lambda f: sharded(f)(1.0),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_variable_and_the_transform_are_named(transform):
    count = nnx.BatchStat(jnp.zeros(3))

    def step(x):
        count[...] += 1
        return x

    name = "<lambda>" if transform == "fori_loop" else "step"
    message = r"Cannot change a BatchStat of shape \(3,\) here: it was made outside of "
    message += rf"nnx\.{transform} of '{name}'"
    with pytest.raises(
        nnx.TraceContextError, match=rf"{message}, which is running.*\nPass the module that holds"
    ):
        TRANSFORMS[transform](step)


def test_the_innermost_transform_is_named():
    model = nnx.Dict(a=nnx.Param(jnp.ones(2)))

    @nnx.jit
    def outer(model, x):
        def inner(x):
            model.b = x
            return x

        return nnx.vmap(inner)(x)

    with pytest.raises(
        nnx.TraceContextError, match=r"Cannot set 'b' of this Dict here: .*nnx.vmap of 'inner'.*\nPass it"
    ):
        outer(model, jnp.ones(2))

    @nnx.jit
    def after(other, x):
        nnx.vmap(lambda x: x)(x)
        model.b = x

    with pytest.raises(nnx.TraceContextError, match=r"nnx\.jit of 'after'"):
        after(nnx.Dict(), jnp.ones(2))


def test_a_transform_of_jax_itself_is_not_known_by_name():
    count = nnx.Variable(jnp.array(0))

    def step(other):
        jax.jit(lambda x: count.set_value(x))(1)

    with pytest.raises(
        nnx.TraceContextError, match=r"outside of the transform \(jit, grad, vmap, ...\), which is run"
    ):
        nnx.jit(step)(nnx.Dict())


def test_a_transform_around_the_call_is_named():
    model = nnx.Dict(layer=nnx.Dict(a=nnx.Param(jnp.ones(2))))

    @nnx.jit
    def inner(model):
        model.layer.a[...] += 1

    def outer(x):
        inner(model)
        return x

    message = (
        r"'layer/a' was changed by .* outside of nnx.grad of 'outer', which is running around.*\nUse the nnx"
    )
    with pytest.raises(nnx.TraceContextError, match=message):
        nnx.grad(outer)(1.0)


def test_the_transform_that_returns_a_module_from_outside_is_named():
    model = nnx.Dict(a=nnx.Param(jnp.ones(2)))

    def give(x):
        return model

    with pytest.raises(
        nnx.TraceContextError, match=r"The Dict at .* outside of nnx.jit of 'give', which is running, and"
    ):
        nnx.jit(give)(1.0)


def test_random_streams_name_the_transform():
    rngs = nnx.Rngs(0)

    def draw(x):
        return rngs.normal(x.shape)

    message = (
        r"The random stream 'default' was asked for a key, .* nnx.jit of 'draw'.*\nPass the Rngs, or the"
    )
    with pytest.raises(nnx.TraceContextError, match=message):
        nnx.jit(draw)(jnp.ones(2))


def test_what_leaked_out_of_a_transform_is_explained():
    leaked = []

    @nnx.jit
    def leak(x):
        leaked.append(nnx.Dict(a=nnx.Param(x), rngs=nnx.Rngs(0)))
        return x

    leak(jnp.ones(2))
    message = r"made inside of a transform \(jit, grad, vmap, ...\) that has ended.*\nReturn it from the"
    for change in (
        lambda: leaked[0].a.set_value(1),
        lambda: setattr(leaked[0], "b", 1),
        lambda: leaked[0].rngs(),
    ):
        with pytest.raises(nnx.TraceContextError, match=message):
            change()


def test_names_are_forgotten_after_an_error():
    count = nnx.Variable(jnp.array(0))

    def fail(x):
        raise ValueError("of my own")

    with pytest.raises(ValueError, match="of my own"):
        nnx.jit(fail)(1.0)
    count[...] += 1
    with pytest.raises(nnx.TraceContextError, match="outside of the transform"):
        jax.jit(lambda x: count.set_value(x))(1)


def test_values_that_leaked_into_a_module_are_named():
    model = nnx.Dict(items=[jnp.ones(2)], w=nnx.Param(jnp.ones(2)))
    jax.jit(lambda x: model["items"].append(x))(jnp.ones(2))  # a plain list cannot know

    def total(model):
        return sum(map(jnp.sum, jax.tree.leaves(nnx.state(model))))

    for use in (nnx.jit(lambda model: 1), nnx.grad(total), nnx.jit(lambda model: 1, donate_argnums=0)):
        with pytest.raises(jax.errors.UnexpectedTracerError) as caught:
            use(model)
        assert "hold values of a transform (jit, grad, vmap, ...) that has ended: 'items/1'. They" in "".join(
            caught.value.__notes__
        )
    made = []
    nnx.jit(lambda x: made.append(nnx.Linear(2, 2, rngs=nnx.Rngs(0))))(1)
    with pytest.raises(jax.errors.UnexpectedTracerError) as caught:
        nnx.jit(lambda layer, x: layer(x))(made[0], jnp.ones(2))
    assert "that has ended: 'bias', 'kernel'. They were put there" in "".join(caught.value.__notes__)


def test_data_that_are_no_arrays_are_named():
    model = nnx.Dict(a=nnx.Dict(name=nnx.Variable("text")), w=nnx.Param(jnp.ones(2)), n=nnx.data(3))
    with pytest.raises(TypeError) as caught:
        nnx.jit(lambda x, model: 1)(1.0, model)
    assert "have something else than arrays as data: 'a/name'.\nHold it" in "".join(caught.value.__notes__)
    with pytest.raises(TypeError) as caught:
        nnx.jit(lambda model: model.w + "text")(nnx.Dict(w=model.w))
    assert not any("arrays as data" in note for note in getattr(caught.value, "__notes__", ()))


def test_a_part_without_values_of_an_abstract_module_is_named():
    module = nnx.eval_shape(lambda: nnx.Dict(head=nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    with pytest.raises(TypeError) as caught:
        nnx.jit(lambda module, x: module.head(x))(module, jnp.ones((1, 2)))
    assert "are abstract at 'head/bias', 'head/kernel', with shapes" in "".join(caught.value.__notes__)
