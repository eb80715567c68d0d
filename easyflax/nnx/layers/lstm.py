"""Long short-term memory: a cell with a memory that gates write, keep and read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

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
    modified_orthogonal,
)

__all__ = ["LSTMCell", "OptimizedLSTMCell", "lstm_update"]

lstm_recurrent_kernel_init = cast(initializers.Initializer, modified_orthogonal)

LSTMCarry = tuple[jax.Array, jax.Array]


def lstm_update(
    i: jax.Array,
    f: jax.Array,
    g: jax.Array,
    o: jax.Array,
    c: jax.Array,
    *,
    gate_fn: Callable[..., jax.Array] = sigmoid,
    activation_fn: Callable[..., jax.Array] = tanh,
) -> LSTMCarry:
    """Returns the new memory `c'` and the new hidden state `h'`.

        c' = gate(f) * c + gate(i) * activation(g)
        h' = gate(o) * activation(c')

    Args:
        i, f, g, o: what input gate, forget gate, candidate and output gate are before their activations, each
            `(..., hidden_features)`.
        c: the memory, of the same shape.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate, and of the memory where it is read.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.lstm import lstm_update
        >>> shut, wide = jnp.array(-99.0), jnp.array(99.0)
        >>> c, h = lstm_update(shut, wide, wide, shut, jnp.array(0.5))  # keeps c, and hides it
        >>> float(c), float(h)
        (0.5, 0.0)
    """
    i, f, g, o = gate_fn(i), gate_fn(f), activation_fn(g), gate_fn(o)
    c = f * c + i * g
    return c, o * activation_fn(c)


class LSTMCell(HiddenStateCell):
    r"""A long short-term memory cell, with one layer for each gate.

        i = gate(W_ii x + W_hi h + b_hi)            the input gate
        f = gate(W_if x + W_hf h + b_hf)            the forget gate
        g = activation(W_ig x + W_hg h + b_hg)      the candidate
        o = gate(W_io x + W_ho h + b_ho)            the output gate
        c' = f * c + i * g
        h' = o * activation(c')

    The layers are `ii`, `if_`, `ig`, `io` for the input and `hi`, `hf`, `hg`, `ho`, with the biases, for the
    hidden state. The carry is `(c, h)`, the output is `h'`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the last axis of both parts of the carry and of the output.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate, and of the memory where it is read.
        kernel_init: makes the kernels for the input, `(key, shape, dtype) -> array`.
        recurrent_kernel_init: makes the kernels for the hidden state.
        bias_init: makes the biases.
        dtype: the dtype of the products; by default what input, carry and parameters promote to.
        param_dtype: the dtype that the parameters are stored in, and that the carry begins with.
        carry_init: makes the first carry; better passed to `initialize_carry`.
        promote_dtype: brings the arguments of each layer to one dtype.
        keep_rngs: whether to keep a stream forked from `rngs.carry`, for `initialize_carry`; deprecated.
        rngs: its `params` stream gives the keys, in the order of the layers above.
        kernel_metadata: metadata for the kernels for the input.
        recurrent_kernel_metadata: metadata for the kernels for the hidden state.
        bias_metadata: metadata for the biases.

    Raises:
        TypeError, ValueError: a size is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> cell = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
        >>> carry = cell.initialize_carry((2, 3), nnx.Rngs(0))
        >>> (c, h), y = cell(carry, jnp.ones((2, 3)))
        >>> c.shape, h.shape, y.shape
        ((2, 4), (2, 4), (2, 4))

    Source: Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; the forget gate is
    Gers et al. 2000, https://doi.org/10.1162/089976600300015015
    """

    carry_names = ("c", "h")

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[..., Any] = sigmoid,
        activation_fn: Callable[..., Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = lstm_recurrent_kernel_init,
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
        for_input = functools.partial(
            Linear,
            in_features,
            hidden_features,
            use_bias=False,
            kernel_init=kernel_init,
            kernel_metadata=kernel_metadata,
            rngs=rngs,
            **options,
        )
        for_hidden = functools.partial(
            Linear,
            hidden_features,
            hidden_features,
            kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            kernel_metadata=recurrent_kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **options,
        )
        self.ii = for_input()
        self.if_ = for_input()
        self.ig = for_input()
        self.io = for_input()
        self.hi = for_hidden()
        self.hf = for_hidden()
        self.hg = for_hidden()
        self.ho = for_hidden()

    def __call__(self, carry: LSTMCarry, inputs: ArrayLike) -> tuple[LSTMCarry, jax.Array]:
        """Returns `((c', h'), h')`.

        Args:
            carry: the pair `(c, h)`, each `(*batch, hidden_features)`.
            inputs: `(*batch, in_features)`.

        Raises:
            ValueError: `inputs` or `carry` have other shapes.
        """
        self._check_step(carry, inputs)
        c, h = carry
        i = self.ii(inputs) + self.hi(h)
        f = self.if_(inputs) + self.hf(h)
        g = self.ig(inputs) + self.hg(h)
        o = self.io(inputs) + self.ho(h)
        c, h = lstm_update(i, f, g, o, c, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return (c, h), h


class OptimizedLSTMCell(HiddenStateCell):
    """A long short-term memory cell that computes all gates in two products, often faster than `LSTMCell`.

    The formulas are those of `LSTMCell`. The layers are `dense_i` for the input and `dense_h`, with the bias,
    for the hidden state; each has the gates `i`, `f`, `g`, `o` side by side in its `4 * hidden_features`
    outputs. The carry is `(c, h)`, the output is the new `h`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the last axis of both parts of the carry and of the output.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate, and of the memory where it is read.
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
        >>> rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
        >>> rnn.cell.dense_i.kernel.shape, rnn.cell.dense_h.bias.shape
        ((3, 16), (16,))
        >>> rnn(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)

    Source: as for `LSTMCell`.
    """

    carry_names = ("c", "h")

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
            4 * hidden_features,
            use_bias=False,
            kernel_init=kernel_init,
            kernel_metadata=kernel_metadata,
            rngs=rngs,
            **options,
        )
        self.dense_h = Linear(
            hidden_features,
            4 * hidden_features,
            kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            kernel_metadata=recurrent_kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **options,
        )

    def __call__(self, carry: LSTMCarry, inputs: ArrayLike) -> tuple[LSTMCarry, jax.Array]:
        """Returns `((c', h'), h')`.

        Args:
            carry: the pair `(c, h)`, each `(*batch, hidden_features)`.
            inputs: `(*batch, in_features)`.

        Raises:
            ValueError: `inputs` or `carry` have other shapes.
        """
        self._check_step(carry, inputs)
        c, h = carry
        i, f, g, o = jnp.split(self.dense_i(inputs) + self.dense_h(h), 4, axis=-1)
        c, h = lstm_update(i, f, g, o, c, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return (c, h), h
