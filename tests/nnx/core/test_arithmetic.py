"""A variable acts as its value: arithmetic, jax.numpy, conversions."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = np.array([3.0, -1.0, 2.0], np.float32)
Y = np.array([2.0, 4.0, -5.0], np.float32)
BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_is_that_of_the_values(name):
    function = getattr(operator, name)
    x, y = np.abs(X), Y
    expected = function(jnp.asarray(x), jnp.asarray(y))
    for left, right in [
        (nnx.Param(jnp.asarray(x)), nnx.Param(jnp.asarray(y))),
        (nnx.Param(jnp.asarray(x)), jnp.asarray(y)),
        (jnp.asarray(x), nnx.Param(jnp.asarray(y))),
    ]:
        got = function(left, right)
        assert isinstance(got, jax.Array)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["and_", "or_", "xor", "lshift", "rshift"])
def test_operations_on_integers_are_those_of_the_values(name):
    function = getattr(operator, name)
    x, y = jnp.array([6, 3]), jnp.array([1, 2])
    for left, right in [(nnx.Variable(x), nnx.Variable(y)), (nnx.Variable(x), y), (x, nnx.Variable(y))]:
        np.testing.assert_array_equal(function(left, right), function(np.asarray(x), np.asarray(y)))


def test_matrix_products_take_variables_on_either_side():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    va, vb = nnx.Param(jnp.asarray(a)), nnx.Param(jnp.asarray(b))
    for got in [va @ vb, va @ jnp.asarray(b), jnp.asarray(a) @ vb]:
        np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv"])
def test_arithmetic_in_place_changes_the_variable_itself(name):
    v = before = nnx.Param(jnp.asarray(X))
    v = getattr(operator, name)(v, Y)
    assert v is before
    np.testing.assert_array_equal(v.value, getattr(operator, name)(X.copy(), Y))


@pytest.mark.parametrize("name", ["neg", "pos", "abs"])
def test_unary_operations_are_those_of_the_value(name):
    function = getattr(operator, name)
    np.testing.assert_array_equal(function(nnx.Param(jnp.asarray(X))), function(X))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "eq", "lt", "matmul"])
def test_a_numpy_array_on_the_left_gives_a_jax_array(name):
    function = getattr(operator, name)
    for left in (X, X[0]) if name != "matmul" else (X,):
        got = function(left, nnx.Param(jnp.asarray(Y)))
        assert isinstance(got, jax.Array)
        np.testing.assert_allclose(got, function(left, Y), rtol=1e-6)
        np.testing.assert_allclose(nnx.jit(lambda v: function(left, v))(nnx.Param(jnp.asarray(Y))), got)


def test_scalars_convert_to_python_numbers():
    v = nnx.Variable(jnp.array(2.6))
    assert (int(v), round(float(v), 3), complex(v).imag, bool(v)) == (2, 2.6, 0.0, True)
    assert [10, 20, 30][nnx.Variable(jnp.array(1))] == 20
    assert f"{nnx.Variable(jnp.array(0.5)):.2f}" == "0.50"


def test_jax_and_numpy_functions_take_a_variable_for_its_value():
    v = nnx.Param(jnp.asarray(X))
    np.testing.assert_array_equal(jnp.sin(v), jnp.sin(X))
    np.testing.assert_array_equal(np.asarray(v), X)
    np.testing.assert_array_equal(jnp.where(v > 0, v, 0.0), np.where(X > 0, X, 0))
    assert len(v) == 3
    assert [float(x) for x in v] == X.tolist()
    assert 3.0 in v


def test_a_variable_that_holds_a_function_can_be_called():
    assert nnx.Variable(jnp.cos)(0.0) == 1.0


def test_kerass_spellings_of_assignment_keep_shape_and_dtype():
    variable = nnx.Variable(jnp.zeros(2, jnp.float32))
    assert variable.assign(np.array([1, 2])).dtype == jnp.float32
    variable.assign_add(nnx.Param(jnp.ones(2)))
    variable.assign_sub(0.5)
    assert isinstance(variable.numpy(), np.ndarray)
    assert variable.numpy().tolist() == [1.5, 2.5]
    with pytest.raises(
        ValueError, match=r"assign got an array of shape \(3,\) for a Variable of shape \(2,\)"
    ):
        variable.assign(jnp.zeros(3))
