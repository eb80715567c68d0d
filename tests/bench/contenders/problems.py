"""What the contenders train: four models, spelled in each library with the same weights, and their data.

Weights are listed as `get_weights` of Keras lists them; the models are

* `tiny_mlp`: 64 features, a hidden layer of 64, 10 classes;
* `deep_mlp`: 32 features, 50 hidden layers of 32, 10 classes;
* `cnn`: images of 28 x 28 x 1, two convolutions with pooling, 10 classes;
* `transformer`: 32 tokens, two pre-norm blocks of width 64 with four heads, their mean, 10 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

CLASSES = 10
VOCABULARY, LENGTH, WIDTH, HEADS, BLOCKS = 256, 32, 64, 4, 2
CHANNELS = (16, 32)

Weights = list[np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A model, its data and the weights to begin with.

    Attributes:
        name: of the model, as in the head of this file.
        x: inputs, `(rows, ...)`.
        y: classes, `(rows,)`.
        weights: those to begin with.
        copies_weights: whether contenders begin with `weights`, or initialize their own: then only the shapes
            of `weights` matter, and they take no memory.
        batch_size: rows of a step.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    weights: Weights
    copies_weights: bool = True
    batch_size: int = 32

    @property
    def steps(self) -> int:
        """How many steps an epoch has, all with whole batches."""
        return len(self.x) // self.batch_size

    @property
    def hidden(self) -> list[int]:
        """The widths of the hidden layers of a perceptron."""
        return [kernel.shape[1] for kernel in self.weights[:-2:2]]


def make_problem(name: str, steps: int, *, batch_size: int = 32, copies_weights: bool = True) -> Problem:
    """Returns the problem of that name, with the rows of so many steps."""
    weights, make_inputs = _MODELS[name]
    return _problem(name, weights, make_inputs, steps, batch_size, copies_weights)


def make_mlp(widths: list[int], steps: int, *, batch_size: int = 32, copies_weights: bool = True) -> Problem:
    """Returns a perceptron of these widths, inputs first and without the classes."""
    inputs = _features(widths[0])
    return _problem("mlp", lambda rng: _mlp(rng, widths), inputs, steps, batch_size, copies_weights)


def _problem(
    name: str,
    weights: Callable[[Generator | None], Weights],
    inputs: Callable[[Generator, int], np.ndarray],
    steps: int,
    batch_size: int,
    copies_weights: bool,
) -> Problem:
    rng = np.random.default_rng(0)
    rows = steps * batch_size
    y = rng.integers(0, CLASSES, rows).astype(np.int32)
    start = weights(rng if copies_weights else None)
    return Problem(name, inputs(rng, rows), y, start, copies_weights, batch_size)


def _features(*shape: int) -> Callable[[Generator, int], np.ndarray]:
    return lambda rng, rows: rng.standard_normal((rows, *shape), np.float32)


def _tokens(rng: Generator, rows: int) -> np.ndarray:
    return rng.integers(0, VOCABULARY, (rows, LENGTH)).astype(np.int32)


def _kernel(rng: Generator | None, *shape: int, inputs: int) -> np.ndarray:
    if rng is None:
        return np.broadcast_to(np.float32(0), shape)
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / inputs))


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _dense(rng: Generator | None, inputs: int, outputs: int) -> Weights:
    return [_kernel(rng, inputs, outputs, inputs=inputs), _zeros(outputs)]


def _mlp(rng: Generator | None, widths: list[int]) -> Weights:
    pairs = zip(widths, [*widths[1:], CLASSES], strict=True)
    return [array for pair in pairs for array in _dense(rng, *pair)]


def _cnn(rng: Generator | None) -> Weights:
    first, second = CHANNELS
    return [
        *(_kernel(rng, 3, 3, 1, first, inputs=9), _zeros(first)),
        *(_kernel(rng, 3, 3, first, second, inputs=9 * first), _zeros(second)),
        *_dense(rng, 5 * 5 * second, CLASSES),
    ]


def _transformer(rng: Generator | None) -> Weights:
    norm = [np.ones(WIDTH, np.float32), _zeros(WIDTH)]
    weights = [_kernel(rng, VOCABULARY, WIDTH, inputs=WIDTH)]
    for _ in range(BLOCKS):
        weights += [*norm, *_attention(rng), *norm]
        weights += [*_dense(rng, WIDTH, 4 * WIDTH), *_dense(rng, 4 * WIDTH, WIDTH)]
    return [*weights, *norm, *_dense(rng, WIDTH, CLASSES)]


def _attention(rng: Generator | None) -> Weights:
    head = WIDTH // HEADS
    inner = [(_kernel(rng, WIDTH, HEADS, head, inputs=WIDTH), _zeros(HEADS, head)) for _ in range(3)]
    outer = _kernel(rng, HEADS, head, WIDTH, inputs=WIDTH), _zeros(WIDTH)
    return [array for pair in (*inner, outer) for array in pair]


_MODELS = {
    "tiny_mlp": (lambda rng: _mlp(rng, [64, 64]), _features(64)),
    "deep_mlp": (lambda rng: _mlp(rng, [32] * 51), _features(32)),
    "cnn": (_cnn, _features(28, 28, 1)),
    "transformer": (_transformer, _tokens),
}
