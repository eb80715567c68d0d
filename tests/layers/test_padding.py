import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers


@pytest.mark.parametrize(
    ("pad", "crop", "shape"),
    [
        (layers.ZeroPadding1D((2, 1)), layers.Cropping1D((2, 1)), (2, 3, 4)),
        (layers.ZeroPadding2D((1, (0, 2))), layers.Cropping2D((1, (0, 2))), (2, 3, 4, 5)),
        (layers.ZeroPadding3D(1), layers.Cropping3D(1), (1, 2, 3, 4, 5)),
    ],
    ids=["1D", "2D", "3D"],
)
def test_cropping_undoes_padding(pad, crop, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    padded = pad(x)
    assert (crop(padded) == x).all()
    assert float(jnp.abs(padded).sum()) == pytest.approx(np.abs(x).sum(), rel=1e-6)


def test_each_side_is_padded_by_its_own_size():
    padded = layers.ZeroPadding2D(((0, 1), (2, 0)))(jnp.ones((1, 1, 1, 1)))
    assert padded[0, :, :, 0].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_defaults_are_one_around_and_for_images_no_cropping():
    assert layers.ZeroPadding3D().padding == ((1, 1), (1, 1), (1, 1))
    assert layers.Cropping2D().cropping == ((0, 0), (0, 0))
    assert layers.Cropping1D().cropping == (1, 1)


def test_cropping_all_of_an_input_is_refused():
    with pytest.raises(
        ValueError, match=r"Cropping2D 'c': .* size 3 of axis 2, expected more than the 1 \+ 2"
    ):
        layers.Cropping2D((0, (1, 2)), name="c")(jnp.ones((1, 3, 3, 1)))
