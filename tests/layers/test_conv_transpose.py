import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers

RNG = np.random.default_rng(0)


def spread(shape, dtype=None):
    """Different entries in no time."""
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def test_each_input_adds_a_kernels_worth_of_outputs():
    layer = layers.Conv1DTranspose(1, 3, strides=2, kernel_initializer="ones")
    layer.compute_output_shape((None, 2, 1))
    layer.set_weights([np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), np.array([0.5])])
    outputs = layer(jnp.array([[[1.0], [10.0]]]))
    assert outputs.ravel().tolist() == [1.5, 2.5, 13.5, 20.5, 30.5]


@pytest.mark.parametrize(
    ("size", "strides", "padding", "rate"),
    [(3, 2, "valid", 1), (3, 1, "same", 2), (4, 2, "same", 1), (2, 1, "valid", 3)],
)
def test_it_is_the_transpose_of_the_convolution_with_the_same_kernel(size, strides, padding, rate):
    options = {"strides": strides, "padding": padding, "dilation_rate": rate, "use_bias": False}
    options["kernel_initializer"] = spread
    transposed, direct = layers.Conv1DTranspose(2, size, **options), layers.Conv1D(3, size, **options)
    x = jnp.asarray(RNG.normal(size=(1, 5, 3)), "float32")
    y = transposed(x)
    direct.compute_output_shape(y.shape)
    direct.set_weights(transposed.get_weights())  # (size, 2, 3) is from 2 channels to 3 there
    _, pull_back = jax.vjp(direct.call, jnp.zeros_like(y))
    np.testing.assert_allclose(pull_back(x)[0], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("padding", "output_padding", "steps"),
    [("valid", None, 11), ("valid", 1, 12), ("same", None, 10), ("same", 0, 9), ("same", 1, 10)],
)
def test_the_output_padding_decides_between_the_sizes_that_a_convolution_makes_equal(
    padding, output_padding, steps
):
    options = {"strides": 2, "padding": padding, "kernel_initializer": "ones"}
    layer = layers.Conv1DTranspose(2, 3, output_padding=output_padding, **options)
    assert layer.compute_output_shape((None, 5, 3)) == (None, steps, 2)
    assert layers.Conv1D(2, 3, **options).compute_output_shape((None, steps, 3))[1] == 5


def test_an_input_smaller_than_the_kernel_will_do():
    assert layers.Conv2DTranspose(3, 4, kernel_initializer="ones")(jnp.ones((1, 1, 1, 2))).shape == (
        1,
        4,
        4,
        3,
    )


def test_an_output_padding_as_large_as_the_strides_is_refused():
    with pytest.raises(ValueError, match=r"got output_padding=\(1, 2\) with strides=\(2, 2\), expected less"):
        layers.Conv2DTranspose(2, 3, strides=2, output_padding=(1, 2))
    with pytest.raises(ValueError, match="got output_padding=-1, expected an integer of at least 0"):
        layers.Conv1DTranspose(2, 3, strides=2, output_padding=-1)


def test_other_channels_than_the_weights_were_made_for_are_refused():
    layer = layers.Conv1DTranspose(4, 1, kernel_initializer="ones")
    layer(jnp.ones((1, 3, 2)))
    with pytest.raises(ValueError, match=r"Conv1DTranspose.*with 3 channels, expected .* with 2, for which"):
        layer(jnp.ones((1, 3, 3)))
