"""Flips, crops and affine augmentations, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (3, 6, 6, 2)).astype("float32"))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(turns):
    turned = layers.RandomRotation((turns / 4, turns / 4))(IMAGES)
    np.testing.assert_allclose(turned, np.rot90(IMAGES, turns, axes=(1, 2)), atol=1e-2)


def test_a_translation_by_whole_pixels_moves_down_and_right():
    moved = layers.RandomTranslation((1 / 6, 1 / 6), (1 / 3, 1 / 3), fill_mode="wrap")(IMAGES)
    np.testing.assert_allclose(moved, np.roll(IMAGES, (1, 2), axis=(1, 2)), atol=1e-2)
    filled = layers.RandomTranslation((0.5, 0.5), (0, 0), fill_mode="constant", fill_value=7.0)(IMAGES)
    assert (filled[:, :3] == 7).all()
    np.testing.assert_allclose(filled[:, 3:], IMAGES[:, :3], atol=1e-2)


def test_a_zoom_by_minus_a_half_shows_the_middle():
    x = jnp.broadcast_to(jnp.arange(9.0)[:, None], (9, 9))[None, ..., None]
    zoomed = layers.RandomZoom((-0.5, -0.5))(x)[0, :, 0, 0]
    np.testing.assert_allclose(zoomed, np.linspace(2, 6, 9), atol=1e-5)


def test_factors_of_zero_change_nothing():
    for layer in (
        layers.RandomRotation(0.0),
        layers.RandomTranslation(0.0, 0.0),
        layers.RandomZoom(0.0, 0.0),
        layers.RandomShear(),
        layers.RandomPerspective(scale=0.0),
    ):
        np.testing.assert_allclose(layer(IMAGES), IMAGES, rtol=1e-4, atol=1e-2)


def test_flips_are_of_whole_images():
    for mode, axes in (("horizontal", (1,)), ("vertical", (0,)), ("horizontal_and_vertical", (0, 1))):
        for before, after in zip(IMAGES, layers.RandomFlip(mode, seed=0)(IMAGES), strict=True):
            assert (after == before).all() or (after == jnp.flip(before, axes)).all()


def test_a_crop_is_a_part_and_all_places_come_up():
    image = jnp.arange(25.0).reshape(1, 5, 5, 1)
    layer = layers.RandomCrop(4, 4, seed=0)
    crops = [layer(image)[0, ..., 0] for _ in range(30)]
    parts = {(i, j): image[0, i : i + 4, j : j + 4, 0] for i in (0, 1) for j in (0, 1)}
    found = {place for crop in crops for place, part in parts.items() if (crop == part).all()}
    assert found == set(parts)
    assert all(any((crop == part).all() for part in parts.values()) for crop in crops)


def test_a_crop_resizes_the_middle_in_inference_and_of_small_images():
    layer = layers.RandomCrop(4, 4)
    middle = layers.Resizing(4, 4, crop_to_aspect_ratio=True)
    for images in (IMAGES, IMAGES[:, :4], IMAGES[:, :3]):
        np.testing.assert_array_equal(layer(images, training=False), middle(images))
    np.testing.assert_array_equal(layer(IMAGES[:, :3]), middle(IMAGES[:, :3]))
    assert layer.compute_output_shape((None, 9, 8, 3)) == (None, 4, 4, 3)


def test_masks_are_read_at_the_nearest_pixel():
    masks = jnp.asarray(np.random.default_rng(0).integers(0, 9, (3, 6, 6, 1)))
    for layer in (
        layers.RandomRotation(0.3),
        layers.RandomPerspective(),
        layers.RandomCrop(3, 3),
        layers.RandomElasticTransform(),
    ):
        turned = layer({"images": IMAGES, "segmentation_masks": masks})["segmentation_masks"]
        assert turned.dtype == masks.dtype
        assert set(np.unique(turned)) <= set(range(9))


@pytest.mark.slow
def test_an_elastic_transform_keeps_constant_images_and_moves_pixels_smoothly():
    flat = jnp.full((2, 8, 8, 1), 5.0)
    np.testing.assert_allclose(layers.RandomElasticTransform(seed=0)(flat), flat, rtol=1e-6)
    ramp = jnp.broadcast_to(jnp.arange(16.0)[:, None], (16, 16))[None, ..., None]
    bent = layers.RandomElasticTransform(scale=(0.5, 0.5), seed=0)(ramp)
    assert 0.05 < float(jnp.abs(bent - ramp).mean()) < 3
    assert (layers.RandomElasticTransform(factor=0.0)(ramp) == ramp).all()
