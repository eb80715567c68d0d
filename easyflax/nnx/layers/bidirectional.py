"""Two recurrent layers over the same sequences, in both directions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs, RngStream
from easyflax.nnx.layers import checks
from easyflax.nnx.layers.recurrent import RNNBase, own_carry_stream
from easyflax.nnx.layers.recurrent_cells import Carry, carry_stream

__all__ = ["Bidirectional"]


def _concatenate(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.concatenate([a, b], axis=-1)


class Bidirectional(Module):
    """Runs one recurrent layer forward and another one backward over sequences, and merges their outputs.

    Args:
        forward_rnn: goes from the first step to the last; see `nnx.RNN`.
        backward_rnn: goes from the last to the first.
        merge_fn: makes one of two outputs, those of the forward layer first; by default puts their features
            side by side.
        time_major: whether inputs and outputs are `(time, *batch, ...)` instead of `(*batch, time, ...)`.
        return_carry: whether a call returns `(carry, outputs)` instead of the outputs only.
        rngs: where keys for the first carries come from, the forward layer's first: True for a stream with
            seed 0, an `Rngs` to fork its `carry` from, a stream, or False for the layers' own.

    Raises:
        AttributeError: `rngs` has no stream `carry`, and no default.
        TypeError: `rngs` is none of these.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> forward, backward = (nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs)) for _ in range(2))
        >>> nnx.Bidirectional(forward, backward)(jnp.ones((2, 5, 3))).shape
        (2, 5, 8)

    Source: Schuster and Paliwal 1997, https://doi.org/10.1109/78.650093
    """

    def __init__(
        self,
        forward_rnn: RNNBase,
        backward_rnn: RNNBase,
        *,
        merge_fn: Callable[[Any, Any], Any] = _concatenate,
        time_major: bool = False,
        return_carry: bool = False,
        rngs: Rngs | RngStream | bool = True,
    ) -> None:
        if forward_rnn is backward_rnn:
            warnings.warn(
                f"{type(self).__name__}: forward_rnn and backward_rnn are the same layer, so both directions "
                "share their parameters. Make two layers if they are not meant to.",
                stacklevel=2,
            )
        self.forward_rnn = forward_rnn
        self.backward_rnn = backward_rnn
        self.merge_fn = merge_fn
        self.time_major = time_major
        self.return_carry = return_carry
        self.rngs = own_carry_stream(self, rngs)

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: tuple[Carry, Carry] | None = None,
        rngs: Rngs | RngStream | None = None,
        seq_lengths: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Returns the merged outputs of all steps, in the order of the inputs, or `(carry, outputs)` if
        `return_carry`.

        Args:
            inputs: `(*batch, time, *features)`, or `(time, *batch, *features)` if `time_major`.
            initial_carry: what the first steps get, a pair for the two layers; by default what their cells
                make.
            rngs: goes before the layer's own stream.
            seq_lengths: `(*batch,)`, integers: how many steps of each sequence are no padding.
            return_carry, time_major: go before the attributes of these names; the carry is a pair.
            reverse, keep_order: change nothing, since both directions are run anyway; they are here so that
                the layer can be called as `nnx.RNN` is, by another `Bidirectional` for example.

        Raises:
            ValueError: `initial_carry` is no pair.
        """
        del reverse, keep_order
        time_major = self.time_major if time_major is None else time_major
        return_carry = self.return_carry if return_carry is None else return_carry
        forward_carry, backward_carry = _pair(self, initial_carry)
        options: dict[str, Any] = {
            "rngs": carry_stream(self, self.rngs if rngs is None else rngs),
            "seq_lengths": seq_lengths,
            "return_carry": True,
            "time_major": time_major,
        }
        forward_carry, forward = self.forward_rnn(
            inputs, initial_carry=forward_carry, reverse=False, **options
        )
        backward_carry, backward = self.backward_rnn(
            inputs, initial_carry=backward_carry, reverse=True, keep_order=True, **options
        )
        outputs = jax.tree.map(self.merge_fn, forward, backward)
        return ((forward_carry, backward_carry), outputs) if return_carry else outputs


def _pair(layer: Bidirectional, carry: Any) -> tuple[Any, Any]:
    if carry is None:
        return None, None
    if not isinstance(carry, (tuple, list)) or len(carry) != 2:
        got = type(carry).__name__ + (f" of {len(carry)}" if isinstance(carry, (tuple, list)) else "")
        raise ValueError(
            f"{checks.describe(layer)}: got {got} as initial_carry, expected the pair (carry of forward_rnn, "
            "carry of backward_rnn). Pass both; None in one place lets that layer make its own."
        )
    return carry[0], carry[1]
