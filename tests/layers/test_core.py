import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers
import easyflax.serialization as serialization
from easyflax.masks import mask_of, with_masks

X = jnp.array([[[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]])


def test_masking_marks_steps_that_are_padding_and_clears_them():
    layer = layers.Masking(mask_value=0.0)
    assert layer.compute_mask(X).tolist() == [[True, False, True]]
    out = layers.Masking(mask_value=3.0)(jnp.full((1, 2, 2), 3.0))
    assert out.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    assert mask_of(out).tolist() == [[False, False]]


def test_lambda_hands_the_mask_to_functions_that_take_it():
    layer = layers.Lambda(lambda x, mask=None: x * mask[..., None], mask=lambda inputs, mask: ~mask)
    mask = jnp.array([[True, False, True]])
    out = layer(with_masks(X, mask))
    np.testing.assert_array_equal(out, X * mask[..., None])
    assert mask_of(out).tolist() == [[False, True, False]]


def test_the_shape_of_a_lambda_is_found_or_stated():
    assert layers.Lambda(lambda x: x.sum(axis=1)).compute_output_shape((None, 4, 3)) == (None, 3)
    assert layers.Lambda(abs, output_shape=(2, 3)).compute_output_shape((None, 4, 3)) == (None, 2, 3)
    assert layers.Lambda(abs, output_shape=lambda shape: shape[:1]).compute_output_shape((None, 4)) == (None,)


def test_a_lambda_of_a_registered_function_comes_back_from_its_configuration():
    @serialization.register_keras_serializable(package="tests_core")
    def plus(x, amount):
        return x + amount

    layer = layers.Lambda(plus, arguments={"amount": 2.0}, name="plus_two")
    again = layers.Lambda.from_config(layer.get_config())
    assert again.name == "plus_two"
    np.testing.assert_array_equal(again(X), X + 2)
    with pytest.raises(TypeError, match="A lambda was to be serialized"):
        layers.Lambda(lambda x: x).get_config()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="Lambda: got int as its function"):
        layers.Lambda(3)
