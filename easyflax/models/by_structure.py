"""Keeps what was made for a structure, such as compiled steps, and finds it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ByStructure(Generic[T]):
    """A small mapping that compares its keys instead of hashing them.

    The structure of a module holds whatever its attributes are: a configuration in a plain dataclass, say,
    which can be compared but not hashed.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Any, T]] = []

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """Returns what is kept for `key`, or makes it and keeps it."""
        for known, value in self._entries:
            if known == key:
                return value
        value = make()
        self._entries.append((key, value))
        return value
