"""Augmentations that replace, blur or mix regions."""

import jax.numpy as jnp
import numpy as np

from easyflax import layers

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(10, 255, (4, 12, 10, 3)).astype("float32"))


def test_erasing_fills_one_rectangle():
    erased = layers.RandomErasing(factor=(1.0, 1.0), scale=(0.1, 0.3), fill_value=3.0, seed=0)(IMAGES)
    for before, after in zip(IMAGES, erased, strict=True):
        inside = np.asarray((after == 3).all(axis=-1))
        rows, columns = np.where(inside)
        assert inside.any()
        assert inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert (after[~inside] == before[~inside]).all()


def test_erasing_fills_each_channel_with_its_value():
    erased = layers.RandomErasing(factor=(1.0, 1.0), scale=(1.0, 1.0), fill_value=(1.0, 2.0, 3.0))(IMAGES)
    np.testing.assert_array_equal(erased, np.broadcast_to([1.0, 2.0, 3.0], IMAGES.shape))


def test_blurring_keeps_constant_middles_and_spreads_points():
    point = jnp.zeros((1, 7, 7, 1)).at[0, 3, 3, 0].set(100.0)
    blurred = layers.RandomGaussianBlur(factor=(1.0, 1.0), sigma=(1.0, 1.0))(point)[0, ..., 0]
    weights = np.exp(-0.5 * np.arange(-1, 2) ** 2)
    expected = 100 * np.outer(weights, weights) / weights.sum() ** 2
    np.testing.assert_allclose(blurred[2:5, 2:5], expected, rtol=1e-4)


def test_mix_up_mixes_images_and_labels_in_one_proportion():
    values = jnp.array([0.0, 1.0, 10.0, 100.0])
    batch = {"images": jnp.broadcast_to(values[:, None, None, None], (4, 2, 2, 1)), "labels": jnp.eye(4)}
    mixed = layers.MixUp(alpha=1.0, seed=0)(batch)
    np.testing.assert_allclose(mixed["labels"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed["images"][:, 0, 0, 0], mixed["labels"] @ values, rtol=1e-5)
    assert (mixed["labels"] != jnp.eye(4)).any()


def test_cut_mix_mixes_labels_by_the_area_it_replaces():
    values = jnp.arange(4.0)
    images = jnp.broadcast_to(values[:, None, None, None], (4, 60, 60, 1))
    mixed = layers.CutMix(seed=0)({"images": images, "labels": jnp.eye(4)})
    np.testing.assert_allclose(mixed["labels"].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed["images"].mean(axis=(1, 2, 3)), mixed["labels"] @ values, atol=0.1)


def test_mixing_integer_labels_makes_floats_and_inference_keeps_them():
    batch = {"images": IMAGES, "labels": jnp.eye(4, dtype=jnp.int32)}
    for layer in (layers.MixUp(seed=0), layers.CutMix(seed=0)):
        assert layer(batch)["labels"].dtype == jnp.float32
        assert (layer(batch, training=False)["labels"] == batch["labels"]).all()
