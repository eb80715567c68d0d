from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from easyflax import nnx
from easyflax.nnx.layers.gru import gru_update


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_cell_is_its_formula() -> None:
    cell = nnx.GRUCell(3, 4, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    x, h = _normal(2, 3), _normal(2, 4, seed=1)
    of_x = x @ np.asarray(cell.dense_i.kernel[...]) + np.asarray(cell.dense_i.bias[...])
    of_h = h @ np.asarray(cell.dense_h.kernel[...])
    r, z = _sigmoid(of_x[:, :4] + of_h[:, :4]), _sigmoid(of_x[:, 4:8] + of_h[:, 4:8])
    n = np.tanh(of_x[:, 8:] + r * of_h[:, 8:])
    carry, y = cell(jnp.asarray(h), x)
    np.testing.assert_allclose(carry, (1 - z) * n + z * h, rtol=1e-5)
    assert y is carry


def test_an_open_update_gate_keeps_the_hidden_state() -> None:
    h = jnp.arange(2.0)
    parts = jnp.array([0.0, 0.0, 100.0, 100.0, 3.0, 3.0])  # r, z, n
    assert gru_update(parts, jnp.zeros(6), h).tolist() == h.tolist()


def test_a_closed_reset_gate_forgets_the_hidden_state() -> None:
    parts = jnp.array([-200.0, -200.0, -200.0, -200.0, 0.5, 0.5])
    new = gru_update(parts, jnp.full(6, 9.0), jnp.ones(2))
    np.testing.assert_allclose(new, np.tanh([0.5, 0.5]), rtol=1e-6)
