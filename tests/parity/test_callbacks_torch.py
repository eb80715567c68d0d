"""PyTorch's schedule of one cycle has the rates of ours."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.callbacks import OneCycle

torch = pytest.importorskip("torch")

ONE_CYCLES = {
    "plain": {},
    "linear": {"anneal_strategy": "linear", "pct_start": 0.5},
    "three_phases": {"three_phase": True, "pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0},
    "falling_from_the_first": {"pct_start": 0.0},
}


@pytest.mark.filterwarnings("ignore")  # of steps in an unusual order
@pytest.mark.parametrize("arguments", ONE_CYCLES.values(), ids=ONE_CYCLES)
@pytest.mark.parametrize("total", [12, 7])
def test_one_cycle_is_that_of_pytorch(arguments, total):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total, **arguments)
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    rates = OneCycle(0.1, **arguments)._rate(jnp.arange(total), jnp.full(total, total))
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
