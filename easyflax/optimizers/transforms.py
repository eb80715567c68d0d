"""The gradient transformations that optax does not have, or has with another meaning than Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = [
    "adam_correction",
    "clip_each_by_norm",
    "descend",
    "in_float32",
    "map_to_several",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_scheduled_nadam",
]


def descend(learning_rate: jax.Array | float) -> optax.GradientTransformation:
    """Returns a transformation that scales by minus the learning rate and keeps each update's dtype."""

    def scale(updates, params):
        del params
        return jax.tree.map(lambda update: (-learning_rate * update).astype(update.dtype), updates)

    return optax.stateless(scale)


def clip_each_by_norm(max_norm: float) -> optax.GradientTransformation:
    """Returns a transformation that shortens each array, for itself, to an L2 norm of at most `max_norm`."""

    def clip(updates, params):
        del params
        return jax.tree.map(
            lambda update: update * _shortening(update, max_norm).astype(update.dtype), updates
        )

    return optax.stateless(clip)


def _shortening(update: jax.Array, max_norm: float) -> jax.Array:
    norm = jnp.sqrt(jnp.sum(jnp.square(update.astype(jnp.float32))))
    return max_norm / jnp.maximum(norm, max_norm)


class AdamState(NamedTuple):
    """What `scale_by_adam` and `scale_by_adamax` remember."""

    count: jax.Array  # () int32
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any = None


def scale_by_adam(b1: float, b2: float, eps: float, *, amsgrad: bool) -> optax.GradientTransformation:
    """Returns Adam as Keras has it: `eps` is added to the root before it is corrected for its bias.

    `optax.scale_by_adam` adds it after the correction. With `amsgrad`, the largest mean square so far takes
    the place of the mean square, also before the correction.

    Source: Kingma and Ba 2015, end of section 2, https://arxiv.org/abs/1412.6980
    """

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros, zeros if amsgrad else None)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None
        correction = adam_correction(b1, b2, count)
        updates = jax.tree.map(
            lambda grad, mu, nu: (mu * correction / (jnp.sqrt(nu) + eps)).astype(grad.dtype),
            updates,
            mu,
            nu_max if amsgrad else nu,
        )
        return updates, AdamState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


def adam_correction(b1: float, b2: float, count: jax.Array) -> jax.Array:
    """Returns what corrects the quotient of the two running means of Adam for their beginning at zero."""
    step = count.astype(jnp.float32)
    return jnp.sqrt(1 - b2**step) / (1 - b1**step)


def scale_by_adamax(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Returns Adamax as Keras has it: `eps` is added to the maximum when it divides, not within it.

    Source: Kingma and Ba 2015, section 7.1, https://arxiv.org/abs/1412.6980
    """

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = jax.tree.map(lambda grad, old: jnp.maximum(b2 * old, jnp.abs(grad)), updates, state.nu)
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        updates = jax.tree.map(lambda mu_hat, nu: mu_hat / (nu + eps), mu_hat, nu)
        return updates, AdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class NadamState(NamedTuple):
    """What `scale_by_scheduled_nadam` remembers."""

    count: jax.Array  # () int32
    momentum_product: jax.Array  # () float32, the product of the momenta so far
    mu: optax.Updates
    nu: optax.Updates


def scale_by_scheduled_nadam(
    b1: float, b2: float, eps: float, *, decay: float = 0.96
) -> optax.GradientTransformation:
    """Returns Adam with Nesterov momentum that grows by `b1 * (1 - 0.5 * decay**step)`, as Keras has it.

    `optax.nadam` is the same without the growth.

    Source: Dozat 2016, algorithm 8 and the schedule of section 3,
    https://cs229.stanford.edu/proj2015/054_report.pdf
    """

    b1, b2 = in_float32(b1), in_float32(b2)

    def init(params: Any) -> NadamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return NadamState(jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, NadamState]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        now, later = (b1 * (1 - 0.5 * decay ** step.astype(jnp.float32)) for step in (count, count + 1))
        product = state.momentum_product * now
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        nu_hat = optax.tree.bias_correction(nu, b2, count)

        def direction(grad, mu, nu_hat):
            lookahead = later / (1 - product * later) * mu + (1 - now) / (1 - product) * grad
            return (lookahead / (jnp.sqrt(nu_hat) + eps)).astype(grad.dtype)

        return jax.tree.map(direction, updates, mu, nu_hat), NadamState(count, product, mu, nu)

    return optax.GradientTransformation(init, update)


def in_float32(rate: float) -> float:
    """Returns the nearest number that a float32 can be.

    A decay rate so rounded makes `1 - rate`, which weighs new values, fit `1 - rate**step`, which is computed
    in float32 and corrects their mean: of 0.999, the two would differ by a part in 10,000.
    """
    return float(np.float32(rate))


def map_to_several(number: int, function: Callable[..., tuple[Any, ...]], *trees: Any) -> tuple[Any, ...]:
    """Returns a tree of each of the `number` values that `function` returns for each leaf of `trees`."""
    structure = jax.tree.structure(trees[0])
    rows = [function(*leaves) for leaves in zip(*map(structure.flatten_up_to, trees), strict=True)]
    return tuple(structure.unflatten([row[column] for row in rows]) for column in range(number))
