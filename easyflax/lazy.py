"""Public names that are imported when they are first used.

`import easyflax` is paid for by every script, also by those that only want `easyflax.nnx`. What stands above
the module system is therefore loaded by the first use of one of its names (PEP 562).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(
    package: str, modules: Iterable[str], names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` for a package.

    Args:
        package: the package's `__name__`.
        modules: names of submodules that are public.
        names: other public names, with the submodule that defines each.
    """
    homes = {**dict.fromkeys(modules), **names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        value = import_module(f"{package}.{home or name}")
        if home is not None:
            value = getattr(value, name)
        setattr(sys.modules[package], name, value)  # the next use finds it without asking here
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, list_names
