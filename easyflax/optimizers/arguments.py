"""The arguments that all optimizers share, and the checks of arguments."""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["CommonArguments", "argument_names", "check_at_least", "check_share", "refuse_unknown"]


class CommonArguments(TypedDict, total=False):
    """What every optimizer takes by keyword besides its own arguments, see `Optimizer`."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


def check_at_least(owner: str, lowest: float, **values: Any) -> None:
    """Raises unless each value is None or a finite number of at least `lowest`."""
    for name, value in values.items():
        if value is not None and not (_is_number(value) and math.isfinite(value) and value >= lowest):
            raise _fault(value)(
                f"{owner}: {name} is {value!r}, expected a finite number of at least {lowest:g}. Pass such a "
                "number, or leave it out."
            )


def check_share(owner: str, **values: Any) -> None:
    """Raises unless each value is a number from zero to one."""
    for name, value in values.items():
        if not (_is_number(value) and 0 <= value <= 1):
            raise _fault(value)(
                f"{owner}: {name} is {value!r}, expected a number from 0 to 1. Pass for example {name}=0.9."
            )


def check_count(owner: str, **values: Any) -> None:
    """Raises unless each value is None or a whole number of at least one."""
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise _fault(value)(
                f"{owner}: {name} is {value!r}, expected a whole number of at least 1, or None. Pass for "
                f"example {name}=4."
            )


def refuse_unknown(owner: type, unknown: Mapping[str, Any]) -> None:
    """Raises for keyword arguments that `owner` does not have, naming the nearest one that it has.

    `decay`, which was an argument in old versions of Keras, gets a warning, as in today's.

    Raises:
        TypeError: there are such arguments.
    """
    for name, value in unknown.items():
        if name == "decay":
            if value is not None:
                warnings.warn(
                    f"{owner.__name__}: decay={value!r} is an argument of old versions of Keras, and changes "
                    "nothing. Pass a schedule instead: learning_rate=optimizers.schedules."
                    "InverseTimeDecay(rate, 1, decay).",
                    stacklevel=4,
                )
            continue
        known = argument_names(owner)
        nearest = {"lr": ["learning_rate"]}.get(name) or difflib.get_close_matches(name, known, n=1)
        advice = f"Did you mean {nearest[0]!r}?" if nearest else "Leave it out."
        raise TypeError(
            f"{owner.__name__} got the argument {name!r}, expected some of {', '.join(known)}. {advice}"
        )


def argument_names(owner: type) -> list[str]:
    """Returns the names of the constructor's arguments, those included that base classes take."""
    names: dict[str, None] = {}
    for base in owner.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
            names |= dict.fromkeys(named)
            if not any(p.kind is p.VAR_KEYWORD for p in parameters) or base.__name__ == "Optimizer":
                break
    return list(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0)


def _fault(value: Any) -> type[Exception]:
    return ValueError if _is_number(value) else TypeError
