"""Keras on JAX as the oracle: normalisation layers, in both modes, and dropout and noise of the same seed.

Outputs agree to 1e-6 of the largest entry in float32, statistics in running averages too. In bfloat16 they
agree to its rounding, 2**-7, since gain and offset are applied in another order.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax as ef
import easyflax.layers as layers
import easyflax.nnx as nnx
import tests.parity.keras_oracle as oracle

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, size=(6, 8)).astype("float32")
X3 = RNG.normal(1.0, 2.0, size=(4, 5, 8)).astype("float32")
X4 = RNG.normal(1.0, 2.0, size=(3, 4, 5, 8)).astype("float32")

# name, keyword arguments, input
CASES = [
    ("BatchNormalization", {}, X),
    ("BatchNormalization", {"axis": 1, "momentum": 0.8, "epsilon": 0.1}, X4),
    ("BatchNormalization", {"center": False, "gamma_regularizer": "l2"}, X3),
    ("BatchNormalization", {"scale": False, "beta_constraint": "non_neg"}, X3),
    ("BatchNormalization", {"renorm": True, "renorm_momentum": 0.9}, X3),
    (
        "BatchNormalization",
        {"renorm": True, "axis": 1, "renorm_clipping": {"rmax": 1.5, "rmin": 0.9, "dmax": 0.3}},
        X4,
    ),
    ("LayerNormalization", {}, X3),
    ("LayerNormalization", {"axis": 1, "center": False, "epsilon": 0.1}, X3),
    ("LayerNormalization", {"axis": [1, 2], "gamma_initializer": "zeros"}, X3),
    ("LayerNormalization", {"axis": (-1, -3), "scale": False}, X4),
    ("RMSNormalization", {}, X3),
    ("RMSNormalization", {"axis": [2, 1], "epsilon": 0.1}, X3),
    ("UnitNormalization", {}, X3),
    ("UnitNormalization", {"axis": [1, 2]}, X3),
    ("GroupNormalization", {"groups": 4}, X4),
    ("GroupNormalization", {"groups": 2, "axis": 1, "scale": False}, X4),
    ("GroupNormalization", {"groups": -1, "center": False, "epsilon": 0.1}, X3),
    ("GroupNormalization", {"groups": 1}, X),
]
IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(CASES)]
RANDOM = [
    ("Dropout", {"rate": 0.4, "seed": 3}, X3),
    ("Dropout", {"rate": 0.4, "noise_shape": (None, 1, 8), "seed": 3}, X3),
    ("Dropout", {"rate": 1.0}, X3),
    ("SpatialDropout1D", {"rate": 0.4, "seed": 5}, X3),
    ("SpatialDropout2D", {"rate": 0.4, "seed": 5}, X4),
    ("SpatialDropout2D", {"rate": 0.4, "seed": 5, "data_format": "channels_first"}, X4),
    ("SpatialDropout3D", {"rate": 0.4, "seed": 5}, X4[..., None]),
    ("AlphaDropout", {"rate": 0.3, "seed": 7}, X3),
    ("AlphaDropout", {"rate": 0.3, "noise_shape": (4, 1, None), "seed": 7}, X3),
    ("GaussianDropout", {"rate": 0.3, "seed": 9}, X3),
    ("GaussianNoise", {"stddev": 0.3, "seed": 11}, X3),
]
RANDOM_IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(RANDOM)]
NAMES = sorted({name for name, _, _ in (*CASES, *RANDOM)} | {"SpectralNormalization"})


@pytest.mark.parametrize(("name", "kwargs", "x"), CASES, ids=IDS)
def test_a_layer_normalizes_as_keras_with_the_same_weights(name, kwargs, x):
    both = oracle.make_both(name, **kwargs)
    oracle.assert_same_config(both)
    oracle.assert_same_layer(both, x)
    assert both[0].compute_output_shape((None, *x.shape[1:])) == (None, *x.shape[1:])
    assert both[0].supports_masking == both[1].supports_masking


@pytest.mark.parametrize(
    ("kwargs", "x"), [case[1:] for case in CASES[:6]], ids=[f"case{number}" for number in range(6)]
)
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_batch_normalization_in_training_equals_kerass_and_so_do_its_running_averages(kwargs, x, masked):
    both = oracle.make_both("BatchNormalization", **kwargs)
    oracle.assert_same_layer(both, x)
    if masked and kwargs.get("axis", -1) != -1:
        masked = False  # Keras fails there in its second call
    call = {"training": True, **({"mask": RNG.uniform(size=x.shape[:-1]) < 0.7} if masked else {})}
    for _ in range(3):
        oracle.assert_close(both[0](x, **call), both[1](x, **call), rtol=2e-6)
        oracle.assert_close(both[0].get_weights(), oracle.keras_weights(both[1]), rtol=1e-6)
    oracle.assert_close(both[0](x), both[1](x), rtol=2e-6)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "name", ["BatchNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"]
)
def test_half_precision_rounds_where_keras_rounds(name, policy):
    kwargs = {"groups": 4} if name == "GroupNormalization" else {}
    both = oracle.make_both(name, dtype=policy, **kwargs)
    x = 300.0 + X3  # whose squares are no numbers of float16
    outputs = [layer(x, training=True) if name[0] == "B" else layer(x) for layer in both]
    oracle.assert_close(*outputs, rtol=2.0**-7)
    oracle.assert_close(both[0].get_weights(), oracle.keras_weights(both[1]), rtol=2.0**-7)


@pytest.mark.parametrize("renorm", [False, True], ids=["plain", "renorm"])
def test_gradients_of_batch_normalization_in_training_equal_kerass(renorm):
    both = oracle.make_both("BatchNormalization", renorm=renorm)
    oracle.assert_same_layer(both, X)
    ours, theirs = both
    target = RNG.normal(size=X.shape).astype("float32")
    trained, other = (
        [v.value for v in vs] for vs in (theirs.trainable_variables, theirs.non_trainable_variables)
    )

    def keras_loss(trained, x):
        return jnp.sum((theirs.stateless_call(trained, other, x, training=True)[0] - target) ** 2)

    def loss(layer, x):
        return jnp.sum((layer(x, training=True) - target) ** 2)

    of_weights, of_x = jax.grad(keras_loss, argnums=(0, 1))(trained, X)
    grads, grad_x = nnx.grad(loss, argnums=(0, 1))(ours, jnp.asarray(X))
    oracle.assert_close([grads["scale"].get_value(), grads["bias"].get_value()], of_weights, rtol=5e-6)
    oracle.assert_close(grad_x, of_x, rtol=5e-6)


def test_a_frozen_batch_normalization_is_in_inference_as_keras_is():
    both = oracle.make_both("BatchNormalization", trainable=False)
    oracle.assert_same_layer(both, X, call={"training": True})
    assert len(both[0].trainable_weights) == len(both[1].trainable_weights) == 0


@pytest.mark.parametrize("name", ["Dense", "EinsumDense"])
def test_spectral_normalization_iterates_as_keras(name):
    args, x = {"Dense": ((5,), X), "EinsumDense": (("abcd,de->abce", (4, 5, 3)), X4)}[name]
    both = tuple(
        wrapper(layer, power_iterations=2)
        for wrapper, layer in zip(
            (layers.SpectralNormalization, keras.layers.SpectralNormalization),
            oracle.make_both(name, *args),
            strict=True,
        )
    )
    oracle.assert_same_layer(both, x)
    assert set(both[0].get_config()) == set(both[1].get_config())
    for _ in range(2):
        oracle.assert_close(both[0](x, training=True), both[1](x, training=True), rtol=1e-5)
        oracle.assert_close(both[0].get_weights(), oracle.keras_weights(both[1]), rtol=1e-5)
    oracle.assert_close(both[0](x), both[1](x), rtol=1e-5)


@pytest.mark.parametrize(("name", "kwargs", "x"), RANDOM, ids=RANDOM_IDS)
def test_random_layers_draw_what_keras_draws_with_the_same_seed(name, kwargs, x):
    both = oracle.make_both(name, **kwargs)
    oracle.assert_same_config(both)
    oracle.assert_same_layer(both, x)
    for _ in range(2):
        oracle.assert_close(both[0](x, training=True), both[1](x, training=True), rtol=1e-6)
    assert both[0].supports_masking == both[1].supports_masking


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True], ids=["all-trained", "first-norm-frozen"])
def test_fit_goes_as_in_keras_through_layers_with_state_and_randomness(frozen):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(24, 6)).astype("float32"), rng.normal(size=(24, 2)).astype("float32")

    def build(lib):
        of = lib.layers
        inputs = lib.Input((6,))
        h = of.SpectralNormalization(of.Dense(8, activation="relu"), power_iterations=2)(inputs)
        h = of.BatchNormalization(momentum=0.8, trainable=not frozen)(h)
        h = of.concatenate([of.Dropout(0.3, seed=1)(h), of.GaussianNoise(0.1, seed=2)(h)])
        h = of.Dense(4)(of.LayerNormalization()(h))
        h = of.AlphaDropout(0.2, seed=3)(of.BatchNormalization(renorm=True)(h))
        return lib.Model(inputs, of.Dense(2)(h))

    ours, theirs = build(ef), build(keras)
    ours.set_weights(oracle.keras_weights(theirs))
    losses = []
    for lib, model in ((ef, ours), (keras, theirs)):
        model.compile(optimizer=lib.optimizers.SGD(0.05), loss="mse")
        history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for one, other in zip(ours.get_weights(), oracle.keras_weights(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_kerass(name):
    oracle.assert_same_signature(name)


@pytest.mark.parametrize("renorm", [False, True], ids=["plain", "renorm"])
def test_the_weights_of_batch_normalization_have_kerass_names(renorm):
    both = oracle.make_both("BatchNormalization", renorm=renorm)
    for layer in both:
        layer(X)
    ours, theirs = ([weight.name for weight in layer.weights] for layer in both)
    assert ours == theirs
