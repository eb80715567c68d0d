"""`RandAugment`, and its numbers in Keras."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import layers

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 7, 3)).astype("float32")


@pytest.mark.slow
def test_augmentations_come_up_in_many_combinations_and_keep_the_range():
    layer = layers.RandAugment(seed=0)
    results = [np.asarray(layer(IMAGES)) for _ in range(4)]
    assert len({result.tobytes() for result in results}) == 4
    assert all(result.shape == IMAGES.shape and np.isfinite(result).all() for result in results)
    masks = jnp.ones((2, 8, 7, 1), jnp.int32)
    batch = layer({"images": IMAGES, "segmentation_masks": masks})
    assert (batch["segmentation_masks"].dtype, batch["segmentation_masks"].shape) == (jnp.int32, masks.shape)


def test_inference_and_no_operations_return_the_images():
    assert (layers.RandAugment()(IMAGES, training=False) == IMAGES).all()
    with pytest.raises(ValueError, match=r"factor is 1.5"):
        layers.RandAugment(factor=1.5)
