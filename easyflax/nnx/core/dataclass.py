"""Modules as dataclasses, and looking at which attributes hold data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

import jax

from easyflax.nnx.core.marks import data, static
from easyflax.nnx.core.module import Pytree, is_data

T = TypeVar("T")

__all__ = ["check_pytree", "dataclass", "has_data"]


@overload
def dataclass(cls: type[T], /) -> type[T]: ...
@overload
def dataclass(
    *,
    init: bool = True,
    eq: bool = True,
    order: bool = False,
    unsafe_hash: bool = False,
    match_args: bool = True,
    kw_only: bool = False,
    slots: bool = False,
    weakref_slot: bool = False,
) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(field_specifiers=(dataclasses.field, data, static))
def dataclass(cls: Any = None, /, **options: bool) -> Any:
    """Makes a module class a dataclass that keeps the module's `repr`.

    Fields are data or static by their values, or as declared with `nnx.data()` and `nnx.static()`. The
    standard library's `dataclasses.dataclass` works too.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> @nnx.dataclass
    ... class Scale(nnx.Module):
    ...     weight: nnx.Param
    ...     steps: int = nnx.data(default=0)
    ...     name: str = "scale"
    >>> sorted(nnx.state(Scale(nnx.Param(jnp.ones(2)))))
    ['steps', 'weight']

    Args:
        cls: the class; without it, a decorator is returned.
        **options: those of `dataclasses.dataclass`, without `repr` and `frozen`.
    """
    return dataclasses.dataclass(cls, **options, repr=False)


def has_data(value: Any, /) -> list[Any]:
    """Returns the arrays, variables, modules and registered types inside of a value; empty if there are none.

    >>> from easyflax import nnx
    >>> nnx.has_data(["text", {"a": 1}]), len(nnx.has_data([nnx.Param(1), 2]))
    ([], 1)
    """
    return [leaf for leaf in jax.tree.leaves(value, is_leaf=is_data) if is_data(leaf)]


def check_pytree(pytree: Any) -> None:
    """Checks that no attribute of an object that is marked as static holds data.

    Assignments are checked anyhow; this also finds what was put into a list or dict later on.

    Raises:
        TypeError: `pytree` is no module or other `nnx.Pytree`.
        ValueError: a static attribute holds data.
    """
    if not isinstance(pytree, Pytree):
        raise TypeError(
            f"check_pytree got a {type(pytree).__name__}, expected a module or another nnx.Pytree. Pass the "
            "object whose attributes are to be checked."
        )
    for name, value in vars(pytree).items():
        if pytree._mark_of(name) is False:
            pytree._check_static(name, value)
