"""What all random image layers have in common."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
import easyflax.nnx as nnx
from easyflax import layers

LAYERS = {
    "RandomFlip": {},
    "RandomRotation": {"factor": 0.3},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomZoom": {"height_factor": 0.4},
    "RandomShear": {"x_factor": 0.5},
    "RandomPerspective": {},
    "RandomElasticTransform": {},
    "RandomBrightness": {"factor": 0.4},
    "RandomContrast": {"factor": (0.5, 0.9)},
    "RandomSaturation": {"factor": (0.1, 0.6)},
    "RandomHue": {"factor": 0.9},
    "RandomGrayscale": {},
    "RandomColorDegeneration": {"factor": (0.2, 0.9)},
    "RandomColorJitter": {"brightness_factor": 0.3, "hue_factor": 0.4},
    "RandomPosterization": {"factor": (1, 8)},
    "RandomSharpness": {"factor": 0.9},
    "RandomInvert": {"factor": 0.9},
    "Solarization": {"addition_factor": 0.5, "threshold_factor": 0.5},
    "RandomErasing": {},
    "RandomGaussianBlur": {"factor": (0.5, 0.5)},
}


def equal_images(count=6):
    image = np.random.default_rng(0).uniform(1, 254, (1, 8, 7, 3)).astype("float32")
    return jnp.asarray(np.repeat(image, count, axis=0))


def make(name, **more):
    return getattr(layers, name)(**LAYERS[name], **more)


@pytest.mark.parametrize("name", LAYERS)
def test_images_of_a_batch_are_changed_differently(name):
    changed = make(name, seed=1)(equal_images())
    assert changed.shape == (6, 8, 7, 3)
    assert changed.dtype == jnp.float32
    assert np.isfinite(changed).all()
    assert len({one.tobytes() for one in np.asarray(changed)}) > 1


@pytest.mark.parametrize("name", ["RandomFlip", "RandomRotation", "RandomErasing"])
def test_a_seed_repeats_and_each_call_goes_on(name):
    images = equal_images()
    layer, same, other = make(name, seed=1), make(name, seed=1), make(name, seed=2)
    first, second = layer(images), layer(images)
    assert (same(images) == first).all()
    assert (same(images) == second).all()
    assert (first != second).any()
    assert (other(images) != first).any()


def test_without_a_seed_the_global_one_decides():
    images = equal_images()
    ef.utils.set_random_seed(3)
    first = layers.RandomRotation(0.4)(images)
    second = layers.RandomRotation(0.4)(images)
    ef.utils.set_random_seed(3)
    assert (layers.RandomRotation(0.4)(images) == first).all()
    assert (first != second).any()


@pytest.mark.parametrize("name", LAYERS)
def test_inference_returns_the_images(name):
    images, layer = equal_images(2), make(name, seed=1)
    assert (layer(images, training=False) == images).all()
    layer.eval()
    assert (layer(images) == images).all()


def test_a_transform_carries_the_counter_on():
    images = equal_images()
    layer, eager = layers.RandomRotation(0.3, seed=1), layers.RandomRotation(0.3, seed=1)
    jitted = nnx.jit(lambda layer, x: layer(x))
    for _ in range(2):
        np.testing.assert_allclose(jitted(layer, images), eager(images), atol=1e-2)


@pytest.mark.slow
def test_a_model_trains_behind_them_and_predicts_without_them():
    model = ef.Sequential(
        [
            ef.Input((8, 7, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(seed=1),
            layers.RandomRotation(0.2, fill_mode="nearest", seed=2),
            layers.RandomContrast(0.2, value_range=(0, 1), seed=3),
            layers.RandomCrop(4, 4, seed=4),
            lambda x: x.reshape(x.shape[0], -1),
            layers.Dense(2),
        ]
    )
    assert model.output_shape == (None, 2)
    assert model.count_params() == 4 * 4 * 3 * 2 + 2
    x = np.asarray(equal_images(8)).astype("uint8")
    model.compile("sgd", "mse")
    counts = [np.asarray(model.layers[index].generator.state.get_value()) for index in (1, 4)]
    history = model.fit(x, np.zeros((8, 2), "float32"), batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for index, before in zip((1, 4), counts, strict=True):
        after = np.asarray(model.layers[index].generator.state.get_value())
        assert after[1] == before[1] + 4 * (2 if index == 4 else 1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_dict_is_changed_as_a_whole_and_not_in_place():
    images = equal_images(3)
    batch = {"images": images, "labels": jnp.arange(3), "segmentation_masks": images[..., :1].astype(int)}
    result = layers.RandomFlip("horizontal", seed=1)(batch)
    assert batch["images"] is images
    assert result["labels"].tolist() == [0, 1, 2]
    flipped = (result["images"] != images).any(axis=(1, 2, 3))
    assert (result["segmentation_masks"].dtype, flipped.any(), flipped.all()) == (jnp.int32, True, False)
    np.testing.assert_array_equal(
        result["segmentation_masks"][..., 0], result["images"][..., 0].astype(jnp.int32)
    )


def test_other_entries_and_other_ranks_are_refused():
    with pytest.raises(ValueError, match=r"'bounding_boxes', 'images'.*expected 'images'"):
        layers.RandomFlip()({"images": equal_images(), "bounding_boxes": jnp.ones((6, 4))})
    with pytest.raises(ValueError, match="three axes for one image or four for a batch"):
        layers.RandomFlip()(jnp.ones((5, 5)))


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: layers.RandomBrightness(2.0), "factor is 2.0, expected a number between -1.0 and 1.0"),
        (lambda: layers.RandomZoom(-1.0), "height_factor is -1.0"),
        (lambda: layers.RandomTranslation(0.1, (0.2, 3.0)), "width_factor is"),
        (lambda: layers.RandomRotation("a lot"), "factor is 'a lot'"),
        (lambda: layers.RandomRotation(0.1, fill_mode="wrapped"), "fill_mode is 'wrapped'"),
        (lambda: layers.RandomRotation(0.1, interpolation="cubic"), "interpolation is 'cubic'"),
        (lambda: layers.RandomFlip("sideways"), "mode is 'sideways'"),
        (
            lambda: layers.RandomContrast(0.1, value_range=(1,)),
            r"value_range is \(1,\), expected two numbers",
        ),
        (lambda: layers.RandomGrayscale(1.5), "factor is 1.5"),
        (lambda: layers.RandomPerspective(scale=2), "scale is 2"),
        (lambda: layers.RandomGaussianBlur(kernel_size=4), "kernel_size is 4, expected an odd number"),
        (lambda: layers.RandomErasing(fill_value=(1, 2)), "fill_value has 2 numbers"),
        (lambda: layers.RandomCrop(0, 3), "height is 0, expected a positive integer"),
        (lambda: layers.RandomFlip(data_format="last"), "data_format is 'last'"),
        (lambda: layers.RandomFlip(factor=1), "unknown argument 'factor'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_out_of_bounds_are_named(make_layer, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_layer()
