"""From what a user writes (a name, a class, an object, a configuration) to an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optax

from easyflax import serialization
from easyflax.errors import unknown_name_message
from easyflax.optimizers.adafactor import Adafactor
from easyflax.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.ftrl import Ftrl
from easyflax.optimizers.loss_scale import LossScaleOptimizer
from easyflax.optimizers.mean_squares import Adadelta, Adagrad, RMSprop
from easyflax.optimizers.momentum import SGD, Lion
from easyflax.optimizers.multi_optimizer import MultiOptimizer
from easyflax.optimizers.muon import Muon
from easyflax.optimizers.optax_optimizer import OptaxOptimizer
from easyflax.optimizers.schedule_free import ScheduleFree, ScheduleFreeAdamW

__all__ = ["OptimizerSpec", "deserialize", "get", "serialize"]

OptimizerSpec = str | Optimizer | type[Optimizer] | optax.GradientTransformation | Mapping[str, Any]

_CLASSES = (
    *(SGD, Lion, RMSprop, Adagrad, Adadelta, Adam, AdamW, Adamax, Nadam, Lamb),
    *(Adafactor, Ftrl, Muon, ScheduleFreeAdamW),
)
_OF_CONFIGS = (LossScaleOptimizer, MultiOptimizer, ScheduleFree)  # these need an argument
_BY_NAME: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in _CLASSES}


def get(spec: OptimizerSpec) -> Optimizer:
    """Returns the optimizer that `spec` stands for.

    Args:
        spec: a name as in Keras (`"adam"`), an `ef.optimizers` class, a configuration as of `serialize`, an
            optimizer, which is returned as it is, or any optax transformation, which becomes an
            `OptaxOptimizer`.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is none of these.

    Examples:
        >>> get("sgd").learning_rate
        0.01
    """
    found: Any = serialization.get_by_name("optimizer", spec, _BY_NAME) if isinstance(spec, str) else spec
    if isinstance(found, type) and issubclass(found, Optimizer):
        return found()
    if isinstance(found, Optimizer):
        return found
    if isinstance(found, Mapping):
        return deserialize(found)
    if hasattr(found, "init") and hasattr(found, "update"):
        return OptaxOptimizer(found)  # pyright: ignore[reportArgumentType]
    advice = (
        "Call it first, as in optax.adam(0.001)." if callable(found) else "Pass for example optimizer='adam'."
    )
    raise TypeError(
        f"An optimizer was given as {getattr(found, '__name__', type(found).__name__)}, expected a name, an "
        f"ef.optimizers object or an optax transformation. {advice}"
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns the class and the configuration of an optimizer as plain JSON, as Keras writes them."""
    return serialization.serialize(optimizer)


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """Returns the optimizer that `serialize`, or Keras, wrote as `config`.

    Args:
        config: with the keys `class_name` and `config`; names of classes here may be in any case.
        custom_objects: classes by name, besides the registered ones.

    Raises:
        ValueError: the class is unknown, or what the configuration describes is no optimizer.
    """
    name = str(config.get("class_name", ""))
    known = {**_BY_NAME, **{cls.__name__.lower(): cls for cls in _OF_CONFIGS}}
    cls = known.get(name.lower())
    if cls is not None and not config.get("registered_name"):
        return cls.from_config(config.get("config") or {}, custom_objects)
    if "module" not in config and serialization.get_registered_object(name, custom_objects) is None:
        raise ValueError(unknown_name_message("optimizer", name, known))
    found = serialization.deserialize(config, custom_objects)
    if not isinstance(found, Optimizer):
        raise ValueError(
            f"A configuration describes a {type(found).__name__}, expected an optimizer. Pass what "
            "serialize(optimizer) returns."
        )
    return found
