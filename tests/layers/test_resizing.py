"""`Resizing`, `CenterCrop` and `Rescaling`."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import layers


def test_padding_keeps_all_of_the_image_and_cropping_keeps_its_ratio():
    x = jnp.ones((1, 4, 2, 1))
    padded = layers.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=9.0)(x)[0, 0, :, 0]
    assert padded.tolist() == [9, 1, 1, 9]
    image = jnp.arange(8.0).reshape(1, 4, 2, 1)
    cropped = layers.Resizing(2, 2, crop_to_aspect_ratio=True)(image)
    np.testing.assert_array_equal(cropped, image[:, 1:3])


def test_shapes_are_known_before_the_call():
    layer = layers.Resizing(5, 6)
    assert layer.compute_output_shape((None, None, None, 3)) == (None, 5, 6, 3)
    assert layers.CenterCrop(2, 3).compute_output_shape((4, 8, 9, 3)) == (4, 2, 3, 3)


def test_resized_integers_stay_in_their_range():
    x = np.zeros((1, 4, 4, 1), "uint8")
    x[:, 2:] = 255
    resized = layers.Resizing(9, 9, interpolation="bicubic")(x)  # which overshoots at edges
    assert resized.dtype == jnp.uint8
    assert set(np.unique(np.asarray(resized)[0, :3, 0, 0])) <= {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "area"}, "interpolation is 'area'"),
        ({"fill_mode": "reflect"}, "fill_mode is 'reflect', expected one of"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "expected one of them"),
        ({"height": 2.5}, "height is 2.5"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        layers.Resizing(**{"height": 2, "width": 2, **options})


def test_rescaling_by_channel_makes_floats_of_integers():
    layer = layers.Rescaling(np.array([1.0, 2.0]), offset=[0.5, 0.0])
    assert layer(np.ones((1, 2), "uint8")).tolist() == [[1.5, 2.0]]
    assert layers.Rescaling.from_config(layer.get_config()).scale == (1.0, 2.0)
    assert layers.Rescaling(2.0, dtype="bfloat16")(jnp.ones(2)).dtype == jnp.bfloat16
