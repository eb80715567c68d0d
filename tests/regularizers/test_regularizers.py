import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
import easyflax.regularizers as regularizers


def test_the_gradient_of_l2_is_twice_the_weights_times_the_strength():
    x = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(jax.grad(regularizers.L2(0.25))(x), 0.5 * x, rtol=1e-6)


def test_l1_l2_is_the_sum_of_both():
    x = jnp.array([[1.0, -2.0]])
    both = regularizers.L1L2(l1=0.1, l2=0.2)(x)
    np.testing.assert_allclose(both, regularizers.L1(0.1)(x) + regularizers.L2(0.2)(x), rtol=1e-6)


def test_a_row_of_zeros_has_no_nan_in_the_gradient_of_orthogonality():
    x = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    assert bool(jnp.isfinite(jax.grad(regularizers.OrthogonalRegularizer())(x)).all())


def test_variables_with_equal_regularizers_have_equal_graphs():
    def graphdef(strength):
        return nnx.graphdef(nnx.Dict(w=nnx.Param(jnp.zeros(2), regularizer=regularizers.L2(strength))))

    assert graphdef(0.1) == graphdef(0.1)
    assert graphdef(0.1) != graphdef(0.2)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan"), "a", True], ids=str)
def test_a_strength_that_is_no_penalty_is_refused(value):
    with pytest.raises(ValueError, match=r"L2 was given l2=.*expected a finite number that is not negative"):
        regularizers.L2(value)


def test_wrong_arguments_of_the_orthogonal_one_are_refused():
    with pytest.raises(ValueError, match="mode='row', expected 'rows' or 'columns'"):
        regularizers.OrthogonalRegularizer(mode="row")
    with pytest.raises(ValueError, match=r"given a variable of shape \(3,\), expected a matrix"):
        regularizers.OrthogonalRegularizer()(jnp.ones(3))


def test_get_takes_names_classes_functions_and_none():
    assert regularizers.get(None) is None
    assert regularizers.get("l1_l2") == regularizers.L1L2()
    assert regularizers.get(regularizers.L2) == regularizers.L2()
    assert regularizers.get(jnp.sum) is jnp.sum
    with pytest.raises(ValueError, match="Unknown regularizer 'l3'"):
        regularizers.get("l3")
    with pytest.raises(ValueError, match="A regularizer was given as float"):
        regularizers.get(0.01)
