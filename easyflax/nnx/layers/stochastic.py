"""Layers that draw random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs, RngStream
from easyflax.nnx.layers import checks

__all__ = ["Dropout", "draw_key", "dropout"]


def dropout(key: jax.Array, x: jax.Array, rate: float, broadcast_dims: Sequence[int] = ()) -> jax.Array:
    """Returns `x` with a random share `rate` of its entries set to zero and the others divided by `1 - rate`.

    Args:
        key: decides which.
        x: floating or complex, any shape.
        rate: from 0 (all stay) to 1 (all are zero).
        broadcast_dims: axes along which one decision holds for all entries.

    Returns:
        the shape and dtype of `x`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from easyflax.nnx.layers.stochastic import dropout
        >>> sorted(set(dropout(jax.random.key(0), jnp.ones(100), 0.75).tolist()))
        [0.0, 4.0]
    """
    if rate == 1.0:
        return jnp.zeros_like(x)  # dividing by zero would make gradients NaN
    keep_rate = 1.0 - rate
    shared = {dim % x.ndim for dim in broadcast_dims}
    shape = tuple(1 if dim in shared else size for dim, size in enumerate(x.shape))
    keep = jnp.broadcast_to(jax.random.bernoulli(key, keep_rate, shape), x.shape)
    return lax.select(_laid_out_like(x, keep), x / keep_rate, jnp.zeros_like(x))


def _laid_out_like(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Gives a mask the layout of `x` on meshes with explicit axes; elsewhere the compiler decides."""
    sharding = jax.typeof(x).sharding
    return mask if all(axis is None for axis in sharding.spec) else jax.sharding.reshard(mask, sharding)


def draw_key(layer: Module, rngs: Rngs | RngStream | jax.Array | None, stream: str) -> jax.Array:
    """Returns the key that `layer` drops entries with: the next of a stream, or the one given.

    Raises:
        TypeError, ValueError: `rngs` is of another type, or None.
        KeyError: `rngs` has neither that stream nor a default.
    """
    if isinstance(rngs, Rngs):
        return rngs[stream]()
    if isinstance(rngs, RngStream):
        return rngs()
    if isinstance(rngs, jax.Array):
        return rngs
    if rngs is None:
        raise ValueError(
            f"{checks.describe(layer)}: got no rngs, expected random keys while deterministic is False. "
            f"Pass rngs=nnx.Rngs({stream}=0) to the constructor or to the call, or deterministic=True."
        )
    raise TypeError(
        f"{checks.describe(layer)}: got rngs of type {type(rngs).__name__}, expected nnx.Rngs, an "
        "nnx.RngStream or a key. Wrap a seed: rngs=nnx.Rngs(0)."
    )


class Dropout(Module):
    """Sets a random share of its input to zero while training, and scales the rest so that the mean stays.

    With `deterministic=False` (the default, and what `model.train()` sets) each entry is zero with
    probability `rate`, else divided by `1 - rate`. With True (`model.eval()`) the input is returned as it is.

    Args:
        rate: the probability of zero, from 0 to 1.
        broadcast_dims: axes along which one decision holds for all entries.
        deterministic: see above; None requires it at each call.
        rng_collection: name of the stream of `rngs` that gives the keys.
        rngs: a stream is forked from it here, so that the layer has its own keys; without it, pass `rngs` at
            each call.

    Raises:
        TypeError: `rngs` is neither `nnx.Rngs` nor an `nnx.RngStream`, or `broadcast_dims` no sequence.
        ValueError: `rate` is outside `[0, 1]`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        >>> sorted(set(layer(jnp.ones(100)).tolist()))
        [0.0, 2.0]
        >>> layer.eval()
        >>> set(layer(jnp.ones(100)).tolist())
        {1.0}

    Source: Srivastava et al. 2014, section 4, https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(
        self,
        rate: float,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | RngStream | None = None,
    ) -> None:
        if isinstance(broadcast_dims, int):
            raise TypeError(
                f"{type(self).__name__}: got broadcast_dims={broadcast_dims}, expected a sequence of axes. "
                f"Pass broadcast_dims=({broadcast_dims},)."
            )
        self.rate = rate
        self.broadcast_dims = tuple(broadcast_dims)
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self._check_rate()
        if rngs is not None and not isinstance(rngs, (Rngs, RngStream)):
            raise TypeError(
                f"{type(self).__name__}: got rngs of type {type(rngs).__name__}, expected nnx.Rngs, an "
                "nnx.RngStream or None. Wrap a seed or key: rngs=nnx.Rngs(0)."
            )
        stream = rngs[rng_collection] if isinstance(rngs, Rngs) else rngs
        self.rngs = None if stream is None else stream.fork()

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the mode, for `nnx.view`.

        Args:
            deterministic: True returns inputs as they are, False drops entries.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: Rngs | RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """Returns `inputs` with entries dropped, of the same shape and dtype.

        Args:
            inputs: floating or complex, any shape.
            deterministic: goes before the attribute of that name.
            rngs: goes before the layer's own stream; a key is used as it is.

        Raises:
            TypeError: `inputs` are integers that would have to be scaled, or `rngs` is of another type.
            ValueError: `deterministic` given nowhere, `rngs` given nowhere, or a rate outside `[0, 1]`.
        """
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            raise ValueError(
                f"{checks.describe(self)}: got no deterministic, expected True (inference) or False "
                "(training). Pass it to the constructor or to the call, or call model.train() or "
                "model.eval() first."
            )
        if deterministic or self.rate == 0.0:
            return inputs
        self._check_rate()
        if self.rate == 1.0:
            return jnp.zeros_like(inputs)  # and draws no key
        self._check_input(inputs)
        inputs = jnp.asarray(inputs)
        key = draw_key(self, self.rngs if rngs is None else rngs, self.rng_collection)
        return dropout(key, inputs, self.rate, self.broadcast_dims)

    def _check_rate(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(
                f"{checks.describe(self)}: got rate={self.rate}, expected a probability from 0 to 1. "
                "Pass the share of entries to drop, for example rate=0.5."
            )

    def _check_input(self, inputs: Any) -> None:
        if not jnp.issubdtype(jnp.result_type(inputs), jnp.inexact):
            raise TypeError(
                f"{checks.describe(self)}: got inputs of dtype {jnp.result_type(inputs)}, expected floating "
                "ones. Convert them first, for example with inputs.astype(float)."
            )
        rank = jnp.ndim(inputs)
        if any(not -rank <= dim < rank for dim in self.broadcast_dims):
            raise ValueError(
                f"{checks.describe(self)}: got broadcast_dims={self.broadcast_dims} for an input of shape "
                f"{jnp.shape(inputs)}, expected axes from {-rank} to {rank - 1}. Rebuild the layer with axes "
                "that the input has."
            )
