"""Where an object is held, for messages: objects do not know who refers to them, but the garbage collector
does."""

from __future__ import annotations

import gc
from typing import Any

from easyflax.nnx.core.tracking import Tracked

_LEVELS = 8
_CONTAINERS = 3  # one in another between a module and what it holds


def place_of(value: Tracked) -> str:
    """Returns how to find an object from the module that holds all of what holds it, such as
    `'layers/0/kernel' of a Model`; an empty string if no module holds it.

    It looks through all objects there are, so it is for messages only.
    """
    owner: Any = value
    paths: dict[int, str] = {id(value): ""}
    while len(paths) <= _LEVELS:
        found = _holder(owner, _CONTAINERS)
        if found is None:
            break
        path = "/".join(part for part in (found[1], paths[id(owner)]) if part)
        owner = found[0]
        if id(owner) in paths:  # a cycle
            break
        paths[id(owner)] = path
    return f"'{paths[id(owner)]}' of a {type(owner).__name__}" if paths[id(owner)] else ""


def _holder(value: Any, containers: int) -> tuple[Any, str] | None:
    """Returns a module that has `value` as an attribute or in a container, and the path from it."""
    referrers = gc.get_referrers(value)
    for referrer in referrers:
        found = _attribute(referrer, value)
        if found is not None:
            return found
    for referrer in referrers if containers else ():
        if type(referrer) in (list, tuple, dict) and referrer is not referrers:
            found = _holder(referrer, containers - 1)
            if found is not None:
                return found[0], f"{found[1]}/{_key(referrer, value)}"
    return None


def _attribute(referrer: Any, value: Any) -> tuple[Any, str] | None:
    """Returns the module, and the attribute, if `referrer` is a module or its attributes."""
    for owner in gc.get_referrers(referrer) if type(referrer) is dict else [referrer]:
        if isinstance(owner, Tracked) and hasattr(owner, "__dict__"):
            for name, item in vars(owner).items():
                if item is value:
                    return owner, str(name)
    return None


def _key(container: Any, value: Any) -> Any:
    items = container.items() if isinstance(container, dict) else enumerate(container)
    return next((key for key, item in items if item is value), "?")
