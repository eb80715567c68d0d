"""From what a user writes (a name, an object, a configuration, a function) to an initializer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from easyflax.initializers import constants, distributions
from easyflax.initializers.base import Initializer
from easyflax.naming import snake_case
from easyflax.serialization import deserializing, get_by_name

__all__ = ["deserialize", "get"]

_CLASSES: dict[str, type[Initializer]] = {
    name: getattr(module, name)
    for module in (constants, distributions)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}
_KNOWN: dict[str, type[Initializer]] = {
    **_CLASSES,
    **{snake_case(name): cls for name, cls in _CLASSES.items()},
    "IdentityInitializer": constants.Identity,
    "OrthogonalInitializer": distributions.Orthogonal,
    "normal": distributions.RandomNormal,
    "one": constants.Ones,
    "uniform": distributions.RandomUniform,
    "zero": constants.Zeros,
}


def get(identifier: Any) -> Callable[..., Any] | None:
    """Returns the initializer that `identifier` stands for; None for None.

    Args:
        identifier: a name as in Keras (`"glorot_uniform"`, `"zeros"`, `"HeNormal"`), a configuration, an
            `Initializer` or a subclass of it, an array to start at, or a function: `(shape, dtype)` as in
            Keras, or `(key, shape, dtype)` as in jax.

    Raises:
        ValueError: the name is unknown, or `identifier` is none of these.

    Examples:
        >>> get("he_normal")
        HeNormal(seed=None, input_axes=None, output_axes=None)
        >>> get({"class_name": "Constant", "config": {"value": 2.0}})
        Constant(value=2.0)
    """
    if identifier is None:
        return None
    if isinstance(identifier, (jax.Array, np.ndarray, np.generic)):
        return constants.Array(np.asarray(identifier))
    found = get_by_name("initializer", identifier, _KNOWN)
    if isinstance(found, type) and issubclass(found, Initializer):
        return found()
    if callable(found):
        return found
    raise ValueError(
        f"An initializer was given as {type(identifier).__name__}, expected a name, an ef.initializers "
        "object or a function. Pass for example 'glorot_uniform'."
    )


deserialize = deserializing(get)
