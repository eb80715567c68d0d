"""Which dtypes a layer computes in and stores its weights in, under Keras's names."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

_MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


class Policy(NamedTuple):
    """A pair of dtypes with a name.

    Attributes:
        name: "float32", "mixed_bfloat16", ...
        compute_dtype: what inputs are cast to.
        variable_dtype: what weights are stored in.
    """

    name: str
    compute_dtype: Any
    variable_dtype: Any


def resolve_policy(dtype: Any) -> Policy:
    """Returns the policy for what a layer is given as `dtype`.

    Args:
        dtype: None for float32, a floating dtype or its name, "mixed_bfloat16" or "mixed_float16", or what
            Keras writes for it into configurations.

    Raises:
        ValueError: it is neither.

    Examples:
        >>> resolve_policy("mixed_bfloat16").compute_dtype.name, resolve_policy(None).name
        ('bfloat16', 'float32')
    """
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return _policy(dtype)


@functools.cache
def _policy(dtype: Any) -> Policy:
    if isinstance(dtype, str) and dtype in _MIXED:
        return Policy(dtype, jnp.dtype(_MIXED[dtype]), jnp.dtype("float32"))
    try:
        plain = jnp.dtype("float32" if dtype is None else dtype)
    except TypeError:
        plain = None
    if plain is None:
        raise ValueError(
            f"dtype is {dtype!r}, expected a dtype such as 'float32' or 'bfloat16', or one of "
            f"{list(_MIXED)}. Leave it out for float32."
        )
    return Policy(plain.name, plain, plain)
