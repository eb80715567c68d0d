"""The cost of calling a function compiled by `nnx.jit`, next to plain `jax.jit` on a flat list of the arrays.

Run: `python tests/bench/bench_jit_dispatch.py`. Three calls: one only reads the model, one takes model and
optimizer and changes a bias and the step counter, one is a training step that changes model, optimizer and
metrics. Arrays are tiny, so that what is measured is dispatch. flax is measured too where it is installed.
"""

from __future__ import annotations

import functools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import optax
from timing import interleaved, libraries, table

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


def read_only(layers: int) -> str:
    """A call that reads one parameter of a model of `layers` Linear layers."""
    x = jnp.ones(WIDTH)
    contenders = {}
    model = _model(nnx, layers)
    leaves = jax.tree.leaves(nnx.state(model))
    flat = jax.jit(lambda leaves, x: x + leaves[0])
    contenders["jax.jit, flat list"] = lambda: flat(leaves, x)
    for name, lib in libraries().items():
        contenders[f"{name}.jit"] = _bind(lib.jit(_read), _model(lib, layers), x)
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
    for name, lib in libraries().items():
        model = _model(lib, layers)
        optimizer = lib.Optimizer(model, optax.adam(1e-3), wrt=lib.Param)
        contenders[f"{name}.jit"] = _bind(lib.jit(_update), model, optimizer, x)
    rounds = interleaved(contenders, rounds=30, calls=10 if layers > 50 else 50)
    return table(rounds, "jax.jit, flat, donated", f"changes little, {layers} layers")


def train_step(layers: int, *, donate: bool) -> str:
    """A training step (gradients, Adam, two metrics) that changes every array but the random state."""
    x = jnp.ones((2, WIDTH))
    options = {"donate_argnums": (0, 1, 2)} if donate else {}
    objects = _training(nnx, layers)
    graphdef, state = nnx.split(objects)
    leaves, treedef = jax.tree.flatten(nnx.to_pure_dict(state))
    leaves = [leaf.copy() for leaf in leaves]

    def flat_step(leaves, x):  # the same computation, from flat arrays to flat arrays
        objects = nnx.merge(graphdef, treedef.unflatten(leaves))
        _step(nnx, *objects, x)
        return jax.tree.leaves(nnx.to_pure_dict(nnx.state(objects)))

    flat = jax.jit(flat_step, donate_argnums=0 if donate else ())

    def run_flat():
        nonlocal leaves
        leaves = flat(leaves, x)

    baseline = "jax.jit, flat, donated" if donate else "jax.jit, flat"
    contenders = {baseline: run_flat}
    for name, lib in libraries().items():
        step = lib.jit(functools.partial(_step, lib), **options)
        contenders[f"{name}.jit"] = _bind(step, *_training(lib, layers), x)
    rounds = interleaved(contenders, rounds=30, calls=10 if layers > 50 else 50)
    return table(rounds, baseline, f"training step{', donated' if donate else ''}, {layers} layers")


def _training(lib, layers: int):
    model = _model(lib, layers)
    optimizer = lib.Optimizer(model, optax.adam(1e-3), wrt=lib.Param)
    return (
        model,
        optimizer,
        lib.MultiMetric(loss=lib.metrics.Average("loss"), norm=lib.metrics.Average("norm")),
    )


def _step(lib, model, optimizer, metrics, x):
    def loss_fn(model):
        y = x
        for layer in model.layers:
            y = layer(y)
        return (y**2).mean()

    loss, grads = lib.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    metrics.update(loss=loss, norm=optax.global_norm(grads))


def _bind(function, *args):
    return lambda: function(*args)


if __name__ == "__main__":
    for layers in (2, 20, 100):
        print(read_only(layers), end="\n\n")
        print(changes_little(layers), end="\n\n")
        for donate in (False, True):
            print(train_step(layers, donate=donate), end="\n\n")
