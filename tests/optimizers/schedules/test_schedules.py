"""Schedules of one's own, and arguments that no schedule can follow; tests/parity compares the rates."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import optimizers, serialization
from easyflax.optimizers import schedules


class Warmup(schedules.LearningRateSchedule):
    """As in Keras's example of a transformer: keeps arrays, and no configuration."""

    def __init__(self, width, steps=4):
        super().__init__()
        self.scale = jnp.asarray(float(width))
        self.length = steps

    def __call__(self, step):
        step = jnp.asarray(step).astype("float32")
        return self.scale**-0.5 * jnp.minimum(step**-0.5, step * self.length**-1.5)


def test_a_schedule_of_ones_own_rules_an_optimizer():
    optimizer = optimizers.Adam(Warmup(16))
    params = {"w": jnp.zeros(2)}
    state = optimizer.init(params)
    rates = []
    for _ in range(3):
        _, state = optimizer.update({"w": jnp.ones(2)}, state, params)
        rates.append(float(optimizers.get_learning_rate(state)))
    np.testing.assert_allclose(rates, [0.0, 0.25 / 8, 0.5 / 8], rtol=1e-6)


def test_a_registered_schedule_comes_back_from_a_configuration():
    @serialization.register_keras_serializable("tests")
    class Halved(schedules.LearningRateSchedule):
        def __init__(self, first):
            self.first = first

        def __call__(self, step):
            return self.first * 0.5**step

    config = optimizers.serialize(optimizers.SGD(Halved(0.5)))
    again = optimizers.get(config)
    assert again.learning_rate == 0.5
    assert again.get_config() == optimizers.SGD(Halved(0.5)).get_config()


def test_a_named_function_can_be_written_and_a_lambda_not():
    optimizer = optimizers.SGD(lambda step: 0.1)
    with pytest.raises(TypeError, match="lambda was to be serialized"):
        optimizer.get_config()


def test_a_schedule_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match="has no __call__, expected one that returns the learning"):
        schedules.LearningRateSchedule()(0)


def test_optax_schedules_equal_ours():
    ours = schedules.CosineDecay(0.1, 20, alpha=0.1)
    theirs = optax.cosine_decay_schedule(0.1, 20, alpha=0.1)
    steps = jnp.arange(30)
    np.testing.assert_allclose(ours(steps), theirs(steps), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("ExponentialDecay(0.1, 0, 0.5)", "decay_steps is 0, expected a number above zero"),
        ("InverseTimeDecay(0.1, -1, 0.5)", "decay_steps is -1, expected a finite number of at least 0"),
        ("PolynomialDecay(0.1, None)", "decay_steps is None, expected a number above zero"),
        ("CosineDecay(0.1, 0)", "CosineDecay: decay_steps is 0"),
        ("CosineDecay(0.1, 5, warmup_steps=-1)", "warmup_steps is -1, expected a finite number of at least"),
        ("CosineDecayRestarts(0.1, 0)", "first_decay_steps is 0"),
        ("PiecewiseConstantDecay([1, 2], [0.1, 0.2])", "got 2 boundaries and 2 values, expected one value"),
        ("PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3])", r"boundaries are \[2, 1\], expected rising"),
    ],
)
def test_arguments_that_no_schedule_can_follow_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        eval(f"schedules.{make}")
