import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers

X = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")


@pytest.mark.parametrize(("size", "strides"), [(2, None), (3, 1), (2, 3)])
@pytest.mark.parametrize(
    ("cls", "reduce"),
    [(layers.MaxPooling1D, np.max), (layers.AveragePooling1D, np.mean)],
    ids=["max", "mean"],
)
def test_windows_are_reduced_one_by_one(cls, reduce, size, strides):
    starts = range(0, 7 - size + 1, strides or size)
    expected = np.stack([reduce(X[:, start : start + size], axis=1) for start in starts], axis=1)
    np.testing.assert_allclose(cls(size, strides)(X), expected, rtol=1e-6)


def test_what_lies_outside_counts_neither_for_maxima_nor_for_means():
    x = jnp.array([[[-1.0], [-2.0], [-3.0]]])
    assert layers.MaxPooling1D(2, padding="same")(x).ravel().tolist() == [-1.0, -3.0]
    assert layers.AveragePooling1D(2, padding="same")(x).ravel().tolist() == [-1.5, -3.0]


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_means_have_the_dtype_to_compute_in(padding):
    layer = layers.AveragePooling1D(2, padding=padding, dtype="mixed_bfloat16")
    assert layer(X).dtype == jnp.bfloat16


def test_a_window_larger_than_the_input_is_refused():
    with pytest.raises(
        ValueError, match=r"MaxPooling1D 'p': .* size 7 of axis 1, expected at least 8, so that"
    ):
        layers.MaxPooling1D(8, name="p")(X)
    assert layers.MaxPooling1D(8, padding="same")(X).shape == (2, 1, 3)


def test_shorter_names_are_the_same_layers():
    assert layers.MaxPool2D is layers.MaxPooling2D
    assert layers.AvgPool3D is layers.AveragePooling3D
    assert layers.GlobalAvgPool2D is layers.GlobalAveragePooling2D
    assert layers.Convolution2DTranspose is layers.Conv2DTranspose
