"""Calls that repeat the last one: the same modules in the same places, their structure unchanged.

Training calls one function on the same modules again and again. Telling that a call does so is quicker than
packing its arguments anew.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from easyflax.nnx.core.walk import Walk
from easyflax.nnx.transforms.packing import Call, Spec


class _Last(NamedTuple):
    """A call: the types of its arguments, its modules with their positions, and how they were packed."""

    types: tuple[type, ...]
    refs: list[tuple[int, weakref.ref[Any]]]
    spec: Spec
    walk: weakref.ref[Walk]


class Repeats:
    """Remembers the last call of one function; keeps none of its modules and arrays alive."""

    __slots__ = ("_ids", "_last")

    def __init__(self) -> None:
        self._ids: tuple[int, ...] = ()
        self._last: _Last | None = None  # replaced as a whole, since other threads may be reading it

    def find(self, args: tuple[Any, ...]) -> Call | None:
        """Returns the packed arguments if they repeat the last call, otherwise None."""
        last = self._last
        if last is None:
            return None
        types, refs, spec, walk_ref = last
        if types != tuple(map(type, args)):
            return None
        walk = walk_ref()
        if walk is None or not walk.is_current():
            return None
        rest, objects = list(args), []
        for place, ref in refs:
            value = args[place]
            if ref() is not value:
                return None
            objects.append(value)
            rest[place] = None
        return Call(objects, spec, walk, rest, {})

    def note(self, args: tuple[Any, ...], call: Call) -> None:
        """Remembers a call, if it is the second one in succession with the same modules."""
        ids = tuple(map(id, call.objects))
        if ids != self._ids:
            self._ids = ids
        elif not call.spec.trees and not call.kwargs and len(call.spec.places) == len(ids):
            places = [place for place, _ in call.spec.places if isinstance(place, int)]
            refs = [(place, weakref.ref(args[place])) for place in places]
            self._last = _Last(tuple(map(type, args)), refs, call.spec, weakref.ref(call.walk))
