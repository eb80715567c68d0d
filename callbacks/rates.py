"""The learning rates that a model trains with: reading, logging, and whether they can be set."""

from __future__ import annotations

from typing import Any

from easyflax.train.callback import Callback

__all__ = [
    "RATE_ADDITION",
    "check_one_rate_can_be_set",
    "check_rates_can_be_read",
    "check_rates_can_be_set",
    "log_rates",
    "rate_of",
    "rated_optimizers",
]

RATE_ADDITION = "learning_rate"  # the name of what sets the rate within the compiled step


def rated_optimizers(model: Any) -> list[tuple[str, Any]]:
    """Returns the optimizers that have a learning rate, with the names by which they are logged.

    It is `learning_rate`, as in Keras; where there are several optimizers, with their names after it.
    """
    optimizer = model.optimizer
    if not hasattr(optimizer, "optimizers"):
        return [("learning_rate", optimizer)]
    return [(f"learning_rate_{one.name}", one) for one in optimizer.optimizers]


def rate_of(optimizer: Any) -> float:
    """Returns the learning rate; waits for the device."""
    return float(optimizer.learning_rate)


def log_rates(model: Any, logs: Any) -> None:
    """Adds the learning rates to logs, if there are any logs."""
    if logs is not None:
        logs.update({name: rate_of(optimizer) for name, optimizer in rated_optimizers(model)})


def check_rates_can_be_read(callback: Callback) -> None:
    """Raises unless each optimizer has a learning rate.

    Raises:
        ValueError: the state of one holds none, or several.
    """
    for _, optimizer in rated_optimizers(callback.model):
        try:
            rate_of(optimizer)
        except ValueError as error:
            raise ValueError(f"{type(callback).__name__}: {error}") from None


def check_rates_can_be_set(callback: Callback) -> None:
    """Raises unless each optimizer has a learning rate that holds when the callback sets it.

    Args:
        callback: in a fit, at its beginning.

    Raises:
        TypeError: one follows a schedule.
        ValueError: the state of one holds no rate, or several; or another callback sets the rate of each
            update.
    """
    if callback.plan is not None and any(one.name == RATE_ADDITION for one in callback.plan.additions):
        raise ValueError(
            f"{type(callback).__name__}: another callback sets the learning rate of each update by a "
            "schedule, which would overwrite it, expected one of the two. Leave one out."
        )
    for _, optimizer in rated_optimizers(callback.model):
        _check_settable(callback, optimizer)


def check_one_rate_can_be_set(callback: Callback) -> None:
    """Raises unless there is one learning rate, and it can be set.

    Raises:
        TypeError: the optimizer follows a schedule.
        ValueError: its state holds no rate, or several.
    """
    optimizers = rated_optimizers(callback.model)
    if len(optimizers) != 1:
        names = ", ".join(name.removeprefix("learning_rate_") for name, _ in optimizers)
        raise ValueError(
            f"{type(callback).__name__}: the model has several optimizers ({names}), expected one, as they "
            "have learning rates of their own. Give them schedules of their own instead, such as "
            "SGD(learning_rate=schedule)."
        )
    _check_settable(callback, optimizers[0][1])


def _check_settable(callback: Callback, optimizer: Any) -> None:
    try:
        optimizer.learning_rate = rate_of(optimizer)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{type(callback).__name__}: {error}") from None
