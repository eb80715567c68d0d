"""The models in layers of Keras's manner: one spelling for Keras and for easyflax."""

from __future__ import annotations

from typing import Any

from contenders.problems import BLOCKS, CHANNELS, CLASSES, HEADS, LENGTH, VOCABULARY, WIDTH, Problem


def make_model(lib: Any, problem: Problem) -> Any:
    """Returns the model, not compiled; `lib` is `keras` or `easyflax`."""
    model = {"cnn": _cnn, "transformer": _transformer}.get(problem.name, _mlp)(lib, problem)
    if problem.copies_weights:
        model.set_weights(problem.weights)
    return model


def _mlp(lib: Any, problem: Problem) -> Any:
    hidden = [lib.layers.Dense(width, activation="relu") for width in problem.hidden]
    return lib.Sequential([lib.Input(problem.x.shape[1:]), *hidden, lib.layers.Dense(CLASSES)])


def _cnn(lib: Any, problem: Problem) -> Any:
    first, second = CHANNELS
    return lib.Sequential(
        [
            lib.Input((28, 28, 1)),
            lib.layers.Conv2D(first, 3, activation="relu"),
            lib.layers.MaxPooling2D(2),
            lib.layers.Conv2D(second, 3, activation="relu"),
            lib.layers.MaxPooling2D(2),
            lib.layers.Flatten(),
            lib.layers.Dense(CLASSES),
        ]
    )


def _transformer(lib: Any, problem: Problem) -> Any:
    tokens = lib.Input((LENGTH,), dtype="int32")
    x = lib.layers.Embedding(VOCABULARY, WIDTH)(tokens)
    for _ in range(BLOCKS):
        y = lib.layers.LayerNormalization(epsilon=1e-6)(x)
        x = lib.layers.Add()([x, lib.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)])
        y = lib.layers.LayerNormalization(epsilon=1e-6)(x)
        y = lib.layers.Dense(4 * WIDTH, activation="relu")(y)
        x = lib.layers.Add()([x, lib.layers.Dense(WIDTH)(y)])
    x = lib.layers.LayerNormalization(epsilon=1e-6)(x)
    x = lib.layers.GlobalAveragePooling1D()(x)
    return lib.Model(tokens, lib.layers.Dense(CLASSES)(x))
