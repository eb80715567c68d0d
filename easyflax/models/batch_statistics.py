"""Running means and variances of batch normalization, computed anew for the weights as they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.data import Batch
from easyflax.train.binding import Arrays
from easyflax.train.compiled_steps import in_precision

__all__ = ["recompute_batch_statistics"]


def recompute_batch_statistics(model: Any, batches: Iterable[Batch]) -> None:
    """Sets the statistics of all batch normalization to the means of those of the batches.

    Each batch counts the same. The model is called in training mode; no weights change. Where it has no
    batch normalization, the batches are not read.

    Args:
        model: compiled.
        batches: of training data.

    Source: Izmailov et al. 2018, section 3.2, https://arxiv.org/abs/1803.05407
    """
    layers = [module for _, module in nnx.iter_modules(model.trained_module) if _keeps_statistics(module)]
    if not layers:
        return
    compiled = model._require_compiled("recompute_batch_statistics")
    layout = compiled.engine.layout
    with _no_memory(layers):
        binding = model._binding()
        params, other = layout.put_state(binding.arrays())
        names = [name for name, one in binding.variables.items() if isinstance(one, nnx.BatchStat)]

        def statistics(x: Any, key: jax.Array, params: Arrays, other: Arrays) -> Arrays:
            after = binding.apply(params, other, x, training=True, key=key).other
            return {name: after[name] for name in names if name in after}

        compute = layout.jit(in_precision(compiled.precision, statistics))
        means: Arrays = {}
        for number, batch in enumerate(batches):
            key = jax.random.fold_in(jax.random.key(compiled.seed), number)
            new = compute(layout.put_batch(batch).x, key, params, other)
            means = new if not number else jax.tree.map(lambda a, b: a + (b - a) / (number + 1), means, new)  # noqa: B023
        if not means:
            warnings.warn(
                "The data gave no batch to compute the statistics of batch normalization from: they stay as "
                "they were. Pass data that can be read again.",
                stacklevel=3,
            )
        binding.set_values(layout.bring_home(means))


def _keeps_statistics(module: Any) -> bool:
    has_statistics = any(isinstance(value, nnx.BatchStat) for value in vars(module).values())
    return has_statistics and isinstance(getattr(module, "momentum", None), float)


@contextmanager
def _no_memory(layers: list[Any]) -> Iterator[None]:
    """Lets running averages become the statistics of the last batch while the block runs."""
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
