"""The gated recurrent unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.layers import initializers
from easyflax.nnx.layers.activations import sigmoid, tanh
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import Linear
from easyflax.nnx.layers.recurrent_cells import (
    HiddenStateCell,
    default_bias_init,
    default_kernel_init,
    default_recurrent_kernel_init,
)

__all__ = ["GRUCell", "gru_update"]


def gru_update(
    x: jax.Array,
    s: jax.Array,
    h: jax.Array,
    *,
    gate_fn: Callable[..., jax.Array] = sigmoid,
    activation_fn: Callable[..., jax.Array] = tanh,
) -> jax.Array:
    """Returns the new hidden state `h' = (1 - z) * n + z * h`.

        r = gate(x_r + s_r)
        z = gate(x_z + s_z)
        n = activation(x_n + r * s_n)

    Args:
        x: the parts `r`, `z`, `n` of the mapped input side by side, `(..., 3 * hidden_features)`.
        s: those of the mapped hidden state.
        h: the hidden state, `(..., hidden_features)`.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate `n`.

    Returns:
        `(..., hidden_features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.gru import gru_update
        >>> keep = jnp.array([0.0, 99.0, 0.0])  # r, z, n
        >>> gru_update(keep, jnp.zeros(3), jnp.array([0.5])).tolist()
        [0.5]
    """
    x_r, x_z, x_n = jnp.split(x, 3, axis=-1)
    s_r, s_z, s_n = jnp.split(s, 3, axis=-1)
    r = gate_fn(x_r + s_r)
    z = gate_fn(x_z + s_z)
    n = activation_fn(x_n + r * s_n)
    return (1.0 - z) * n + z * h


class GRUCell(HiddenStateCell):
    """A gated recurrent unit: a cell whose gates reset and update the hidden state.

        r = gate(W_ir x + b_ir + W_hr h)                the reset gate
        z = gate(W_iz x + b_iz + W_hz h)                the update gate
        n = activation(W_in x + b_in + r * (W_hn h))    the candidate
        h' = (1 - z) * n + z * h

    The layers are `dense_i`, with the bias, for the input and `dense_h` for the hidden state; each has `r`,
    `z`, `n` side by side in its `3 * hidden_features` outputs. The carry is `h`, and so is the output.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the last axis of the carry and of the output.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate.
        kernel_init: makes the kernel of `dense_i`, `(key, shape, dtype) -> array`.
        recurrent_kernel_init: makes the kernel of `dense_h`.
        bias_init: makes the bias.
        dtype: the dtype of the products; by default what input, carry and parameters promote to.
        param_dtype: the dtype that the parameters are stored in, and that the carry begins with.
        carry_init: makes the first carry; better passed to `initialize_carry`.
        promote_dtype: brings the arguments of each layer to one dtype.
        keep_rngs: whether to keep a stream forked from `rngs.carry`, for `initialize_carry`; deprecated.
        rngs: its `params` stream gives the keys, those of `dense_i` first.
        kernel_metadata: metadata for the kernel of `dense_i`.
        recurrent_kernel_metadata: metadata for the kernel of `dense_h`.
        bias_metadata: metadata for the bias.

    Raises:
        TypeError, ValueError: a size is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
        >>> carry = cell.initialize_carry((2, 3), nnx.Rngs(0))
        >>> carry, y = cell(carry, jnp.ones((2, 3)))
        >>> carry.shape, y.shape
        ((2, 4), (2, 4))

    Source: Cho et al. 2014, section 2.3, https://arxiv.org/abs/1406.1078, with the reset gate after the
    product of `W_hn` and `h`, as cuDNN has it.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[..., Any] = sigmoid,
        activation_fn: Callable[..., Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = default_recurrent_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: initializers.Initializer | None = None,
        promote_dtype: PromoteDtype = promote_dtype,
        keep_rngs: bool = False,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        recurrent_kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "promote_dtype": promote_dtype}
        self._set_options(
            in_features, hidden_features, carry_init=carry_init, keep_rngs=keep_rngs, rngs=rngs, **options
        )
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        self.dense_i = Linear(
            in_features,
            3 * hidden_features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **options,
        )
        self.dense_h = Linear(
            hidden_features,
            3 * hidden_features,
            use_bias=False,
            kernel_init=recurrent_kernel_init,
            kernel_metadata=recurrent_kernel_metadata,
            rngs=rngs,
            **options,
        )

    def __call__(self, carry: jax.Array, inputs: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Returns `(h', h')`.

        Args:
            carry: the hidden state `h`, `(*batch, hidden_features)`.
            inputs: `(*batch, in_features)`.

        Raises:
            ValueError: `inputs` or `carry` have other shapes.
        """
        self._check_step(carry, inputs)
        x, s = self.dense_i(inputs), self.dense_h(carry)
        h = gru_update(x, s, carry, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return h, h
