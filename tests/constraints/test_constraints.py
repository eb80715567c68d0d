import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.constraints as constraints

W = 3 * jax.random.normal(jax.random.key(0), (6, 4))


def norms(w):
    return np.linalg.norm(np.asarray(w), axis=0)


def test_norms_are_held_where_the_constraint_says():
    assert norms(constraints.MaxNorm(2.0)(W)).max() <= 2.0 + 1e-5
    np.testing.assert_allclose(norms(constraints.UnitNorm()(W)), 1.0, rtol=1e-5)
    held = norms(constraints.MinMaxNorm(7.0, 8.0)(W))
    assert held.min() >= 7.0 - 1e-4
    assert held.max() <= 8.0 + 1e-4
    assert float(constraints.NonNeg()(W).min()) == 0.0


def test_what_is_allowed_stays():
    small = 0.01 * W
    np.testing.assert_allclose(constraints.MaxNorm(2.0)(small), small, rtol=1e-5)
    np.testing.assert_array_equal(constraints.NonNeg()(jnp.abs(W)), jnp.abs(W))


def test_constraints_compare_by_class_and_configuration():
    assert constraints.MaxNorm(2, axis=[0, 1]) == constraints.MaxNorm(2, axis=[0, 1])
    assert constraints.MaxNorm(2) != constraints.MaxNorm(3)
    assert len({constraints.NonNeg(), constraints.NonNeg(), constraints.UnitNorm()}) == 2


def test_get_takes_names_classes_functions_and_none():
    assert constraints.get(None) is None
    assert constraints.get("non_neg") == constraints.NonNeg()
    assert constraints.get(constraints.UnitNorm) == constraints.UnitNorm()
    assert constraints.get(jnp.abs) is jnp.abs
    with pytest.raises(ValueError, match=r"Unknown constraint 'nonneg'.*Did you mean"):
        constraints.get("nonneg")
    with pytest.raises(ValueError, match="A constraint was given as int"):
        constraints.get(2)
