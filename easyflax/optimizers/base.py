"""What an optimizer is here: Keras's name and arguments over an optax transformation."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.transforms import clip_each_by_norm, decay_weights

__all__ = ["Optimizer"]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The base class of all optimizers; its fields are the arguments that they share.

    An optimizer is itself an optax transformation: it has `init` and `update`. Its state holds the learning
    rate, so a new rate takes effect without a new compilation (`ef.optimizers.set_learning_rate`).

    Args:
        learning_rate: a number, or a function from the step's number to one (any optax schedule).
        weight_decay: share of each parameter, times the learning rate, that every step takes away.
        clipnorm: the largest L2 norm of each gradient array.
        clipvalue: the largest absolute value of each gradient element.
        global_clipnorm: the largest L2 norm of all gradients together.

    Raises:
        TypeError: the learning rate is neither a number nor a function.
        ValueError: it is negative or not finite, or more than one kind of clipping is asked for.
    """

    learning_rate: float | optax.Schedule = 0.001
    _: dataclasses.KW_ONLY
    weight_decay: float | None = None
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.learning_rate):
            check_learning_rate(self.learning_rate, type(self).__name__)
        clips = {name: getattr(self, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        given = [f"{name}={value}" for name, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(
                f"{type(self).__name__}: {' and '.join(given)} were given, expected at most one kind of "
                "clipping. Keep one of them."
            )

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        """Returns the transformation from gradients to updates; for subclasses to define."""
        raise NotImplementedError

    @functools.cached_property
    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer as a plain optax transformation."""
        # Through float(): inject_hyperparams takes a np.float32 for a setting that cannot change.
        rate = self.learning_rate if callable(self.learning_rate) else float(self.learning_rate)
        inject = optax.inject_hyperparams(self._whole_rule, hyperparam_dtype=jnp.dtype(jnp.float32))
        return inject(learning_rate=rate)

    def init(self, params: optax.Params) -> Any:
        """Returns the state for `params`, as optax does."""
        return self.transformation.init(params)

    def update(
        self, updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, Any]:
        """Returns what to add to the parameters, and the next state, as optax does."""
        return self.transformation.update(updates, state, params, **extra)

    def _whole_rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        rules = [self.rule(learning_rate)]
        if self.clipnorm is not None:
            rules.insert(0, clip_each_by_norm(self.clipnorm))
        if self.clipvalue is not None:
            rules.insert(0, optax.clip(self.clipvalue))
        if self.global_clipnorm is not None:
            rules.insert(0, optax.clip_by_global_norm(self.global_clipnorm))
        if self.weight_decay is not None:
            rules.append(decay_weights(learning_rate, self.weight_decay))
        return optax.chain(*rules)


def check_learning_rate(rate: Any, owner: str) -> None:
    """Raises unless `rate` can be a learning rate."""
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        raise TypeError(
            f"{owner}: learning_rate is {rate!r}, expected a number or a schedule. Pass for example 0.001."
        ) from None
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(
            f"{owner}: learning_rate is {rate}, expected a finite number of at least zero. Pass for example "
            "0.001."
        )
