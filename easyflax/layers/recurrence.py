"""Runs a step along the time axis of a batch of sequences; steps that a mask leaves out keep the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["run_over_time", "time_major", "time_major_mask"]


def run_over_time(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    inputs: Any,
    states: Any,
    kept: Any = None,
    *,
    output_of: Callable[[Any], jax.Array],
    mask: jax.Array | None = None,
    go_backwards: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
    return_sequences: bool = False,
) -> tuple[jax.Array, Any, Any]:
    """Returns the outputs, the last states and what was kept.

    Args:
        step: called with one step of the inputs, the states and what is kept; returns the new ones of both.
        inputs: arrays `(time, batch, ...)` in any nesting.
        states: arrays `(batch, ...)`. Where the mask is False they stay as they are.
        kept: arrays that each step changes whatever the mask says.
        output_of: returns the output that belongs to states.
        mask: `(time, batch)`, False for steps that are left out.
        go_backwards: begins at the last step. The outputs are in the order in which they are computed.
        unroll: writes the steps one after the other into the compiled program.
        zero_output_for_mask: the output of a step left out is zero, and not that of the step before.
        return_sequences: whether the outputs are those of all steps, `(time, batch, ...)`, or the last one.
    """

    def visible(states: Any, keep: jax.Array | None) -> jax.Array:
        output = output_of(states)
        if keep is None or not zero_output_for_mask:
            return output
        return jnp.where(_like(keep, output), output, jnp.zeros_like(output))

    def body(carry: Any, now: Any) -> tuple[Any, Any]:
        states, kept = carry
        x, keep = now
        new, kept = step(x, states, kept)
        if keep is not None:
            new = jax.tree.map(lambda one, old: jnp.where(_like(keep, one), one, old), new, states)
        return (new, kept), visible(new, keep) if return_sequences else None

    (states, kept), outputs = jax.lax.scan(
        body, (states, kept), (inputs, mask), reverse=go_backwards, unroll=unroll
    )
    if not return_sequences:
        outputs = visible(states, None if mask is None else mask[0 if go_backwards else -1])
    elif go_backwards:
        outputs = jnp.flip(outputs, axis=0)
    return outputs, states, kept


def time_major(sequences: jax.Array) -> jax.Array:
    """Swaps the first two axes."""
    return jnp.swapaxes(sequences, 0, 1)


def time_major_mask(mask: Any, sequences: jax.Array, layer: str) -> jax.Array | None:
    """Returns a mask as bools, `(time, batch)`; of several masks the first.

    Args:
        mask: `(batch, time)` or `(batch, time, 1)`, a list that begins with one, or None.
        sequences: `(batch, time, ...)`.
        layer: for messages.

    Raises:
        ValueError: the mask has another shape.
    """
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    steps = sequences.shape[:2]
    if mask.shape not in (steps, (*steps, 1)):
        raise ValueError(
            f"{layer}: got a mask of shape {mask.shape} for sequences of shape {sequences.shape}, expected "
            f"{steps}, (batch, time). Pass one value for each step."
        )
    return time_major(mask.reshape(steps).astype(bool))


def _like(keep: jax.Array, array: jax.Array) -> jax.Array:
    return keep.reshape(keep.shape + (1,) * (array.ndim - 1))
