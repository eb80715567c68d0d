"""Activation functions, those of `jax.nn` by the same names, and `PReLU`, which has a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    log_softmax,
    logmeanexp,
    logsumexp,
    mish,
    one_hot,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
)
from jax.numpy import tanh
from jax.typing import DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import checks
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype

__all__ = [
    "PReLU",
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "mish",
    "one_hot",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]


def prelu(x: jax.Array, negative_slope: jax.Array) -> jax.Array:
    """Returns `x` where it is not negative, else `negative_slope * x`.

    Args:
        x: floating or complex, any shape.
        negative_slope: a scalar, or of a shape that broadcasts to that of `x`, for example `(features,)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.activations import prelu
        >>> prelu(jnp.array([-2.0, 3.0]), jnp.array(0.1)).tolist()
        [-0.20000000298023224, 3.0]
    """
    return jnp.where(x >= 0, x, negative_slope * x)


class PReLU(Module):
    """A leaky rectifier whose slope for negative inputs is learned: `max(x, 0) + negative_slope * min(x, 0)`.

    The parameter is the scalar `negative_slope`.

    Args:
        negative_slope_init: where the slope starts.
        dtype: the dtype to compute in; by default the input's.
        param_dtype: the dtype that the slope is stored in.
        promote_dtype: brings `(inputs, negative_slope)` to `dtype`, when that is given.
        negative_slope_metadata: metadata for the variable `negative_slope`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> nnx.PReLU(0.5)(jnp.array([-2.0, 3.0])).tolist()
        [-1.0, 3.0]

    Source: He et al. 2015, equation 1, https://arxiv.org/abs/1502.01852
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        promote_dtype: PromoteDtype = promote_dtype,
        negative_slope_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.negative_slope = Param(jnp.asarray(negative_slope_init, param_dtype), **negative_slope_metadata)
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Returns the activation of `inputs`, of the same shape.

        Args:
            inputs: floating or complex, any shape; with `dtype` also integers.

        Raises:
            TypeError: `inputs` are integers and there is no `dtype`: the slope in their dtype would be zero.
        """
        if self.dtype is None and not jnp.issubdtype(jnp.result_type(inputs), jnp.inexact):
            raise TypeError(
                f"{checks.describe(self)}: got inputs of dtype {jnp.result_type(inputs)}, expected floating "
                "ones, since the slope takes their dtype. Convert them first, for example with "
                "inputs.astype(float), or rebuild the layer with dtype=jnp.float32."
            )
        slope = self.negative_slope[...]
        if self.dtype is None:
            return prelu(inputs, jnp.asarray(slope, inputs.dtype))
        return prelu(*self.promote_dtype((inputs, slope), dtype=self.dtype))
