import jax.numpy as jnp
import numpy as np

import easyflax.layers as layers


def test_entries_are_repeated_along_each_axis_by_its_factor():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    expected = np.kron(x[0, :, :, 0], np.ones((2, 3)))
    assert layers.UpSampling2D((2, 3))(x)[0, :, :, 0].tolist() == expected.tolist()
    assert layers.UpSampling1D(2)(x[0])[:, :, 0].tolist() == [[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]]
    assert layers.UpSampling3D((1, 2, 1))(x[None]).shape == (1, 1, 4, 2, 1)


def test_pooling_undoes_upsampling():
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 2, 3)).astype("float32")
    np.testing.assert_allclose(layers.AveragePooling3D(2)(layers.UpSampling3D()(x)), x, rtol=1e-6)


def test_a_straight_line_stays_one_under_bilinear_interpolation():
    x = jnp.arange(5.0).reshape(1, 1, 5, 1)
    outputs = layers.UpSampling2D((1, 2), interpolation="bilinear")(x).ravel()
    np.testing.assert_allclose(outputs[1:-1], np.arange(0.25, 4, 0.5), rtol=1e-6)
    assert (outputs[0], outputs[-1]) == (0.0, 4.0)
