"""Keras as the oracle: schedules give the same rate at every step, and load each other's configurations."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax
import keras
import numpy as np
import pytest

from easyflax.optimizers import schedules

STEPS = np.arange(0, 60, dtype=np.int32)
CASES = {
    "exponential": ("ExponentialDecay", (0.1, 7, 0.6), {}),
    "exponential-staircase": ("ExponentialDecay", (0.1, 7, 0.6), {"staircase": True}),
    "inverse": ("InverseTimeDecay", (0.1, 7, 0.6), {}),
    "inverse-staircase": ("InverseTimeDecay", (0.1, 7, 0.6), {"staircase": True}),
    "polynomial": ("PolynomialDecay", (0.1, 30), {"power": 2.0}),
    "polynomial-root": ("PolynomialDecay", (0.1, 30), {"power": 0.5, "end_learning_rate": 0.01}),
    "polynomial-cycle": ("PolynomialDecay", (0.1, 13), {"cycle": True}),
    "pieces": ("PiecewiseConstantDecay", ([10, 30], [1.0, 0.5, 0.1]), {}),
    "cosine": ("CosineDecay", (0.1, 30), {"alpha": 0.1}),
    "cosine-warmup": ("CosineDecay", (0.01, 30), {"warmup_target": 0.2, "warmup_steps": 11}),
    "cosine-no-warmup-steps": ("CosineDecay", (0.01, 30), {"warmup_target": 0.2}),
    "restarts": ("CosineDecayRestarts", (0.1, 9), {"m_mul": 0.8, "alpha": 0.05}),
    "restarts-of-one-length": ("CosineDecayRestarts", (0.1, 9), {"t_mul": 1.0}),
    "restarts-in-geometry": ("CosineDecayRestarts", (0.1, 9), {"t_mul": 1.5, "m_mul": 0.9}),
}


def _both(case):
    name, args, kwargs = CASES[case]
    return [getattr(lib, name)(*args, **kwargs) for lib in (schedules, keras.optimizers.schedules)]


@pytest.mark.parametrize("case", CASES)
def test_rates_equal_kerass_at_every_step(case):
    ours, theirs = _both(case)
    mine = jax.jit(jax.vmap(ours))(STEPS)
    assert mine.dtype == np.float32
    expected = jax.jit(lambda steps: [theirs(step) for step in steps])(list(STEPS))
    np.testing.assert_allclose(mine, expected, rtol=2e-6, atol=1e-8)
    assert float(ours(17)) == pytest.approx(float(mine[17]), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_configurations_have_kerass_keys_and_load_here(case):
    ours, theirs = _both(case)
    assert ours.get_config() == theirs.get_config()
    written = schedules.serialize(ours)
    assert written == {
        **keras.optimizers.schedules.serialize(theirs),
        "module": "easyflax.optimizers.schedules",
    }
    for config in (written, keras.optimizers.schedules.serialize(theirs)):
        again = schedules.deserialize(config)
        assert type(again) is type(ours)
        assert again.get_config() == ours.get_config()


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES.values()}))
def test_arguments_are_kerass(name):
    def parameters(lib):
        found = inspect.signature(getattr(lib, name)).parameters.values()
        return [(parameter.name, parameter.default) for parameter in found]

    assert parameters(schedules) == parameters(keras.optimizers.schedules)
