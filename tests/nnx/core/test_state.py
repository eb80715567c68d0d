"""States: nested mappings with variables as leaves, their pure-dict and flat forms."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


def make_state():
    return nnx.State(
        {
            "d": nnx.Param(jnp.array(3.0)),
            "a": {"b": nnx.Param(jnp.array(1.0)), "c": nnx.BatchStat(jnp.array(2.0))},
        }
    )


# -- a mapping with attributes


def test_entries_are_items_and_attributes():
    state = make_state()
    assert state["a"]["b"] is state.a.b
    assert "a" in state
    assert "z" not in state
    assert (len(state), list(state)) == (2, ["d", "a"])
    state.e = {"f": 1}
    state["g"] = 2
    assert isinstance(state.e, nnx.State)
    assert (state.e.f, state.g) == (1, 2)
    del state.e
    del state["g"]
    assert sorted(state) == ["a", "d"]


def test_entries_that_do_not_exist_raise():
    state = make_state()
    with pytest.raises(AttributeError, match=r"State has no entry 'zz'; it has \['a', 'd'\]"):
        _ = state.zz
    with pytest.raises(KeyError):
        state["zz"]


def test_states_are_equal_to_mappings_with_equal_entries():
    state = nnx.State({"a": {"b": 1}})
    assert state == nnx.State({"a": {"b": 1}})
    assert state == {"a": {"b": 1}}
    assert state != nnx.State({"a": {"b": 2}})


def test_the_raw_mapping_is_plain_dictionaries():
    raw = make_state().raw_mapping
    assert type(raw) is dict
    assert type(raw["a"]) is dict
    assert type(raw["a"]["c"]) is nnx.BatchStat


# -- as a pytree


def test_a_state_is_a_pytree_in_the_order_of_its_keys():
    state = nnx.State({"b": nnx.Param(1), "a": {10: 2, 9: 3}})
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert paths == ["['a'][9]", "['a'][10]", "['b'].value"]
    doubled = jax.tree.map(lambda x: 2 * x, state)
    assert isinstance(doubled, nnx.State)
    assert (doubled.a[9], doubled.a[10], doubled.b.value) == (6, 4, 2)
    assert state.b.value == 1


def test_states_pass_through_jit_as_values():
    state = make_state()
    out = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s))(state)
    assert nnx.to_pure_dict(out) == {"a": {"b": 2, "c": 3}, "d": 4}
    assert type(out.a.c) is nnx.BatchStat
    assert float(state.d.value) == 3


def test_states_survive_copying_and_pickling():
    state = nnx.State({"a": {"b": nnx.Param(np.ones(2))}})
    for other in (pickle.loads(pickle.dumps(state)), copy.copy(state)):
        assert isinstance(other, nnx.State)
        assert other.a.b.value.tolist() == [1, 1]


# -- splitting and merging


def test_splitting_by_filters_keeps_the_variables_themselves():
    state = make_state()
    params, rest = state.split(nnx.Param, ...)
    assert list(nnx.to_flat_state(params).paths) == [("a", "b"), ("d",)]
    assert params.a.b is state.a.b
    assert list(nnx.to_flat_state(rest).paths) == [("a", "c")]
    everything = nnx.split_state(state, ...)
    assert isinstance(everything, nnx.State)


def test_filtering_leaves_out_what_matches_nothing():
    state = make_state()
    assert list(state.filter(nnx.BatchStat).flat_state().paths) == [("a", "c")]
    stats, nothing = nnx.filter_state(state, nnx.BatchStat, nnx.Cache)
    assert (list(stats), list(nothing)) == (["a"], [])


def test_splitting_must_be_exhaustive():
    with pytest.raises(ValueError, match=r"Non-exhaustive filters: 1 leaves match none of .*: a/c \(BatchS"):
        make_state().split(nnx.Param)


def test_the_error_about_unmatched_leaves_is_not_endless():
    state = nnx.State({f"k{i}": nnx.Param(i) for i in range(20)})
    with pytest.raises(ValueError, match=r"Non-exhaustive filters: 20 leaves.* and 12 more"):
        state.split(nnx.BatchStat)


def test_merging_puts_parts_together_and_later_ones_win():
    state = make_state()
    params, rest = state.split(nnx.Param, ...)
    merged = nnx.merge_state(params, rest)
    assert nnx.to_pure_dict(merged) == nnx.to_pure_dict(state)
    assert nnx.to_pure_dict(params | rest) == nnx.to_pure_dict(state)
    other = nnx.State({"d": nnx.Param(jnp.array(9.0))})
    assert float(nnx.State.merge(state, other).d.value) == 9
    assert params | {} is params


def test_subtracting_removes_the_paths_of_the_other():
    state = make_state()
    assert (state - state.filter(nnx.Param)).flat_state().paths == (("a", "c"),)


def test_mapping_gets_path_and_leaf():
    shapes = make_state().map(lambda path, leaf: "/".join(path) + ":" + type(leaf).__name__)
    assert nnx.to_pure_dict(shapes) == {"a": {"b": "a/b:Param", "c": "a/c:BatchStat"}, "d": "d:Param"}


# -- flat


def test_flat_and_nested_are_each_others_reverse():
    state = make_state()
    flat = nnx.to_flat_state(state)
    assert flat.paths == (("a", "b"), ("a", "c"), ("d",))
    assert flat.leaves[1] is state.a.c
    assert flat[0][0] == ("a", "b")
    assert flat[1:].paths == (("a", "c"), ("d",))
    for nested in (nnx.from_flat_state(flat), flat.to_nested_state(), nnx.State.from_flat_path(dict(flat))):
        assert nested.flat_state().paths == flat.paths
        assert nested.a.c is state.a.c


def test_paths_are_sorted_numbers_by_value_then_names():
    flat = nnx.to_flat_state(nnx.State({"b": 1, "a": {10: 2, 9: 3, "x": 4}, 3: 5}))
    assert flat.paths == ((3,), ("a", 9), ("a", 10), ("a", "x"), ("b",))


def test_a_flat_state_is_made_of_sorted_paths_and_leaves():
    flat = make_state().flat_state()
    again = nnx.FlatState.from_sorted_keys_values(flat.paths, flat.leaves)
    assert list(again) == list(flat)


def test_flat_states_split_filter_merge_and_map():
    flat = make_state().flat_state()
    params, rest = flat.split(nnx.Param, ...)
    assert (params.paths, rest.paths) == ((("a", "b"), ("d",)), (("a", "c"),))
    assert flat.filter(nnx.BatchStat).paths == (("a", "c"),)
    assert nnx.FlatState.merge(params, rest).paths == flat.paths
    plus = jax.tree.map(lambda x: x + 1, flat)
    assert isinstance(plus, nnx.FlatState)
    assert [float(leaf.value) for leaf in plus.leaves] == [2, 3, 4]
    with pytest.raises(ValueError, match="Non-exhaustive filters"):
        flat.split(nnx.Param)


def test_a_path_must_not_go_on_below_a_leaf():
    with pytest.raises(ValueError, match=r"The path \('a', 'b'\) goes on below 'a'"):
        nnx.from_flat_state([(("a",), 1), (("a", "b"), 2)])


# -- pure dicts


def test_pure_dicts_hold_the_values():
    assert make_state().to_pure_dict() == {"d": 3, "a": {"b": 1, "c": 2}}
    kinds = nnx.to_pure_dict(make_state(), lambda leaf: type(leaf).__name__)
    assert kinds == {"d": "Param", "a": {"b": "Param", "c": "BatchStat"}}


def test_replacing_by_a_pure_dict_sets_the_paths_that_it_has():
    state = make_state()
    state.replace_by_pure_dict({"a": {"c": jnp.array(7.0)}})
    assert nnx.to_pure_dict(state) == {"d": 3, "a": {"b": 1, "c": 7}}
    assert type(state.a.c) is nnx.BatchStat
    nnx.replace_by_pure_dict(state, {"d": 5}, lambda leaf, value: leaf.copy(leaf.value + value))
    assert float(state.d.value) == 8


def test_replacing_finds_numbers_written_as_text():
    state = nnx.state(nnx.List([nnx.Param(1), nnx.Param(2)]))
    nnx.replace_by_pure_dict(state, {"1": 5})
    assert nnx.to_pure_dict(state) == {0: 1, 1: 5}
    assert nnx.restore_int_paths({"0": {"x": 1, "12": 2}}) == {0: {"x": 1, 12: 2}}


def test_replacing_refuses_paths_that_the_state_does_not_have():
    with pytest.raises(ValueError, match=r"The pure dict has a value at \('a', 'zz'\), where the state"):
        make_state().replace_by_pure_dict({"a": {"zz": 1}})
