"""Initializers of parameters: functions `(key, shape, dtype) -> array`, and functions that build them.

All but `zeros_init` and `ones_init` are those of `jax.nn.initializers`.

    >>> import jax
    >>> from easyflax.nnx.layers import initializers
    >>> initializers.lecun_normal()(jax.random.key(0), (3, 4), "float32").shape
    (3, 4)
"""

from __future__ import annotations

from jax.nn.initializers import (
    Initializer,
    constant,
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zeros,
)

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_init",
]


def zeros_init() -> Initializer:
    """Returns the initializer `zeros`, in the form of those that are built by a call.

    Examples:
        >>> import jax
        >>> from easyflax.nnx.layers import initializers
        >>> initializers.zeros_init()(jax.random.key(0), (2,), "float32").tolist()
        [0.0, 0.0]
    """
    return zeros


def ones_init() -> Initializer:
    """Returns the initializer `ones`, in the form of those that are built by a call.

    Examples:
        >>> import jax
        >>> from easyflax.nnx.layers import initializers
        >>> initializers.ones_init()(jax.random.key(0), (2,), "float32").tolist()
        [1.0, 1.0]
    """
    return ones
