"""Schedule-free optimizers: closed forms of the average, and the same against optax's own."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import optimizers

PARAMS = {"w": jnp.array([1.0, -2.0])}


def _run(optimizer, steps, params=PARAMS):
    state = optimizer.init(params)
    for step in range(steps):
        updates, state = optimizer.update({"w": params["w"] + step}, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_the_average_of_adamw_is_the_mean_of_the_fast_parameters():
    optimizer = optimizers.ScheduleFreeAdamW(0.1)
    fast = []
    for steps in range(1, 5):
        params, state = _run(optimizer, steps)
        fast.append(state.inner_state.fast["w"])
    average = optimizer.evaluation_params(params, state)["w"]
    np.testing.assert_allclose(average, np.mean(fast, axis=0), rtol=1e-5)


def test_the_wrapped_optimizer_is_optaxs_own():
    optimizer = optimizers.ScheduleFree(optimizers.SGD(0.3, weight_decay=0.1))
    rule = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.3))
    theirs = optax.contrib.schedule_free(rule, 0.3, b1=0.9)
    ours, state = _run(optimizer, 5)
    params, other = _run(theirs, 5)
    np.testing.assert_allclose(ours["w"], params["w"], rtol=1e-6)
    np.testing.assert_allclose(
        optimizer.evaluation_params(ours, state)["w"],
        optax.contrib.schedule_free_eval_params(other, params)["w"],
        rtol=1e-6,
    )
    assert optimizer.learning_rate == 0.3


def test_a_configuration_makes_it_again():
    optimizer = optimizers.ScheduleFree(optimizers.SGD(0.3), beta_1=0.8, name="mine")
    optimizer.learning_rate = 0.5
    again = optimizers.get(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.learning_rate == 0.5


def test_a_state_of_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="got the state of another optimizer"):
        optimizers.ScheduleFreeAdamW().evaluation_params(PARAMS, optimizers.SGD().init(PARAMS))
