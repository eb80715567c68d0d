"""Calls that repeat the last one: the same modules in the same places, their structure unchanged.

Training calls one function on the same modules again and again. Telling that a call does so is quicker than
packing its arguments anew.
"""

from __future__ import annotations

import weakref
from typing import Any

from easyflax.nnx.transforms.packing import Call


class Repeats:
    """Remembers the last call of one function; keeps none of its modules and arrays alive."""

    __slots__ = ("_ids", "_refs", "_spec", "_types", "_walk")

    def __init__(self) -> None:
        self._ids: tuple[int, ...] = ()
        self._types: tuple[type, ...] | None = None
        self._refs: list[tuple[int, weakref.ref[Any]]] = []

    def find(self, args: tuple[Any, ...]) -> Call | None:
        """Returns the packed arguments if they repeat the last call, otherwise None."""
        if self._types != tuple(map(type, args)):
            return None
        walk = self._walk()
        if walk is None or not walk.is_current():
            return None
        rest, objects = list(args), []
        for place, ref in self._refs:
            value = args[place]
            if ref() is not value:
                return None
            objects.append(value)
            rest[place] = None
        return Call(objects, self._spec, walk, rest, {})

    def note(self, args: tuple[Any, ...], call: Call) -> None:
        """Remembers a call, if it is the second one in succession with the same modules."""
        ids = tuple(map(id, call.objects))
        if ids != self._ids:
            self._ids = ids
        elif not call.spec.trees and not call.kwargs and len(call.spec.places) == len(ids):
            self._types = tuple(map(type, args))
            places = [place for place, _ in call.spec.places if isinstance(place, int)]
            self._refs = [(place, weakref.ref(args[place])) for place in places]
            self._spec = call.spec
            self._walk = weakref.ref(call.walk)
