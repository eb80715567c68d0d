"""Trains a small transformer on the letters of this project's license, then lets it write, letter by letter.

    python examples/generate_text.py            about a minute on two CPU cores
    python examples/generate_text.py --quick    one epoch, to see that everything runs

Exits with 1 when writing with the cache and without it differ, or the full run knows the text badly.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import easyflax as ef
from easyflax import nnx

CONTEXT = 64
WANTED_ACCURACY = 0.9


class Block(nnx.Module):
    """Causal attention and a perceptron, each added to what comes in."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x), is_causal=True)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Writer(nnx.Module):
    """Letters `(batch, length)`, as numbers, to logits of those after them, `(batch, length, letters)`."""

    def __init__(self, letters: int, *, width: int = 96, heads: int = 4, blocks: int = 2, rngs: nnx.Rngs):
        self.letters = nnx.Embed(letters, width, rngs=rngs)
        self.positions = nnx.Embed(CONTEXT, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, x: jax.Array, start: int | jax.Array = 0) -> jax.Array:
        h = self.letters(x) + self.positions(start + jnp.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.letters.attend(self.norm(h))


@nnx.jit
def next_letter(writer: Writer, letter: jax.Array, position: jax.Array) -> jax.Array:
    """The likeliest letter after this one; the keys and values of those before are in the cache."""
    return writer(letter[None, None], position)[0, 0].argmax()


def write(module: Writer, prompt: np.ndarray) -> np.ndarray:
    """Continues the prompt up to the length of the context."""
    writer = nnx.view(module, decode=True, batch_size=1, max_length=CONTEXT)  # shares the weights
    written = list(prompt)
    for position in range(CONTEXT - 1):
        letter = next_letter(writer, jnp.asarray(written[position]), jnp.asarray(position))
        if position + 1 == len(written):
            written.append(int(letter))
    return np.array(written)


def main(quick: bool) -> int:
    ef.enable_compilation_cache()
    text = " ".join((Path(__file__).parent.parent / "LICENSE").read_text().split())
    alphabet = sorted(set(text))
    letters = np.array([alphabet.index(letter) for letter in text], np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(letters, CONTEXT + 1)[::8]

    module = Writer(len(alphabet), rngs=nnx.Rngs(0))
    model = ef.Model(module)
    model.compile(
        optimizer=ef.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(windows[:, :-1], windows[:, 1:], batch_size=32, epochs=1 if quick else 20)

    written = write(module, letters[:24])
    print("".join(alphabet[letter] for letter in written))
    whole = module(jnp.asarray(written)[None, :-1])[0].argmax(-1)  # all at once, without the cache
    if not np.array_equal(whole[23:], written[24:]):
        print("writing with the cache and without it differ")
        return 1
    accuracy = history.history["accuracy"][-1]
    if not quick and accuracy < WANTED_ACCURACY:
        print(f"accuracy {accuracy:.3f}, expected at least {WANTED_ACCURACY}")
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one epoch, to see that everything runs")
    sys.exit(main(parser.parse_args().quick))
