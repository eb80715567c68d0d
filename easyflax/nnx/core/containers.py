"""`List` and `Dict`: containers that are modules, so that items assigned to them are tracked like attributes.

Plain lists, tuples and dicts of modules work as attributes too; these are for those who want the container
itself to be shared by reference, and are cheaper to check for changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, TypeVar, overload

from easyflax.nnx.core.marks import data, static
from easyflax.nnx.core.module import Module, set_item, set_marks

A = TypeVar("A")

__all__ = ["Dict", "List"]


class Dict(Module, MutableMapping[str, A]):
    """A dictionary of modules, variables or anything else; items are attributes as well.

    >>> from easyflax import nnx
    >>> layers = nnx.Dict(first=nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> layers["first"] is layers.first
    True
    """

    def __init__(self, *args: Any, **items: Any) -> None:
        for name, value in dict(*args, **items).items():
            self[name] = value

    def __getitem__(self, key: str) -> A:
        return vars(self)[key]

    def __setitem__(self, key: str, value: A) -> None:
        setattr(self, key, value)

    def __delitem__(self, key: str) -> None:
        if key not in vars(self):
            raise KeyError(key)
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __contains__(self, key: object) -> bool:
        return key in vars(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Mapping) and vars(self) == (
            vars(other) if isinstance(other, Dict) else dict(other)
        )

    def __hash__(self) -> int:
        return id(self)

    def __getattr__(self, name: str) -> Any:  # for type checkers: items are attributes
        raise AttributeError(
            f"{type(self).__name__} has no item or attribute '{name}'; it has {sorted(map(str, vars(self)))}."
        )


class List(Module, MutableSequence[A]):
    """A list of modules, variables or anything else.

    >>> from easyflax import nnx
    >>> layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(3)])
    >>> layers.append(nnx.Linear(2, 4, rngs=nnx.Rngs(9)))
    >>> len(layers), layers[-1].out_features
    (4, 4)
    """

    def __init__(self, items: Iterable[A] | None = None, /) -> None:
        self._replace_items(list(items or ()))

    # Items live among the attributes under the keys 0, 1, 2, ...; the marks of `nnx.data` and `nnx.static`
    # move along.

    def _items(self) -> list[Any]:
        attributes = vars(self)
        return [attributes[index] for index in range(len(self))]  # type: ignore[index]

    def _marked_items(self) -> list[Any]:
        """Returns the items, wrapped in the marks that they were given."""
        marks = self._marks or {}
        wrap = {True: data, False: static}
        return [wrap[marks[i]](item) if i in marks else item for i, item in enumerate(self._items())]

    def _replace_items(self, items: list[Any]) -> None:
        for index in range(len(items), len(self)):
            del vars(self)[index]  # type: ignore[arg-type]
        set_marks(
            self, {name: mark for name, mark in (self._marks or {}).items() if isinstance(name, str)} or None
        )
        for index, value in enumerate(items):
            self._set(index, value)
        self._structure_changed()

    def _set(self, index: int, value: Any) -> None:
        self._check_can_update(index)
        if (mark := _explicit(value)) is not None:
            self._set_mark(index, mark)
            value = value.metadata["nnx_value"]
        if self._mark_of(index) is False:
            self._check_static(index, value)
        set_item(self, index, value)

    def _position(self, index: int) -> int:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"List index {index} is out of range: the list has {len(self)} items.")
        return position

    def __len__(self) -> int:
        attributes = vars(self)
        count = len(attributes)
        if count == 0 or count - 1 in attributes:  # nothing but items
            return count
        return sum(isinstance(name, int) for name in attributes)

    def __iter__(self) -> Iterator[A]:
        return iter(self._items())

    @overload
    def __getitem__(self, index: int) -> A: ...
    @overload
    def __getitem__(self, index: slice) -> list[A]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._items()[index] if isinstance(index, slice) else vars(self)[self._position(index)]  # type: ignore[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            items = self._marked_items()
            items[index] = value
            self._check_can_update(index)
            self._replace_items(items)
        else:
            self._set(self._position(index), value)

    def __delitem__(self, index: Any) -> None:
        self._check_can_update(index)
        items = self._marked_items()
        del items[index]
        self._replace_items(items)

    def insert(self, index: int, value: A) -> None:
        """Inserts `value` before the item at `index`."""
        if index >= len(self):
            self._set(len(self), value)
            return
        self._check_can_update(index)
        items = self._marked_items()
        items.insert(index, value)
        self._replace_items(items)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, List) and self._items() == other._items())

    def __hash__(self) -> int:
        return id(self)


def _explicit(value: Any) -> bool | None:
    metadata = getattr(value, "metadata", None)
    if type(value).__name__ == "Field" and metadata is not None and "nnx_value" in metadata:
        return not metadata["static"]
    return None
