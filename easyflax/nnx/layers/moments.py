"""What all normalisation layers share: `moments`, `normalize` with them, axes, scale and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import initializers
from easyflax.nnx.layers.dtypes import canonicalize_dtype

__all__ = ["Axes", "affine_param", "axes_tuple", "moments", "normalize", "positive_axes", "value_of"]

Axes = int | Sequence[int]


def moments(
    x: jax.Array,
    axes: Axes,
    *,
    dtype: DTypeLike | None = None,
    axis_name: str | None = None,
    axis_index_groups: Any = None,
    use_mean: bool = True,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance of `x` over `axes`, which are removed.

    Args:
        x: floating or complex.
        axes: to reduce over.
        dtype: to compute in, made at least float32; by default the input's.
        axis_name: a named axis (of `vmap` or `shard_map`) to reduce over as well.
        axis_index_groups: groups of indices of that axis that are reduced apart.
        use_mean: if False, the mean is taken to be zero.
        use_fast_variance: `E[x^2] - E[x]^2`, in one pass over `x`, clipped at zero, instead of
            `E[(x - E[x])^2]`.
        mask: True where entries count, of a shape that broadcasts to that of `x`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.moments import moments
        >>> mean, var = moments(jnp.array([[1.0, 3.0], [5.0, 5.0]]), axes=-1)
        >>> mean.tolist(), var.tolist()
        ([2.0, 5.0], [1.0, 0.0])
    """
    x = jnp.asarray(x, jnp.promote_types(jnp.result_type(x) if dtype is None else dtype, jnp.float32))
    axes = positive_axes(axes, x.ndim)

    def means(*values: jax.Array) -> tuple[jax.Array, ...]:
        return _means(values, axes, mask, axis_name, axis_index_groups)

    if not use_mean:
        (var,) = means(_abs_square(x))
        return jnp.zeros_like(var), var
    if use_fast_variance:
        mean, mean_of_squares = means(x, _abs_square(x))
        return mean, jnp.maximum(0.0, mean_of_squares - _abs_square(mean))  # rounding may make it negative
    (mean,) = means(x)
    (var,) = means(_abs_square(x - jnp.expand_dims(mean, axes)))
    return mean, var


def _means(
    values: Sequence[jax.Array],
    axes: tuple[int, ...],
    mask: jax.Array | None,
    axis_name: str | None,
    groups: Any,
) -> tuple[jax.Array, ...]:
    mask = None if mask is None else jnp.asarray(mask, bool)
    if axis_name is None:
        return tuple(value.mean(axes, where=mask) for value in values)
    if mask is None:
        return lax.pmean(tuple(value.mean(axes) for value in values), axis_name, axis_index_groups=groups)
    # Members of the named axis may have different numbers of unmasked entries: combine sums, not means.
    count = jnp.broadcast_to(mask, values[0].shape).sum(axes)
    sums = [value.sum(axes, where=mask) for value in values]
    count, sums = lax.psum((count, sums), axis_name, axis_index_groups=groups)
    return tuple(total / count for total in sums)


def _abs_square(x: jax.Array) -> jax.Array:
    return lax.square(lax.real(x)) + lax.square(lax.imag(x)) if jnp.iscomplexobj(x) else lax.square(x)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    reduction_axes: Axes,
    feature_axes: Axes,
    epsilon: float,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Returns `(x - mean) / sqrt(var + epsilon) * scale + bias`.

    Args:
        x: any shape.
        mean: of the shape of `x` without `reduction_axes`, as is `var`.
        var: variance.
        scale: as many entries as `x` has along `feature_axes`, or None; so has `bias`.
        bias: see `scale`.
        reduction_axes: the axes of `x` that mean and variance lack.
        feature_axes: the axes of `x` that scale and bias have.
        epsilon: added to the variance.
        dtype: of the result; by default what `x`, `scale` and `bias` promote to.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.moments import moments, normalize
        >>> x = jnp.array([[1.0, 3.0]])
        >>> axes = {"reduction_axes": -1, "feature_axes": -1}
        >>> normalize(x, *moments(x, -1), scale=None, bias=None, epsilon=0.0, **axes).tolist()
        [[-1.0, 1.0]]
    """
    axes = positive_axes(reduction_axes, x.ndim)
    features = positive_axes(feature_axes, x.ndim)
    feature_shape = tuple(size if axis in features else 1 for axis, size in enumerate(x.shape))
    y = x - jnp.expand_dims(mean, axes)
    factor = lax.rsqrt(jnp.expand_dims(var, axes) + epsilon)
    y = y * (factor if scale is None else factor * scale.reshape(feature_shape))
    if bias is not None:
        y = y + bias.reshape(feature_shape)
    return jnp.asarray(y, canonicalize_dtype(x, scale, bias, dtype=dtype))


def axes_tuple(axes: Axes) -> tuple[int, ...]:
    """Returns one axis or several as a tuple."""
    return (axes,) if isinstance(axes, (int, np.integer)) else tuple(axes)


def positive_axes(axes: Axes, rank: int) -> tuple[int, ...]:
    """Returns `axes` counted from the front, sorted, each once; those that are out of range stay as they are.

    Examples:
        >>> from easyflax.nnx.layers.moments import positive_axes
        >>> positive_axes((-1, 1, 2), 3)
        (1, 2)
    """
    return tuple(sorted({axis % rank if -rank <= axis < rank else axis for axis in axes_tuple(axes)}))


def affine_param(
    init: initializers.Initializer, features: int, dtype: DTypeLike, rngs: Rngs, metadata: Mapping[str, Any]
) -> Param:
    """Returns the scale or the bias of a normalisation layer."""
    return Param(init(rngs.params(), (features,), dtype), **metadata)


def value_of(variable: Param | None) -> Any:
    """Returns the variable's value, None if there is no variable."""
    return None if variable is None else variable[...]
