"""Which dtypes layers compute in and store weights in, under the names of `keras.dtype_policies`."""

from __future__ import annotations

from typing import Any

from easyflax.layers.dtypes import DTypePolicy as DTypePolicy
from easyflax.layers.dtypes import policy_config, resolve_policy

__all__ = ["DTypePolicy", "FloatDTypePolicy", "deserialize", "get", "serialize"]

FloatDTypePolicy = DTypePolicy


def get(identifier: Any) -> DTypePolicy:
    """Returns a policy by its name or configuration; None stands for the global one.

    Raises:
        ValueError: it is unknown.

    Examples:
        >>> get("mixed_bfloat16").compute_dtype
        'bfloat16'
    """
    return resolve_policy(identifier)


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """Returns a policy as plain JSON, as Keras writes it."""
    return policy_config(dtype_policy, is_own=False)


def deserialize(config: dict[str, Any]) -> DTypePolicy:
    """Returns the policy that `serialize`, or Keras, wrote as `config`."""
    return resolve_policy(config)
