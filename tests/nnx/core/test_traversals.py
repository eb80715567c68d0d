import pytest

from easyflax import nnx
from easyflax.nnx import traversals
from easyflax.nnx.traversals import flatten_mapping, flatten_to_sequence, unflatten_mapping

NESTED = {"foo": 1, "bar": {"a": 2, "b": {}}}


def test_flattening_drops_empty_mappings_or_keeps_them():
    assert flatten_mapping(NESTED) == {("foo",): 1, ("bar", "a"): 2}
    kept = flatten_mapping(NESTED, keep_empty_nodes=True)
    assert kept == {("foo",): 1, ("bar", "a"): 2, ("bar", "b"): traversals.empty_node}
    assert unflatten_mapping(kept) == NESTED
    assert flatten_mapping({}, keep_empty_nodes=True) == {}


def test_paths_are_joined_and_taken_apart_by_a_separator():
    flat = flatten_mapping(NESTED, sep="/")
    assert flat == {"foo": 1, "bar/a": 2}
    assert unflatten_mapping(flat, sep="/") == {"foo": 1, "bar": {"a": 2}}


def test_a_function_says_which_mappings_are_leaves():
    flat = flatten_mapping(NESTED, is_leaf=lambda path, value: path == ("bar",) and "a" in value)
    assert flat == {("foo",): 1, ("bar",): {"a": 2, "b": {}}}


def test_sequences_of_pairs_go_both_ways_and_states_are_mappings():
    pairs = flatten_to_sequence(NESTED)
    assert pairs == [(("foo",), 1), (("bar", "a"), 2)]
    assert unflatten_mapping(pairs) == {"foo": 1, "bar": {"a": 2}}
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    assert flatten_mapping(nnx.state({"l": layer}), sep=".")["l.kernel"] is layer.kernel


def test_what_is_no_mapping_is_an_error():
    with pytest.raises(TypeError, match="flatten_mapping got a int, expected a mapping"):
        flatten_mapping(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="flatten_to_sequence got a list, expected a mapping"):
        flatten_to_sequence([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unflatten_mapping got a int, expected a mapping from paths"):
        unflatten_mapping(1)  # type: ignore[arg-type]
