from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.nnx.layers.sequences import at_length, flip_sequences


def _flip_rows(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Each `(time, ...)` row with its first `length` entries reversed."""
    flipped = np.array(x)
    for row in np.ndindex(lengths.shape):
        n = lengths[row]
        flipped[row][:n] = x[row][:n][::-1]
    return flipped


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (2, 3, 4, 2)])
def test_the_valid_part_of_each_sequence_is_reversed(shape: tuple[int, ...]) -> None:
    batch = shape[: 1 if len(shape) < 4 else 2]
    lengths = np.arange(np.prod(batch)).reshape(batch) % 4 + 1
    x = np.arange(np.prod(shape)).reshape(shape)
    valid = (np.arange(4) < lengths[..., None]).reshape(*batch, 4, *(1,) * (len(shape) - len(batch) - 1))
    flipped = flip_sequences(jnp.asarray(x), jnp.asarray(lengths), len(batch), time_major=False)
    np.testing.assert_array_equal(np.where(valid, flipped, 0), np.where(valid, _flip_rows(x, lengths), 0))
    moved = jnp.moveaxis(jnp.asarray(x), len(batch), 0)
    flipped_moved = flip_sequences(moved, jnp.asarray(lengths), len(batch), time_major=True)
    np.testing.assert_array_equal(jnp.moveaxis(flipped_moved, 0, len(batch)), flipped)


@pytest.mark.parametrize("lengths", [None, jnp.array([0, 1, 4])])
def test_flipping_twice_restores_the_sequences(lengths: Any) -> None:
    x = jnp.arange(24.0).reshape(3, 4, 2)
    once = flip_sequences(x, lengths, 1, time_major=False)
    np.testing.assert_array_equal(flip_sequences(once, lengths, 1, time_major=False), x)


def test_each_sequence_gets_the_step_at_its_length_and_the_first_one_where_it_is_empty() -> None:
    history = {"h": jnp.arange(24.0).reshape(4, 3, 2), "n": jnp.arange(12).reshape(4, 3)}
    first = {"h": -jnp.ones((3, 2)), "n": -jnp.ones(3, int)}
    found = at_length(history, first, jnp.array([0, 1, 4]))
    assert found["n"].tolist() == [-1, 1, 11]
    assert found["h"].tolist() == [[-1, -1], [2, 3], [22, 23]]


def test_sequences_without_steps_keep_what_was_first() -> None:
    found = at_length(jnp.zeros((0, 2, 3)), jnp.ones((2, 3)), jnp.zeros(2, int))
    assert found.tolist() == np.ones((2, 3)).tolist()


def test_the_gradient_goes_to_the_selected_steps_only() -> None:
    lengths = jnp.array([0, 1, 3])

    def loss(history: jax.Array, first: jax.Array) -> jax.Array:
        return at_length(history, first, lengths).sum()

    to_history, to_first = jax.grad(loss, argnums=(0, 1))(jnp.ones((3, 3)), jnp.ones(3))
    assert to_history.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert to_first.tolist() == [1, 0, 0]
