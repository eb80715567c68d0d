"""What callbacks cost a fit: none, ten that look at epochs only, and one that is called after each step.

Run: `python tests/bench/bench_callbacks.py`. A 64-64-10 perceptron, batch 32, 1,000 steps an epoch; a call
of a contender is one `fit` of one epoch, on one device, with accuracy as a metric. The rows of Keras are left
out where it is not installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KERAS_BACKEND"] = "jax"

import statistics
import tempfile

import numpy as np
from timing import interleaved, table

import easyflax as ef
from easyflax import callbacks, layers

STEPS = 1000
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32 * STEPS, 64)).astype(np.float32)
Y = RNG.integers(0, 10, 32 * STEPS)


class Ignores(callbacks.Callback):
    """Is called after each step, and ignores its logs."""

    def on_train_batch_end(self, batch, logs=None):
        pass


def ten(folder: str) -> list[callbacks.Callback]:
    """Returns ten callbacks that need no step of their own."""
    return [
        callbacks.EarlyStopping("loss", patience=10**6),
        callbacks.ReduceLROnPlateau("loss", patience=10**6),
        callbacks.LearningRateMonitor(),
        callbacks.CSVLogger(f"{folder}/log.csv"),
        callbacks.JSONLogger(f"{folder}/log.jsonl"),
        callbacks.StopAtValue("loss", -1.0),
        callbacks.Timer({"days": 1}),
        callbacks.DeviceStats(),
        callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate),
    ]


def fit_of(given):
    """Returns a function that fits one epoch with callbacks, and one that was compiled before."""
    model = ef.Sequential([ef.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(10)])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return lambda: model.fit(X, Y, batch_size=32, verbose=0, callbacks=given)


def keras_fit_of(hook: bool):
    """Returns the same for Keras, with a callback that ignores its logs or with none."""
    import keras

    class Ignores(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return lambda: model.fit(X, Y, batch_size=32, verbose=0, callbacks=[Ignores()] if hook else [])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            "no callback": fit_of([]),
            "ten callbacks of epochs": fit_of(ten(folder)),
            "on_train_batch_end": fit_of([Ignores()]),
        }
        try:
            contenders |= {
                "keras, no callback": keras_fit_of(False),
                "keras, on_train_batch_end": keras_fit_of(True),
            }
        except ImportError:
            print("keras is not installed: its rows are left out")
        times = interleaved(contenders, rounds=15, calls=1)
    print(table(times, "no callback", f"a fit of {STEPS} steps"))
    pairs = zip(times["on_train_batch_end"], times["no callback"], strict=True)
    cost = statistics.median((with_it - without) / STEPS for with_it, without in pairs)
    print(f"\nA hook after each step that ignores its logs costs {1e6 * cost:.1f} us a step.")
