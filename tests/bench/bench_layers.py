"""What layers cost beside flax's: building a stack of transformer blocks, tracing it, and a training step.

Run: `python tests/bench/bench_layers.py`. Twelve blocks, 768 wide, twelve heads, with all their parameters.
"First" is a build in a process of its own, without its imports, "again" one in a process that built before.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax
from timing import interleaved, libraries, table

BLOCKS, WIDTH, HEADS = 12, 768, 12
FLAX = "flax nnx"


def make_stack(lib, width: int = WIDTH):
    """Returns pre-norm transformer blocks, one after the other."""

    class Block(lib.Module):
        def __init__(self, rngs) -> None:
            self.norm1 = lib.LayerNorm(width, rngs=rngs)
            self.attention = lib.MultiHeadAttention(HEADS, width, decode=False, rngs=rngs)
            self.norm2 = lib.LayerNorm(width, rngs=rngs)
            self.up = lib.Linear(width, 4 * width, rngs=rngs)
            self.down = lib.Linear(4 * width, width, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm1(x), is_causal=True)
            return x + self.down(lib.gelu(self.up(self.norm2(x))))

    rngs = lib.Rngs(0)
    return lib.Sequential(*[Block(rngs) for _ in range(BLOCKS)])


def first_builds(rounds: int = 5) -> str:
    """A Markdown table: each build in a process of its own."""
    times: dict[str, list[float]] = {name: [] for name in libraries()}
    for _ in range(rounds):
        for name in times:
            run = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
            times[name].append(float(run.stdout.split()[-1]))
    return table(times, _baseline(times), "building, first")


def _one_build(name: str) -> float:
    """The seconds that one build takes."""
    lib = libraries()[name]
    jax.random.key(0).block_until_ready()  # the backend is there
    start = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(lib.state(make_stack(lib), lib.Param)))
    return time.perf_counter() - start


def _baseline(times) -> str:
    return FLAX if FLAX in times else next(iter(times))


def side_by_side(title: str, make, *, rounds: int) -> str:
    """A Markdown table of what `make(lib)` returns to call."""
    contenders = {name: make(lib) for name, lib in libraries().items()}
    return table(interleaved(contenders, rounds=rounds, calls=1), _baseline(contenders), title)


def building(lib):
    return lambda: jax.block_until_ready(jax.tree.leaves(lib.state(make_stack(lib), lib.Param)))


def abstract_building(lib):
    return lambda: lib.eval_shape(lambda: make_stack(lib, 16 * HEADS))


def tracing(lib):
    model, x = make_stack(lib, 2 * HEADS), jnp.ones((2, 16, 2 * HEADS))
    return lambda: lib.jit(lambda model, x: model(x)).trace(model, x)


def tracing_a_gradient(lib):
    model, x = make_stack(lib, 2 * HEADS), jnp.ones((2, 16, 2 * HEADS))
    return lambda: lib.jit(
        lambda model, x: lib.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
    ).trace(model, x)


def stepping(lib):
    """A training step of narrow blocks, where what Python does around the computation shows."""
    model, x = make_stack(lib, 2 * HEADS), jnp.ones((2, 16, 2 * HEADS))
    optimizer = lib.Optimizer(model, optax.adam(1e-3), wrt=lib.Param)

    @lib.jit
    def step(model, optimizer, x):
        loss, grads = lib.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    return lambda: jax.block_until_ready(step(model, optimizer, x))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(_one_build(" ".join(sys.argv[1:])))
        sys.exit()
    print(first_builds(), end="\n\n")
    print(side_by_side("building, again", building, rounds=8), end="\n\n")
    print(side_by_side("building abstractly", abstract_building, rounds=8), end="\n\n")
    print(side_by_side("tracing", tracing, rounds=8), end="\n\n")
    print(side_by_side("tracing with a gradient", tracing_a_gradient, rounds=8), end="\n\n")
    print(side_by_side("a training step", stepping, rounds=20))
