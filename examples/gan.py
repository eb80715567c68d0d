"""Trains a generative adversarial network on 1,797 handwritten digits, with a training step of its own.

    python examples/gan.py            about two minutes on two CPU cores
    python examples/gan.py --quick    two epochs, to see that everything runs

Exits with 1 when the images of the full run are not spread as the real digits are.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import easyflax as ef
from easyflax import nnx

NOISE = 16


class GAN(ef.Model):
    """Two models, each with its optimizer; `train_step` updates one after the other."""

    def __init__(self) -> None:
        super().__init__()
        dense, conv = ef.layers.Dense, ef.layers.Conv2D
        self.maker = ef.Sequential(
            [ef.Input((NOISE,)), dense(128, "relu"), dense(128, "relu"), dense(64, "sigmoid")]
        )
        self.maker.add(ef.layers.Reshape((8, 8, 1)))
        self.critic = ef.Sequential([ef.Input((8, 8, 1)), conv(32, 3, activation="leaky_relu")])
        for layer in (
            conv(64, 3, activation="leaky_relu"),
            ef.layers.Flatten(),
            ef.layers.Dropout(0.3),
            dense(1),
        ):
            self.critic.add(layer)
        self.maker_optimizer = nnx.Optimizer(self.maker, optax.adam(5e-4, b1=0.5), wrt=nnx.Param)
        self.critic_optimizer = nnx.Optimizer(self.critic, optax.adam(5e-4, b1=0.5), wrt=nnx.Param)
        self.maker_loss, self.critic_loss = ef.metrics.Mean(), ef.metrics.Mean()
        self.rngs = nnx.Rngs(0)

    def call(self, noise: jax.Array) -> jax.Array:
        return self.maker(noise)

    def train_step(self, batch: jax.Array) -> dict[str, jax.Array]:
        noise = jax.random.normal(self.rngs(), (len(batch), NOISE))

        def critic_loss(critic: ef.Model) -> jax.Array:
            reals, fakes = critic(batch, training=True), critic(self.maker(noise), training=True)
            return jnp.mean(nnx.softplus(-reals) + nnx.softplus(fakes))

        def maker_loss(maker: ef.Model) -> jax.Array:
            return jnp.mean(nnx.softplus(-self.critic(maker(noise))))

        loss, grads = nnx.value_and_grad(critic_loss)(self.critic)
        self.critic_optimizer.update(self.critic, grads)
        self.critic_loss.update_state(loss)
        loss, grads = nnx.value_and_grad(maker_loss)(self.maker)
        self.maker_optimizer.update(self.maker, grads)
        self.maker_loss.update_state(loss)
        return {"critic_loss": self.critic_loss.result(), "maker_loss": self.maker_loss.result()}


def show(images: np.ndarray) -> None:
    """Prints images of `(8, 8, 1)` beside each other."""
    for row in range(8):
        print(
            "  ".join("".join(" .:-=+*#%@"[int(9.99 * value)] for value in one[row, :, 0]) for one in images)
        )


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    (images, _), _ = ef.datasets.load_digits()
    images = (images / 16).astype(np.float32)[..., None]
    gan = GAN()
    gan.compile()
    gan.fit(images, batch_size=64, epochs=2 if quick else 100)

    made = gan.predict(np.random.default_rng(0).normal(size=(500, NOISE)), verbose=0)
    show(made[:8])
    distance, spread = np.abs(made.mean(0) - images.mean(0)).mean(), made.std(0).mean()
    print(f"mean grey value of a pixel: {distance:.3f} from that of the real digits")
    print(f"spread of a pixel: {spread:.3f}, of the real digits {images.std(0).mean():.3f}")
    return 0 if quick or (distance < 0.1 and spread > 0.15) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    sys.exit(main(parser.parse_args().quick))
