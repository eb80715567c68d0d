"""Keras on JAX as the oracle: layers that merge inputs, their masks, and layers that only move entries.

Outputs agree to 1e-6 of the largest entry.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax as ef
import easyflax.layers as layers
import tests.parity.keras_oracle as oracle
from easyflax.masks import mask_of, with_masks

RNG = np.random.default_rng(0)


def arrays(*shapes):
    return [RNG.normal(size=shape).astype("float32") for shape in shapes]


ELEMENTWISE = ["Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"]
SHAPES = {
    "equal": [(4, 5, 3), (4, 5, 3)],
    "broadcast": [(4, 1, 3), (4, 5, 1)],
    "other-ranks": [(4, 3), (4, 5, 3)],
    "three": [(4, 5), (4, 5), (4, 1)],
}
MASKS = {
    "both": [RNG.uniform(size=(4, 5)) < 0.6, RNG.uniform(size=(4, 5)) < 0.6],
    "first": [RNG.uniform(size=(4, 5)) < 0.6, None],
    "second": [None, RNG.uniform(size=(4, 5)) < 0.6],
}
OTHERS = [
    ("Concatenate", {}, arrays((4, 5, 3), (4, 5, 2), (4, 5, 1))),
    ("Concatenate", {"axis": 1}, arrays((4, 5, 3), (4, 2, 3))),
    ("Dot", {"axes": 1}, arrays((4, 5), (4, 5))),
    ("Dot", {"axes": -1, "normalize": True}, arrays((4, 5), (4, 5))),
    ("Dot", {"axes": (2, 1)}, arrays((4, 5, 3), (4, 3, 2))),
    ("Dot", {"axes": 2, "normalize": True}, arrays((4, 5, 3), (4, 2, 3))),
    ("Dot", {"axes": [1, 3]}, arrays((4, 3, 5, 2), (4, 5, 2, 3))),
    ("Dot", {"axes": (1, 2)}, arrays((4, 3), (4, 5, 3))),
    ("Dot", {"axes": (-1, 1)}, arrays((4, 5, 3), (4, 3))),
]
RESHAPING = [
    ("Flatten", {}, (4, 5, 3)),
    ("Flatten", {}, (4,)),
    ("Flatten", {"data_format": "channels_first"}, (4, 3, 2, 5)),
    ("Reshape", {"target_shape": (5, 3)}, (4, 15)),
    ("Reshape", {"target_shape": (-1, 2)}, (4, 5, 2, 3)),
    ("Reshape", {"target_shape": ()}, (4, 1)),
    ("Permute", {"dims": (3, 1, 2)}, (4, 5, 3, 2)),
    ("RepeatVector", {"n": 3}, (4, 5)),
]
IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(OTHERS)]
RESHAPING_IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(RESHAPING)]
NAMES = [*ELEMENTWISE, "Concatenate", "Dot", "Flatten", "Permute", "RepeatVector", "Reshape"]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_inputs_are_combined_as_in_keras(name, shapes):
    inputs = arrays(*SHAPES[shapes])[: 2 if name == "Subtract" else None]
    both = oracle.make_both(name)
    oracle.assert_same_layer(both, inputs)
    oracle.assert_same_config(both)


@pytest.mark.parametrize(("name", "kwargs", "inputs"), OTHERS, ids=IDS)
def test_inputs_are_joined_as_in_keras(name, kwargs, inputs):
    both = oracle.make_both(name, **kwargs)
    oracle.assert_same_layer(both, inputs)
    oracle.assert_same_config(both)
    shapes = [(None, *one.shape[1:]) for one in inputs]
    assert both[0].compute_output_shape(shapes) == both[1].compute_output_shape(shapes)


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate"])
def test_masks_count_as_in_keras(name, masks):
    inputs, masks = arrays((4, 5, 3), (4, 5, 3)), MASKS[masks]
    ours, theirs = oracle.make_both(name)
    outputs = ours(with_masks(inputs, masks))
    mask = mask_of(outputs)
    tensors = [keras.ops.convert_to_tensor(one) for one in inputs]
    for tensor, one in zip(tensors, masks, strict=True):
        if one is not None:
            tensor._keras_mask = jnp.asarray(one)
    expected = theirs(tensors)
    oracle.assert_close(outputs, expected)
    expected_mask = getattr(expected, "_keras_mask", None)
    assert (mask is None) == (expected_mask is None)
    if mask is not None:
        np.testing.assert_array_equal(mask, expected_mask)


def test_masks_reach_a_merge_in_a_model_as_in_keras():
    ids = RNG.integers(0, 3, size=(4, 6))
    table = arrays((3, 5))

    def build(lib, input_):
        x = input_((6,))
        embedding = lib.layers.Embedding(3, 5, mask_zero=True)
        y = lib.layers.Multiply()([embedding(x), embedding(x)])
        return embedding, lib.Model(x, lib.layers.Maximum()([y, embedding(x)]))

    (ours, model), (theirs, keras_model) = build(ef, ef.Input), build(keras, keras.Input)
    ours.set_weights(table)
    theirs.set_weights(table)
    oracle.assert_close(model(ids), keras_model(ids))


@pytest.mark.parametrize(("name", "kwargs", "shape"), RESHAPING, ids=RESHAPING_IDS)
def test_entries_are_moved_as_in_keras(name, kwargs, shape):
    both = oracle.make_both(name, **kwargs)
    oracle.assert_same_layer(both, *arrays(shape))
    oracle.assert_same_config(both)
    free = (None, *shape[1:])
    assert both[0].compute_output_shape(free) == both[1].compute_output_shape(free)
    assert both[0].supports_masking == both[1].supports_masking


def test_the_functional_forms_state_kerass_graph():
    def build(lib, input_):
        a, b = input_((5, 3)), input_((5, 3))
        joined = [getattr(lib.layers, name.lower())([a, b]) for name in (*ELEMENTWISE, "Concatenate")]
        whole = lib.layers.concatenate(joined, axis=-1)
        return lib.Model([a, b], lib.layers.dot([whole, whole], axes=2, normalize=True))

    inputs = arrays((4, 5, 3), (4, 5, 3))
    oracle.assert_close(build(ef, ef.Input)(inputs), build(keras, keras.Input)(inputs), rtol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_kerass(name):
    oracle.assert_same_signature(name)


def test_the_functional_forms_work_on_arrays():
    a, b = arrays((2, 3), (2, 3))
    np.testing.assert_allclose(layers.add([a, b]), a + b, rtol=1e-6)
    np.testing.assert_allclose(layers.dot([a, b]), np.sum(a * b, -1, keepdims=True), rtol=1e-5)
