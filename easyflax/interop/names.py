"""What arrays are called elsewhere: from our names to theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

__all__ = ["Names", "Renamer", "prefix_before", "shown"]

Names = Mapping[str, str | None] | Callable[[str], str | None] | None
"""From our names to theirs: beginnings of names, whole up to a `"."`, or a function of a name. None in place
of a name leaves the array out, here and there. `""` begins all names, and as a value it takes a beginning
away. Each `"*"` in a beginning stands for any text without a `"."`, which goes where the `"*"`s on the other
side are, in the same order."""


class Renamer:
    """Applies `names`, and remembers which of its entries were of use.

    The entry with the longest beginning counts; among those of one length, the one with the fewest `"*"`.

    >>> renamer = Renamer({"encoder": "bert", "encoder.out": "head", "pool": None, "h.*.mlp": "h_*.fc"})
    >>> [renamer(name) for name in ("encoder.0.weight", "encoder.out.bias", "pool.bias", "embed.weight")]
    ['bert.0.weight', 'head.bias', None, 'embed.weight']
    >>> renamer("h.11.mlp.weight")
    'h_11.fc.weight'

    Raises:
        TypeError: `names` is neither a mapping nor a function, or an entry of it holds no names.
        ValueError: an entry has not as many `"*"` on both sides.
    """

    def __init__(self, names: Names) -> None:
        _check_types(names)
        self._function = names if callable(names) else None
        self._entries = dict(names) if isinstance(names, Mapping) else {}
        self._unused = set(self._entries)
        with_stars = sorted((key for key in self._entries if "*" in key), key=lambda key: key.count("*"))
        self._patterns = {key: _pattern(key) for key in with_stars}
        for key, new in self._entries.items():
            if new is not None and key.count("*") != new.count("*"):
                raise ValueError(
                    f"Got names={{{key!r}: {new!r}}}, expected as many '*' on both sides: each stands for "
                    "the same text on both. Write the other parts out."
                )

    def __call__(self, name: str) -> str | None:
        """Returns what the array is called there, or None if it is to be left out."""
        if self._function is not None:
            return self._function(name)
        key, texts, rest = self._entry(name)
        if key is None:
            return name
        self._unused.discard(key)
        new = self._entries[key]
        if new is None:
            return None
        each = iter(texts)
        return ".".join(part for part in (re.sub(r"\*", lambda _: next(each), new), rest) if part)

    def _entry(self, name: str) -> tuple[str | None, tuple[str, ...], str]:
        """The entry for a name or None, the texts that its stars stand for, and the rest of the name."""
        for beginning in _beginnings(name) if self._entries else ():
            rest = name[len(beginning) :].lstrip(".")
            if beginning in self._entries:
                return beginning, ("*",) * beginning.count("*"), rest
            for key, pattern in self._patterns.items():
                if found := pattern.fullmatch(beginning):
                    return key, found.groups(), rest
        return None, (), name

    def left_out(self, theirs: Iterable[str]) -> list[str]:
        """Returns those of their names that an entry with None is the longest beginning of."""
        entries = {name: self._entry(name)[0] for name in theirs}
        found = {name: key for name, key in entries.items() if key is not None and self._entries[key] is None}
        self._unused.difference_update(found.values())
        return list(found)

    def check_used(self, known: Iterable[str], call: str, advice: str = "") -> None:
        """Checks that every entry was the longest beginning of some name that was asked for or left out.

        Args:
            known: the names that were asked for, for the message.
            call: the function the user called, for the message.
            advice: what else to do, for the message.

        Raises:
            ValueError: one was not.
        """
        if self._unused:
            raise ValueError(
                f"{call}: got names={{{shown(sorted(self._unused))}: ...}}, expected beginnings of "
                f"{shown(list(known))}. Correct the spelling, or leave these entries out{advice}."
            )


def _check_types(names: Names) -> None:
    if names is not None and not callable(names) and not isinstance(names, Mapping):
        raise TypeError(
            f"Got names of type {type(names).__name__}, expected a mapping from our names to theirs, or a "
            "function of a name. Write them as {'ours': 'theirs'}."
        )
    for key, new in names.items() if isinstance(names, Mapping) else ():
        if not isinstance(key, str) or not (new is None or isinstance(new, str)):
            raise TypeError(
                f"Got names={{{key!r}: {new!r}}}, expected text on both sides, or None on the right to leave "
                "it out. Write names as text."
            )


def _beginnings(name: str) -> Iterable[str]:
    """The name, and it without its last parts, down to nothing."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile("([^.]*)".join(map(re.escape, key.split("*"))))


def prefix_before(names: list[str], longer: list[str]) -> str | None:
    """Returns what stands, up to a `"."`, before more than half of the names in `longer`, or None.

    >>> prefix_before(["a.weight", "b.weight", "c"], ["model.a.weight", "model.b.weight", "d"])
    'model'
    """
    known = set(names)
    prefixes: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        prefixes.update(".".join(parts[:n]) for n in range(1, len(parts)) if ".".join(parts[n:]) in known)
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=(None, 0))
    return prefix if 2 * count > len(names) else None


def shown(names: list[str], most: int = 8) -> str:
    """Returns the names for a message, shortened."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
