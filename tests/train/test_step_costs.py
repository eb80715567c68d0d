"""Counts of XLA against closed forms, and steps that compute nothing."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.hollow import hollow
from easyflax.train.step_costs import StepCosts, costs_of, has_loop, memory_of_step


def test_the_operations_of_a_product_are_counted():
    lowered = jax.jit(jnp.matmul).lower(jnp.ones((8, 4)), jnp.ones((4, 2)))
    costs = costs_of(lowered, lowered.compile())
    assert costs.flops == 2 * 8 * 4 * 2
    assert costs.bytes_accessed == 4 * (8 * 4 + 4 * 2 + 8 * 2)
    memory = memory_of_step(lowered.compile())
    assert (memory.arguments, memory.results) == (4 * (8 * 4 + 4 * 2), 4 * 8 * 2)


def test_what_is_donated_takes_no_memory_of_its_own():
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.ones(1024)).compile()
    assert memory_of_step(compiled).results == 0
    assert memory_of_step(None) is None


@pytest.mark.parametrize(
    ("analysis", "expected"),
    [
        ({"flops": 8.0, "bytes accessed": 5.0}, StepCosts(8.0, 5.0)),
        ([{"flops": 8.0, "bytes accessed": 5.0}], StepCosts(8.0, 5.0)),
        ([], StepCosts(None, None)),
        (None, StepCosts(None, None)),
        ({"flops": -1.0}, StepCosts(None, None)),
    ],
    ids=["a dict", "a list", "an empty list", "nothing", "unknown"],
)
def test_every_form_of_the_analysis_is_read(analysis, expected):
    stage = types.SimpleNamespace(cost_analysis=lambda: analysis)
    assert costs_of(stage) == expected
    assert costs_of(None) == StepCosts(None, None)


def test_compiled_functions_count_the_share_of_a_device():
    stage = types.SimpleNamespace(cost_analysis=lambda: {"flops": 8.0, "bytes accessed": 5.0})
    assert costs_of(None, stage, num_devices=4) == StepCosts(32.0, 20.0)


def test_loops_over_numbers_are_found_and_those_that_draw_bits_are_not():
    def draws(x):
        return x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)

    def repeats(x):
        return jax.lax.scan(lambda carry, row: (carry @ x + row, None), x, jnp.ones((5, 3, 3)))[0]

    x = jnp.ones((3, 3))
    assert not has_loop(jax.jit(draws).lower(x))
    assert has_loop(jax.jit(repeats).lower(x))


def test_hollow_steps_give_the_same_arrays_back():
    def step(state, batch):
        key = jax.random.split(state["key"])[0]
        noise = jax.random.normal(key, (3,))
        return {"w": state["w"] * 2 + noise, "n": state["n"] + 1, "key": key}, {"loss": batch["x"].sum()}

    state = {"w": jnp.arange(3.0), "n": jnp.int32(5), "key": jax.random.key(7)}
    before = jax.tree.map(np.asarray, {"w": state["w"], "n": state["n"]})
    same = jax.jit(hollow(step), donate_argnums=0)
    batch = {"x": np.full((4, 2), np.nan, "float32"), "mask": np.ones(4, bool)}
    after, logs = same(state, batch)
    jax.tree.map(np.testing.assert_array_equal, {"w": after["w"], "n": after["n"]}, before)
    assert jnp.array_equal(jax.random.key_data(after["key"]), jax.random.key_data(jax.random.key(7)))
    assert logs["loss"].shape == ()


def test_hollow_steps_are_handed_all_their_arguments():
    same = jax.jit(hollow(lambda state, batch: (state + 1, batch["x"].sum())))
    compiled = same.lower(np.ones(3), {"x": np.ones((4, 2)), "unused": np.ones(5)}).compile()
    assert len(jax.tree.leaves(compiled.in_avals)) == 3
