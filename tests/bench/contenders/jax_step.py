"""The models and their training step in plain JAX and optax, for the contenders written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from contenders.problems import BLOCKS, Problem

OPTIMIZER = optax.adam(1e-3, eps=1e-7)


class State(NamedTuple):
    """What a step changes: the last two are sums over the epoch, that stay on the device."""

    weights: list[Any]
    opt_state: Any
    loss: Any
    correct: Any


def start(problem: Problem) -> State:
    """Returns the state to begin with."""
    if problem.copies_weights:
        return jax.jit(_state)(problem.weights)
    shapes = [array.shape for array in problem.weights]
    return jax.jit(lambda key: _state(_initialized(key, shapes)))(jax.random.key(0))


def _state(weights: list[Any]) -> State:
    return State(weights, OPTIMIZER.init(weights), jnp.zeros(()), jnp.zeros((), jnp.int32))


def _initialized(key: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    init = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key, len(shapes))
    return [init(k, s) if len(s) > 1 else jnp.zeros(s) for k, s in zip(keys, shapes, strict=True)]


def logits_of(problem: Problem) -> Callable[[list[Any], Any], Any]:
    """Returns the model as a function of weights and inputs."""
    return {"cnn": _cnn, "transformer": _transformer}.get(problem.name, _mlp)


def make_step(problem: Problem) -> Callable[[State, Any, Any], State]:
    """Returns the training step, not jitted."""
    model = logits_of(problem)

    def loss_of(weights: list[Any], x: Any, y: Any) -> tuple[Any, Any]:
        logits = model(weights, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    def step(state: State, x: Any, y: Any) -> State:
        (loss, logits), grads = jax.value_and_grad(loss_of, has_aux=True)(state.weights, x, y)
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.weights)
        correct = (logits.argmax(-1) == y).sum()
        weights = optax.apply_updates(state.weights, updates)
        return State(weights, opt_state, state.loss + loss, state.correct + correct)

    return step


def begin_epoch(state: State) -> State:
    """Returns the state with empty sums."""
    return state._replace(loss=np.zeros((), np.float32), correct=np.zeros((), np.int32))


def end_epoch(state: State, problem: Problem) -> float:
    """Returns the mean loss, and waits for it and for the accuracy."""
    loss, correct = jax.device_get((state.loss, state.correct))
    assert 0 <= correct <= len(problem.x)
    return float(loss) / problem.steps


def order_of(rows: int, rng: np.random.Generator, shuffle: bool) -> np.ndarray:
    """Returns the order in which an epoch goes through the rows."""
    return rng.permutation(rows) if shuffle else np.arange(rows)


def _mlp(weights: list[Any], x: Any) -> Any:
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = jax.nn.relu(x @ kernel + bias)
    return x @ weights[-2] + weights[-1]


def _cnn(weights: list[Any], x: Any) -> Any:
    for kernel, bias in (weights[0:2], weights[2:4]):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + bias)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) @ weights[4] + weights[5]


def _transformer(weights: list[Any], tokens: Any) -> Any:
    rest = iter(weights)
    x = next(rest)[tokens]  # (batch, length, width)
    for _ in range(BLOCKS):
        x = x + _attention(rest, _norm(rest, x))
        y = _norm(rest, x)
        y = jax.nn.relu(y @ next(rest) + next(rest))
        x = x + (y @ next(rest) + next(rest))
    return _norm(rest, x).mean(1) @ next(rest) + next(rest)


def _norm(rest: Any, x: Any) -> Any:
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    return x * next(rest) + next(rest)


def _attention(rest: Any, x: Any) -> Any:
    query, key, value = (jnp.einsum("btd,dhk->bthk", x, next(rest)) + next(rest) for _ in range(3))
    mixed = jax.nn.dot_product_attention(query, key, value)
    return jnp.einsum("bthk,hkd->btd", mixed, next(rest)) + next(rest)
