"""How messages name a module: by its type, and by its path in the model that was called.

A module does not know where it is. What does know are the functions that are running: each was called with
a module that holds the next one. So the path is put together from the stack, from the inside out, when a
message is written and never otherwise. Where a module is in several places, that gives the one it was called
through.
"""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.module import Module, Pytree, sorted_items

__all__ = ["asking_module", "describe", "path_on_stack"]


def describe(module: Module) -> str:
    """Returns the module's type, and its path in the model that was called: `Linear 'encoder.head'`.

    The name that the user gave it goes before.
    """
    name = vars(module).get("_name") or ".".join(map(str, path_on_stack(module)))
    return type(module).__name__ + (f" '{name}'" if name else "")


def path_on_stack(module: Module) -> Path:
    """Returns the path of `module` in the outermost object that a running function was called with.

    Modules in lists and dicts that are arguments, or that are local variables where a layer is called by
    itself (`model.head(x)`), count where nothing else holds it.
    """
    frames = list(_frames())
    for found in (
        [list(_modules(_arguments(frame))) for frame in frames],
        [list(_modules(_arguments(frame), (list, tuple, dict))) for frame in frames],
        [list(_modules(_locals(frame))) for frame in frames],
    ):
        if path := _follow(module, found):
            return path
    return ()


def asking_module() -> Module | None:
    """Returns the module whose method is running, the innermost one."""
    for frame in _frames():
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            found = frame.f_locals.get("self")
            if isinstance(found, Module):
                return found
    return None


def _follow(module: Module, calls: Iterable[list[Any]]) -> Path:
    """Returns the path to `module` through the objects that hold one another, of the innermost call first."""
    path: Path = ()
    current: Any = module
    siblings: list[Any] = [module]  # what the function was called with that `current` was passed to
    passed = {id(module)}  # modules may hold each other
    for objects in calls:
        for value in objects:
            if id(value) not in passed and (step := _path_between(value, current)):
                hidden = getattr(type(value), "__wraps__", None) == step[0]
                path, current, siblings = (*step[hidden:], *path), value, objects
                passed.add(id(value))
                break
        else:
            if any(value is current for value in objects):
                siblings = objects
            elif list(map(type, objects)) == list(map(type, siblings)):
                # A transform calls a function with copies of what it was called with itself.
                index = next(i for i, value in enumerate(siblings) if value is current)
                current, siblings = objects[index], objects
    return path


def _path_between(holder: Any, target: Any) -> Path | None:
    """Returns the shortest path from one object to another, None if there is none."""
    queue: deque[tuple[Path, Any]] = deque([((), holder)])
    seen = {id(holder)}
    while queue:
        path, node = queue.popleft()
        for name, child in _children(node):
            if child is target:
                return (*path, name)
            if isinstance(child, (Pytree, list, tuple, dict)) and id(child) not in seen:
                seen.add(id(child))
                queue.append(((*path, name), child))
    return None


def _children(node: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(node, Pytree):
        return sorted_items(node)
    return list(node.items()) if isinstance(node, dict) else list(enumerate(node))


def _frames() -> Iterator[FrameType]:
    """The functions that are running, from the inside out."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _arguments(frame: FrameType) -> Iterator[Any]:
    """What the function was called with; `*args` and `**kwargs` one by one."""
    code: CodeType = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    values = frame.f_locals
    for name in code.co_varnames[:count]:
        yield values.get(name)
    rest = list(code.co_varnames[count : count + 2])
    if code.co_flags & inspect.CO_VARARGS:
        args = values.get(rest.pop(0))
        yield from args if isinstance(args, tuple) else ()
    if code.co_flags & inspect.CO_VARKEYWORDS:
        kwargs = values.get(rest.pop(0))
        yield from list(kwargs.values()) if isinstance(kwargs, dict) else ()


def _locals(frame: FrameType) -> Iterator[Any]:
    """The local variables of functions outside of this package, whose own say nothing to its users."""
    if not str(frame.f_globals.get("__name__")).startswith("easyflax."):
        yield from list(frame.f_locals.values())


def _modules(values: Iterable[Any], containers: tuple[type, ...] = ()) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Pytree) or (
            type(value) in containers and any(isinstance(child, Pytree) for _, child in _children(value))
        ):
            yield value
