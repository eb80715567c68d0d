"""From what a user writes (a name, a class, an object) to an optax transformation."""

from __future__ import annotations

import optax

from easyflax.errors import unknown_name_message
from easyflax.optimizers import algorithms
from easyflax.optimizers.base import Optimizer

__all__ = ["OptimizerSpec", "get"]

OptimizerSpec = str | Optimizer | type[Optimizer] | optax.GradientTransformation

_BY_NAME: dict[str, type[Optimizer]] = {
    name.lower(): getattr(algorithms, name) for name in algorithms.__all__
}


def get(spec: OptimizerSpec) -> optax.GradientTransformation:
    """Returns the optax transformation that `spec` stands for.

    Args:
        spec: a name as in Keras (`"adam"`), an `ef.optimizers` class or object, or any optax transformation,
            which is returned as it is.

    Raises:
        ValueError: the name is unknown.
        TypeError: `spec` is none of these.

    Examples:
        >>> state = get("sgd").init({"w": 0.0})
        >>> float(state.hyperparams["learning_rate"])
        0.009999999776482582
    """
    if isinstance(spec, str):
        if spec.lower() not in _BY_NAME:
            raise ValueError(unknown_name_message("optimizer", spec, _BY_NAME))
        return _BY_NAME[spec.lower()]().transformation
    if isinstance(spec, type) and issubclass(spec, Optimizer):
        return spec().transformation
    if isinstance(spec, Optimizer):
        return spec.transformation
    if hasattr(spec, "init") and hasattr(spec, "update"):
        return spec
    advice = (
        "Call it first, as in optax.adam(0.001)." if callable(spec) else "Pass for example optimizer='adam'."
    )
    raise TypeError(
        f"An optimizer was given as {getattr(spec, '__name__', type(spec).__name__)}, expected a name, an "
        f"ef.optimizers object or an optax transformation. {advice}"
    )
