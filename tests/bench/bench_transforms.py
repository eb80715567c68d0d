"""The cost of a call of `nnx.value_and_grad`, `nnx.vmap` and `nnx.scan`, outside of `nnx.jit`, next to jax's.

Run: `python tests/bench/bench_transforms.py`. The model is a chain of tiny Linear layers, the plain one
a list of the same arrays, so that what is measured is the transform itself. flax is measured too where it is
installed.
"""

from __future__ import annotations

import functools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from timing import interleaved, libraries, table

from easyflax import nnx

WIDTH, STEPS, COPIES = 4, 5, 3


def make_model(lib, layers: int, rngs=None):
    """A chain of Linear layers with tanh between them."""

    class MLP(lib.Module):
        def __init__(self, rngs):
            self.layers = lib.List([lib.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(layers)])

        def __call__(self, x):
            for layer in self.layers:
                x = jnp.tanh(layer(x))
            return x

    return MLP(lib.Rngs(0) if rngs is None else rngs)


def flat_params(model) -> list[jax.Array]:
    """Kernel and bias of each layer in one list."""
    return [leaf for layer in model.layers for leaf in (layer.kernel[...], layer.bias[...])]


def flat_forward(params, x):
    """What the model computes, from the list."""
    for kernel, bias in zip(params[::2], params[1::2], strict=True):
        x = jnp.tanh(x @ kernel + bias)
    return x


def value_and_grad(layers: int):
    x = jnp.ones((2, WIDTH))
    params = flat_params(make_model(nnx, layers))
    plain = jax.value_and_grad(lambda params, x: (flat_forward(params, x) ** 2).mean())
    contenders = {"plain jax": lambda: plain(params, x)}
    for name, lib in libraries().items():
        transformed = lib.value_and_grad(lambda model, x: (model(x) ** 2).mean())
        contenders[name] = _bind(transformed, make_model(lib, layers), x)
    return contenders


def vmap(layers: int):
    x = jnp.ones((COPIES, 2, WIDTH))
    params = [jnp.stack([leaf] * COPIES) for leaf in flat_params(make_model(nnx, layers))]
    plain = jax.vmap(flat_forward)
    contenders = {"plain jax": lambda: plain(params, x)}
    for name, lib in libraries().items():
        make = lib.vmap(functools.partial(make_model, lib, layers))
        model = make(lib.Rngs(params=jax.random.split(jax.random.key(0), COPIES)))
        contenders[name] = _bind(lib.vmap(lambda model, x: model(x)), model, x)
    return contenders


def scan(layers: int):
    """A model called at each of some steps, its output carried."""
    x, xs = jnp.ones((2, WIDTH)), jnp.ones((STEPS, 2, WIDTH))
    params = flat_params(make_model(nnx, layers))

    def step(carry, x):
        params, state = carry
        return (params, flat_forward(params, state + x)), None

    contenders = {"plain jax": lambda: jax.lax.scan(step, (params, x), xs)}
    for name, lib in libraries().items():
        loop = lib.scan(
            lambda model, state, x: model(state + x), in_axes=(None, lib.Carry, 0), out_axes=lib.Carry
        )
        contenders[name] = _bind(loop, make_model(lib, layers), x, xs)
    return contenders


def _bind(function, *args):
    return lambda: function(*args)


if __name__ == "__main__":
    for transform in (value_and_grad, vmap, scan):
        for layers in (2, 20, 100):
            times = interleaved(transform(layers), rounds=16, calls=max(1, 20 // layers))
            print(table(times, "plain jax", f"{transform.__name__}, {layers} layers"), end="\n\n")
