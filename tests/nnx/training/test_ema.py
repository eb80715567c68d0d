from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))


def _model() -> nnx.Sequential:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
    )


def _scale(model: Any, factor: float) -> None:
    for _, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        param[...] = param * factor


def test_the_average_falls_off_exponentially() -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    start = np.asarray(model.kernel[...], np.float64)
    ema = nnx.EMA(model, decay=0.9)
    for factor in (2.0, 3.0):
        _scale(model, factor)
        ema.update(model)
    expected = 0.9**2 * start + 0.9 * 0.1 * 2 * start + 0.1 * 6 * start
    np.testing.assert_allclose(ema.params.kernel[...], expected, rtol=1e-6)


def test_a_model_with_averages_shares_them_and_all_else() -> None:
    model = _model()
    ema = nnx.EMA(model, 0.5, only=nnx.Param)
    smooth = ema.apply_to(model)
    assert type(smooth) is nnx.Sequential
    assert smooth.layers[0].kernel is ema.params.layers[0].kernel
    assert smooth.layers[0].kernel is not model.layers[0].kernel
    assert smooth.layers[1].mean is model.layers[1].mean
    start = model.layers[0].kernel[...]
    _scale(model, 3.0)
    ema.update(model)
    np.testing.assert_allclose(smooth.layers[0].kernel[...], 2 * start, rtol=1e-6)
    np.testing.assert_allclose(model.layers[0].kernel[...], 3 * start, rtol=1e-6)


def test_it_averages_in_a_jitted_training_step() -> None:
    model = _model()
    model.eval()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    ema = nnx.EMA(model, 0.75, only=nnx.Param)
    smooth = ema.apply_to(model)

    @nnx.jit
    def step(model: Any, optimizer: Any, ema: Any) -> None:
        optimizer.update(model, nnx.grad(lambda model: (model(X) ** 2).mean())(model))
        ema.update(model)

    expected = np.asarray(model.layers[0].kernel[...])
    for _ in range(3):
        step(model, optimizer, ema)
        expected = 0.75 * expected + 0.25 * np.asarray(model.layers[0].kernel[...])
    np.testing.assert_allclose(smooth.layers[0].kernel[...], expected, rtol=1e-5)


def test_a_new_decay_acts_from_the_next_update_on() -> None:
    param = nnx.Param(jnp.zeros(2))
    ema = nnx.EMA([param], jnp.float32(1.0))
    update = nnx.jit(lambda ema, params: ema.update(params))
    for decay in (1.0, 0.5):
        ema.decay = jnp.float32(decay)
        update(ema, [nnx.Param(jnp.ones(2))])
        assert float(ema.params[0][0]) == 1 - decay


@pytest.mark.parametrize(
    "make", [nnx.state, nnx.as_pure, lambda model: nnx.as_pure(nnx.state(model)), lambda m: m]
)
def test_it_is_updated_from_modules_states_and_plain_arrays(make: Any) -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    ema = nnx.EMA(nnx.state(model), 0.5)
    start = model.kernel[...]
    _scale(model, 3.0)
    ema.update(make(model) if make is not nnx.as_pure else nnx.to_pure_dict(nnx.state(model)))
    np.testing.assert_allclose(ema.params.kernel[...], 2 * start, rtol=1e-6)


def test_averages_keep_kind_dtype_and_metadata() -> None:
    model = nnx.Linear(2, 3, param_dtype=jnp.bfloat16, kernel_metadata={"role": "kernel"}, rngs=nnx.Rngs(0))
    model.count = nnx.Variable(jnp.int32(3))
    ema = nnx.EMA(model, 0.5)
    ema.update(model)
    assert (type(ema.params.kernel), ema.params.kernel.dtype) == (nnx.Param, jnp.bfloat16)
    assert (ema.params.kernel.role, ema.params.count.dtype) == ("kernel", jnp.int32)


def test_it_is_saved_and_restored_as_a_state() -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    ema, other = nnx.EMA(model, 0.5), nnx.EMA(model, 0.5)
    _scale(model, 3.0)
    ema.update(model)
    nnx.update(other, jax.tree.map(jnp.array, nnx.state(ema)))
    np.testing.assert_array_equal(other.params.kernel[...], ema.params.kernel[...])
    copy = nnx.merge(*nnx.split(ema))
    copy.update(model)


# -- errors


@pytest.mark.parametrize("decay", [-0.1, 1.5, 2])
def test_a_decay_is_a_share(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"EMA got decay={decay}, expected a number from 0 to 1\. Pass"):
        nnx.EMA(_model(), decay)


def test_random_keys_have_no_average() -> None:
    with pytest.raises(
        TypeError,
        match=r"EMA got a random key at 'layers\.2\.rngs\.key' \(RngKey\), expected numbers.* Leave",
    ):
        nnx.EMA(_model(), 0.9)


def test_only_variables_are_averaged() -> None:
    with pytest.raises(TypeError, match=r"EMA got a ArrayImpl at 'a', expected variables only\. Keep it"):
        nnx.EMA({"a": jnp.ones(2)}, 0.9)


def test_a_filter_that_matches_nothing_is_told() -> None:
    with pytest.raises(ValueError, match=r"EMA got only=.*Cache'>, which matches nothing in the Linear"):
        nnx.EMA(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 0.9, only=nnx.Cache)


def test_values_of_another_model_are_told() -> None:
    ema = nnx.EMA(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 0.9)
    with pytest.raises(
        ValueError, match=r"EMA\.update got values without 'bias', expected exactly those that are averaged"
    ):
        ema.update(nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match=r"EMA\.update got values of shape \(4,\) for 'bias', expected \(3,\)"
    ):
        ema.update(nnx.Linear(2, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"EMA\.apply_to got a Linear without 'bias', expected a model like"):
        ema.apply_to(nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0)))
