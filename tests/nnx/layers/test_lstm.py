from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers.lstm import lstm_update


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _update(i: Any, f: Any, g: Any, o: Any, c: Any) -> tuple[np.ndarray, np.ndarray]:
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return c, _sigmoid(o) * np.tanh(c)


def test_gates_write_keep_and_read_the_memory() -> None:
    gates = _normal(5, 2, 4)
    for ours, expected in zip(lstm_update(*map(jnp.asarray, gates)), _update(*gates), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_closed_gates_keep_the_memory_and_hide_it() -> None:
    full, c = jnp.full(3, 100.0), jnp.arange(3.0)
    new_c, h = lstm_update(-full, full, full, -full, c)
    assert new_c.tolist() == c.tolist()
    assert h.tolist() == [0, 0, 0]


def test_the_cell_is_its_formula() -> None:
    cell = nnx.LSTMCell(3, 4, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    x, c, h = _normal(2, 3), _normal(2, 4, seed=1), _normal(2, 4, seed=2)
    gates = [
        x @ np.asarray(of_x.kernel[...]) + h @ np.asarray(of_h.kernel[...]) + np.asarray(of_h.bias[...])
        for of_x, of_h in [(cell.ii, cell.hi), (cell.if_, cell.hf), (cell.ig, cell.hg), (cell.io, cell.ho)]
    ]
    (new_c, new_h), y = cell((jnp.asarray(c), jnp.asarray(h)), x)
    expected_c, expected_h = _update(*gates, c)
    np.testing.assert_allclose(new_c, expected_c, rtol=1e-5)
    np.testing.assert_allclose(new_h, expected_h, rtol=1e-5)
    assert y is new_h


def test_the_optimized_cell_computes_what_the_cell_with_the_same_parameters_does() -> None:
    plain = nnx.LSTMCell(3, 4, bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    fast = nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))
    of_x, of_h = [plain.ii, plain.if_, plain.ig, plain.io], [plain.hi, plain.hf, plain.hg, plain.ho]
    fast.dense_i.kernel[...] = jnp.concatenate([layer.kernel[...] for layer in of_x], -1)
    fast.dense_h.kernel[...] = jnp.concatenate([layer.kernel[...] for layer in of_h], -1)
    fast.dense_h.bias[...] = jnp.concatenate([layer.bias[...] for layer in of_h], -1)
    x, carry = _normal(2, 3), (jnp.asarray(_normal(2, 4)), jnp.asarray(_normal(2, 4, seed=1)))
    for ours, expected in zip(jax.tree.leaves(fast(carry, x)), jax.tree.leaves(plain(carry, x)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("Cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell])
def test_the_biases_are_those_of_the_hidden_state_only(Cell: Any) -> None:
    cell = Cell(3, 4, rngs=nnx.Rngs(0))
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(cell)) if path[-1] == "bias"]
    assert {path[0] for path in paths} <= {"dense_h", "hi", "hf", "hg", "ho"}
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(cell))) == 4 * (3 * 4 + 4 * 4 + 4)
