"""Trains a small convolutional network on 1,797 real handwritten digits, then saves and reloads it.

    python examples/quickstart.py            about ten seconds on two CPU cores
    python examples/quickstart.py --quick    two epochs, to see that everything runs

Exits with 1 when the test accuracy of the full run is below 0.97, or the reloaded model differs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import easyflax as ef
from easyflax import nnx

WANTED_ACCURACY = 0.97


class DigitClassifier(nnx.Module):
    """Two convolutions and a linear layer: `(batch, 8, 8, 1)` images to `(batch, 10)` logits."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(4 * 4 * 64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv1(x)))  # (batch, 8, 8, 32)
        x = nnx.relu(self.conv2(x))  # (batch, 8, 8, 64)
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))  # (batch, 4, 4, 64)
        return self.out(self.dropout(x.reshape(x.shape[0], -1)))


def scale(images: np.ndarray) -> np.ndarray:
    """Turns the counts 0 to 16 into floats from 0 to 1, with an axis for the one channel."""
    return (images / 16).astype(np.float32)[..., None]


def compiled_model(seed: int) -> ef.Model:
    model = ef.Model(DigitClassifier(rngs=nnx.Rngs(seed)))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    (x_train, y_train), (x_test, y_test) = ef.datasets.load_digits()
    x_train, x_test = scale(x_train), scale(x_test)

    model = compiled_model(seed=0)
    model.summary(input_shape=(8, 8, 1))
    model.fit(
        x_train,
        y_train,
        epochs=2 if quick else 30,
        validation_split=0.1,
        callbacks=[ef.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)],
    )
    accuracy = model.evaluate(x_test, y_test, return_dict=True)["accuracy"]
    print(f"test accuracy: {accuracy:.4f} on {len(x_test)} digits not seen in training")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits"
        model.save_weights(path)
        reloaded = compiled_model(seed=1)  # other initial weights, all of them replaced by the saved ones
        reloaded.load_weights(path)
    same = np.array_equal(model.predict(x_test, verbose=0), reloaded.predict(x_test, verbose=0))
    print(f"reloaded from disk: predictions are {'identical' if same else 'DIFFERENT'}")

    return 0 if same and (quick or accuracy >= WANTED_ACCURACY) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    sys.exit(main(parser.parse_args().quick))
