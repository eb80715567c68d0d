"""Learns features of 1,797 handwritten digits without labels, as in SimCLR, and then classifies by them.

    python examples/contrastive.py            two minutes on two CPU cores
    python examples/contrastive.py --quick    two epochs, to see that everything runs

Two views of each image are to have features more alike than those of different images. Exits with 1 when a
linear layer on the features of the full run is right on less than 96 % of the test digits.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np

import easyflax as ef
from easyflax import nnx

TEMPERATURE = 0.2


class SimCLR(ef.Model):
    """An encoder, and a head that is used in training only.

    Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709
    """

    def __init__(self) -> None:
        super().__init__()
        layers = ef.layers
        shift = layers.RandomTranslation(0.15, 0.15, fill_mode="constant", seed=0)
        turn = layers.RandomRotation(0.05, fill_mode="constant", seed=1)
        self.views = ef.Sequential([ef.Input((8, 8, 1)), shift, turn, layers.GaussianNoise(0.1, seed=2)])
        convs = [layers.Conv2D(width, 3, activation="relu", padding="same") for width in (32, 64)]
        self.encoder = ef.Sequential([ef.Input((8, 8, 1)), *convs, layers.MaxPool2D(), layers.Flatten()])
        self.encoder.add(layers.Dense(64, activation="relu"))
        self.head = ef.Sequential([ef.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(32)])
        self.agreement = ef.metrics.SparseCategoricalAccuracy(name="agreement")

    def call(self, images: jax.Array) -> jax.Array:
        return self.encoder(images)

    def train_step(self, batch: jax.Array) -> dict[str, jax.Array]:
        views = self.views(jnp.concatenate([batch, batch]), training=True)
        other = jnp.roll(jnp.arange(2 * len(batch)), len(batch))  # of each view, the other one of its image

        def contrast(model: SimCLR) -> tuple[jax.Array, jax.Array]:
            found = model.head(model.encoder(views, training=True), training=True)
            found = found / jnp.linalg.norm(found, axis=-1, keepdims=True)
            alike = found @ found.T / TEMPERATURE - 1e9 * jnp.eye(len(found))
            return jnp.mean(ef.losses.sparse_categorical_crossentropy(other, alike, from_logits=True)), alike

        (loss, alike), grads = nnx.value_and_grad(contrast, has_aux=True)(self)
        self.optimizer.update(self, grads)
        self.agreement.update_state(other, alike)
        return {"loss": loss, "agreement": self.agreement.result()}


def probe(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, epochs: int
) -> float:
    """Returns the test accuracy of a linear layer."""
    linear = ef.Sequential([ef.layers.Normalization(), ef.layers.Dense(10)])
    linear.layers[0].adapt(x_train)
    linear.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    linear.fit(x_train, y_train, epochs=epochs, verbose=0)
    return linear.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    (x_train, y_train), (x_test, y_test) = ef.datasets.load_digits()
    x_train, x_test = ((x / 16).astype(np.float32)[..., None] for x in (x_train, x_test))
    model = SimCLR()
    model.compile(optimizer=ef.optimizers.Adam(1e-3))
    features = model.predict(x_train, verbose=0), y_train, model.predict(x_test, verbose=0), y_test
    before = probe(*features, epochs=2 if quick else 50)
    model.fit(x_train, batch_size=128, epochs=2 if quick else 60, verbose=2)

    features = model.predict(x_train, verbose=0), y_train, model.predict(x_test, verbose=0), y_test
    accuracy = probe(*features, epochs=2 if quick else 50)
    print(f"test accuracy of a linear layer on the features: {accuracy:.4f} ({before:.4f} before training)")
    return 0 if quick or accuracy >= 0.96 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    sys.exit(main(parser.parse_args().quick))
