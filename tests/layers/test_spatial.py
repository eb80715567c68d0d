import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
import easyflax.layers as layers

X = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")  # (batch, height, width, channels)

ONES = {"kernel_initializer": "ones"}  # made in no time

LAYERS = [
    (layers.Conv2D, {**ONES, "filters": 4, "kernel_size": 3}),
    (layers.Conv2DTranspose, {**ONES, "filters": 4, "kernel_size": 3, "strides": 2}),
    (layers.DepthwiseConv2D, {"kernel_size": (3, 2), "depthwise_initializer": "ones"}),
    (
        layers.SeparableConv2D,
        {"filters": 4, "kernel_size": 2, "depthwise_initializer": "ones", "pointwise_initializer": "ones"},
    ),
    (layers.MaxPooling2D, {"pool_size": (2, 1)}),
    (layers.AveragePooling2D, {"pool_size": 2, "padding": "same"}),
    (layers.GlobalAveragePooling2D, {"keepdims": True}),
    (layers.GlobalMaxPooling2D, {"keepdims": True}),
    (layers.AdaptiveAveragePooling2D, {"output_size": (4, 2)}),
    (layers.ZeroPadding2D, {"padding": (1, (0, 2))}),
    (layers.Cropping2D, {"cropping": ((1, 0), (0, 2))}),
    (layers.UpSampling2D, {"size": (2, 3)}),
    (layers.UpSampling2D, {"interpolation": "bilinear"}),
]
IDS = [f"{cls.__name__}-{number}" for number, (cls, _) in enumerate(LAYERS)]


@pytest.mark.parametrize(("cls", "kwargs"), LAYERS, ids=IDS)
def test_with_channels_first_the_output_is_that_with_channels_last_transposed(cls, kwargs):
    last, first = cls(**kwargs), cls(**kwargs, data_format="channels_first")
    last.compute_output_shape((None, 6, 5, 3))
    first.compute_output_shape((None, 3, 6, 5))
    weights = [np.random.default_rng(1).normal(size=weight.shape) for weight in last.get_weights()]
    last.set_weights(weights)
    first.set_weights(weights)
    outputs = np.moveaxis(np.asarray(first(np.moveaxis(X, -1, 1))), 1, -1)
    np.testing.assert_allclose(outputs, last(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cls", "kwargs"), LAYERS, ids=IDS)
def test_free_axes_of_the_input_are_free_in_the_output_and_others_as_computed(cls, kwargs):
    layer = cls(**kwargs)
    assert layer.compute_output_shape(X.shape) == layer(X).shape
    free = layer.compute_output_shape((None, 6, None, 3))
    known = layer.compute_output_shape((2, 6, 5, 3))
    assert all(size is None or size == other for size, other in zip(free, known, strict=True))
    assert free[0] is None
    assert free[-1] == known[-1]


@pytest.mark.parametrize(("cls", "kwargs"), LAYERS, ids=IDS)
def test_an_input_of_another_rank_is_refused_at_the_line_that_calls_the_layer(cls, kwargs):
    message = rf"{cls.__name__} 'it': got an input of shape \(.*6, 5\), expected 4 axes, \(batch, height,"
    with pytest.raises(ValueError, match=message):
        cls(**kwargs, name="it")(X[..., 0])
    with pytest.raises(ValueError, match=message):
        cls(**kwargs, name="it")(ef.Input((6, 5)))


@pytest.mark.parametrize(("cls", "kwargs"), LAYERS, ids=IDS)
def test_a_layer_is_made_again_from_its_configuration(cls, kwargs):
    layer = cls(**kwargs)
    assert cls.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Conv2D(4, 3, data_format="first"), "got data_format='first', expected"),
        (lambda: layers.Conv2D(4, 3, padding="full"), "got padding='full', expected one of 'valid', 'same'"),
        (lambda: layers.Conv2D(4, 3, padding="causal"), "got padding='causal'"),
        (lambda: layers.MaxPooling2D(padding=1), "got padding=1, expected one of"),
        (
            lambda: layers.Conv2D(4, (3, 3, 3)),
            r"got kernel_size=\(3, 3, 3\), expected a positive integer, or 2",
        ),
        (lambda: layers.Conv1D(4, "3"), "got kernel_size='3', expected a positive integer. Pass"),
        (lambda: layers.Conv2D(4, 3, strides=0), "got strides=0, expected"),
        (lambda: layers.AveragePooling2D((2, 1.5)), r"got pool_size=\(2, 1.5\), expected"),
        (lambda: layers.ZeroPadding1D(-1), "got padding=-1, expected an integer of at least 0, or 2 of them"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), r"got padding=\(1, 2, 3\), expected a size that is not"),
        (lambda: layers.ZeroPadding2D((1, (2, -3))), r"got padding=\(1, \(2, -3\)\), expected a size"),
        (lambda: layers.Cropping3D("1"), "got cropping='1', expected a size"),
        (lambda: layers.UpSampling2D(interpolation="area"), "got interpolation='area', expected one of"),
        (lambda: layers.UpSampling1D(0), "got size=0, expected a positive integer"),
    ],
)
def test_arguments_are_checked_when_the_layer_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sizes_are_kept_for_each_axis_whatever_sequence_they_came_in():
    layer = layers.Conv2D(4, [3, np.int64(2)], strides=2, padding="SAME")
    assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 2), (2, 2), "same")
    assert layers.ZeroPadding2D([1, (0, 2)]).padding == ((1, 1), (0, 2))
    assert layers.MaxPooling2D(3).strides == (3, 3)


def test_layers_without_weights_take_integers():
    ints = jnp.arange(16).reshape(1, 4, 4, 1)
    assert layers.MaxPooling2D()(ints).ravel().tolist() == [5, 7, 13, 15]
    assert layers.AveragePooling2D(2)(ints).ravel().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert layers.ZeroPadding2D()(ints).dtype == layers.Cropping2D(1)(ints).dtype == ints.dtype
