"""Which dtypes a layer computes in and stores its weights in, under Keras's names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.nnx as nnx
from easyflax import masks

__all__ = [
    "ComputeDtype",
    "DTypePolicy",
    "VariableDtype",
    "cast_floating",
    "dtype_policy",
    "policy_config",
    "resolve_policy",
    "set_dtype_policy",
]

_MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


class DTypePolicy:
    """A pair of dtypes with a name: what a layer computes in, and what it stores its weights in.

    Args:
        name: a dtype, such as "float32" or "bfloat16", for both; or "mixed_bfloat16" and "mixed_float16", for
            weights in float32. By default the global policy, see `set_dtype_policy`.

    Raises:
        TypeError: `name` is no string.
        ValueError: it is the name of no dtype and no policy.

    Attributes:
        name: as given.
        compute_dtype: the name of the dtype that inputs and weights are cast to.
        variable_dtype: the name of the dtype that weights are stored in.

    Examples:
        >>> policy = DTypePolicy("mixed_bfloat16")
        >>> policy, policy.compute_dtype, policy.variable_dtype
        (<DTypePolicy "mixed_bfloat16">, 'bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None) -> None:
        name = dtype_policy().name if name is None else name
        if not isinstance(name, str):
            raise TypeError(
                f"DTypePolicy: name is {name!r}, expected a string. Pass for example 'mixed_bfloat16'."
            )
        compute = _dtype_of(_MIXED.get(name, name))
        self.name = name if name in _MIXED else compute.name
        self.compute = compute
        self.variable = jnp.dtype("float32") if name in _MIXED else compute

    @property
    def compute_dtype(self) -> str:
        """The name of the dtype that inputs and weights are cast to."""
        return self.compute.name

    @property
    def variable_dtype(self) -> str:
        """The name of the dtype that weights are stored in."""
        return self.variable.name

    def get_config(self) -> dict[str, Any]:
        """Returns the argument that makes it again."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        """Returns a policy of what `get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _dtype_of(name: Any) -> np.dtype:
    try:
        return jnp.dtype(name)
    except TypeError:
        raise ValueError(
            f"dtype is {name!r}, expected a dtype such as 'float32' or 'bfloat16', or one of "
            f"{list(_MIXED)}. Leave it out for float32."
        ) from None


_FLOAT32 = DTypePolicy("float32")
_global = [_FLOAT32]


def dtype_policy() -> DTypePolicy:
    """Returns the policy of layers that are given no dtype when they are made."""
    return _global[0]


def set_dtype_policy(policy: DTypePolicy | str) -> None:
    """Sets the policy of all layers made from now on without a dtype.

    Args:
        policy: or its name, such as "mixed_bfloat16".

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(policy, DTypePolicy | str):
        raise ValueError(
            f"set_dtype_policy: policy is {policy!r}, expected a DTypePolicy or the name of one. Pass for "
            "example 'mixed_bfloat16'."
        )
    _global[0] = resolve_policy(policy)


def resolve_policy(dtype: Any) -> DTypePolicy:
    """Returns the policy for what a layer is given as `dtype`.

    Args:
        dtype: None for the global policy, a policy or its name, a floating dtype or its name, or what Keras
            writes for it into configurations.

    Raises:
        ValueError: it is neither.

    Examples:
        >>> resolve_policy("mixed_bfloat16").compute_dtype, resolve_policy(None).name
        ('bfloat16', 'float32')
    """
    if isinstance(dtype, DTypePolicy):
        return dtype
    if dtype is None:
        return dtype_policy()
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return DTypePolicy(dtype if isinstance(dtype, str) else _dtype_of(dtype).name)


def policy_config(policy: DTypePolicy, *, is_own: bool) -> Any:
    """Returns what a layer's configuration says of its dtype.

    Args:
        policy: of the layer.
        is_own: whether the layer was given it, which its name says; else it is written as Keras writes all
            policies. A layer made of that follows the precision of `compile`.
    """
    if is_own:
        return policy.name
    config = policy.get_config()
    return {"module": "keras", "class_name": "DTypePolicy", "config": config, "registered_name": None}


def cast_floating(tree: Any, dtype: Any) -> Any:
    """Returns a nesting with its floating arrays in `dtype`, and with their masks; the rest as it is.

    Args:
        tree: arrays, of NumPy, too, which become those of JAX.
        dtype: a floating one.
    """

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            leaf = jnp.asarray(leaf)
        if isinstance(leaf, jax.Array) and leaf.dtype != dtype and jnp.issubdtype(leaf.dtype, jnp.floating):
            converted = leaf.astype(dtype)
            masks.attach_masks(converted, masks.mask_of(leaf))
            return converted
        return leaf

    return jax.tree.map(cast, tree, is_leaf=_is_object)


class VariableDtype:
    """`layer.dtype`: what weights are stored in, unless an attribute of the layer says otherwise."""

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else layer.variable_dtype


class ComputeDtype:
    """`layer.dtype` of a layer that is a module of `nnx` as well: what that one is to compute in.

    It follows the policy of the layer; what the constructors of `nnx` set is the same.

    Args:
        at_least: a wider dtype to compute in, whatever the policy says.
    """

    def __init__(self, at_least: str | None = None) -> None:
        self.at_least = at_least

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        if layer is None:
            return self
        dtype = layer.compute_dtype
        return dtype if self.at_least is None else jnp.promote_types(dtype, self.at_least)

    def __set__(self, layer: Any, value: Any) -> None:
        """Leaves it at what the policy says."""


def _is_object(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Pytree | nnx.Variable)
