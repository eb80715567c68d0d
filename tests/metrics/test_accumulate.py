"""Sums that stay exact over any number of batches."""

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.metrics as metrics
import easyflax.nnx as nnx
from easyflax.metrics.accumulate import Total, TotalState, add, zero

RNG = np.random.default_rng(2)


def _exact(total):
    return float(total.high) + float(total.low)


def test_counts_stay_exact_past_two_to_the_24():
    @jax.jit
    def count(total):
        return jax.lax.fori_loop(0, 1001, lambda _, total: add(total, 1.0), total)

    start = 2**24
    assert jnp.float32(start) + 1 == start  # what a plain float32 counter does
    assert _exact(count(add(zero(), start))) == start + 1001


def test_the_rows_of_many_large_batches_are_counted_exactly():
    metric = metrics.Mean("rows")
    values, weight = jnp.ones((1 << 18, 1)), jnp.ones(1 << 18).at[0].set(0)

    @jax.jit
    def many(state):
        def one(_, state):
            return metric.stateless_update_state(state, values, weight)

        return jax.lax.fori_loop(0, 200, one, state)

    state = many(metric.stateless_reset_state())
    rows = 200 * (2**18 - 1)  # 52,428,600: not a float32
    assert [_exact(total) for total in state] == [rows, rows]
    assert metric.stateless_result(state) == 1


def test_a_batch_of_more_rows_than_float32_can_count_is_counted_exactly():
    metric = metrics.Mean("rows")
    values = jax.ShapeDtypeStruct((2**24 + 1,), jnp.bfloat16)
    count = jax.jit(
        lambda: metric.stateless_update_state(
            metric.stateless_reset_state(), jnp.ones(values.shape, values.dtype)
        )[1]
    )
    assert _exact(count()) == 2**24 + 1


def test_the_sum_of_many_numbers_is_as_good_as_in_float64():
    values = RNG.uniform(0, 1, size=20_000).astype("float32")
    total = jax.jit(lambda values: jax.lax.scan(lambda t, v: (add(t, v), None), zero(), values)[0])(values)
    exact = values.astype("float64").sum()
    plain = np.cumsum(values)[-1]
    assert abs(_exact(total) - exact) < 1e-9 * exact < abs(plain - exact)


def test_infinite_values_give_an_infinite_mean_and_nothing_gives_zero():
    metric = metrics.Mean()
    assert metric.result() == 0
    metric.update_state([np.inf])
    metric.update_state([1.0])
    assert np.isposinf(metric.result())
    metric.update_state([np.nan])
    assert np.isnan(metric.result())


def test_a_sum_reads_and_is_assigned_like_any_variable():
    total = TotalState(zero((2,)), name="total")
    assert (total.shape, total.dtype, total.name) == ((2,), jnp.float32, "total")
    total.assign([1.0, 2.0])
    total.assign_add(np.array([1.0, 1.0]))
    total.assign_sub(1)
    total[0] = 5.0
    total[...] += 1
    np.testing.assert_array_equal(total.value, [6.0, 3.0])
    np.testing.assert_array_equal(total * 2 - jnp.ones(2), [11.0, 5.0])
    np.testing.assert_array_equal(np.asarray(total), [6.0, 3.0])


def test_what_is_taken_over_from_another_sum_is_exact():
    one, other = TotalState(zero()), TotalState(zero())
    for total in (one, other):
        total.assign(2**24)
        total.assign_add(1)
    one.assign_add(other)
    assert _exact(one.get_raw_value()) == 2**25 + 2
    other.assign(one)
    assert _exact(other.get_raw_value()) == 2**25 + 2


def test_a_total_calculates_as_its_sum():
    total = Total(jnp.float32(3), jnp.float32(0))
    assert float(total) == 3
    assert total.shape == ()
    assert jnp.sqrt(total + 1) == 2


def test_a_sum_goes_through_transforms_of_modules():
    metric = metrics.Mean()

    @nnx.jit
    def update(metric, values):
        metric.update_state(values)

    update(metric, jnp.array([1.0, 3.0]))
    update(metric, jnp.array([5.0]))
    assert metric.result() == 3
