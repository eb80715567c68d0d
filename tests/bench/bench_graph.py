"""How the cost of looking at a model grows with it: split, merge and clone, and tracing under `nnx.jit`.

Run: `python tests/bench/bench_graph.py`. Linear growth means the same microseconds a layer in every row.
Tracing is compared with that of the same layers written in plain jax, forward alone and with a gradient step.
"""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import statistics

import jax
import jax.numpy as jnp
from bench_transforms import WIDTH, flat_forward, flat_params, make_model
from timing import interleaved, libraries, table

from easyflax import nnx

SIZES = (10, 100, 1_000, 10_000)


def growth() -> str:
    """A Markdown table of microseconds a layer."""
    lines = ["| layers | split | merge | clone | split again, nothing changed |", "|---|---|---|---|---|"]
    for layers in SIZES:
        model = make_model(nnx, layers)
        graphdef, state = nnx.split(model)
        contenders = {
            "split": lambda model=model: (_touch(model), nnx.split(model)),
            "merge": lambda graphdef=graphdef, state=state: nnx.merge(graphdef, state),
            "clone": lambda model=model: nnx.clone(model),
            "again": lambda model=model: nnx.split(model),
        }
        times = interleaved(contenders, rounds=8, calls=max(1, 100 // layers))
        cells = [f"{1e6 * statistics.median(seconds) / layers:.1f}" for seconds in times.values()]
        lines.append(f"| {layers:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _touch(model) -> None:
    """Changes the structure, so that the model is walked anew."""
    model.touched = object()


def tracing(layers: int, *, with_gradient: bool) -> str:
    """The time that one trace takes; each call makes its function anew, to find nothing in a cache."""
    x = jnp.ones((2, WIDTH))
    params = flat_params(make_model(nnx, layers))

    def plain(params, x):
        if not with_gradient:
            return flat_forward(params, x)
        loss, grads = jax.value_and_grad(lambda params: (flat_forward(params, x) ** 2).mean())(params)
        return loss, [param - 0.1 * grad for param, grad in zip(params, grads, strict=True)]

    def step(lib):
        def run(model, x):
            if not with_gradient:
                return model(x)
            loss, grads = lib.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
            params = lib.state(model, lib.Param)
            lib.update(model, jax.tree.map(lambda param, grad: param - 0.1 * grad, params, grads))
            return loss

        return run

    contenders = {"plain jax": lambda: jax.jit(lambda *args: plain(*args)).trace(params, x)}
    for name, lib in libraries().items():
        model = make_model(lib, layers)
        contenders[name] = lambda lib=lib, model=model: lib.jit(step(lib)).trace(model, x)
    title = f"tracing {layers} layers{', with a gradient step' if with_gradient else ''}"
    return table(interleaved(contenders, rounds=12, calls=1), "plain jax", title)


if __name__ == "__main__":
    for with_gradient in (False, True):
        print(tracing(100, with_gradient=with_gradient), end="\n\n")
    print("Microseconds a layer:\n")
    print(growth())
