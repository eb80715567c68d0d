"""What arrays are called elsewhere: from our names to theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

__all__ = ["Names", "Renamer", "shown"]

Names = Mapping[str, str | None] | Callable[[str], str | None] | None
"""From our names to theirs: beginnings of names, whole up to a `"."`, or a function of a name. None in place
of a name leaves the array out, here and there. `""` begins all names, and as a value it takes a beginning
away."""


class Renamer:
    """Applies `names`, and remembers which of its entries were of use.

    The entry with the longest beginning counts.

    >>> renamer = Renamer({"encoder": "bert", "encoder.out": "head", "pool": None})
    >>> [renamer(name) for name in ("encoder.0.weight", "encoder.out.bias", "pool.bias", "embed.weight")]
    ['bert.0.weight', 'head.bias', None, 'embed.weight']
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._unused = set(names) if isinstance(names, Mapping) else set()

    def __call__(self, name: str) -> str | None:
        """Returns what the array is called there, or None if it is to be left out."""
        if self._names is None:
            return name
        if not isinstance(self._names, Mapping):
            return self._names(name)
        for beginning in _beginnings(name):
            if beginning in self._names:
                self._unused.discard(beginning)
                new = self._names[beginning]
                rest = name[len(beginning) :].lstrip(".")
                return None if new is None else ".".join(part for part in (new, rest) if part)
        return name

    def left_out(self, theirs: Iterable[str]) -> list[str]:
        """Returns those of their names that an entry with None is the longest beginning of."""
        if not isinstance(self._names, Mapping):
            return []
        entries = {
            name: next((key for key in _beginnings(name) if key in self._names), None) for name in theirs
        }
        found = {name: key for name, key in entries.items() if key is not None and self._names[key] is None}
        self._unused.difference_update(found.values())
        return list(found)

    def check_used(self, known: Iterable[str], call: str) -> None:
        """Checks that every entry was the longest beginning of some name that was asked for or left out.

        Args:
            known: the names that were asked for, for the message.
            call: the function the user called, for the message.

        Raises:
            ValueError: one was not.
        """
        if self._unused:
            raise ValueError(
                f"{call}: got names={{{shown(sorted(self._unused))}: ...}}, expected beginnings of "
                f"{shown(list(known))}. Correct the spelling, or leave these entries out."
            )


def _beginnings(name: str) -> Iterable[str]:
    """The name, and it without its last parts, down to nothing."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def shown(names: list[str], most: int = 8) -> str:
    """Returns the names for a message, shortened."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
