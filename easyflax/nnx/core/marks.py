"""Marks: which attributes of a module are data, and which are static, where their values do not tell."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar

T = TypeVar("T")

_MISSING: Any = object()
DATA_TYPES: set[type] = set()
_ANNOTATED_DATA, _ANNOTATED_STATIC = "__data__", "__static__"

Data = Annotated[T, _ANNOTATED_DATA]
Static = Annotated[T, _ANNOTATED_STATIC]

__all__ = ["DATA_TYPES", "Data", "Static", "data", "declared_marks", "register_data_type", "static"]


def data(value: Any = _MISSING, /, **field_options: Any) -> Any:
    """Marks the attribute it is assigned to as data; without a value, a dataclass field that is data.

    >>> from easyflax import nnx
    >>> class Counter(nnx.Module):
    ...     def __init__(self):
    ...         self.count = nnx.data(0)
    >>> nnx.state(Counter()).count
    0
    """
    return _mark(value, field_options, is_data=True)


def static(value: Any = _MISSING, /, **field_options: Any) -> Any:
    """Marks the attribute it is assigned to as static; without a value, a dataclass field that is static."""
    return _mark(value, field_options, is_data=False)


def _mark(value: Any, options: dict[str, Any], *, is_data: bool) -> Any:
    if value is not _MISSING and options:
        raise TypeError(
            f"Got both a value and the field options {sorted(options)}. Pass a value to mark an attribute on "
            "assignment, or field options to declare a dataclass field."
        )
    metadata = {**(options.pop("metadata", None) or {}), "static": not is_data}
    if value is not _MISSING:
        metadata["nnx_value"] = value
    return dataclasses.field(**options, metadata=metadata)


def register_data_type(cls: type[T], /) -> type[T]:
    """Makes values of type `cls` data wherever they are assigned; usable as a decorator."""
    DATA_TYPES.add(cls)
    return cls


def declared_marks(cls: type) -> dict[str, bool]:
    """Attributes declared at class level as data or static: by `nnx.data()`, `nnx.static()`,
    `nnx.Data[...]` or `nnx.Static[...]`."""
    marks: dict[str, bool] = {}
    for base in reversed(cls.__mro__[1:]):
        marks.update(vars(base).get("_class_marks", {}))
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if isinstance(annotation, str):
            head = annotation.split("[")[0].rsplit(".", 1)[-1]
            found = {"Data": True, "Static": False}.get(head) if "[" in annotation else None
        else:
            tags = getattr(annotation, "__metadata__", ())
            found = True if _ANNOTATED_DATA in tags else False if _ANNOTATED_STATIC in tags else None
        if found is not None:
            marks[name] = found
    for name, value in vars(cls).items():
        if isinstance(value, dataclasses.Field) and "static" in value.metadata:
            marks[name] = not value.metadata["static"]
    return marks
