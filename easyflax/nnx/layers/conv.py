"""Convolutions over one to three (or more) spatial axes, channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.conv_options import (
    Padding,
    canonical_padding,
    channels_last,
    check_convolution,
    check_kernel_mask,
    check_not_empty,
    each_axis,
    with_one_batch_axis,
)
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import add_bias

__all__ = ["Conv", "conv"]

_PAD_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
_PADDINGS = ("SAME", "SAME_LOWER", "VALID", "CAUSAL", *_PAD_MODES)

default_kernel_init = initializers.lecun_normal()
default_bias_init = initializers.zeros_init()


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: Sequence[int],
    padding: Padding = "SAME",
    input_dilation: Sequence[int],
    kernel_dilation: Sequence[int],
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated,
    out_sharding: Any = None,
) -> jax.Array:
    """Returns the convolution of `x` with `kernel`, which is not flipped, plus `bias`.

    Args:
        x: `(batch, *spatial, in_features)`.
        kernel: `(*kernel_size, in_features / feature_group_count, out_features)`.
        bias: `(out_features,)`, or None.
        strides: one for each spatial axis, as are both dilations.
        padding: see `Conv`.
        input_dilation: one less zeros are put between neighbours of the input.
        kernel_dilation: one less zeros are put between neighbours of the kernel.
        feature_group_count: number of groups that the features are divided into.
        precision: of the products, see `jax.lax.Precision`.
        preferred_element_type: the dtype that the products accumulate in and return.
        conv_general_dilated: computes it, with the signature of `jax.lax.conv_general_dilated`.
        out_sharding: sharding of the result, for meshes with explicit axes.

    Returns:
        `(batch, *spatial_out, out_features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.conv import conv
        >>> x, kernel = jnp.ones((1, 4, 1)), jnp.ones((3, 1, 1))
        >>> conv(x, kernel, strides=[1], input_dilation=[1], kernel_dilation=[1])[0, :, 0].tolist()
        [2.0, 3.0, 3.0, 2.0]
    """
    rank = kernel.ndim - 2
    pads = _known_padding(padding, rank, "conv")
    x, pads = _pad(x, kernel.shape[:rank], pads, kernel_dilation)
    options: dict[str, Any] = {"precision": precision}
    if preferred_element_type is not None:
        options["preferred_element_type"] = preferred_element_type
    if out_sharding is not None:
        options["out_sharding"] = out_sharding
    y = conv_general_dilated(
        x,
        kernel,
        tuple(strides),
        pads,
        lhs_dilation=tuple(input_dilation),
        rhs_dilation=tuple(kernel_dilation),
        dimension_numbers=channels_last(rank),
        feature_group_count=feature_group_count,
        **options,
    )
    return y if bias is None else add_bias(y, bias)


def _known_padding(padding: Padding, rank: int, layer: str) -> str | tuple[tuple[int, int], ...]:
    padding = padding.upper() if isinstance(padding, str) else padding
    return canonical_padding(padding, rank, _PADDINGS, layer)


def _pad(
    x: jax.Array,
    kernel_size: Sequence[int],
    padding: str | tuple[tuple[int, int], ...],
    dilation: Sequence[int],
) -> tuple[jax.Array, str | tuple[tuple[int, int], ...]]:
    """Applies the paddings that `jax.lax` does not know; returns what is left for it to pad as well."""
    nothing = ((0, 0),) * len(kernel_size)
    reach = [(size - 1) * step for size, step in zip(kernel_size, dilation, strict=True)]
    if padding == "CAUSAL":
        return jnp.pad(x, [(0, 0), (reach[0], 0), (0, 0)]), nothing
    if isinstance(padding, str) and padding in _PAD_MODES:
        pairs = [(0, 0), *((r // 2, (r + 1) // 2) for r in reach), (0, 0)]
        return jnp.pad(x, pairs, mode=_PAD_MODES[padding]), nothing
    return x, nothing if padding == "VALID" else padding


class Conv(Module):
    """A convolution over the axes before the last, which holds the features.

    The parameters are `kernel` of shape `(*kernel_size, in_features // feature_group_count, out_features)`
    and `bias` of shape `(out_features,)`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        kernel_size: one integer for each spatial axis; a bare integer is a one-dimensional kernel.
        strides: an integer for all spatial axes, or one for each.
        padding: `"SAME"`, `"SAME_LOWER"`, `"VALID"`, `"CIRCULAR"` (periodic), `"REFLECT"` (mirrored),
            `"CAUSAL"` (one spatial axis: all on the left, so that no output sees a later input), an integer
            for both sides of all axes, or for each axis an integer or a pair `(low, high)`.
        input_dilation: an integer or one for each axis: spreads the input, as a transposed convolution with
            that stride does; needs the padding `"VALID"` or an explicit one.
        kernel_dilation: an integer or one for each axis: spreads the kernel ("atrous" convolution).
        feature_group_count: the features are divided into this many groups, which do not see each other.
        use_bias: whether to add a bias.
        mask: multiplied with the kernel, and of its shape.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        precision: of the products, see `jax.lax.Precision`.
        kernel_init: makes the kernel, `(key, shape, dtype) -> array`.
        bias_init: makes the bias.
        conv_general_dilated: computes it, with the signature of `jax.lax.conv_general_dilated`.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        preferred_element_type: the dtype that the products accumulate in and return.
        rngs: its `params` stream gives the keys, the kernel's first.
        kernel_metadata: metadata for the variable `kernel`.
        bias_metadata: metadata for the variable `bias`.

    Raises:
        TypeError, ValueError: a size is no positive integer, the padding is not known, the features cannot be
            divided into the groups, the mask has another shape than the kernel, or `rngs` is a bare seed or
            key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.Conv(1, 8, kernel_size=(3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> layer.kernel.shape
        (3, 3, 1, 8)
        >>> layer(jnp.ones((5, 28, 28, 1))).shape
        (5, 14, 14, 8)

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic", https://arxiv.org/abs/1603.07285
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        padding: Padding = "SAME",
        input_dilation: int | Sequence[int] | None = 1,
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        mask: jax.Array | np.ndarray | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated,
        promote_dtype: PromoteDtype = promote_dtype,
        preferred_element_type: DTypeLike | None = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.kernel_size = tuple(kernel_size) if isinstance(kernel_size, Iterable) else (kernel_size,)
        self.strides = strides
        self.padding = padding
        self.input_dilation = input_dilation
        self.kernel_dilation = kernel_dilation
        self.feature_group_count = feature_group_count
        self.use_bias = use_bias
        self.mask = mask
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.conv_general_dilated = conv_general_dilated
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type
        check_convolution(self, "strides", "input_dilation", "kernel_dilation")
        _check_padding(self)
        _check_groups(self)
        checks.check_rngs(self, rngs)
        self.kernel_shape = (*self.kernel_size, in_features // feature_group_count, out_features)
        check_kernel_mask(self, self.kernel_shape)
        kernel = kernel_init(rngs.params(), self.kernel_shape, param_dtype)
        self.kernel = Param(kernel, **kernel_metadata)
        self.bias = (
            Param(bias_init(rngs.params(), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )

    def __call__(self, inputs: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the convolution of `inputs`, of shape `(*batch, *spatial_out, out_features)`.

        Args:
            inputs: `(*batch, *spatial, in_features)` with any number of batch axes, also none.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: there are too few axes, or the last is not `in_features` long.
        """
        kernel = self.kernel[...]
        rank = kernel.ndim - 2
        features = kernel.shape[-2] * self.feature_group_count
        checks.check_features(self, inputs, features, argument="in_features", spatial_axes=rank)
        if isinstance(self.padding, str) and self.padding.upper() in _PAD_MODES:
            check_not_empty(self, inputs, rank)
        if self.mask is not None:
            check_kernel_mask(self, kernel.shape)
            kernel = kernel * self.mask
        bias = None if self.bias is None else self.bias[...]
        batch = np.shape(inputs)[: -rank - 1]
        # Before the dtypes change: XLA rounds by the order of the two.
        flat = with_one_batch_axis(inputs, rank)
        x, kernel, bias = self.promote_dtype((flat, kernel, bias), dtype=self.dtype)
        y = conv(
            x,
            kernel,
            bias,
            strides=each_axis(self, "strides", rank),
            padding=self.padding,
            input_dilation=each_axis(self, "input_dilation", rank),
            kernel_dilation=each_axis(self, "kernel_dilation", rank),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            conv_general_dilated=self.conv_general_dilated,
            out_sharding=out_sharding,
        )
        return y if len(batch) == 1 else jnp.reshape(y, (*batch, *y.shape[1:]))


def _check_groups(layer: Conv) -> None:
    groups = layer.feature_group_count
    checks.check_sizes(layer, feature_group_count=groups)
    for argument in ("in_features", "out_features"):
        size = getattr(layer, argument)
        if size % groups:
            raise ValueError(
                f"{type(layer).__name__}: got {argument}={size} and feature_group_count={groups}, expected "
                f"features that divide into the groups. Choose {argument} as a multiple of "
                "feature_group_count."
            )


def _check_padding(layer: Conv) -> None:
    rank = len(layer.kernel_size)
    padding = _known_padding(layer.padding, rank, type(layer).__name__)
    dilation = each_axis(layer, "input_dilation", rank)
    if padding in ("SAME", "SAME_LOWER") and max(dilation, default=1) > 1:
        raise ValueError(
            f"{type(layer).__name__}: got padding={layer.padding!r} with "
            f"input_dilation={layer.input_dilation}, expected 'VALID' or explicit padding where the input is "
            "dilated. Pass a (low, high) pair for each spatial axis."
        )
