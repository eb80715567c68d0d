"""The gradient transformations that optax does not have, or has with another meaning than Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["clip_each_by_norm", "decay_weights", "descend", "scale_by_scheduled_nadam"]


def descend(learning_rate: jax.Array | float) -> optax.GradientTransformation:
    """Returns a transformation that scales by minus the learning rate and keeps each update's dtype."""

    def scale(updates, params):
        del params
        return jax.tree.map(lambda update: (-learning_rate * update).astype(update.dtype), updates)

    return optax.stateless(scale)


def decay_weights(learning_rate: jax.Array | float, weight_decay: float) -> optax.GradientTransformation:
    """Returns a transformation that takes `learning_rate * weight_decay` of each parameter away.

    The decay stands beside the rest of the update: no momentum and no preconditioner sees it.

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    def decay(updates, params):
        rate = learning_rate * weight_decay
        return jax.tree.map(
            lambda update, param: update - (rate * param).astype(update.dtype), updates, params
        )

    return optax.stateless(decay)


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
