import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 7, 3)), "float32")


def spread(shape, dtype=None):
    """Different entries in no time."""
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def test_each_channel_is_convolved_by_itself():
    layer = layers.DepthwiseConv1D(
        3, strides=2, depth_multiplier=2, depthwise_initializer=spread, bias_initializer="ones"
    )
    outputs = layer(X)
    single = layers.Conv1D(2, 3, strides=2, kernel_initializer="ones", bias_initializer="ones")
    single(X[..., :1])
    for channel in range(3):
        single.set_weights([layer.kernel[...][:, channel : channel + 1], jnp.ones(2)])
        expected = single(X[..., channel : channel + 1])
        np.testing.assert_allclose(
            outputs[..., 2 * channel : 2 * channel + 2], expected, rtol=1e-5, atol=1e-6
        )


def test_a_separable_convolution_is_a_depthwise_one_and_one_over_single_pixels():
    options = {"padding": "same", "depth_multiplier": 2, "depthwise_initializer": spread}
    layer = layers.SeparableConv1D(4, 3, activation="relu", pointwise_initializer=spread, **options)
    first = layers.DepthwiseConv1D(3, use_bias=False, **options)
    second = layers.Conv1D(4, 1, activation="relu", kernel_initializer="ones")
    outputs, _ = layer(X), second(first(X))
    depthwise, pointwise, bias = layer.get_weights()
    first.set_weights([depthwise])
    second.set_weights([pointwise, bias])
    np.testing.assert_allclose(outputs, second(first(X)), rtol=1e-5, atol=1e-6)
    assert layer.count_params() == 3 * 3 * 2 + 6 * 4 + 4


def test_regularizers_are_those_of_their_kernels():
    made = {"depthwise_initializer": spread, "pointwise_initializer": spread}
    layer = layers.SeparableConv1D(2, 1, depthwise_regularizer="l1", pointwise_regularizer="l2", **made)
    layer(X)
    kernels = layer.depthwise_kernel[...], layer.pointwise_kernel[...]
    expected = 0.01 * (jnp.abs(kernels[0]).sum() + (kernels[1] ** 2).sum())
    assert float(sum(layer.losses)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            layers.DepthwiseConv1D(8, name="d"),
            r"DepthwiseConv1D 'd': .* with size 7 of axis 1, expected at lea",
        ),
        (layers.SeparableConv1D(2, 8), r"SeparableConv1D: .* with size 7 of axis 1, expected at least 8"),
    ],
    ids=["depthwise", "separable"],
)
def test_a_kernel_larger_than_the_input_is_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        layer(X)


def test_a_depth_multiplier_must_be_positive():
    with pytest.raises(ValueError, match="DepthwiseConv2D: got depth_multiplier=0, expected a positive"):
        layers.DepthwiseConv2D(3, depth_multiplier=0)
