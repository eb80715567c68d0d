"""Builds the same layer here and in Keras, gives both the same weights, and compares the two."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np

import easyflax.layers as layers
import easyflax.serialization as serialization

# What Keras has for quantization and low-rank adaptation, which are not offered here, and for its own use.
KERAS_ONLY = {"quantization_config", "lora_rank", "lora_alpha", "gptq_unpacked_column_size"}


def make_both(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The layer of that name here and in Keras."""
    return getattr(layers, name)(*args, **kwargs), getattr(keras.layers, name)(*args, **kwargs)


def keras_weights(layer: Any) -> list[np.ndarray]:
    """What `get_weights` of a Keras layer returns, which NumPy warns about."""
    return [np.asarray(weight.value) for weight in layer.weights]


def random_weights(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays to be used as weights, near one in size and positive, as variances must be."""
    rng = np.random.default_rng(0)
    return [rng.uniform(0.1, 1.0, shape).astype("float32") for shape in shapes]


def assert_close(ours: Any, theirs: Any, rtol: float = 1e-6) -> None:
    """Asserts equal nesting, shapes and dtypes, and entries within `rtol` of the largest."""
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
        largest = np.max(np.abs(other), initial=0.0)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * largest)


def assert_same_layer(
    both: tuple[Any, Any], *inputs: Any, rtol: float = 1e-6, call: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """Calls both layers with equal weights, and asserts equal shapes, counts and outputs.

    Args:
        both: a layer here and in Keras, as of `make_both`.
        *inputs: arguments of the call.
        rtol: relative to the largest entry.
        call: keyword arguments of the call.

    Returns:
        the outputs of both.
    """
    ours, theirs = both
    call = call or {}
    ours(*inputs, **call)
    theirs(*inputs, **call)
    shapes = [weight.shape for weight in keras_weights(theirs)]
    assert [weight.shape for weight in ours.get_weights()] == shapes
    assert ours.count_params() == theirs.count_params()
    weights = random_weights(shapes)
    theirs.set_weights(weights)
    ours.set_weights(keras_weights(theirs))
    results = ours(*inputs, **call), theirs(*inputs, **call)
    assert_close(*results, rtol=rtol)
    return results


def assert_same_signature(name: str) -> None:
    """Asserts that the constructor has Keras's arguments in Keras's order, with Keras's defaults."""

    def parameters(cls: type) -> list[tuple[str, Any]]:
        found = inspect.signature(cls.__init__).parameters.values()
        return [(p.name, p.default) for p in found if p.name not in KERAS_ONLY]

    assert parameters(getattr(layers, name)) == parameters(getattr(keras.layers, name))


def assert_same_config(both: tuple[Any, Any]) -> None:
    """Asserts Keras's configuration, as JSON, and that a layer made from Keras's own has the same again."""
    ours, theirs = both
    config = {key: value for key, value in theirs.get_config().items() if key not in KERAS_ONLY}
    mine = ours.get_config()
    again = type(ours).from_config(theirs.get_config())
    assert _plain(mine) == _plain(config)
    assert _plain(again.get_config()) == _plain(mine)
    assert _plain(type(ours).from_config(mine).get_config()) == _plain(mine)


def _plain(config: dict[str, Any]) -> Any:
    """As JSON without the name, easyflax's modules under Keras's names, dtype policies as their names."""

    def simplify(value: Any) -> Any:
        if isinstance(value, list):
            return [simplify(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        return {
            key: item.replace("easyflax", "keras") if key == "module" and item else simplify(item)
            for key, item in value.items()
        }

    compared = {key: value for key, value in config.items() if key != "name"}
    if compared.get("activity_regularizer") is None:  # some layers of Keras have the key, others not
        compared.pop("activity_regularizer", None)
    return simplify(json.loads(json.dumps(serialization.serialize(compared))))
