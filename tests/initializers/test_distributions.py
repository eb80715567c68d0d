import jax
import numpy as np
import pytest

import easyflax.initializers as initializers

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("GlorotUniform", 2 / (200 + 400)),
        ("GlorotNormal", 2 / (200 + 400)),
        ("HeUniform", 2 / 200),
        ("HeNormal", 2 / 200),
        ("LecunUniform", 1 / 200),
        ("LecunNormal", 1 / 200),
    ],
)
def test_the_variance_of_draws_is_the_one_of_the_paper(name, variance):
    draws = np.asarray(getattr(initializers, name)(seed=0)((2, 5, 20, 40)))
    assert draws.var() == pytest.approx(variance, rel=0.05)
    assert abs(draws.mean()) < 0.01


def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns():
    wide = np.asarray(initializers.Orthogonal(gain=2.0)((3, 5)))
    np.testing.assert_allclose(wide @ wide.T, 4 * np.eye(3), atol=1e-5)
    kernel = np.asarray(initializers.Orthogonal()((2, 3, 4))).reshape(6, 4)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((4,), (4, 4)), ((3, 4), (3, 4)), ((5, 3, 4), (15, 20))],
    ids=["scalar", "vector", "matrix", "kernel"],
)
def test_fans_of_shapes(shape, fans):
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"scale": 0.0}, "VarianceScaling was given scale=0.0, expected a positive number"),
        ({"mode": "fan"}, "mode='fan', expected one of 'fan_in', 'fan_out', 'fan_avg'"),
        ({"distribution": "cauchy"}, "distribution='cauchy', expected one of 'uniform'"),
    ],
    ids=["scale", "mode", "distribution"],
)
def test_wrong_arguments_of_variance_scaling_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        initializers.VarianceScaling(**kwargs)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"Orthogonal was asked for a variable of shape \(3,\), expected two axes"
    ):
        initializers.Orthogonal()((3,))
    with pytest.raises(
        ValueError, match=r"Identity was asked for a variable of shape \(3,\), expected a matrix"
    ):
        initializers.Identity()((3,))
    with pytest.raises(
        ValueError, match=r"shape \(2,\) was given as the initializer of a variable of shape \(3,\)"
    ):
        initializers.get(np.zeros(2))((3,))
