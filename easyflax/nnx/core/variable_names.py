"""The names under which kinds of variables go in Linen's collections: 'params' is `Param`, and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.errors import unknown_name_message
from easyflax.nnx.core.variables import BatchStat, Cache, Intermediate, Param, Perturbation, Variable

Kind = type[Variable[Any]]

_KINDS: dict[str, Kind] = {}


def register_variable_name(
    name: str, kind: Kind | None = None, *, overwrite: bool = False
) -> Kind | Callable[[Kind], Kind]:
    """Gives a kind of variable its collection name; without `kind`, a decorator for the class.

    Raises:
        ValueError: the name is taken and `overwrite` is False.
    """
    if kind is None:
        return lambda cls: register_variable_name(name, cls, overwrite=overwrite)  # type: ignore[return-value]
    if name in _KINDS and not overwrite:
        raise ValueError(
            f"The name '{name}' is registered for {_KINDS[name].__name__}, so it cannot name "
            f"{kind.__name__}. "
            "Choose another name or pass overwrite=True."
        )
    _KINDS[name] = kind
    return kind


def variable_type_from_name(name: str, /, *, base: Kind = Variable, allow_register: bool = False) -> Kind:
    """Returns the kind registered as `name`; with `allow_register` a new subclass of `base` where there is
    none."""
    if name not in _KINDS:
        if not allow_register:
            raise ValueError(unknown_name_message("variable collection", name, _KINDS))
        _KINDS[name] = type(name, (base,), {})
    return _KINDS[name]


def variable_name_from_type(kind: Kind, /, *, allow_register: bool = False) -> str:
    """Returns the name that `kind` is registered under; with `allow_register` registers its class name
    where there is none."""
    for name, known in _KINDS.items():
        if known is kind:
            return name
    if not allow_register:
        raise ValueError(
            f"{kind.__name__} has no collection name. Give it one with register_variable_name, or pass "
            "allow_register=True."
        )
    register_variable_name(kind.__name__, kind)
    return kind.__name__


for _name, _kind in (
    ("params", Param),
    ("batch_stats", BatchStat),
    ("cache", Cache),
    ("intermediates", Intermediate),
    ("perturbations", Perturbation),
):
    register_variable_name(_name, _kind)
