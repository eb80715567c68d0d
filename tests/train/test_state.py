import jax
import jax.numpy as jnp
import numpy as np

from easyflax.train.state import TrainState, healthy, watch


def _after(losses):
    health = healthy()
    for step, loss in enumerate(losses):
        health = jax.jit(watch)(health, jnp.float32(loss), jnp.int32(step))
    return int(health.first_nonfinite), float(health.last_finite)


def test_the_first_bad_step_and_the_last_good_loss_before_it_are_kept():
    assert _after([3.0, 2.0]) == (-1, 2.0)
    assert _after([3.0, 2.0, np.nan, 1.0, np.inf]) == (2, 2.0)
    first, last = _after([np.inf, 1.0])
    assert first == 0
    assert np.isnan(last)


def test_the_state_is_a_pytree_of_its_arrays():
    state = TrainState({"w": 1}, {"s": 2}, (3,), {"loss": 4}, 5, healthy())
    assert len(jax.tree.leaves(state)) == 7
    doubled = jax.tree.map(lambda x: x * 2, state)
    assert doubled.params == {"w": 2}
    assert doubled.step == 10
