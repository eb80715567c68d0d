"""Sequences of different lengths in one array, with padding at their ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["at_length", "flip_sequences"]


def flip_sequences(
    inputs: jax.Array, seq_lengths: jax.Array | None, num_batch_dims: int, time_major: bool
) -> jax.Array:
    """Returns sequences in reverse order, with the padding still at their ends.

    Args:
        inputs: `(*batch, time, ...)`, or `(time, *batch, ...)` if `time_major`.
        seq_lengths: `(*batch,)`, integers: how many entries of each sequence are no padding; None for all.
        num_batch_dims: the number of batch axes.
        time_major: whether the time axis is the first one.

    Returns:
        the shape and dtype of `inputs`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.sequences import flip_sequences
        >>> x = jnp.array([[1, 2, 0], [3, 4, 5]])
        >>> flip_sequences(x, jnp.array([2, 3]), num_batch_dims=1, time_major=False).tolist()
        [[2, 1, 0], [5, 4, 3]]
    """
    axis = 0 if time_major else num_batch_dims
    if seq_lengths is None:
        return jnp.flip(inputs, axis=axis)
    steps = inputs.shape[axis]
    order = jnp.arange(steps - 1, -1, -1)
    order = order.reshape(-1, *(1,) * num_batch_dims) if time_major else order
    # The last valid step comes first, and what lies beyond wraps around to the end.
    order = (order + jnp.expand_dims(seq_lengths, axis)) % steps
    order = order.reshape(*order.shape, *(1,) * (inputs.ndim - order.ndim))
    return jnp.take_along_axis(inputs, order, axis=axis)


def at_length(history: Any, first: Any, seq_lengths: jax.Array) -> Any:
    """Returns what each sequence has after its last valid step.

    Args:
        history: arrays of shape `(time, *batch, ...)`, in any tree.
        first: the same tree with arrays of shape `(*batch, ...)`: for sequences of length 0.
        seq_lengths: `(*batch,)`, integers.

    Returns:
        the tree of `first`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.sequences import at_length
        >>> history = jnp.array([[1, 2, 3], [4, 5, 6]])  # (time, batch)
        >>> at_length(history, jnp.zeros(3, int), jnp.array([0, 1, 2])).tolist()
        [0, 2, 6]
    """

    def select(values: jax.Array, before: jax.Array) -> jax.Array:
        if values.shape[0] == 0:
            return before
        lengths = seq_lengths.reshape(*seq_lengths.shape, *(1,) * (values.ndim - 1 - seq_lengths.ndim))
        last = jnp.take_along_axis(values, (lengths - 1)[None], axis=0, mode="clip")[0]
        return jnp.where(lengths > 0, last, before)

    return jax.tree.map(select, history, first)
