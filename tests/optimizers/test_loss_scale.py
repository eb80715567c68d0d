"""Dynamic loss scaling; its numbers are compared in tests/parity/test_optimizers_keras.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx, optimizers

GRADS = {"w": jnp.array([8.0, -16.0])}


def test_gradients_in_float16_that_would_vanish_are_kept():
    def loss(params, scale):
        return (params["w"] * jnp.float16(1e-5) * jnp.float16(1e-3)).sum() * scale

    params = {"w": jnp.ones(2, jnp.float16)}
    assert not jax.grad(loss)(params, jnp.float16(1))["w"].any()
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(1.0), initial_scale=2.0**10)
    state = optimizer.init(params)
    grads = jax.grad(lambda params: optimizer.scale_loss(loss(params, jnp.float32(1)), state))(params)
    assert grads["w"].any()


def test_the_learning_rate_is_that_of_the_inner_optimizer():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(1.0), initial_scale=4.0)
    assert optimizer.learning_rate == 1.0
    optimizer.learning_rate = 0.5
    optimizer.build([model.kernel, model.bias])
    optimizer.apply([jnp.zeros((2, 1)), jnp.full(1, 4.0)])
    np.testing.assert_allclose(model.bias.value, [-0.5])
    optimizer.learning_rate = 0.25
    assert optimizer.inner_optimizer.learning_rate == 0.25
    optimizer.inner_optimizer.learning_rate = 1.0
    optimizer.apply([jnp.zeros((2, 1)), jnp.full(1, jnp.nan)])
    optimizer.apply([jnp.zeros((2, 1)), jnp.full(1, 2.0)])  # the scale was halved
    np.testing.assert_allclose(model.bias.value, [-1.5])
    assert optimizer.iterations == 2


def test_a_schedule_counts_the_steps_that_were_done():
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(lambda step: 1.0 / (1 + step)))
    variable = nnx.Param(jnp.zeros(2))
    for grad in (jnp.ones(2), jnp.full(2, jnp.inf), jnp.ones(2)):
        optimizer.apply([grad], [variable])
    assert optimizer.learning_rate == pytest.approx(1 / 3)


def test_it_wraps_optax_transformations_too():
    optimizer = optimizers.LossScaleOptimizer(optax.sgd(1.0), initial_scale=8.0)
    updates, _ = optimizer.update(GRADS, optimizer.init(GRADS))
    np.testing.assert_array_equal(updates["w"], [-1.0, 2.0])


def test_averages_are_found_inside():
    optimizer = optimizers.LossScaleOptimizer(
        optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5), initial_scale=1.0
    )
    variable = nnx.Param(jnp.zeros(1))
    for _ in range(2):
        optimizer.apply([jnp.ones(1)], [variable])
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.value, [-1.5])


def test_what_belongs_to_the_inner_optimizer_is_refused():
    with pytest.raises(ValueError, match="got clipnorm, expected it at the inner optimizer"):
        optimizers.LossScaleOptimizer(optimizers.SGD(), clipnorm=1.0)
    with pytest.raises(TypeError, match="got adam as an optimizer, expected an object"):
        optimizers.LossScaleOptimizer(optax.adam)
    with pytest.raises(TypeError, match="got 'adam' as an optimizer"):
        optimizers.LossScaleOptimizer("adam")
    with pytest.raises(ValueError, match="initial_scale is -1"):
        optimizers.LossScaleOptimizer(optimizers.SGD(), initial_scale=-1)
