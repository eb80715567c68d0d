"""Adafactor: mean squares of matrices kept as those of their rows and columns."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.arguments import CommonArguments, check_at_least
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.transforms import map_to_several
from easyflax.optimizers.wrappers import needed

__all__ = ["Adafactor"]


class AdafactorState(NamedTuple):
    """What `Adafactor` remembers; an empty array where a parameter has no use for it."""

    count: jax.Array  # () int32
    rows: Any  # mean squares over the last axis
    columns: Any  # mean squares over the last but one
    whole: Any  # mean squares of vectors and scalars


class Adafactor(Optimizer):
    """Steps relative to the size of the parameters, with little memory.

    Of an array with two axes or more, the mean squares of the gradients are kept by row and by column only.

    Args:
        learning_rate: see `Optimizer`; the rate falls with the root of the step once that is lower.
        beta_2_decay: how fast the memory of the mean squares grows with the steps.
        epsilon_1: added to squared gradients.
        epsilon_2: the least size that a parameter counts with.
        clip_threshold: bound of the root mean square of an update.
        relative_step: changes nothing, as in Keras, whose bound of the rate holds with False, too.
        **common: see `Optimizer`.

    Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_at_least(
            "Adafactor", 0, epsilon_1=epsilon_1, epsilon_2=epsilon_2, clip_threshold=clip_threshold
        )
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        def init(params: Any) -> AdafactorState:
            return AdafactorState(jnp.zeros((), jnp.int32), *map_to_several(3, _empty_means, params))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdafactorState]:
            count = jnp.asarray(optax.safe_increment(state.count))
            step = count.astype(jnp.float32)
            rate = jnp.minimum(learning_rate, 1 / jnp.sqrt(step))
            keep = 1 - step**self.beta_2_decay

            def one(grad: Any, param: Any, *means: Any) -> tuple[Any, ...]:
                squares = jnp.square(grad) + self.epsilon_1
                means, velocity = _next_means(squares, means, keep.astype(grad.dtype))
                direction = grad / jnp.sqrt(velocity)
                direction = direction / jnp.maximum(1, _rms(direction) / self.clip_threshold)
                size = jnp.maximum(self.epsilon_2, _rms(param)) * rate
                return (-size * direction).astype(grad.dtype), *means

            params = needed(params, "Adafactor")
            updates, *means = map_to_several(4, one, updates, params, *state[1:])
            return updates, AdafactorState(count, *means)

        return optax.GradientTransformation(init, update)


def _empty_means(param: Any) -> tuple[Any, Any, Any]:
    """Mean squares of a parameter before the first gradient: of rows, of columns, and whole."""
    nothing = jnp.zeros((0,), param.dtype)
    if param.ndim < 2:
        return nothing, nothing, jnp.zeros_like(param)
    without_rows = jnp.zeros((*param.shape[:-2], param.shape[-1]), param.dtype)
    return jnp.zeros(param.shape[:-1], param.dtype), without_rows, nothing


def _next_means(squares: Any, means: tuple[Any, ...], keep: Any) -> tuple[tuple[Any, ...], Any]:
    """The mean squares with one gradient more, and what they say of each element."""
    rows, columns, whole = means
    if squares.ndim < 2:
        whole = keep * whole + (1 - keep) * squares
        return (rows, columns, whole), whole
    rows = keep * rows + (1 - keep) * jnp.mean(squares, axis=-1)
    columns = keep * columns + (1 - keep) * jnp.mean(squares, axis=-2)
    shares = rows / jnp.mean(rows, axis=-1, keepdims=True)
    return (rows, columns, whole), shares[..., None] * columns[..., None, :]


def _rms(values: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.square(values)))
