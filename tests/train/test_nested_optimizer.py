from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax import nnx
from easyflax.train.binding import Binding
from easyflax.train.nested_optimizer import nest


class Odd(nnx.Module):
    """Names that need quoting, numbers as names, and a parameter of several arrays."""

    def __init__(self) -> None:
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(11)])
        setattr(self, "a.b", nnx.Param(jnp.ones(3)))
        self.pair = nnx.Param({"x": jnp.ones(2), "y": (jnp.zeros(1),)})
        self.count = nnx.BatchStat(jnp.zeros(()))


def test_a_nested_optimizer_gives_what_it_gives_on_the_flat_dict() -> None:
    params, _ = Binding(Odd()).arrays()
    tx = optax.adamw(0.1)
    nested = nest(tx, Binding(Odd()))
    states = [tx.init(params), nested.init(params)]
    grads = jax.tree.map(jnp.cos, params)
    for _ in range(2):
        results = [one.update(grads, state, params) for one, state in zip((tx, nested), states, strict=True)]
        states = [state for _, state in results]
        flat, unnested = (updates for updates, _ in results)
        assert sorted(flat) == sorted(unnested)
        jax.tree.map(np.testing.assert_array_equal, flat, dict(unnested))


def test_the_optimizer_sees_variables_first_and_arrays_then_by_path() -> None:
    seen: list[Any] = []

    def init(params: Any) -> Any:
        seen.append(params)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.extend([updates, params, extra])
        return updates, state

    binding = Binding(Odd())
    params, _ = binding.arrays()
    nested = nest(optax.GradientTransformationExtraArgs(init, update), binding)
    nested.update(params, nested.init(params), params, value=1.0)
    first, updates, given, extra = seen
    assert isinstance(first.layers[10].kernel, nnx.Param)
    assert isinstance(updates.layers[10].kernel, jax.Array)
    np.testing.assert_array_equal(given["pair"]["x"], np.ones(2))
    assert (sorted(first), extra) == (["a.b", "layers", "pair"], {"value": 1.0})
    np.testing.assert_array_equal(nested.update(params, optax.EmptyState())[0]["a~1b"], np.ones(3))
