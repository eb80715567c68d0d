"""Which dtype a layer computes in: the one it was told, or the one its inputs and parameters promote to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.naming import asking_module, describe
from easyflax.nnx.core.variables import reading_dtype

__all__ = ["PromoteDtype", "canonicalize_dtype", "promote_dtype"]

_SINGLE_OR_LESS = (jnp.float32, jnp.float16, jnp.bfloat16)


class PromoteDtype(Protocol):
    """What layers take as `promote_dtype`: brings arrays (and `None`s, left alone) to one dtype."""

    def __call__(
        self, args: Sequence[Any], /, *, dtype: DTypeLike | None = None, inexact: bool = True
    ) -> Any: ...


def canonicalize_dtype(*args: ArrayLike | None, dtype: DTypeLike | None = None, inexact: bool = True) -> Any:
    """Returns `dtype`, or where it is None the dtype that `args` promote to.

    Within `reading_params_as` that one takes the place of float32 and of what is shorter.

    Args:
        *args: arrays or scalars; `None`s do not count.
        dtype: taken as it is when given.
        inexact: whether the result must be floating or complex; integers then promote to float32.

    Raises:
        ValueError: `dtype` is neither floating nor complex, and `inexact` is True.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.dtypes import canonicalize_dtype
        >>> canonicalize_dtype(jnp.ones(2, "int32"), None, jnp.ones(2, "bfloat16"))
        dtype(bfloat16)
        >>> canonicalize_dtype(jnp.ones(2, "int32"))
        dtype('float32')
    """
    if dtype is None:
        dtype = jnp.result_type(
            *(x if isinstance(x, jax.Array) else jnp.asarray(x) for x in args if x is not None)
        )
        if inexact and not jnp.issubdtype(dtype, jnp.inexact):
            dtype = jnp.promote_types(jnp.float32, dtype)
        if dtype in _SINGLE_OR_LESS:
            dtype = reading_dtype() or dtype
    assert dtype is not None
    if inexact and not jnp.issubdtype(dtype, jnp.inexact):
        asking = asking_module()
        raise ValueError(
            f"{'Got' if asking is None else describe(asking) + ': got'} dtype {jnp.dtype(dtype).name}, "
            "expected a floating or complex one. "
            "Pass for example dtype=jnp.float32, or None to infer it from the inputs and parameters."
        )
    return dtype


def promote_dtype(
    args: Sequence[ArrayLike | None], /, *, dtype: DTypeLike | None = None, inexact: bool = True
) -> tuple[jax.Array | None, ...]:
    """Returns `args` as arrays of one dtype, that of `canonicalize_dtype`; `None`s stay.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.dtypes import promote_dtype
        >>> x, kernel, bias = promote_dtype((jnp.ones(2, "int32"), jnp.ones(2, "bfloat16"), None))
        >>> x.dtype, kernel.dtype, bias
        (dtype(bfloat16), dtype(bfloat16), None)
    """
    # As most are, and promoting takes as long as tracing a product.
    if reading_dtype() is None and _are_of_one_dtype(args, dtype, inexact):
        return tuple(args)  # type: ignore[arg-type]
    dtype = canonicalize_dtype(*args, dtype=dtype, inexact=inexact)
    return tuple(None if x is None else _as(x, dtype) for x in args)


def _are_of_one_dtype(args: Sequence[ArrayLike | None], dtype: DTypeLike | None, inexact: bool) -> bool:
    wanted = getattr(args[0], "dtype", None) if dtype is None else dtype
    if wanted is None or (inexact and not jnp.issubdtype(wanted, jnp.inexact)):
        return False
    return all(
        x is None or (isinstance(x, jax.Array) and x.dtype == wanted and not x.weak_type) for x in args
    )


def _as(x: ArrayLike, dtype: DTypeLike | None) -> jax.Array:
    if isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type:
        return x  # as it is: converting takes as long as tracing a product
    return jnp.asarray(x, dtype)
