"""Names of the layers in a model: a layer's own name, or its kind with a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import name_of

__all__ = ["named"]


def named(modules: Iterable[Any]) -> dict[str, Any]:
    """Returns modules and functions by name, in their order; layers without a name keep the one they get.

    Layers of a kind are numbered in the order in which they were made. Two models with equal layers get equal
    names, whatever was made before them: "dense", "dense_1", ...

    Raises:
        ValueError: two of them were given the same name.
    """
    modules = list(modules)
    own = [_own_name(module) for module in modules]
    twice = [name for name, count in Counter(filter(None, own)).items() if count > 1]
    if twice:
        kinds = [type(module).__name__ for module, name in zip(modules, own, strict=True) if name == twice[0]]
        raise ValueError(
            f"{len(kinds)} layers are named {twice[0]!r} ({', '.join(kinds)}), expected one name for each "
            "layer of a model. Change name=, or leave it out for one that is made."
        )
    taken = set(filter(None, own))
    names = [""] * len(modules)
    for place in sorted(range(len(modules)), key=lambda place: getattr(modules[place], "_serial_number", -1)):
        names[place] = own[place] or _free_name(name_of(modules[place]), taken)
    for module, name in zip(modules, names, strict=True):
        if isinstance(module, Layer) and module.name != name:
            module._auto_name = name
    return dict(zip(names, modules, strict=True))


def _own_name(module: Any) -> str | None:
    return module._name if isinstance(module, Layer) else None


def _free_name(name: str, taken: set[str]) -> str:
    base, number, free = name, 0, name
    while free in taken:
        number += 1
        free = f"{base}_{number}"
    taken.add(free)
    return free
