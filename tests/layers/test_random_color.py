"""Augmentations of colours and of values, against closed forms."""

import colorsys

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import layers
from easyflax.layers.color_space import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv

COLORS = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2, 5, 4, 3)).astype("float32"))


def test_hue_saturation_and_value_are_those_of_colorsys():
    special = jnp.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 1, 0]])
    for colors in (special, COLORS.reshape(-1, 3)):
        hsv = jnp.stack(rgb_to_hsv(colors), axis=-1)
        expected = [colorsys.rgb_to_hsv(*map(float, color)) for color in colors]
        np.testing.assert_allclose(hsv, expected, atol=1e-6)
        np.testing.assert_allclose(hsv_to_rgb(*jnp.moveaxis(hsv, -1, 0)), colors, atol=1e-6)


def test_grey_keeps_one_channel_and_refuses_two():
    assert rgb_to_grayscale(COLORS).shape == (2, 5, 4, 1)
    assert rgb_to_grayscale(COLORS[..., :1]) is not None
    with pytest.raises(ValueError, match="Images of 2 channels"):
        rgb_to_grayscale(COLORS[..., :2])
    with pytest.raises(ValueError, match="Images of 1 channels"):
        layers.RandomHue(0.5)(COLORS[..., :1])


def test_brightness_adds_a_share_of_the_range_and_clips():
    brighter = layers.RandomBrightness((0.25, 0.25), value_range=(0, 1))(COLORS)
    np.testing.assert_allclose(brighter, np.clip(COLORS + 0.25, 0, 1), rtol=1e-6)


def test_contrast_scales_around_the_mean_of_each_channel():
    changed = layers.RandomContrast((0.5, -0.5 + 0.5), value_range=(-9, 9), seed=0)(COLORS)
    mean = np.mean(COLORS, axis=(1, 2))
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), mean, rtol=1e-5)
    ratio = (changed - mean[:, None, None]) / (COLORS - mean[:, None, None])
    assert (np.ptp(np.asarray(ratio).reshape(2, -1), axis=1) < 1e-3).all()


def test_a_whole_turn_of_the_hue_and_half_saturation_change_nothing():
    same = layers.RandomSaturation((0.5, 0.5), value_range=(0, 1))(COLORS)
    np.testing.assert_allclose(same, COLORS, atol=1e-5)
    red = jnp.array([1.0, 0, 0]).reshape(1, 1, 1, 3)
    turned = layers.RandomHue((1.0, 1.0), value_range=(0, 1))(red)
    np.testing.assert_allclose(turned.ravel(), [0, 1, 1], atol=1e-5)  # cyan, half a turn away


def test_posterization_keeps_the_upper_bits():
    values = jnp.arange(256.0).reshape(1, 16, 16, 1)
    kept = layers.RandomPosterization((3, 3))(values)
    np.testing.assert_array_equal(kept, np.asarray(values, int) & 0b11100000)


def test_inversion_and_solarization_are_reflections():
    values = jnp.arange(256.0).reshape(1, 16, 16, 1)
    inverted = layers.RandomInvert((1.0, 1.0))(values)
    np.testing.assert_array_equal(inverted, 255 - values)
    np.testing.assert_array_equal(layers.Solarization()(values), 255 - values)


def test_sharpness_of_a_half_changes_nothing_and_of_zero_blurs():
    np.testing.assert_allclose(
        layers.RandomSharpness((0.5, 0.5), value_range=(0, 1))(COLORS), COLORS, rtol=1e-5
    )
    point = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(13.0)
    blurred = layers.RandomSharpness((0.0, 0.0))(point)[0, 1:4, 1:4, 0]
    np.testing.assert_allclose(blurred, [[1, 1, 1], [1, 5, 1], [1, 1, 1]], rtol=1e-5)


def test_jitter_without_factors_changes_nothing():
    assert (layers.RandomColorJitter()(COLORS) == COLORS).all()


def test_auto_contrast_uses_the_whole_range_of_each_image_and_channel():
    stretched = layers.AutoContrast(value_range=(0, 1))(COLORS)
    np.testing.assert_allclose(stretched.min(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(stretched.max(axis=(1, 2)), 1, atol=1e-6)
    flat = jnp.full((1, 3, 3, 1), 0.25)
    assert (layers.AutoContrast(value_range=(0, 1))(flat) == flat).all()


@pytest.mark.slow
def test_equalization_makes_values_equally_frequent_and_keeps_flat_images():
    dark = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 40, 40, 1)).astype("float32")) ** 1.5 * 255
    counts, _ = np.histogram(layers.Equalization()(dark), bins=4, range=(0, 255))
    assert counts.min() > 350
    flat = jnp.full((1, 3, 3, 1), 77.0)
    assert (layers.Equalization()(flat) == flat).all()
    with pytest.raises(ValueError, match="bins is 0"):
        layers.Equalization(bins=0)
