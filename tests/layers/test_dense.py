import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers
import easyflax.nnx as nnx
import easyflax.regularizers as regularizers

X = jax.random.normal(jax.random.key(0), (4, 6))


def test_a_built_dense_is_a_linear_map_of_nnx_and_an_activation():
    layer = layers.Dense(3, activation="relu")
    got = layer(X)
    assert isinstance(layer, nnx.Linear)
    np.testing.assert_allclose(
        got, np.maximum(X @ layer.kernel[...] + layer.bias[...], 0), rtol=1e-5, atol=1e-6
    )


def test_an_activation_may_be_a_layer_with_weights_of_its_own():
    layer = layers.Dense(3, activation=layers.PReLU(alpha_initializer="ones"))
    got = layer(X)
    np.testing.assert_allclose(got, X @ layer.kernel[...], rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 6 * 3 + 3 + 3


def test_regularizers_are_metadata_of_the_weights():
    layer = layers.Dense(3, kernel_regularizer="l2", bias_constraint="non_neg")
    layer(X)
    assert layer.kernel.get_metadata()["regularizer"] == regularizers.L2()
    assert "regularizer" not in layer.bias.get_metadata()
    assert layer.bias.get_metadata()["constraint"] is layer.bias_constraint


def test_an_input_of_another_size_than_before_names_the_layer_and_both_sizes():
    layer = layers.Dense(3, name="head")
    layer(X)
    with pytest.raises(
        ValueError, match=r"Dense 'head': got an input of shape \(4, 5\).*expected \(\.\.\., 6\)"
    ):
        layer(X[:, :5])


@pytest.mark.parametrize("shape", [(None,), (None, None)], ids=str)
def test_an_input_of_unknown_size_is_refused(shape):
    with pytest.raises(ValueError, match="a known size of axis -1, which the weights depend on"):
        layers.Dense(3)(layers.Input(batch_shape=shape))


@pytest.mark.parametrize(
    ("units", "error"), [(0, ValueError), (-2, ValueError), (2.5, TypeError), ("3", TypeError)]
)
def test_units_that_are_no_positive_integer_are_refused(units, error):
    with pytest.raises(error, match=r"Dense: got units=.*expected a positive integer"):
        layers.Dense(units)


def test_einsum_dense_without_an_ellipsis_is_dense():
    dense, einsum = layers.Dense(3), layers.EinsumDense("ab,bc->ac", 3, bias_axes="c")
    dense(X), einsum(X)
    einsum.set_weights(dense.get_weights())
    np.testing.assert_allclose(einsum(X), dense(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "equation", ["ab,bc", "ab,bc->", "...ab,bc->ac", "...ab...,bc->...ac...", "ab,bc,cd->ad", "ab->ab"]
)
def test_an_equation_of_another_form_is_refused(equation):
    with pytest.raises(ValueError, match=r"got the equation .*expected one of the forms"):
        layers.EinsumDense(equation, 3)


@pytest.mark.parametrize(
    ("equation", "bias_axes"),
    [("ab,bz->ac", None), ("ab,bcz->ac", None), ("ab,bc->ac", "z")],
    ids=["out", "kernel", "bias"],
)
def test_letters_that_stand_alone_are_refused(equation, bias_axes):
    with pytest.raises(ValueError, match=r"got the letter '[cz]' .*in one place only"):
        layers.EinsumDense(equation, 3, bias_axes=bias_axes)


@pytest.mark.parametrize(
    ("equation", "output_shape", "message"),
    [
        ("abc,cd->abd", (None, 3), "expected as many axes as the equation"),
        ("ab,bc->ac", (2, 3), "expected as many axes as the equation"),
        ("ab,bc->ac", (None,), "got no size for axis 'c' of the kernel"),
        ("ab,bc->abc", (7, 3), "got size 6 of axis 'b' in the input, expected 7"),
    ],
    ids=["input", "output", "free", "unequal"],
)
def test_shapes_that_do_not_fit_the_equation_are_refused(equation, output_shape, message):
    with pytest.raises(ValueError, match=message):
        layers.EinsumDense(equation, output_shape)(X)


def test_einsum_dense_called_with_another_size_names_the_axis():
    layer = layers.EinsumDense("...b,bc->...c", 3)
    layer(X)
    with pytest.raises(ValueError, match="expected size 6 of axis 'b'"):
        layer(jnp.ones((4, 5)))
