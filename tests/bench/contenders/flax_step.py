"""The models and their training step in Flax NNX, for the contenders that use it."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import optax
from contenders.problems import BLOCKS, CHANNELS, CLASSES, HEADS, VOCABULARY, WIDTH, Problem
from flax import nnx


class MLP(nnx.Module):
    """A perceptron."""

    def __init__(self, problem: Problem, rngs: nnx.Rngs):
        widths = [problem.x.shape[1], *problem.hidden, CLASSES]
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in itertools.pairwise(widths)])

    def __call__(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class CNN(nnx.Module):
    """A convolutional net."""

    def __init__(self, problem: Problem, rngs: nnx.Rngs):
        first, second = CHANNELS
        self.layers = nnx.List(
            [
                nnx.Conv(1, first, (3, 3), padding="VALID", rngs=rngs),
                nnx.Conv(first, second, (3, 3), padding="VALID", rngs=rngs),
                nnx.Linear(5 * 5 * second, CLASSES, rngs=rngs),
            ]
        )

    def __call__(self, x: Any) -> Any:
        for conv in self.layers[:2]:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.layers[2](x.reshape(len(x), -1))


class Transformer(nnx.Module):
    """An encoder of tokens that classifies by the mean."""

    def __init__(self, problem: Problem, rngs: nnx.Rngs):
        blocks = [layer for _ in range(BLOCKS) for layer in _block(rngs)]
        ends = [nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, CLASSES, rngs=rngs)]
        self.layers = nnx.List([nnx.Embed(VOCABULARY, WIDTH, rngs=rngs), *blocks, *ends])

    def __call__(self, tokens: Any) -> Any:
        embed, *blocks, norm, head = self.layers
        x = embed(tokens)
        for first in range(0, len(blocks), 5):
            norm_1, attention, norm_2, wide, narrow = blocks[first : first + 5]
            x = x + attention(norm_1(x))
            x = x + narrow(nnx.relu(wide(norm_2(x))))
        return head(norm(x).mean(1))


def _block(rngs: nnx.Rngs) -> list[Any]:
    return [
        nnx.LayerNorm(WIDTH, rngs=rngs),
        nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs),
        nnx.LayerNorm(WIDTH, rngs=rngs),
        nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs),
        nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs),
    ]


def make_objects(problem: Problem) -> tuple[Any, nnx.Optimizer, nnx.MultiMetric]:
    """Returns model, optimizer and metrics."""
    model = {"cnn": CNN, "transformer": Transformer}.get(problem.name, MLP)(problem, nnx.Rngs(0))
    if problem.copies_weights:
        variables = [variable for layer in model.layers for variable in _variables(layer)]
        for variable, array in zip(variables, problem.weights, strict=True):
            assert variable[...].shape == array.shape
            variable[...] = jax.numpy.array(array)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3, eps=1e-7), wrt=nnx.Param)
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    return model, optimizer, metrics


def _variables(layer: Any) -> list[Any]:
    if isinstance(layer, nnx.MultiHeadAttention):
        parts = layer.query, layer.key, layer.value, layer.out
        return [variable for part in parts for variable in (part.kernel, part.bias)]
    if isinstance(layer, nnx.LayerNorm):
        return [layer.scale, layer.bias]
    return [layer.embedding] if isinstance(layer, nnx.Embed) else [layer.kernel, layer.bias]


@nnx.jit
def train_step(model: Any, optimizer: Any, metrics: Any, x: Any, y: Any) -> None:
    """Does a step, in the manner of Flax's own guides."""

    def loss_of(model: Any) -> tuple[Any, Any]:
        logits = model(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    (loss, logits), grads = nnx.value_and_grad(loss_of, has_aux=True)(model)
    optimizer.update(model, grads)
    metrics.update(loss=loss, logits=logits, labels=y)


def run_epoch(step: Any, metrics: nnx.MultiMetric, problem: Problem, order: np.ndarray) -> float:
    """Calls the step for each batch, and returns the mean loss."""
    metrics.reset()
    for first in range(0, len(order), problem.batch_size):
        rows = order[first : first + problem.batch_size]
        step(problem.x[rows], problem.y[rows])
    return float(jax.device_get(metrics.compute())["loss"])
