"""The cost of calling a function compiled by `nnx.jit`, next to plain `jax.jit` on a flat list of the arrays.

Run: `python tests/bench/bench_jit_dispatch.py`. Three calls: one only reads the model, one takes model and
optimizer and changes a bias and the step counter, one changes everything. Arrays are tiny, so that what is
measured is dispatch. flax is measured too where it is installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import optax
from timing import interleaved, table

from easyflax import nnx

WIDTH = 4


def _model(lib, layers: int):
    class MLP(lib.Module):
        def __init__(self, rngs):
            self.layers = lib.List([lib.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(layers)])

    return MLP(lib.Rngs(0))


def _read(model, x):
    return x + model.layers[0].bias[...]


def _update(model, optimizer, x):
    model.layers[0].bias[...] = model.layers[0].bias[...] + x
    optimizer.step[...] = optimizer.step[...] + 1


def _libraries():
    libraries = {"easyflax nnx.jit": nnx}
    try:
        from flax import nnx as flax_nnx

        libraries["flax nnx.jit"] = flax_nnx
    except ImportError:
        print("flax is not installed: its row is left out")
    return libraries


def read_only(layers: int) -> str:
    """A call that reads one parameter of a model of `layers` Linear layers."""
    x = jnp.ones(WIDTH)
    contenders = {}
    model = _model(nnx, layers)
    leaves = jax.tree.leaves(nnx.state(model))
    flat = jax.jit(lambda leaves, x: x + leaves[0])
    contenders["jax.jit, flat list"] = lambda: flat(leaves, x)
    for name, lib in _libraries().items():
        contenders[name] = _bind(lib.jit(_read), _model(lib, layers), x)
    return table(
        interleaved(contenders, rounds=30, calls=20 if layers > 50 else 100),
        "jax.jit, flat list",
        f"reads, {layers} layers",
    )


def changes_little(layers: int) -> str:
    """A call that takes model and optimizer (Adam) and changes one bias and the step counter."""
    x = jnp.ones(WIDTH)
    contenders = {}
    model = _model(nnx, layers)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    state = [leaf.copy() for leaf in jax.tree.leaves((nnx.state(model), nnx.state(optimizer)))]
    step = len(state) - 1

    def plain(leaves, x):
        return [leaves[0] + x, *leaves[1:step], leaves[step] + 1]

    donated = jax.jit(plain, donate_argnums=0)

    def run_donated():
        nonlocal state
        state = donated(state, x)

    contenders["jax.jit, flat, donated"] = run_donated
    for name, lib in _libraries().items():
        model = _model(lib, layers)
        optimizer = lib.Optimizer(model, optax.adam(1e-3), wrt=lib.Param)
        contenders[name] = _bind(lib.jit(_update), model, optimizer, x)
    rounds = interleaved(contenders, rounds=30, calls=10 if layers > 50 else 50)
    return table(rounds, "jax.jit, flat, donated", f"changes little, {layers} layers")


def changes_all(layers: int) -> str:
    """A call that takes model and optimizer (Adam) and changes every array."""
    x = jnp.ones(())
    contenders = {}
    model = _model(nnx, layers)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    state = [leaf.copy() for leaf in jax.tree.leaves((nnx.state(model), nnx.state(optimizer)))]
    donated = jax.jit(lambda leaves, x: [leaf + x.astype(leaf.dtype) for leaf in leaves], donate_argnums=0)

    def run_donated():
        nonlocal state
        state = donated(state, x)

    def update(model, optimizer, x):
        for variable in jax.tree.leaves(
            (nnx.state(model), nnx.state(optimizer)), is_leaf=lambda v: isinstance(v, nnx.Variable)
        ):
            variable.value = variable.value + x.astype(variable.dtype)

    contenders["jax.jit, flat, donated"] = run_donated
    contenders["easyflax nnx.jit"] = _bind(nnx.jit(update), model, optimizer, x)
    contenders["easyflax nnx.jit, donated"] = _bind(
        nnx.jit(update, donate_argnums=(0, 1)), *_donatable(layers), x
    )
    return table(
        interleaved(contenders, rounds=20, calls=10),
        "jax.jit, flat, donated",
        f"changes all, {layers} layers",
    )


def _donatable(layers: int):
    model = _model(nnx, layers)
    return model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


def _bind(function, *args):
    return lambda: function(*args)


if __name__ == "__main__":
    for layers in (2, 20, 100):
        print(read_only(layers), end="\n\n")
        print(changes_little(layers), end="\n\n")
        print(changes_all(layers), end="\n\n")
