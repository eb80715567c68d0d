import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.optimizers as optimizers
from easyflax.train.carry_over import carry_over

PARAMS = {"a": jnp.ones(2), "b": jnp.full((3,), 2.0), "c": jnp.zeros(())}


def _after_steps(optimizer, params, steps=3):
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(jax.tree.map(jnp.cos, params), state, params)
        params = optax.apply_updates(params, updates)
    return state


@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(0.1), optimizers.get("nadam"), optax.sgd(0.1, momentum=0.9)],
    ids=["adam", "nadam", "momentum"],
)
def test_after_freezing_the_rest_goes_on_as_if_it_had_been_alone(optimizer):
    rest = {"a": PARAMS["a"], "c": PARAMS["c"]}
    state = carry_over(_after_steps(optimizer, PARAMS), optimizer.init(rest))
    jax.tree.map(np.testing.assert_array_equal, state, _after_steps(optimizer, rest))


def test_after_unfreezing_the_rule_begins_anew_with_the_learning_rate_that_was_set():
    optimizer = optimizers.Adam(0.1)
    old = optimizers.set_learning_rate(_after_steps(optimizer, {"a": PARAMS["a"]}), 0.03)
    new = optimizer.init(PARAMS)
    state = carry_over(old, new)
    assert float(optimizers.get_learning_rate(state)) == pytest.approx(0.03)
    jax.tree.map(np.testing.assert_array_equal, state.inner_state, new.inner_state)


def test_after_unfreezing_a_schedule_goes_on():
    optimizer = optimizers.Adam(optax.linear_schedule(1.0, 0.0, 10))
    state = carry_over(_after_steps(optimizer, {"a": PARAMS["a"]}), optimizer.init(PARAMS))
    _, state = optimizer.update(PARAMS, state, PARAMS)
    assert float(optimizers.get_learning_rate(state)) == pytest.approx(0.7)
    assert optax.tree.get(state.inner_state, "mu")["a"] == pytest.approx(0.1)  # of one step only


def test_a_rule_that_keeps_nothing_of_parameters_goes_on_in_both_cases():
    optimizer = optax.sgd(optax.linear_schedule(1.0, 0.0, 10))
    state = carry_over(_after_steps(optimizer, {"a": PARAMS["a"]}), optimizer.init(PARAMS))
    assert optax.tree.get(state, "count") == 3
