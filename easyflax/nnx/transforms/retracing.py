"""The warning about a function that `nnx.jit` traces and compiles again and again."""

from __future__ import annotations

import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from easyflax.nnx.core.calls import is_recording
from easyflax.nnx.core.differences import structure_differences
from easyflax.nnx.transforms.packing import Spec, is_slot, leaf_paths

_LIMIT = 5  # a few shapes (train and test batches, a last one) are usual
_MOST_SHOWN = 5
_logs: weakref.WeakKeyDictionary[Callable[..., Any], TraceLog] = weakref.WeakKeyDictionary()
_LIBRARIES = (str(Path(jax.__file__).parent), str(Path(__file__).parents[2]))


def trace_log(fun: Callable[..., Any]) -> TraceLog:
    """Returns the log of a function, the same for all that `nnx.jit` makes of it."""
    try:
        return _logs.setdefault(fun, TraceLog())
    except TypeError:  # no weak references to it, or no hash
        return TraceLog()


class TraceLog:
    """Counts how often one function was traced again, and warns once when it is more than a few times.

    What counts is a trace by the same compiled function, since its arguments changed, and a trace of the same
    arguments, since `nnx.jit` was applied anew.
    """

    def __init__(self) -> None:
        self._retraces = 0
        self._last: _Trace | None = None

    def note(
        self, fun: Callable[..., Any], by: object, spec: Spec, values: Any, args: Any, kwargs: Any
    ) -> None:
        """Notes that `fun` is being traced.

        Args:
            by: the compiled function that traces it.
            spec, values: modules and their leaves.
            args, kwargs: the other arguments, tracers where they are not static.
        """
        if is_recording():
            return
        trace, last = _Trace(by, spec, values, args, kwargs), self._last
        self._last = trace
        if last is None or not (last.is_by_the_same(trace) or last.has_same_inputs(trace)):
            return
        self._retraces += 1
        if self._retraces == _LIMIT + 1:
            warnings.warn(
                _message(getattr(fun, "__qualname__", repr(fun)), _changes(fun, last, trace)),
                stacklevel=_user_level(),
            )


class _Trace:
    """With what a function was traced; holds no arrays.

    Attributes:
        leaves: the types of the modules' leaves.
        types: by path those of the other arguments, or in words the values of static ones.
    """

    def __init__(self, by: object, spec: Spec, values: Any, args: Any, kwargs: Any) -> None:
        self._by = weakref.ref(by)
        self.spec = spec
        self.leaves = [_type_of(value) for value in values]
        entries = jax.tree_util.tree_flatten_with_path((list(args), kwargs), is_leaf=is_slot)[0]
        self.types = {_key(path): _type_of(value) for path, value in entries if not is_slot(value)}

    def is_by_the_same(self, other: _Trace) -> bool:
        return self._by() is other._by()

    def has_same_inputs(self, other: _Trace) -> bool:
        return self.spec == other.spec and self.leaves == other.leaves and self.types == other.types


def _type_of(value: Any) -> Any:
    if isinstance(value, jax.Array):
        return jax.typeof(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    return f"{kind.str_short()}{' (weakly typed)' if getattr(kind, 'weak_type', False) else ''}"


def _key(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """`(position or keyword, the rest of the path in words)`."""
    return getattr(path[1], "idx", getattr(path[1], "key", None)), jax.tree_util.keystr(path[2:])


def _changes(fun: Callable[..., Any], last: _Trace, trace: _Trace) -> list[str]:
    """Returns what differs between two traces, one line each."""
    name = _namer(fun)
    if last.has_same_inputs(trace):
        if not last.is_by_the_same(trace):
            return ["nothing but the compiled function: nnx.jit was applied to it anew"]
        return ["no argument: jax's configuration, or the mesh that is set"]
    places = [place for place, _ in trace.spec.places]
    if places != [place for place, _ in last.spec.places] or trace.spec.trees != last.spec.trees:
        return ["which of the arguments are, or hold, modules"]
    roots = _root_names(trace.spec, name)
    lines = structure_differences(last.spec.graphdef, trace.spec.graphdef, roots)
    if not lines:
        paths = leaf_paths(trace.spec.graphdef)
        lines += [
            f"'{'/'.join(map(str, (roots[path[0]], *path[1:])))}': {_shown(old)} became {_shown(new)}"
            for path, old, new in zip(paths, last.leaves, trace.leaves, strict=True)
            if old != new
        ]
    for key in {**last.types, **trace.types}:
        old, new = last.types.get(key, "absent"), trace.types.get(key, "absent")
        if old != new:
            lines.append(f"'{name(key[0])}{key[1]}': {_shown(old)} became {_shown(new)}")
    return lines


def _namer(fun: Callable[..., Any]) -> Callable[[int | str], str]:
    """Returns a function from positions to the names of arguments."""
    try:
        names = list(inspect.signature(fun).parameters)
    except (TypeError, ValueError):
        names = []
    return lambda place: (
        place if isinstance(place, str) else names[place] if place < len(names) else f"argument {place}"
    )


def _root_names(spec: Spec, name: Callable[[int | str], str]) -> Sequence[str]:
    """Returns how to call each root: the argument that it is, or lies in."""
    found = ["an argument"] * len(spec.graphdef.roots)
    for place, root in spec.places:
        found[root] = name(place)
    return found


def _message(function: str, changes: list[str]) -> str:
    more = len(changes) - _MOST_SHOWN
    shown = "".join(f"\n  {line}" for line in changes[:_MOST_SHOWN])
    rest = f"\n  and {more} more" if more > 0 else ""
    return (
        f"nnx.jit has traced and compiled '{function}' {_LIMIT + 2} times, which takes far longer than "
        f"to run it. Between the last two calls changed:{shown}{rest}\n"
        "Keep shapes, dtypes and static values the same from call to call (pad the last batch, pass numbers "
        "that change as arrays), and apply nnx.jit once, outside of loops."
    )


def _user_level() -> int:
    """Returns the `stacklevel` of the nearest caller that is neither in jax nor here."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        level, frame = level + 1, frame.f_back
    return level
