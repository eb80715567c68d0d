"""Trains a variational autoencoder on 1,797 handwritten digits; its layers add the losses and log them.

    python examples/vae.py            half a minute on two CPU cores
    python examples/vae.py --quick    two epochs, to see that everything runs

Exits with 1 when the digits of the full run are not rebuilt better than by their mean.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np

import easyflax as ef
from easyflax import nnx

CODE = 8


class Sampling(ef.Layer):
    """Draws codes from normal distributions, and adds how far these are from the standard one."""

    def __init__(self) -> None:
        super().__init__()
        self.rngs = nnx.Rngs(0)

    def call(self, inputs: tuple[jax.Array, jax.Array], training: bool = False) -> jax.Array:
        mean, log_variance = inputs  # (batch, CODE) each
        kl = 0.5 * jnp.mean(jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1))
        self.add_loss(kl)
        self.add_metric(kl, name="kl")
        noise = jax.random.normal(self.rngs(), mean.shape) if training else 0.0
        return mean + jnp.exp(log_variance / 2) * noise


class VAE(nnx.Module):
    """A plain NNX module; what it sows as a `LossTerm` is trained on, as what layers add."""

    def __init__(self) -> None:
        dense = ef.layers.Dense
        self.encoder = ef.Sequential([ef.Input((64,)), dense(128, "relu")])
        self.mean, self.log_variance, self.sampling = dense(CODE), dense(CODE), Sampling()
        self.decoder = ef.Sequential([ef.Input((CODE,)), dense(128, "relu"), dense(64, "sigmoid")])

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.encoder(x)
        rebuilt = self.decoder(self.sampling((self.mean(h), self.log_variance(h))))
        error = jnp.mean(jnp.sum((x - rebuilt) ** 2, axis=-1))
        self.sow(ef.layers.LossTerm, "loss_term", 5 * error)
        self.sow(ef.layers.MetricTerm, "error", error)
        return rebuilt


def show(images: np.ndarray) -> None:
    """Prints images of `(64,)` beside each other."""
    for row in images.reshape(-1, 8, 8).transpose(1, 0, 2):
        print("  ".join("".join(" .:-=+*#%@"[int(9.99 * value)] for value in line) for line in row))


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    (x_train, _), (x_test, _) = ef.datasets.load_digits()
    x_train, x_test = ((x / 16).astype(np.float32).reshape(-1, 64) for x in (x_train, x_test))
    model = ef.Model(VAE())
    model.compile(optimizer=ef.optimizers.Adam(2e-3))
    model.fit(x_train, epochs=2 if quick else 100, validation_data=(x_test,), verbose=2)

    found = model.evaluate(x_test, verbose=0, return_dict=True)
    print("digits not seen in training, what they were rebuilt to, and digits of random codes:")
    show(x_test[:8])
    show(model.predict(x_test[:8], verbose=0))
    show(np.asarray(model.module.decoder(np.random.default_rng(0).normal(size=(8, CODE)))))
    of_mean = float(np.mean(np.sum((x_test - x_train.mean(0)) ** 2, axis=-1)))
    print(
        f"error {found['error']:.2f} of {of_mean:.2f} for the mean digit, with {found['kl']:.2f} nats of code"
    )
    exact = abs(found["loss"] - (5 * found["error"] + found["kl"])) < 1e-3
    return 0 if exact and (quick or found["error"] < of_mean / 2) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    sys.exit(main(parser.parse_args().quick))
