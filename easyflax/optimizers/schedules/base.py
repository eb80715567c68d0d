"""What a schedule is: an object that returns the learning rate of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from easyflax import serialization
from easyflax.optimizers.arguments import check_at_least

__all__ = ["LearningRateSchedule", "check_steps", "deserialize", "serialize"]


class LearningRateSchedule(serialization.Configured):
    """The base class of schedules; a schedule of one's own defines `__call__`.

    Optimizers also take plain functions of the step, such as optax's schedules. An object can be written into
    a configuration, if it keeps the arguments of its constructor as attributes or defines `get_config`.

    Examples:
        >>> import jax.numpy as jnp
        >>> class Halving(LearningRateSchedule):
        ...     def __init__(self, first):
        ...         self.first = first
        ...     def __call__(self, step):
        ...         return self.first * 0.5**step
        >>> round(float(Halving(0.1)(jnp.array(2))), 4)
        0.025
        >>> Halving(0.1).get_config()
        {'first': 0.1}
    """

    # Known by identity: a subclass that is not written into configurations need not keep its arguments.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__
    __repr__ = object.__repr__

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step.

        Args:
            step: how many steps were done before, an int32 scalar.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no __call__, expected one that returns the learning rate. Define "
            "__call__(self, step)."
        )


def check_steps(owner: str, **values: Any) -> None:
    """Raises unless each value is a number above zero."""
    check_at_least(owner, 0, **values)
    for name, value in values.items():
        if value is None or not value > 0:
            raise ValueError(
                f"{owner}: {name} is {value!r}, expected a number above zero. Pass the number of steps."
            )


def as_float(step: Any) -> jax.Array:
    """Returns the step as a float32."""
    return jnp.asarray(step).astype(jnp.float32)


def serialize(learning_rate_schedule: Any) -> Any:
    """Returns the class and the configuration of a schedule as plain JSON, as Keras writes them."""
    return serialization.serialize(learning_rate_schedule)


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the schedule that `serialize`, or Keras, wrote as `config`."""
    return serialization.deserialize(config, custom_objects)
