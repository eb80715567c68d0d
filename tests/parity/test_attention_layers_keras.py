"""Keras as the oracle: attention layers with the same arguments, weights and seeds.

Outputs agree to 1e-5 relative plus 1e-5 absolute, in float32.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from easyflax import layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

RNG = np.random.default_rng(0)
QUERY, VALUE, KEY = (RNG.normal(size=(2, *shape)).astype("float32") for shape in ((3, 4), (5, 6), (5, 4)))
MASK = RNG.random((2, 3, 5)) > 0.3
VALUE_MASK = jnp.asarray([[True, True, False, True, False], [True] * 5])
SCORES = {"return_attention_scores": True}


def _compare(name, args, options, inputs, training, call):
    theirs, ours = (getattr(kit, name)(*args, **options) for kit in (keras.layers, layers))
    theirs.build(*(jax.tree.map(np.shape, one) for one in inputs))
    ours(*inputs)
    assert [one.shape for one in ours.get_weights()] == [one.shape for one in theirs.get_weights()]
    assert ours.count_params() == theirs.count_params()
    weights = [RNG.normal(size=one.shape).astype("float32") for one in theirs.get_weights()]
    theirs.set_weights(weights), ours.set_weights(weights)
    expected = theirs(*inputs, training=training, **call)
    got = ours(*inputs, training=training, **call)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("options", "training", "call"),
    [
        ({}, False, {}),
        ({"use_bias": False, "use_gate": True}, False, {"attention_mask": MASK}),
        ({"sliding_window": 2}, False, {"use_causal_mask": True, "value_mask": VALUE_MASK}),
        ({"value_dim": 2, "output_shape": (2, 3)}, False, {"attention_mask": MASK, **SCORES}),
        ({"dropout": 0.4, "seed": 3}, True, {"use_causal_mask": True}),
    ],
    ids=["plain", "gate", "window", "sizes", "dropout"],
)
def test_attention_with_heads_is_equal(options, training, call):
    _compare("MultiHeadAttention", (2, 3), options, (QUERY, VALUE, KEY), training, call)


@pytest.mark.parametrize("options", [{}, {"attention_axes": (2,)}], ids=["all", "one"])
def test_attention_over_several_axes_is_equal(options):
    x = RNG.normal(size=(2, 3, 2, 4)).astype("float32")
    _compare("MultiHeadAttention", (2, 3), options, (x, x), False, SCORES)


@pytest.mark.parametrize(
    ("options", "training", "call"),
    [
        ({}, False, {"value_mask": VALUE_MASK}),
        ({"use_gate": True, "dropout": 0.3, "seed": 1}, True, {**SCORES, "attention_mask": MASK}),
    ],
    ids=["masked", "dropout"],
)
def test_attention_in_groups_is_equal(options, training, call):
    _compare("GroupQueryAttention", (3, 4, 2), options, (QUERY, VALUE, KEY), training, call)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Attention", {"use_scale": True}),
        ("Attention", {"score_mode": "concat", "dropout": 0.5, "seed": 1}),
        ("AdditiveAttention", {}),
    ],
    ids=["dot", "concat", "additive"],
)
def test_attention_without_heads_is_equal(name, options):
    masks = [jnp.asarray([[True, False, True]] * 2), VALUE_MASK]
    call = {"mask": masks, "use_causal_mask": True, **SCORES}
    _compare(name, (), options, ([QUERY, VALUE, KEY],), "dropout" in options, call)


@pytest.mark.parametrize(
    "name", ["Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"]
)
def test_arguments_are_those_of_keras(name):
    for method in ("__init__", "call"):
        theirs, ours = (
            [
                (parameter.name, parameter.default)
                for parameter in inspect.signature(getattr(getattr(kit, name), method)).parameters.values()
            ]
            for kit in (keras.layers, layers)
        )
        assert ours == theirs


@pytest.mark.parametrize("name", ["MultiHeadAttention", "GroupQueryAttention"])
def test_configurations_of_keras_are_taken(name):
    args = (4, 2) if name == "MultiHeadAttention" else (4, 2, 2)
    config = getattr(keras.layers, name)(*args, kernel_regularizer="l2").get_config()
    ours = getattr(layers, name)(*args).get_config()
    assert set(config) == set(ours)
    again = getattr(layers, name).from_config({**config, "dtype": "float32"})
    assert again.kernel_regularizer.get_config() == {"l2": np.float32(0.01)}
