"""`ef.tree` gives what `keras.tree` gives."""

from __future__ import annotations

import collections
from typing import Any

import pytest

import easyflax.tree as tree
from tests.parity import keras_oracle

keras_tree = keras_oracle.keras.tree

Pair = collections.namedtuple("Pair", "a b")
NESTINGS: dict[str, Any] = {
    "value": 1,
    "none": None,
    "list": [1, None, (2, {"z": 1, "a": [3, []]})],
    "dict": {"b": 1, "a": (None,)},
    "namedtuple": Pair(1, [2]),
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "ordered dict": collections.OrderedDict(b=1, a=2),
    "nested ordered dict": [collections.OrderedDict(b=1, a=2)],
    "plain dict": {"b": 5, "a": 2},
    "tuple": (1, [2]),
    "shapes": {"image": (None, 28, 28), "pair": [(None, 3), (2,)]},
}


@pytest.mark.parametrize("name", NESTINGS)
def test_nestings_are_flattened_packed_and_mapped_as_by_keras(name):
    nesting = NESTINGS[name]
    count = len(keras_tree.flatten(nesting))
    visited: list[list[Any]] = []
    for module in (keras_tree, tree):
        seen: list[Any] = []
        for top_down in (True, False):
            module.traverse(lambda part, seen=seen: seen.append(part), nesting, top_down)
        visited.append(seen)
    assert visited[0] == visited[1]
    for call in (
        lambda module: module.flatten(nesting),
        lambda module: module.flatten_with_path(nesting),
        lambda module: module.is_nested(nesting),
        lambda module: module.lists_to_tuples(nesting),
        lambda module: module.map_structure(lambda value: [value], nesting),
        lambda module: module.map_structure(lambda value: [value], nesting, none_is_leaf=False),
        lambda module: module.map_structure(lambda a, b: (a, b), nesting, nesting),
        lambda module: module.pack_sequence_as(nesting, range(count)),
        lambda module: module.map_shape_structure(str, nesting),
    ):
        ours, expected = call(tree), call(keras_tree)
        assert ours == expected
        assert type(ours) is type(expected)


@pytest.mark.parametrize("function", ["assert_same_structure", "assert_same_paths"])
@pytest.mark.parametrize("name", NESTINGS)
def test_nestings_are_told_apart_as_by_keras(name, function):
    for other in NESTINGS.values():
        verdicts = []
        for module in (keras_tree, tree):
            try:
                getattr(module, function)(NESTINGS[name], other)
                verdicts.append("same")
            except ValueError:
                verdicts.append("different")
        assert verdicts[0] == verdicts[1], other
