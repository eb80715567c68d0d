import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers
from easyflax.masks import mask_of

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype("float32")


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("cls", "reduce"),
    [(layers.GlobalMaxPooling3D, np.max), (layers.GlobalAveragePooling3D, np.mean)],
    ids=["max", "mean"],
)
def test_all_spatial_axes_are_reduced(cls, reduce, keepdims):
    expected = reduce(X, axis=(1, 2, 3), keepdims=keepdims)
    np.testing.assert_allclose(cls(keepdims=keepdims)(X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_steps_that_are_masked_do_not_count_in_a_mean(data_format):
    x = np.array([[[1.0], [3.0], [np.nan]], [[2.0], [9.0], [9.0]]], "float32")
    mask = np.array([[True, True, False], [True, False, False]])
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    layer = layers.GlobalAveragePooling1D(data_format)
    assert layer(x, mask=mask).tolist() == [[2.0], [2.0]]
    assert layer(x, mask=mask.astype("float32")).tolist() == [[2.0], [2.0]]
    assert layer.compute_mask(x, mask) is None


def test_a_mask_comes_from_the_layer_before():
    embedding, pooling = layers.Embedding(5, 2, mask_zero=True), layers.GlobalAveragePooling1D()
    ids = jnp.array([[1, 2, 0, 0]])
    embedded = embedding(ids)
    outputs = pooling(embedded)
    np.testing.assert_allclose(outputs[0], embedded[0, :2].mean(0), rtol=1e-6)
    assert mask_of(outputs) is None
