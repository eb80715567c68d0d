"""Convolutions over one to three (or more) spatial axes, channels last."""

from __future__ import annotations

import math
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
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import add_bias

__all__ = ["Conv", "canonical_padding", "conv"]

Padding = str | int | Sequence[int | tuple[int, int]]

_PAD_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
_PADDINGS = ("SAME", "SAME_LOWER", "VALID", "CAUSAL", *_PAD_MODES)

default_kernel_init = initializers.lecun_normal()
default_bias_init = initializers.zeros_init()


def canonical_padding(padding: Padding, rank: int, layer: str = "Conv") -> str | tuple[tuple[int, int], ...]:
    """Returns `padding` as an upper-case name, or as one `(low, high)` pair for each of `rank` spatial axes.

    `layer` is the name that errors give.

    Raises:
        ValueError: it is no known name, integer, or sequence of `rank` integers or pairs.

    Examples:
        >>> from easyflax.nnx.layers.conv import canonical_padding
        >>> canonical_padding("same", 2), canonical_padding(1, 2), canonical_padding([1, (0, 2)], 2)
        ('SAME', ((1, 1), (1, 1)), ((1, 1), (0, 2)))
    """
    if isinstance(padding, str) and padding.upper() in _PADDINGS:
        if padding.upper() == "CAUSAL" and rank != 1:
            raise ValueError(
                f"{layer}: got padding 'CAUSAL' for {rank} spatial axes, expected one spatial axis. "
                "Use it with a one-dimensional kernel_size, or pass the pairs of padding yourself."
            )
        return padding.upper()
    if isinstance(padding, (int, np.integer)):
        return ((int(padding), int(padding)),) * rank
    if isinstance(padding, Sequence) and not isinstance(padding, str) and len(padding) == rank:
        pairs = [(p, p) if isinstance(p, (int, np.integer)) else tuple(p) for p in padding]
        if all(len(pair) == 2 for pair in pairs):
            return tuple((int(low), int(high)) for low, high in pairs)
    raise ValueError(
        f"{layer}: got padding {padding!r} for {rank} spatial axes, expected one of "
        f"{', '.join(map(repr, _PADDINGS))}, an integer, or a sequence of {rank} integers or (low, high) "
        "pairs. Pass one of these."
    )


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
    """
    rank = kernel.ndim - 2
    x, pads = _pad(x, kernel.shape[:rank], canonical_padding(padding, rank), kernel_dilation)
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
        dimension_numbers=_channels_last(rank),
        feature_group_count=feature_group_count,
        **options,
    )
    return y if bias is None else add_bias(y, bias)


def _channels_last(rank: int) -> lax.ConvDimensionNumbers:
    spatial = tuple(range(1, rank + 1))
    image = (0, rank + 1, *spatial)  # (batch, *spatial, features)
    return lax.ConvDimensionNumbers(image, (rank + 1, rank, *range(rank)), image)


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
        _check_options(self)
        checks.check_rngs(self, rngs)
        self.kernel_shape = (*self.kernel_size, in_features // feature_group_count, out_features)
        _check_mask(self)
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
        kernel = kernel if self.mask is None else kernel * self.mask
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        batch = x.shape[: -rank - 1]
        if len(batch) != 1:
            x = jnp.reshape(x, (math.prod(batch), *x.shape[-rank - 1 :]))
        y = conv(
            x,
            kernel,
            bias,
            strides=_each_axis(self, "strides", rank),
            padding=self.padding,
            input_dilation=_each_axis(self, "input_dilation", rank),
            kernel_dilation=_each_axis(self, "kernel_dilation", rank),
            feature_group_count=self.feature_group_count,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            conv_general_dilated=self.conv_general_dilated,
            out_sharding=out_sharding,
        )
        return y if len(batch) == 1 else jnp.reshape(y, (*batch, *y.shape[1:]))


def _each_axis(layer: Conv, option: str, rank: int) -> tuple[int, ...]:
    """The option as one integer for each spatial axis; None is 1."""
    value = 1 if (given := getattr(layer, option)) is None else given
    values = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(values) != rank:
        raise ValueError(
            f"{checks.describe(layer)}: got {option}={values} for {rank} spatial axes, expected an integer "
            f"or {rank} of them. Pass one for each entry of kernel_size."
        )
    return values


def _check_options(layer: Conv) -> None:
    name, groups, rank = type(layer).__name__, layer.feature_group_count, len(layer.kernel_size)
    checks.check_sizes(layer, **{f"kernel_size[{axis}]": size for axis, size in enumerate(layer.kernel_size)})
    features = {"in_features": layer.in_features, "out_features": layer.out_features}
    checks.check_sizes(layer, feature_group_count=groups, **features)
    for argument, size in features.items():
        if size % groups:
            raise ValueError(
                f"{name}: got {argument}={size} and feature_group_count={groups}, expected features that "
                f"divide into the groups. Choose {argument} as a multiple of feature_group_count."
            )
    for option in ("strides", "input_dilation", "kernel_dilation"):
        checks.check_sizes(
            layer, **{f"{option}[{axis}]": size for axis, size in enumerate(_each_axis(layer, option, rank))}
        )
    padding = canonical_padding(layer.padding, rank, name)
    if padding in ("SAME", "SAME_LOWER") and any(
        step > 1 for step in _each_axis(layer, "input_dilation", rank)
    ):
        raise ValueError(
            f"{name}: got padding={layer.padding!r} with input_dilation={layer.input_dilation}, expected "
            "'VALID' or explicit padding where the input is dilated. Pass a (low, high) pair for each "
            "spatial axis."
        )


def _check_mask(layer: Conv) -> None:
    if layer.mask is not None and np.shape(layer.mask) != layer.kernel_shape:
        raise ValueError(
            f"{type(layer).__name__}: got a mask of shape {np.shape(layer.mask)}, expected "
            f"{layer.kernel_shape}, the shape of the kernel. Pass a mask with (*kernel_size, in_features // "
            "feature_group_count, out_features)."
        )
