"""Keras on JAX as the oracle: dense layers, embeddings, activations as layers and those without weights."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.initializers as initializers
import easyflax.layers as layers
import tests.parity.keras_oracle as oracle

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype("float32")
X3 = RNG.normal(size=(4, 5, 6)).astype("float32")
IDS = RNG.integers(0, 10, size=(4, 5))

# name, keyword arguments, input
CASES = [
    ("Dense", {"units": 3}, X),
    ("Dense", {"units": 3, "activation": "gelu", "use_bias": False}, X3),
    (
        "Dense",
        {
            "units": 2,
            "kernel_initializer": "he_normal",
            "kernel_regularizer": "l2",
            "bias_constraint": "non_neg",
        },
        X,
    ),
    ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"}, X),
    (
        "EinsumDense",
        {"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d", "activation": "relu"},
        X3,
    ),
    ("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"}, X3),
    ("EinsumDense", {"equation": "ab...,bc->ac...", "output_shape": 3, "bias_axes": "c"}, X3),
    ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 4), "bias_axes": "de"}, X3),
    ("EinsumDense", {"equation": "abc,bcd->ad", "output_shape": 2}, X3),
    ("Embedding", {"input_dim": 10, "output_dim": 3}, IDS),
    ("Embedding", {"input_dim": 10, "output_dim": 3, "mask_zero": True}, IDS.astype("float32")),
    ("Identity", {}, X),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, X),
    ("Masking", {"mask_value": 0.5}, np.where(X3 > 0.5, 0.5, X3)),
    ("Activation", {"activation": "tanh"}, X),
    ("Activation", {"activation": "softmax"}, X),
    ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}, X),
    ("ReLU", {}, X),
    ("LeakyReLU", {}, X),
    ("LeakyReLU", {"negative_slope": 0.1}, X),
    ("ELU", {"alpha": 0.5}, X),
    ("Softmax", {}, X),
    ("Softmax", {"axis": [1, 2]}, X3),
    ("PReLU", {}, X3),
    ("PReLU", {"shared_axes": [1], "alpha_initializer": "ones", "alpha_regularizer": "l2"}, X3),
]
IDS_OF_CASES = [f"{name}-{number}" for number, (name, _, _) in enumerate(CASES)]
NAMES = sorted({name for name, _, _ in CASES} | {"Lambda"})


@pytest.mark.parametrize(("name", "kwargs", "x"), CASES, ids=IDS_OF_CASES)
def test_a_layer_computes_what_keras_computes_with_the_same_weights(name, kwargs, x):
    both = oracle.make_both(name, **kwargs)
    oracle.assert_same_layer(both, x)
    oracle.assert_same_config(both)
    ours, theirs = both
    assert [path.split("/")[-1] for path in (w.path for w in theirs.weights)] == list(names_of(ours))
    shape = (None, *x.shape[1:])
    known = zip(ours.compute_output_shape(shape), theirs.compute_output_shape(shape), strict=True)
    assert all(other in (None, one) for one, other in known)
    assert ours.supports_masking == theirs.supports_masking


def names_of(layer):
    return [name for weight in layer.weights for name, value in vars(layer).items() if value is weight]


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_has_the_arguments_and_defaults_of_keras(name):
    oracle.assert_same_signature(name)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("name", "kwargs", "x"),
    [
        ("Dense", {"units": 3}, X),
        ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"}, X),
        ("Embedding", {"input_dim": 10, "output_dim": 3}, IDS),
        ("PReLU", {}, X),
        ("ReLU", {}, X),
    ],
    ids=["Dense", "EinsumDense", "Embedding", "PReLU", "ReLU"],
)
def test_dtype_policies_compute_and_store_as_in_keras(name, kwargs, x, policy):
    both = oracle.make_both(name, **kwargs, dtype=policy)
    oracle.assert_same_layer(both, x, rtol=1e-2)
    ours, theirs = both
    assert [w.dtype for w in ours.get_weights()] == [w.dtype for w in oracle.keras_weights(theirs)]


@pytest.mark.parametrize(
    ("name", "kwargs", "x"),
    [
        ("Dense", {"units": 3}, X),
        ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 2, 4)}, X3),
    ],
    ids=["Dense", "EinsumDense"],
)
def test_seeded_kernels_are_those_of_keras(name, kwargs, x):
    ours = getattr(layers, name)(**kwargs, kernel_initializer=initializers.HeNormal(seed=3))
    theirs = getattr(keras.layers, name)(**kwargs, kernel_initializer=keras.initializers.HeNormal(seed=3))
    ours(x), theirs(x)
    oracle.assert_close(ours.get_weights()[0], oracle.keras_weights(theirs)[0])


@pytest.mark.parametrize(
    ("name", "kwargs", "x"),
    [
        ("Masking", {}, np.where(X3 > 0, X3, 0) * (RNG.random((4, 5, 1)) > 0.5)),
        ("Embedding", {"input_dim": 10, "output_dim": 2, "mask_zero": True}, IDS),
    ],
    ids=["Masking", "Embedding"],
)
def test_masks_are_those_of_keras(name, kwargs, x):
    ours, theirs = oracle.make_both(name, **kwargs)
    oracle.assert_close(ours.compute_mask(jnp.asarray(x)), theirs.compute_mask(jnp.asarray(x)))


@pytest.mark.parametrize("mask", [X > 0, (X > 0).astype("float32"), X[:1] > 9], ids=["bool", "float", "row"])
def test_softmax_leaves_out_what_is_masked_as_keras_does(mask):
    oracle.assert_same_layer(oracle.make_both("Softmax"), X, call={"mask": jnp.asarray(mask)})


def test_losses_of_a_call_are_those_of_keras():
    both = oracle.make_both(
        "Dense", 3, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l2"
    )
    oracle.assert_same_layer(both, X)
    ours, theirs = both
    assert sorted(map(float, ours.losses)) == pytest.approx(sorted(map(float, theirs.losses)), rel=1e-6)
    both = oracle.make_both("ActivityRegularization", l1=0.1, l2=0.2)
    ours, theirs = both
    ours(X), theirs(X)
    assert float(ours.losses[0]) == pytest.approx(float(theirs.losses[0]), rel=1e-6)


def scaled(x, factor=1.0, training=None):
    return x * (factor if training else -factor)


@pytest.mark.parametrize("training", [None, False, True])
def test_lambda_hands_on_arguments_and_the_mode(training):
    both = oracle.make_both("Lambda", scaled, arguments={"factor": 3.0}, output_shape=(6,))
    oracle.assert_same_layer(both, X, call={"training": training})
    ours, theirs = both
    assert ours.compute_output_shape((None, 6)) == theirs.compute_output_shape((None, 6)) == (None, 6)


def test_weights_given_to_an_embedding_are_its_table():
    table = RNG.normal(size=(10, 3)).astype("float32")
    ours, theirs = oracle.make_both("Embedding", 10, 3, weights=[table])
    oracle.assert_close(ours(IDS), theirs(IDS))
    oracle.assert_close(jax.tree.leaves(ours.get_weights()), [table])
