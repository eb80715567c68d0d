"""The affine map over the last axis: `y = x W + b`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.inlining import inlined

__all__ = ["Linear", "add_bias", "linear", "product"]

default_kernel_init = initializers.lecun_normal()
default_bias_init = initializers.zeros_init()


def linear(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    dot_general: Callable[..., jax.Array] = lax.dot_general,
    out_sharding: Any = None,
) -> jax.Array:
    """Returns `x @ kernel + bias` over the last axis of `x`.

    Args:
        x: `(..., in_features)`.
        kernel: `(in_features, out_features)`.
        bias: `(out_features,)`, or None.
        precision: of the product, see `jax.lax.Precision`.
        preferred_element_type: the dtype that the product accumulates in and returns.
        dot_general: computes the product, with the signature of `jax.lax.dot_general`.
        out_sharding: sharding of the result, for meshes with explicit axes.

    Returns:
        `(..., out_features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.linear import linear
        >>> linear(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([3.0, 4.0])).tolist()
        [4.0, 6.0]
    """
    y = product(
        x,
        kernel,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
        dot_general=dot_general,
        out_sharding=out_sharding,
    )
    return y if bias is None else add_bias(y, bias)


def product(
    x: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    *,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    dot_general: Callable[..., jax.Array] = lax.dot_general,
    out_sharding: Any = None,
) -> jax.Array:
    """Returns `dot_general(x, kernel, dimension_numbers)`, with those options that are given.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.linear import product
        >>> product(jnp.ones((5, 3)), jnp.ones((3, 4)), (((1,), (0,)), ((), ()))).shape
        (5, 4)
    """
    options: dict[str, Any] = {"precision": precision}
    if preferred_element_type is not None:
        options["preferred_element_type"] = preferred_element_type
    if out_sharding is not None:
        options["out_sharding"] = out_sharding
    if dot_general is lax.dot_general:
        dot_general = _dot_general
    return dot_general(x, kernel, dimension_numbers, **options)


_dot_general = inlined(
    lax.dot_general,
    static_argnames=("dimension_numbers", "precision", "preferred_element_type", "out_sharding"),
)


@functools.partial(jax.jit, static_argnames=("batch_axes",), inline=True)
def add_bias(y: jax.Array, bias: jax.Array, batch_axes: int = 0) -> jax.Array:
    """Returns `y` with `bias` added along its last axes, whatever jax's setting for rank promotion.

    The first `batch_axes` axes of `bias` belong to the first ones of `y`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.linear import add_bias
        >>> add_bias(jnp.zeros((2, 2)), jnp.array([1.0, 2.0])).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    between = (1,) * (y.ndim - bias.ndim)
    return y + jnp.reshape(bias, (*bias.shape[:batch_axes], *between, *bias.shape[batch_axes:]))


class Linear(Module):
    """An affine map over the last axis of the input: `y = x W + b`.

    The parameters are `kernel` of shape `(in_features, out_features)` and `bias` of shape `(out_features,)`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        use_bias: whether to add a bias.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        precision: of the product, see `jax.lax.Precision`.
        kernel_init: makes the kernel, `(key, shape, dtype) -> array`.
        bias_init: makes the bias.
        dot_general: computes the product, with the signature of `jax.lax.dot_general`.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        preferred_element_type: the dtype that the product accumulates in and returns.
        rngs: its `params` stream gives the keys, the kernel's first.
        kernel_metadata: metadata for the variable `kernel`.
        bias_metadata: metadata for the variable `bias`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or `rngs` is a bare seed or key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> layer.kernel.shape, layer.bias.shape
        ((3, 4), (4,))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)

    Source: the default kernel is LeCun et al. 1998, "Efficient BackProp", section 4.6.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        dot_general: Callable[..., jax.Array] = lax.dot_general,
        promote_dtype: PromoteDtype = promote_dtype,
        preferred_element_type: DTypeLike | None = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, in_features=in_features, out_features=out_features)
        checks.check_rngs(self, rngs)
        kernel = kernel_init(rngs.params(), (in_features, out_features), param_dtype)
        self.kernel = Param(kernel, **kernel_metadata)
        self.bias = (
            Param(bias_init(rngs.params(), (out_features,), param_dtype), **bias_metadata)
            if use_bias
            else None
        )
        self.in_features = in_features
        self.out_features = out_features
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.dot_general = dot_general
        self.promote_dtype = promote_dtype
        self.preferred_element_type = preferred_element_type

    def __call__(self, inputs: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the map of `inputs`, `(..., in_features)` to `(..., out_features)`.

        Args:
            inputs: any number of leading axes; integers are converted to floats.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: the last axis of `inputs` is not `in_features` long.
        """
        kernel = self.kernel[...]
        checks.check_features(self, inputs, kernel.shape[0], argument="in_features")
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        return linear(
            x,
            kernel,
            bias,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            dot_general=self.dot_general,
            out_sharding=out_sharding,
        )
