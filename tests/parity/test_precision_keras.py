"""Dtype policies, precision, loss scaling and averages against Keras's."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest

import easyflax
from easyflax.distribution import DataParallel

LIBRARIES = (easyflax, keras)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = (X @ RNG.normal(size=(4, 1))).astype("float32")


@pytest.fixture(autouse=True)
def policies_as_before():
    yield
    for library in LIBRARIES:
        library.config.set_dtype_policy("float32")


def make(library, dtype=None):
    library.utils.set_random_seed(0)  # where float16 overflows depends on the weights
    layers = library.layers
    return library.Sequential(
        [
            library.Input((4,)),
            layers.Dense(8, activation="relu", dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.Dense(1, dtype="float32"),
        ]
    )


def with_equal_weights(models):
    values = [np.asarray(weight.value) for weight in models[keras].weights]
    models[easyflax].set_weights(values)
    return models


def losses(model, optimizer, **options):
    model.compile(optimizer, "mse", **options)
    fitted = model.fit(X, Y, batch_size=16, epochs=6, shuffle=False, verbose=0)
    return np.array(fitted.history["loss"])


# Both round to 8 or 11 bits in the same places, but not in the same order of additions.
TOLERANCE = {"mixed_bfloat16": 2.0**-7, "mixed_float16": 2.0**-10}


@pytest.mark.parametrize("policy", TOLERANCE)
def test_training_under_a_global_policy_equals_kerass(policy):
    for library in LIBRARIES:
        library.config.set_dtype_policy(policy)
    models = with_equal_weights({library: make(library) for library in LIBRARIES})
    ours, theirs = (losses(models[library], library.optimizers.SGD(0.05)) for library in LIBRARIES)
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[policy])
    optimizers = [models[library].optimizer for library in LIBRARIES]
    assert type(optimizers[0]).__name__ == type(optimizers[1]).__name__
    if policy == "mixed_float16":
        assert float(optimizers[0].scale_loss(1.0)) == float(optimizers[1].scale_loss(1.0))
        assert int(optimizers[0].iterations) == int(optimizers[1].iterations) > 0


@pytest.mark.parametrize("policy", TOLERANCE)
def test_a_precision_trains_as_kerass_policy_does(policy):
    models = with_equal_weights({easyflax: make(easyflax), keras: make(keras, policy)})
    one_device = DataParallel(jax.devices()[:1])
    optimizers = [library.optimizers.Adam(0.05) for library in LIBRARIES]
    if policy == "mixed_float16":
        optimizers[1] = keras.optimizers.LossScaleOptimizer(optimizers[1])
    ours = losses(models[easyflax], optimizers[0], precision=policy, distribution=one_device)
    theirs = losses(models[keras], optimizers[1])
    np.testing.assert_allclose(ours, theirs, rtol=4 * TOLERANCE[policy])  # Adam magnifies small gradients
    predicted = [np.asarray(model.predict(X, verbose=0)) for model in models.values()]
    assert predicted[0].dtype == predicted[1].dtype == np.float32
    np.testing.assert_allclose(*predicted, atol=8 * TOLERANCE[policy])


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "mixed_float16"])
def test_policies_and_layers_say_the_same(policy):
    said = []
    for library in LIBRARIES:
        library.config.set_dtype_policy(policy)
        layer, one = library.layers.Dense(2), library.DTypePolicy(policy)
        outputs = layer(X)
        said.append(
            (
                repr(library.config.dtype_policy()),
                (one.name, one.compute_dtype, one.variable_dtype, one.get_config()),
                library.mixed_precision.global_policy() == one == layer.dtype_policy,
                (layer.compute_dtype, layer.variable_dtype, layer.get_config()["dtype"]),
                (str(outputs.dtype), repr(layer.dtype_policy)),
                library.dtype_policies.get(None).name,
                library.dtype_policies.serialize(one),
            )
        )
    assert said[0] == said[1]


def test_a_layer_that_casts_nothing_itself_sees_what_it_sees_in_keras():
    def outputs(library):
        class Product(library.layers.Layer):
            def build(self, input_shape):
                self.cast = self.add_weight(shape=(4, 2), initializer="ones", name="cast")
                self.kept = self.add_weight(shape=(2,), initializer="ones", autocast=False, name="kept")

            def call(self, inputs):
                product = library.ops.matmul(inputs, self.cast)
                return product, product + self.kept

        return [np.asarray(one, "float64") for one in Product(dtype="mixed_bfloat16")(X)]

    ours, theirs = map(outputs, LIBRARIES)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2.0**-7)


@pytest.mark.parametrize("every", [None, 2])
def test_fit_ends_with_the_average_of_the_weights_as_in_keras(every):
    models = with_equal_weights({library: make(library) for library in LIBRARIES})
    for library, model in models.items():
        optimizer = library.optimizers.SGD(
            0.05, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=every
        )
        losses(model, optimizer)
    ours, theirs = models[easyflax].get_weights(), [np.asarray(one.value) for one in models[keras].weights]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
