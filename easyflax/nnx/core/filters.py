"""The filter language: which variables of a model are meant.

A filter is one of

* a type: variables of that kind, subclasses included (`nnx.Param`);
* a string: variables and random streams whose `tag` is that (`"dropout"`);
* a function `(path, value) -> bool`;
* `...` or True: everything; None or False: nothing;
* a list or tuple of filters: any of them;
* `All(...)`, `Any(...)`, `Not(...)` of filters, `PathContains(name)`, `PathIn(paths...)`, `OfType(type)`,
  `WithTag(tag)`.

Paths are tuples of attribute names, keys and positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any as _AnyType
from typing import cast

Key = Hashable  # one part of a path: a name or a position
Path = PathParts = tuple[_AnyType, ...]
Predicate = Callable[[Path, _AnyType], bool]
Filter = _AnyType


def to_predicate(filter: Filter) -> Predicate:
    """Returns the function `(path, value) -> bool` that `filter` stands for.

    Raises:
        TypeError: `filter` is not of the filter language.
    """
    if isinstance(filter, str):
        return WithTag(filter)
    if isinstance(filter, type):
        return OfType(filter)
    if filter is ... or filter is True:
        return Everything()
    if filter is None or filter is False:
        return Nothing()
    if callable(filter):
        return cast(Predicate, filter)
    if isinstance(filter, (list, tuple)):
        return Any(*filter)
    raise TypeError(
        f"Got {filter!r} as a filter, expected a variable type, a tag, a function (path, value) -> bool, "
        "..., a bool, None, "
        "or a list of these."
    )


def filters_to_predicates(filters: Sequence[Filter]) -> tuple[Predicate, ...]:
    """Returns the predicates of `filters`, to be tried in order.

    Raises:
        ValueError: `...` or True stands before another filter, which could then never match.
    """
    for position, filter in enumerate(filters):
        if (filter is ... or filter is True) and any(
            later is not ... and later is not True for later in filters[position + 1 :]
        ):
            raise ValueError(
                f"Got {filter!r} as filter {position} of {len(filters)}: it matches everything, so those "
                "after it would match nothing. "
                "Put it last."
            )
    return tuple(map(to_predicate, filters))


def reads_structure_only(filter: Filter) -> bool:
    """Whether what `filter` matches depends on paths, kinds and metadata only; says no where it is unsure."""
    if isinstance(filter, _Combination):
        return all(map(reads_structure_only, filter.predicates))
    if isinstance(filter, tuple):
        return all(map(reads_structure_only, filter))
    known = (str, type, bool, type(...), type(None), WithTag, OfType, PathContains, PathIn)
    return isinstance(filter, known)


@dataclasses.dataclass(frozen=True)
class WithTag:
    """Values whose `tag` equals `tag`."""

    tag: str

    def __call__(self, _path: Path, value: _AnyType) -> bool:
        return getattr(value, "tag", None) == self.tag


@dataclasses.dataclass(frozen=True)
class OfType:
    """Values that are instances of `type`."""

    type: type

    def __call__(self, _path: Path, value: _AnyType) -> bool:
        return isinstance(value, self.type)


@dataclasses.dataclass(frozen=True)
class PathContains:
    """Values whose path has `key` as one of its parts (or within one of them, if not `exact`)."""

    key: _AnyType
    exact: bool = True

    def __call__(self, path: Path, _value: _AnyType) -> bool:
        if self.exact:
            return self.key in path
        return any(str(self.key) in str(part) for part in path)


class PathIn:
    """Values at one of the given paths."""

    def __init__(self, *paths: Path) -> None:
        self.paths = frozenset(map(tuple, paths))

    def __call__(self, path: Path, _value: _AnyType) -> bool:
        return tuple(path) in self.paths

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathIn) and self.paths == other.paths

    def __hash__(self) -> int:
        return hash(self.paths)

    def __repr__(self) -> str:
        return f"PathIn({', '.join(map(repr, sorted(self.paths, key=repr)))})"


class _Combination:
    """Filters combined; equal when their parts are."""

    def __init__(self, *filters: Filter) -> None:
        self.predicates = tuple(map(to_predicate, filters))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.predicates == other.predicates  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.predicates))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.predicates))})"


class Any(_Combination):
    """Values that match at least one of the filters."""

    def __call__(self, path: Path, value: _AnyType) -> bool:
        return any(predicate(path, value) for predicate in self.predicates)


class All(_Combination):
    """Values that match all of the filters."""

    def __call__(self, path: Path, value: _AnyType) -> bool:
        return all(predicate(path, value) for predicate in self.predicates)


class Not(_Combination):
    """Values that do not match the filter."""

    def __init__(self, filter: Filter, /) -> None:
        super().__init__(filter)

    def __call__(self, path: Path, value: _AnyType) -> bool:
        return not self.predicates[0](path, value)


class Everything(_Combination):
    """All values."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, _path: Path, _value: _AnyType) -> bool:
        return True


class Nothing(_Combination):
    """No value."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, _path: Path, _value: _AnyType) -> bool:
        return False
