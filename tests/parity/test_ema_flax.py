"""The moving average of parameters against flax.nnx, to the bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.parity.flax_oracle import assert_same, assert_same_state, make_both

X = jax.random.normal(jax.random.key(1), (5, 2))


def _model(lib: Any, **options: Any) -> Any:
    rngs = lib.Rngs(0)
    return lib.Sequential(
        lib.Linear(2, 4, rngs=rngs, **options),
        lib.BatchNorm(4, rngs=rngs, **options),
        lib.Linear(4, 3, rngs=rngs),
    )


CASES = {
    "everything": ({}, lambda lib: ...),
    "params": ({}, lambda lib: lib.Param),
    "statistics": ({}, lambda lib: lib.BatchStat),
    "part": ({}, lambda lib: lib.All(lib.Param, lib.PathContains(2))),
    "bfloat16": ({"param_dtype": jnp.bfloat16, "dtype": jnp.bfloat16}, lambda lib: lib.Param),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("name", "jitted"), [*((name, True) for name in CASES), ("part", False)])
def test_averages_over_training_are_those_of_flax(name: str, jitted: bool) -> None:
    options, only = CASES[name]

    def train(lib: Any) -> Any:
        model = _model(lib, **options)
        optimizer = lib.Optimizer(model, optax.sgd(0.1), wrt=lib.Param)
        ema = lib.EMA(model, 0.9, only=only(lib))
        smooth = ema.apply_to(model)

        def step(model: Any, optimizer: Any, ema: Any) -> None:
            optimizer.update(model, lib.grad(lambda model: (model(X) ** 2).mean())(model))
            ema.update(model)

        step = lib.jit(step) if jitted else step
        for _ in range(2):
            step(model, optimizer, ema)
        smooth.eval()
        return ema, smooth, smooth(X)

    (ema, smooth, y), (flax_ema, flax_smooth, flax_y) = make_both(train)
    assert_same_state(ema, flax_ema)
    assert_same_state(smooth, flax_smooth)
    assert_same(y, flax_y)


def test_metadata_and_counts_are_those_of_flax() -> None:
    def run(lib: Any) -> Any:
        model = lib.Linear(2, 3, kernel_metadata={"role": "kernel"}, rngs=lib.Rngs(0))
        model.steps = lib.Variable(jnp.zeros((2,), jnp.float16))
        ema = lib.EMA(lib.state(model), 0.75)
        model.steps[...] = jnp.ones((2,), jnp.float16)
        ema.update(lib.as_pure(lib.state(model)))
        return ema

    assert_same_state(*make_both(run))


def test_what_is_not_averaged_is_shared_as_in_flax() -> None:
    def shared(lib: Any) -> Any:
        model = _model(lib)
        ema = lib.EMA(model, 0.9, only=lib.Param)
        smooth = ema.apply_to(model)
        first, second = (one.layers[1] for one in (smooth, model))
        return (
            first.mean is second.mean,
            first.scale is second.scale,
            first.scale is ema.params.layers[1].scale,
        )

    ours, theirs = make_both(shared)
    assert ours == theirs == (True, False, True)
