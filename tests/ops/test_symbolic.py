"""Functions of arrays as steps of a model that is stated by symbolic values."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers
import easyflax.ops as ops
from easyflax.models import Model


def test_a_functional_model_computes_what_the_functions_compute():
    a, b = layers.Input((4,)), layers.Input((3,))
    joined = ops.concatenate([ops.square(a), b], axis=-1)
    model = Model([a, b], ops.softmax(ops.add(joined, 1.0) / 2.0))
    x, y = np.ones((2, 4), "float32"), np.arange(6.0, dtype="float32").reshape(2, 3)
    expected = np.exp(np.concatenate([x**2, y], axis=1) / 2)
    np.testing.assert_allclose(model([x, y]), expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)


def test_functions_with_several_results_give_several_symbolic_values():
    values, indices = ops.top_k(layers.Input((6,)), 2)
    assert values.shape == indices.shape == (None, 2)
    assert [part.shape for part in ops.split(layers.Input((6,)), 3, axis=1)] == [(None, 2)] * 3


def test_what_is_known_of_a_symbolic_value_is_told_without_a_step():
    x = layers.Input((6, None))
    assert ops.shape(x) == (None, 6, None)
    assert ops.ndim(x) == 3
    assert ops.size(x) is None
    assert ops.dtype(x) == "float32"
    assert ops.convert_to_tensor(x) is x
    assert not ops.is_tensor(x)
    assert ops.cast(x, "int32").dtype == "int32"


def test_an_error_of_a_shape_comes_at_the_call_and_names_the_function():
    with pytest.raises((TypeError, ValueError), match="matmul"):
        ops.matmul(layers.Input((4,)), jnp.ones((3, 2)))
