"""Low-rank additions to linear maps: `y = f(x) + x A B`, where only the small `A` and `B` are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param, Variable
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import Linear, linear

__all__ = ["LoRA", "LoRALinear", "LoRAParam", "lora"]

A = TypeVar("A")

default_a_initializer = initializers.he_uniform()
default_b_initializer = initializers.zeros


class LoRAParam(Param[A]):
    """A parameter of a low-rank addition: `wrt=nnx.LoRAParam` trains these and leaves the rest as it is.

    Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685
    """


def lora(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `x @ a @ b`, the product with a matrix of low rank.

    Args:
        x: `(..., in_features)`.
        a: `(in_features, rank)`.
        b: `(rank, out_features)`.

    Returns:
        `(..., out_features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.lora import lora
        >>> lora(jnp.array([1.0, 2.0]), jnp.array([[1.0], [1.0]]), jnp.array([[1.0, 10.0]])).tolist()
        [3.0, 30.0]
    """
    return linear(linear(x, a), b)


class LoRA(Module):
    """A linear map of low rank, alone or added to what another module gives.

    The parameters are `lora_a` of shape `(in_features, lora_rank)` and `lora_b` of shape
    `(lora_rank, out_features)`. `lora_b` begins with zeros, so that at first nothing is added.

    Args:
        in_features: size of the last axis of the input.
        lora_rank: the rank of the map.
        out_features: size of the last axis of the output.
        base_module: called with the same input; what it gives is added.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        a_initializer: makes `lora_a`, `(key, shape, dtype) -> array`.
        b_initializer: makes `lora_b`.
        lora_param_type: the kind of variable that both are.
        promote_dtype: brings `(x, lora_a, lora_b)` to one dtype.
        rngs: its `params` stream gives the keys, that of `lora_a` first.
        a_metadata: metadata for the variable `lora_a`.
        b_metadata: metadata for the variable `lora_b`.

    Raises:
        TypeError, ValueError: a size is no positive integer, `lora_param_type` is no kind of variable, or
            `rngs` is a bare seed or key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu)
        >>> model.layers[0] = nnx.LoRA(3, 2, 4, base_module=model.layers[0], rngs=nnx.Rngs(1))
        >>> model(jnp.ones((5, 3))).shape
        (5, 4)
        >>> [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam))]
        [('layers', 0, 'lora_a'), ('layers', 0, 'lora_b')]

    Source: Hu et al. 2022, section 4.1, https://arxiv.org/abs/2106.09685
    """

    def __init__(
        self,
        in_features: int,
        lora_rank: int,
        out_features: int,
        *,
        base_module: Callable[..., Any] | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        a_initializer: initializers.Initializer = default_a_initializer,
        b_initializer: initializers.Initializer = default_b_initializer,
        lora_param_type: type[Variable[Any]] = LoRAParam,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = MappingProxyType({}),
        b_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, in_features=in_features, lora_rank=lora_rank, out_features=out_features)
        checks.check_rngs(self, rngs)
        _check_kind(self, lora_param_type)
        self.in_features = in_features
        self.out_features = out_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.lora_param_type = lora_param_type
        self.base_module = base_module
        self.promote_dtype = promote_dtype
        a = a_initializer(rngs.params(), (in_features, lora_rank), param_dtype)
        self.lora_a = lora_param_type(a, **a_metadata)
        b = b_initializer(rngs.params(), (lora_rank, out_features), param_dtype)
        self.lora_b = lora_param_type(b, **b_metadata)

    def __call__(self, x: ArrayLike, **kwargs: Any) -> jax.Array:
        """Returns the map of `x`, plus what the base module gives, `(..., in_features)` to
        `(..., out_features)`.

        Args:
            x: any number of leading axes; integers are converted to floats.
            **kwargs: handed on to the base module, if there is one.

        Raises:
            ValueError: the last axis of `x` is not `in_features` long, or `base_module` cannot be called, or
                gives another shape.
        """
        a, b = self.lora_a[...], self.lora_b[...]
        checks.check_features(self, x, a.shape[0], argument="in_features")
        inputs, a, b = self.promote_dtype((x, a, b), dtype=self.dtype)
        y = lora(inputs, a, b)
        if self.base_module is None:
            return y
        _check_callable(self)
        base = self.base_module(inputs, **kwargs)
        _check_shape(self, base, y.shape)
        return y + base


class LoRALinear(Linear):
    """A `Linear` layer with a map of low rank added to it.

    The parameters are those of `Linear`, and those of `LoRA` under `lora`: the state of a `Linear` fits.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        lora_rank: the rank of the map.
        lora_dtype: the dtype to compute the low-rank map in.
        lora_param_dtype: the dtype that its parameters are stored in.
        a_initializer: makes `lora.lora_a`, `(key, shape, dtype) -> array`.
        b_initializer: makes `lora.lora_b`.
        lora_param_type: the kind of variable that both are.
        lora_promote_dtype: brings `(x, lora_a, lora_b)` to one dtype.
        rngs: its `params` stream gives the keys, first those of `Linear`.
        a_metadata: metadata for the variable `lora.lora_a`.
        b_metadata: metadata for the variable `lora.lora_b`.
        **kwargs: the other options of `Linear`.

    Raises:
        TypeError, ValueError: as `Linear` and `LoRA` do.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> layer = nnx.LoRALinear(3, 4, lora_rank=2, rngs=nnx.Rngs(1))
        >>> nnx.update(layer, nnx.state(linear))
        >>> bool((layer(jnp.ones((5, 3))) == linear(jnp.ones((5, 3)))).all())
        True

    Source: Hu et al. 2022, section 4.1, https://arxiv.org/abs/2106.09685
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lora_rank: int,
        lora_dtype: DTypeLike | None = None,
        lora_param_dtype: DTypeLike = jnp.float32,
        a_initializer: initializers.Initializer = default_a_initializer,
        b_initializer: initializers.Initializer = default_b_initializer,
        lora_param_type: type[Variable[Any]] = LoRAParam,
        lora_promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = MappingProxyType({}),
        b_metadata: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        checks.check_sizes(self, lora_rank=lora_rank)
        super().__init__(in_features, out_features, rngs=rngs, **kwargs)
        self.lora = LoRA(
            in_features,
            lora_rank,
            out_features,
            dtype=lora_dtype,
            param_dtype=lora_param_dtype,
            a_initializer=a_initializer,
            b_initializer=b_initializer,
            lora_param_type=lora_param_type,
            promote_dtype=lora_promote_dtype,
            rngs=rngs,
            a_metadata=a_metadata,
            b_metadata=b_metadata,
        )

    def __call__(self, x: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the map of `x`, `(..., in_features)` to `(..., out_features)`.

        Args:
            x: any number of leading axes; integers are converted to floats.
            out_sharding: sharding of what `Linear` gives, for meshes with explicit axes.

        Raises:
            ValueError: the last axis of `x` is not `in_features` long.
        """
        return super().__call__(x, out_sharding=out_sharding) + self.lora(x)


def _check_kind(layer: LoRA, kind: Any) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Variable)):
        raise TypeError(
            f"{checks.describe(layer)}: got lora_param_type={kind!r}, expected a kind of variable. Pass a "
            "class such as nnx.LoRAParam or nnx.Param."
        )


def _check_callable(layer: LoRA) -> None:
    if not callable(layer.base_module):
        raise ValueError(
            f"{checks.describe(layer)}: got a base_module of type {type(layer.base_module).__name__}, which "
            "cannot be called, expected a module or function. Pass one with a __call__, or None."
        )


def _check_shape(layer: LoRA, base: Any, shape: tuple[int, ...]) -> None:
    """What the base module gives may be repeated along axes, as in any sum."""
    given = getattr(base, "shape", ())
    try:
        np.broadcast_shapes(given, shape)
    except ValueError:
        raise ValueError(
            f"{checks.describe(layer)}: got an output of shape {given} from base_module, expected {shape}. "
            "Rebuild the layer with the out_features that its base_module has."
        ) from None
