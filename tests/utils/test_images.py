"""Images go to PIL, to files and back as Keras takes them there."""

from __future__ import annotations

import io

import numpy as np
import pytest

import easyflax as ef
from tests.parity import keras_oracle

pytest.importorskip("PIL")
keras = keras_oracle.keras


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [True, False])
def test_arrays_become_the_images_of_keras_and_come_back(channels, scale):
    x = np.random.default_rng(0).uniform(0, 255, (5, 4, channels))
    image = ef.utils.array_to_img(x, scale=scale)
    expected = keras.utils.array_to_img(x, scale=scale)
    assert image.mode == expected.mode
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    np.testing.assert_array_equal(ef.utils.img_to_array(image), keras.utils.img_to_array(expected))
    first = ef.utils.img_to_array(image, data_format="channels_first")
    assert first.shape == (channels, 5, 4)
    assert first.dtype == np.float32


def test_a_constant_image_is_scaled_to_black():
    assert not np.asarray(ef.utils.array_to_img(np.full((2, 2, 3), 7.0))).any()


@pytest.mark.parametrize("color_mode", ["grayscale", "rgb", "rgba"])
@pytest.mark.parametrize("keep_aspect_ratio", [False, True])
def test_a_saved_image_is_loaded_and_resized_as_by_keras(tmp_path, color_mode, keep_aspect_ratio):
    path = tmp_path / "image.png"
    x = np.random.default_rng(0).integers(0, 256, (12, 7, 3)).astype("float32")
    ef.utils.save_img(path, x, scale=False)
    options = {"color_mode": color_mode, "target_size": (6, 8), "keep_aspect_ratio": keep_aspect_ratio}
    for interpolation in ("nearest", "bilinear"):
        ours = ef.preprocessing.image.load_img(path, interpolation=interpolation, **options)
        expected = keras.utils.load_img(path, interpolation=interpolation, **options)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))
    whole = ef.utils.load_img(io.BytesIO(path.read_bytes()))
    np.testing.assert_array_equal(ef.utils.img_to_array(whole), x)


def test_transparency_is_left_out_of_jpeg_with_a_warning(tmp_path):
    path = tmp_path / "image.jpg"
    with pytest.warns(UserWarning, match="no transparency"):
        ef.utils.save_img(path, np.ones((4, 4, 4)))
    assert ef.utils.load_img(path).mode == "RGB"


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"x has shape \(2, 2\), expected \(height, width, channels\)"):
        ef.utils.array_to_img(np.ones((2, 2)))
    with pytest.raises(ValueError, match="has 2 channels, expected 1, 3 or 4"):
        ef.utils.array_to_img(np.ones((3, 3, 2)))
    with pytest.raises(ValueError, match="data_format is 'last', expected 'channels_last'"):
        ef.utils.array_to_img(np.ones((3, 3, 3)), data_format="last")
    with pytest.raises(ValueError, match="color_mode is 'gray', expected one of 'grayscale'"):
        ef.utils.load_img(tmp_path / "image.png", color_mode="gray")
    with pytest.raises(TypeError, match="path is a int, expected a path"):
        ef.utils.load_img(3)
