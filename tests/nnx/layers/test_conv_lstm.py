from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_kernel_of_one_is_a_long_short_term_memory_at_each_place() -> None:
    cell = nnx.ConvLSTMCell(3, 2, (1, 1), bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x, c, h = (rng.normal(size=(2, 4, 5, n)).astype(np.float32) for n in (3, 2, 2))
    gates = x @ cell.ih.kernel[0, 0] + cell.ih.bias[...] + h @ cell.hh.kernel[0, 0] + cell.hh.bias[...]
    i, g, f, o = np.split(np.asarray(gates), 4, axis=-1)
    expected = _sigmoid(f + 1) * c + _sigmoid(i) * np.tanh(g)
    (new_c, new_h), y = cell((jnp.asarray(c), jnp.asarray(h)), x)
    np.testing.assert_allclose(new_c, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new_h, _sigmoid(o) * np.tanh(expected), rtol=1e-4, atol=1e-6)
    assert y is new_h


@pytest.mark.parametrize(
    ("kernel_size", "strides", "padding", "spatial"),
    [
        (3, 1, "SAME", (6,)),
        (3, 2, "same", (7,)),
        ((3,), None, "VALID", (6,)),
        (4, 3, "CAUSAL", (8,)),
        ((2, 3), (1, 2), "VALID", (5, 6)),
        ((3, 2), 2, ((0, 1), 2), (5, 6)),
        ((3, 3), (2, 1), "CIRCULAR", (4, 5)),
        ((1, 2, 1), 1, 0, (2, 3, 2)),
    ],
)
def test_the_carry_keeps_the_size_that_the_convolution_of_the_input_has(
    kernel_size: Any, strides: Any, padding: Any, spatial: tuple[int, ...]
) -> None:
    def run() -> Any:
        cell = nnx.ConvLSTMCell(2, 3, kernel_size, strides, padding=padding, rngs=nnx.Rngs(0))
        assert cell.num_feature_axes == len(spatial) + 1
        x = jnp.ones((2, *spatial, 2))
        carry = cell.initialize_carry(x.shape, nnx.Rngs(0))
        return carry, cell(carry, x), cell.ih(x)

    carry, step, wide = jax.eval_shape(run)
    expected = (*wide.shape[:-1], 3)
    assert [part.shape for part in jax.tree.leaves((carry, step))] == [expected] * 5


def test_padding_that_keeps_the_size_is_that_of_the_hidden_state_as_well() -> None:
    for padding, expected in [
        ("CIRCULAR", "CIRCULAR"),
        ("VALID", "SAME"),
        (1, 1),
        (0, "SAME"),
        ([(2, 0)], [(2, 0)]),
    ]:
        cell = nnx.eval_shape(lambda: nnx.ConvLSTMCell(2, 3, 3, padding=padding, rngs=nnx.Rngs(0)))
        assert cell.hh.padding == expected


def test_a_causal_cell_sees_no_later_place() -> None:
    rnn = nnx.RNN(nnx.ConvLSTMCell(1, 2, 3, padding="CAUSAL", rngs=nnx.Rngs(0)))
    x = jnp.ones((1, 3, 6, 1))
    y, changed = rnn(x), rnn(x.at[:, :, 4].set(9.0))
    np.testing.assert_array_equal(y[:, :, :4], changed[:, :, :4])
    assert bool((y[:, :, 4:] != changed[:, :, 4:]).any())


def test_wrong_shapes_are_told() -> None:
    cell = nnx.ConvLSTMCell(3, 4, (3, 3), 2, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"ConvLSTMCell: got an input of shape \(5, 5\), expected at least 3 axes"
    ):
        cell((jnp.ones(1),) * 2, jnp.ones((5, 5)))
    with pytest.raises(
        ValueError, match=r"got shapes \(\(1, 8, 8, 4\), .* expected a tuple \(c, h\) of shape \(1, 4, 4, 4\)"
    ):
        cell((jnp.ones((1, 8, 8, 4)),) * 2, jnp.ones((1, 8, 8, 3)))
    with pytest.raises(
        ValueError, match=r"got input_shape=\(8, 3\), expected 3 or more sizes, \(\.\.\., size, size, 3\)"
    ):
        cell.initialize_carry((8, 3), nnx.Rngs(0))
    with pytest.raises(ValueError, match="got padding 'FOO' for 2 spatial axes"):
        nnx.ConvLSTMCell(3, 4, (3, 3), padding="FOO", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"ConvLSTMCell: got hidden_features=0"):
        nnx.ConvLSTMCell(3, 0, (3, 3), rngs=nnx.Rngs(0))
