"""Long short-term memory over images: its products are convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.layers import initializers
from easyflax.nnx.layers.activations import sigmoid, tanh
from easyflax.nnx.layers.conv import Conv
from easyflax.nnx.layers.conv_options import Padding, canonical_padding, each_axis
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.lstm import LSTMCarry, lstm_update
from easyflax.nnx.layers.recurrent_cells import HiddenStateCell, default_bias_init, default_kernel_init

__all__ = ["ConvLSTMCell"]


class ConvLSTMCell(HiddenStateCell):
    """A long short-term memory cell over the axes before the features, with convolutions for products.

        i = gate(W_ii * x + W_hi * h + b_i)            the input gate
        g = activation(W_ig * x + W_hg * h + b_g)      the candidate
        f = gate(W_if * x + W_hf * h + b_f + 1)        the forget gate, open at first
        o = gate(W_io * x + W_ho * h + b_o)            the output gate
        c' = f c + i g
        h' = o activation(c')

    The layers are `ih` for the input and `hh` for the hidden state, both with a bias; each has the gates `i`,
    `g`, `f`, `o` side by side in its `4 * hidden_features` outputs. The carry is `(c, h)`, each of shape
    `(*batch, *spatial_out, hidden_features)`; the output is the new `h`.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the last axis of both parts of the carry and of the output.
        kernel_size: one integer for each spatial axis; a bare integer is a one-dimensional kernel.
        strides: of the convolution of the input, an integer for all spatial axes, or one for each; that of
            the hidden state has strides 1, so that its size stays.
        padding: as for `nnx.Conv`; where it does not keep the size, that of the hidden state is `"SAME"`.
        use_bias: whether the layers have biases.
        gate_fn: the activation of the gates.
        activation_fn: that of the candidate, and of the memory where it is read.
        kernel_init: makes the kernel of `ih`, `(key, shape, dtype) -> array`.
        recurrent_kernel_init: makes the kernel of `hh`.
        bias_init: makes the biases.
        dtype: the dtype of the products; by default what input, carry and parameters promote to.
        param_dtype: the dtype that the parameters are stored in, and that the carry begins with.
        carry_init: makes the first carry; better passed to `initialize_carry`.
        promote_dtype: brings the arguments of each layer to one dtype.
        keep_rngs: whether to keep a stream forked from `rngs.carry`, for `initialize_carry`; deprecated.
        rngs: its `params` stream gives the keys, those of `ih` first.
        kernel_metadata: metadata for the kernel of `ih`.
        recurrent_kernel_metadata: metadata for the kernel of `hh`.
        bias_metadata: metadata for the biases.

    Raises:
        TypeError, ValueError: a size is no positive integer, the padding is not known, or `rngs` is a bare
            seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> cell = nnx.ConvLSTMCell(1, 4, kernel_size=(3, 3), rngs=nnx.Rngs(0))
        >>> videos = jnp.ones((2, 5, 8, 8, 1))  # (batch, time, height, width, features)
        >>> nnx.RNN(cell)(videos).shape
        (2, 5, 8, 8, 4)

    Source: Shi et al. 2015, https://arxiv.org/abs/1506.04214; the 1 in the forget gate is Jozefowicz et al.
    2015, https://proceedings.mlr.press/v37/jozefowicz15.html
    """

    carry_names = ("c", "h")

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        padding: Padding = "SAME",
        use_bias: bool = True,
        gate_fn: Callable[..., Any] = sigmoid,
        activation_fn: Callable[..., Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = default_kernel_init,
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
        options.update(use_bias=use_bias, bias_init=bias_init, bias_metadata=bias_metadata, rngs=rngs)
        self.ih = Conv(
            in_features,
            4 * hidden_features,
            kernel_size,
            strides,
            padding=padding,
            kernel_init=kernel_init,
            kernel_metadata=kernel_metadata,
            **options,
        )
        self.kernel_size = self.ih.kernel_size
        self.strides = strides
        self.padding = padding
        self.use_bias = use_bias
        keeps_size = all(
            pad == size - 1 for pad, size in zip(self._total_padding(), self.kernel_size, strict=True)
        )
        self.hh = Conv(
            hidden_features,
            4 * hidden_features,
            kernel_size,
            padding=padding if keeps_size else "SAME",
            kernel_init=recurrent_kernel_init,
            kernel_metadata=recurrent_kernel_metadata,
            **options,
        )

    @property
    def num_feature_axes(self) -> int:
        """The spatial axes and that of the features."""
        return len(self.kernel_size) + 1

    def __call__(self, carry: LSTMCarry, inputs: ArrayLike) -> tuple[LSTMCarry, jax.Array]:
        """Returns `((c', h'), h')`.

        Args:
            carry: the pair `(c, h)`, each `(*batch, *spatial_out, hidden_features)`.
            inputs: `(*batch, *spatial, in_features)`.

        Raises:
            ValueError: `inputs` or `carry` have other shapes.
        """
        self._check_step(carry, inputs)
        c, h = carry
        i, g, f, o = jnp.split(self.ih(inputs) + self.hh(h), 4, axis=-1)
        c, h = lstm_update(i, f + 1, g, o, c, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return (c, h), h

    def _carry_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        rank = len(self.kernel_size)
        strides = each_axis(self.ih, "strides", rank)
        sizes = zip(
            input_shape[-rank - 1 : -1], self._total_padding(), self.kernel_size, strides, strict=True
        )
        spatial = (max((size + pad - kernel) // stride + 1, 0) for size, pad, kernel, stride in sizes)
        return (*input_shape[: -rank - 1], *spatial, self.hidden_features)

    def _total_padding(self) -> list[int]:
        """What the input's convolution adds to each spatial axis; with strides, what it would without."""
        if isinstance(self.padding, str):
            return [0 if self.padding.upper() == "VALID" else size - 1 for size in self.kernel_size]
        pairs = canonical_padding(self.padding, len(self.kernel_size), (), type(self).__name__)
        return [int(low) + int(high) for low, high in pairs]
