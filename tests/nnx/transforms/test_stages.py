"""`nnx.jit` ahead of time: tracing, lowering, compiling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Counter(nnx.Module):
    def __init__(self, value=0.0):
        self.count = nnx.Variable(jnp.array(value))
        self.scale = nnx.Param(jnp.ones(2))

    def __call__(self, x):
        self.count += 1
        return x * self.scale


call = nnx.jit(lambda model, x: model(x))


def test_a_function_can_be_lowered_compiled_and_called_with_modules():
    model, x = Counter(), jnp.ones(2)
    lowered = call.lower(model, x)
    compiled = lowered.compile()
    assert compiled.cost_analysis() is not None
    assert "HloModule" in compiled.as_text()
    assert compiled(model, x).tolist() == [1, 1]
    other = Counter(5.0)
    compiled(other, x)
    assert (float(model.count.value), float(other.count.value)) == (1, 6)


def test_compiled_functions_take_static_and_donated_arguments():
    model = Counter()

    def f(model, mode):
        model.count += 1 if mode == "one" else 2

    compiled = nnx.jit(f, static_argnames="mode", donate_argnums=0).lower(model, mode="one").compile()
    old = model.count.value
    compiled(model, mode="one")
    assert old.is_deleted()
    assert float(model.count.value) == 1


def test_a_compiled_function_refuses_modules_of_another_structure():
    model = Counter()
    compiled = call.lower(model, 1.0).compile()
    model.step = 2
    with pytest.raises(TypeError, match="A compiled function got modules of another structure"):
        compiled(model, 1.0)


def test_a_function_can_be_traced_lowered_and_compiled_ahead_of_time():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    @functools.partial(nnx.jit, static_argnums=2, static_argnames="scale")
    def forward(model, x, power, *, scale):
        model.calls = nnx.Variable(jnp.array(1))
        return scale * model(x) ** power

    x = jnp.ones((1, 2))
    traced = forward.trace(model, x, 2, scale=3)
    assert "dot_general" in str(traced.jaxpr)
    assert not hasattr(model, "calls")
    expected = 3 * model(x) ** 2
    np.testing.assert_allclose(traced.lower().compile()(model, x, 2, scale=3), expected, rtol=1e-6)
    assert int(model.calls.value) == 1


def test_eval_shape_of_a_compiled_function_computes_nothing_and_changes_nothing():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    @functools.partial(nnx.jit, static_argnums=1)
    def forward(model, size):
        model.bias.value = model.bias + 1
        return model(jnp.ones((size, 2))), model

    out, after = forward.eval_shape(model, 5)
    assert out == jax.ShapeDtypeStruct((5, 3), jnp.float32)
    assert after.bias.value == jax.ShapeDtypeStruct((3,), jnp.float32)
    assert model.bias.value.tolist() == [0, 0, 0]
