"""What stating a model costs beside Keras: ResNet-18 for images of 224x224, and a Transformer of 12 layers.

Run: `python tests/bench/bench_building.py`. Both are functional models with all their weights, written by the
same code. "First" is a build in a process of its own, without its imports, "again" one in a process that
built before. Needs keras.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KERAS_BACKEND"] = "jax"

import subprocess
import sys
import time
from importlib import import_module

import jax
from timing import table

NAMES = {"easyflax": "easyflax", "keras": "keras"}


def make_resnet(keras):
    """Returns ResNet-18, 11.7 million parameters."""
    layers = keras.layers

    def convolution(x, filters, size, strides=1, activation=True):
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if activation else x

    inputs = keras.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, padding="same")(convolution(inputs, 64, 7, 2))
    for filters, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        y = convolution(x, filters, 3, strides)
        y = convolution(y, filters, 3, activation=False)
        if x.shape[-1] != filters:
            x = convolution(x, filters, 1, strides, activation=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def make_transformer(keras, blocks=12, width=768, heads=12):
    """Returns the encoder of BERT-base without positions, 108 million parameters."""
    layers = keras.layers
    inputs = keras.Input((128,), dtype="int32")
    x = layers.Embedding(30522, width)(inputs)
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        hidden = layers.Dense(4 * width, activation="gelu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(width)(hidden)]))
    return keras.Model(inputs, x)


MODELS = {"ResNet-18": make_resnet, "Transformer": make_transformer}


def compare(model: str, rounds: int) -> str:
    """Markdown tables of first and repeated builds, each process doing four of them."""
    first: dict[str, list[float]] = {name: [] for name in NAMES}
    again: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            command = [sys.executable, __file__, name, model]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds = [float(word) for word in run.stdout.split()]
            first[name].append(seconds[0])
            again[name] += seconds[1:]
    return "\n\n".join(
        table(times, "keras", f"{model}, {what}") for times, what in ((first, "first"), (again, "again"))
    )


def _builds(name: str, model: str) -> list[float]:
    """The seconds that four builds take, one after the other."""
    keras = import_module(NAMES[name])
    _ = keras.Model, keras.layers.Dense  # what is imported when it is first used
    jax.random.key(0).block_until_ready()  # the backend is there
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        built = MODELS[model](keras)
        jax.block_until_ready([weight.value for weight in built.weights])
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*_builds(*sys.argv[1:3]))
    else:
        print("\n\n".join(compare(model, rounds=5) for model in MODELS))
