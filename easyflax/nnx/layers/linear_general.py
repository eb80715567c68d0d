"""The affine map over any axes of the input, with several axes of features and kernels of its own for each
member of a batch."""

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
from easyflax.nnx.core.variables import Param, VariableMetadata
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import add_bias, default_bias_init, default_kernel_init, product

__all__ = ["LinearGeneral", "linear_general"]


def linear_general(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    axis: Sequence[int],
    batch_axes: int = 0,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    dot_general: Callable[..., jax.Array] = lax.dot_general,
    out_sharding: Any = None,
) -> jax.Array:
    """Returns the product of `x` and `kernel`, summed over the axes `axis` of `x`, plus `bias`.

    Args:
        x: `(*batch, ...)`.
        kernel: `(*batch, *in_features, *out_features)`, the `in_features` in the order of `axis`.
        bias: `(*batch, *out_features)`, or None.
        axis: those axes of `x` that are summed over, none of them negative.
        batch_axes: the number of axes in `batch`: each of their members has a kernel and bias of its own.
        precision: of the product, see `jax.lax.Precision`.
        preferred_element_type: the dtype that the product accumulates in and returns.
        dot_general: computes the product, with the signature of `jax.lax.dot_general`.
        out_sharding: sharding of the result, for meshes with explicit axes.

    Returns:
        `(*batch, *others, *out_features)`, where `others` are the axes of `x` that are not in `axis`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.linear_general import linear_general
        >>> linear_general(jnp.ones((5, 2, 7)), jnp.ones((2, 3, 4)), axis=[1]).shape
        (5, 7, 3, 4)
    """
    batch = tuple(range(batch_axes))
    summed = tuple(range(batch_axes, batch_axes + len(axis)))
    y = product(
        x,
        kernel,
        ((tuple(axis), summed), (batch, batch)),
        precision=precision,
        preferred_element_type=preferred_element_type,
        dot_general=dot_general,
        out_sharding=out_sharding,
    )
    return y if bias is None else add_bias(y, bias, batch_axes)


class LinearGeneral(Module):
    """An affine map over any axes of the input, to any number of output axes.

    The parameters are `kernel` of shape `(*batch, *in_features, *out_features)` and `bias` of shape
    `(*batch, *out_features)`. They are initialized as a matrix of all inputs (and of the batch) by all
    outputs, and as a vector.

    Args:
        in_features: size of the axis, or sizes of the axes, that are summed over.
        out_features: size of the last axis, or sizes of the last axes, of the output.
        axis: which axes of the input those are, as many as `in_features`; their order does not matter: the
            features belong to them as they follow one another in the input.
        batch_axis: sizes of leading axes, by axis: `{0: 8}` gives each of 8 members a kernel and bias.
        use_bias: whether to add a bias.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        kernel_init: makes the kernel, `(key, shape, dtype) -> array`.
        bias_init: makes the bias.
        precision: of the product, see `jax.lax.Precision`.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        dot_general: computes the product, with the signature of `jax.lax.dot_general`, its default.
        dot_general_cls: called without arguments at each call of the layer, for a function to use instead of
            `dot_general`.
        preferred_element_type: the dtype that the product accumulates in and returns.
        rngs: its `params` stream gives the keys, the kernel's first.
        kernel_metadata: metadata for the variable `kernel`.
        bias_metadata: metadata for the variable `bias`.

    Raises:
        TypeError, ValueError: a size is no positive integer, `axis` are not as many as `in_features`,
            `batch_axis` are not the first axes, or `rngs` is a bare seed or key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.LinearGeneral((2, 3), (4, 5), axis=(1, -1), rngs=nnx.Rngs(0))
        >>> layer.kernel.shape, layer.bias.shape
        ((2, 3, 4, 5), (4, 5))
        >>> layer(jnp.ones((16, 2, 7, 3))).shape
        (16, 7, 4, 5)
        >>> nnx.LinearGeneral(3, 4, batch_axis={0: 8}, rngs=nnx.Rngs(0)).kernel.shape
        (8, 3, 4)

    Source: Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762, whose projections to and
    from several heads are such maps.
    """

    # The layer's own only where there are such axes: each call of a transform looks at the items of a dict.
    batch_axis: Mapping[int, int] = MappingProxyType({})

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        axis: int | Sequence[int] = -1,
        batch_axis: Mapping[int, int] = MappingProxyType({}),
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        precision: lax.PrecisionLike = None,
        promote_dtype: PromoteDtype = promote_dtype,
        dot_general: Callable[..., jax.Array] | None = None,
        dot_general_cls: Callable[[], Callable[..., jax.Array]] | None = None,
        preferred_element_type: DTypeLike | None = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.in_features = _as_tuple(in_features)
        self.out_features = _as_tuple(out_features)
        self.axis = _as_tuple(axis)
        if batch_axis:
            self.batch_axis = {index: batch_axis[index] for index in sorted(batch_axis)}
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.dot_general = dot_general
        self.dot_general_cls = dot_general_cls
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type
        _check_options(self)
        checks.check_rngs(self, rngs)
        batch = tuple(self.batch_axis.values())
        matrix = (math.prod(batch + self.in_features), math.prod(self.out_features))
        kernel = kernel_init(rngs.params(), matrix, param_dtype)
        self.kernel = Param(
            _reshaped(kernel, (*batch, *self.in_features, *self.out_features)), **kernel_metadata
        )
        self.bias: Param[Any] | None = None
        if use_bias:
            bias = bias_init(rngs.params(), (math.prod(batch + self.out_features),), param_dtype)
            self.bias = Param(_reshaped(bias, (*batch, *self.out_features)), **bias_metadata)

    def __call__(self, inputs: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the map of `inputs`, of shape `(*batch, *others, *out_features)`.

        Args:
            inputs: `in_features` along `axis`, the batch along `batch_axis`; integers become floats.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: an axis does not exist, is given twice, or has another size.
        """
        kernel = self.kernel[...]
        axis = _checked_axes(self, np.shape(inputs), kernel.shape)
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        if self.dot_general_cls is not None:
            dot_general = self.dot_general_cls()
        else:
            dot_general = self.dot_general or lax.dot_general
        return linear_general(
            x,
            kernel,
            bias,
            axis=axis,
            batch_axes=len(self.batch_axis),
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            dot_general=dot_general,
            out_sharding=out_sharding,
        )


def _as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def _reshaped(value: Any, shape: tuple[int, ...]) -> Any:
    """What an initializer made, in `shape`; its metadata stays."""
    if isinstance(value, VariableMetadata):
        return VariableMetadata(jnp.reshape(value.raw_value, shape), value.metadata)
    return jnp.reshape(value, shape)


def _check_options(layer: LinearGeneral) -> None:
    name, axis, features = type(layer).__name__, layer.axis, layer.in_features
    for argument in ("in_features", "out_features"):
        sizes = getattr(layer, argument)
        names = [argument] if len(sizes) == 1 else [f"{argument}[{index}]" for index in range(len(sizes))]
        checks.check_sizes(layer, **dict(zip(names, sizes, strict=True)))
    checks.check_sizes(layer, **{f"batch_axis[{index}]": size for index, size in layer.batch_axis.items()})
    if not layer.out_features:
        raise ValueError(f"{name}: got no out_features, expected at least one size. Pass an int or a tuple.")
    if len(features) != len(axis):
        raise ValueError(
            f"{name}: got in_features={features} and axis={axis}, expected one size for each axis. Pass as "
            "many of the one as of the other."
        )
    if list(layer.batch_axis) != list(range(len(layer.batch_axis))):
        raise ValueError(
            f"{name}: got the batch axes {list(layer.batch_axis)}, expected the first ones, from 0 on "
            "without gaps. Move the axes of the batch to the front of the input, and pass for example "
            "batch_axis={0: 8}."
        )


def _checked_axes(
    layer: LinearGeneral, shape: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The axes to sum over, sorted, after a look at whether the input has them in the kernel's sizes."""
    batch, rank = tuple(layer.batch_axis), len(shape)
    axis = tuple(sorted(index if index >= 0 else rank + index for index in layer.axis))
    axes = batch + axis
    exist = all(0 <= index < rank for index in axes) and len(set(axes)) == len(axes)
    if exist and all(shape[index] == size for index, size in zip(axes, kernel_shape, strict=False)):
        return axis
    sizes = f"features of sizes {kernel_shape[len(batch) : len(axes)]} along axis {layer.axis}"
    if batch:
        sizes += f" and a batch of sizes {kernel_shape[: len(batch)]} along other axes, {batch}"
    raise ValueError(
        f"{checks.describe(layer)}: got an input of shape {shape}, expected {sizes}.\nPass inputs of that "
        "shape, or rebuild the layer with in_features, axis and batch_axis that fit them."
    )
