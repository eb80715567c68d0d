import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.activations as activations

X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")


def nearest_in_simplex(row: np.ndarray) -> np.ndarray:
    """By bisection on the threshold tau with sum(max(row - tau, 0)) = 1."""
    low, high = row.min() - 1, row.max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(row - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(row - low, 0)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    expected = np.stack([nearest_in_simplex(row) for row in X.astype("float64")])
    np.testing.assert_allclose(activations.sparsemax(X), expected, atol=1e-6)
    np.testing.assert_allclose(activations.sparsemax(X.T, axis=0), expected.T, atol=1e-6)


def test_relu_with_all_arguments_bends_at_the_threshold_and_stops_at_the_maximum():
    x = jnp.array([-3.0, 0.5, 2.0, 9.0])
    got = activations.relu(x, negative_slope=0.1, max_value=4.0, threshold=1.0)
    np.testing.assert_allclose(got, [-0.4, -0.05, 2.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "relu"])
def test_a_symbolic_argument_records_the_call(name):
    class Recorder:
        def __easyflax_call__(self, function, args, kwargs):
            return function, args, kwargs

    x = Recorder()
    function = getattr(activations, name)
    assert function(x) == (function, (x,), {})
