"""`nnx.make_jaxpr`: inputs and outputs in order, and modules left alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from easyflax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls += 1
        self.last = nnx.Intermediate(x)
        return self.linear(x)


def shapes(avals):
    return [(aval.shape, str(aval.dtype)) for aval in avals]


def test_inputs_are_the_arrays_of_the_arguments_in_order():
    model = Model(nnx.Rngs(0))
    jaxpr = nnx.make_jaxpr(lambda x, model, *, y: model(x) + y["y"])(
        jnp.ones((4, 2)), model, y={"y": jnp.ones(3)}
    )
    expected = [((4, 2), "float32"), ((), "int32"), ((3,), "float32"), ((2, 3), "float32"), ((3,), "float32")]
    assert shapes(jaxpr.in_avals) == expected
    assert shapes(jaxpr.out_avals) == [((4, 3), "float32")]
    x = np.ones((4, 2), "float32")
    values = (
        x,
        *(v.value for v in (model.calls, model.linear.bias, model.linear.kernel)),
        np.ones(3, "float32"),
    )
    np.testing.assert_allclose(jaxpr_as_fun(jaxpr)(*values)[0], model.linear(x) + 1, rtol=1e-6)


def test_modules_are_not_changed():
    model = Model(nnx.Rngs(0))
    nnx.make_jaxpr(model)(jnp.ones((1, 2)))
    assert int(model.calls) == 0
    assert not hasattr(model, "last")


def test_a_shared_variable_is_one_input():
    v = nnx.Param(jnp.ones(2))
    jaxpr = nnx.make_jaxpr(lambda a, b: a.v + b["v"][0])(nnx.Dict(v=v), {"v": [v]})
    assert shapes(jaxpr.in_avals) == [((2,), "float32")]


def test_static_arguments_and_shapes_of_the_output():
    @nnx.make_jaxpr(static_argnums=(0, -1), return_shape=True)
    def f(mode, model, double):
        assert mode == "a"
        return {"model": model.linear, "y": model.calls * (2 if double else 1)}

    jaxpr, shape = f("a", Model(nnx.Rngs(0)), True)
    assert len(jaxpr.in_avals) == 3
    assert len(jaxpr.out_avals) == 3
    assert shape["y"].shape == ()
    assert isinstance(shape["model"], nnx.Linear)
    assert shape["model"].kernel.shape == (2, 3)


def test_abstract_models_and_named_axes():
    model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    jaxpr = nnx.make_jaxpr(lambda model, x: jax.lax.psum(model(x), "i"), axis_env=[("i", 4)])(
        model, jax.ShapeDtypeStruct((5, 2), jnp.float32)
    )
    assert "psum" in str(jaxpr)
    assert shapes(jaxpr.out_avals) == [((5, 3), "float32")]


def test_it_shows_what_other_transforms_do():
    model = Model(nnx.Rngs(0))
    jaxpr = nnx.make_jaxpr(nnx.grad(lambda model, x: nnx.remat(model)(x).sum()))(model, jnp.ones((1, 2)))
    assert shapes(jaxpr.out_avals) == [((3,), "float32"), ((2, 3), "float32")]
