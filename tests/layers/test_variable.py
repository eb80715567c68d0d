"""`ef.Variable` makes variables as Keras's class does, and layers hold them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import nnx


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, "int32"),
        (1.5, "float32"),
        ([1, 2], "int32"),
        (np.arange(3.0), "float32"),
        (True, "bool"),
        (np.ones(2, "float16"), "float16"),
    ],
    ids=str,
)
def test_a_variable_has_the_dtype_of_its_value(value, dtype):
    variable = ef.Variable(value)
    assert variable.dtype == dtype
    assert not variable.get_value().weak_type
    np.testing.assert_array_equal(variable.numpy(), value)
    assert ef.Variable(value, dtype="float32").dtype == "float32"


def test_a_variable_may_be_made_by_an_initializer():
    variable = ef.Variable("zeros", shape=(2, 3), name="table")
    assert variable.shape == (2, 3)
    assert variable.name == "table"
    drawn = ef.Variable(ef.initializers.RandomUniform(seed=1), shape=(4,))
    assert float(jnp.std(drawn[...])) > 0
    made = ef.Variable(lambda shape, dtype: jnp.full(shape, 3, dtype), shape=(2,), dtype="int32")
    assert made.numpy().tolist() == [3, 3]


def test_every_variable_is_one_and_trained_ones_are_parameters():
    assert isinstance(ef.Variable(0.0), nnx.Param)
    untrained = ef.Variable(0.0, trainable=False)
    assert isinstance(untrained, nnx.Variable)
    assert not isinstance(untrained, nnx.Param)
    assert isinstance(nnx.BatchStat(jnp.zeros(1)), ef.Variable)
    assert not isinstance(jnp.zeros(1), ef.Variable)


def test_a_layer_counts_and_trains_variables():
    class Affine(ef.Layer):
        def __init__(self):
            super().__init__()
            self.scale = ef.Variable(1.0, name="scale")
            self.calls = ef.Variable(0, trainable=False, dtype="int32")

        def call(self, inputs):
            self.calls.assign_add(1)
            return self.scale * inputs

    model = ef.Sequential([Affine()])
    model.compile(ef.optimizers.SGD(0.1), "mse")
    x = np.ones((4, 1), "float32")
    model.fit(x, 3 * x, epochs=2, batch_size=2, verbose=0)
    layer = model.layers[0]
    assert len(layer.trainable_variables) == 1
    assert len(layer.non_trainable_variables) == 1
    assert layer.calls.numpy() == 4
    assert layer.scale.numpy() == pytest.approx(3 - 2 * 0.8**4)


def test_an_initializer_without_a_shape_and_a_value_of_another_are_refused():
    with pytest.raises(ValueError, match=r"got the initializer 'ones' without a shape.*Pass shape=\(\)"):
        ef.Variable("ones")
    with pytest.raises(ValueError, match=r"got a value of shape \(3,\) and shape=\(2,\)"):
        ef.Variable(np.ones(3), shape=(2,))
