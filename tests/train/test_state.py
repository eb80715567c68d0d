import jax
import jax.numpy as jnp
import numpy as np

from easyflax.train.state import TrainState, count_step, counters_on_host, start_counters


def _after(losses):
    counters = start_counters(jnp.int32(5))
    for loss in losses:
        counters = jax.jit(count_step)(counters, jnp.float32(loss))
    done, first_nonfinite = counters.steps.tolist()
    assert done == 5 + len(losses)
    return first_nonfinite, float(counters.last_finite)


def test_the_first_bad_step_and_the_last_good_loss_before_it_are_kept():
    assert _after([3.0, 2.0]) == (-1, 2.0)
    assert _after([3.0, 2.0, np.nan, 1.0, np.inf]) == (7, 2.0)
    first, last = _after([np.inf, 1.0])
    assert first == 5
    assert np.isnan(last)


def test_the_state_is_a_pytree_of_its_arrays():
    state = TrainState({"w": 1}, {"s": 2}, (3,), {"float32": 4}, start_counters(jnp.int32(5)))
    assert len(jax.tree.leaves(state)) == 6
    doubled = jax.tree.map(lambda x: x * 2, state)
    assert doubled.params == {"w": 2}
    assert doubled.counters.steps.tolist() == [10, -2]


def test_counters_are_the_same_on_the_host():
    for ours, jitted in zip(counters_on_host(5), start_counters(jnp.int32(5)), strict=True):
        np.testing.assert_array_equal(ours, jitted)
        assert (ours.dtype, ours.shape) == (jitted.dtype, jitted.shape)
