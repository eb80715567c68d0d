"""The filter language: what each form matches, how forms combine, and errors."""

import jax.numpy as jnp
import pytest

from easyflax import nnx

PATH = ("encoder", 0, "kernel")
PARAM = nnx.Param(1, tag="fast")

CASES = [
    ("the tag", "fast", True),
    ("another tag", "slow", False),
    ("its kind", nnx.Param, True),
    ("a base of its kind", nnx.Variable, True),
    ("another kind", nnx.BatchStat, False),
    ("everything", ..., True),
    ("True", True, True),
    ("nothing", None, False),
    ("False", False, False),
    ("a tuple with a match", (nnx.BatchStat, "fast"), True),
    ("a list without a match", [nnx.BatchStat, "slow"], False),
    ("an empty tuple", (), False),
    ("a function of the path", lambda path, _: path[0] == "encoder", True),
    ("a function of the value", lambda _, value: value.tag == "slow", False),
    ("not its kind", nnx.Not(nnx.Param), False),
    ("not another kind", nnx.Not(nnx.BatchStat), True),
    ("all that match", nnx.All(nnx.Param, "fast", ...), True),
    ("all, one not matching", nnx.All(nnx.Param, "slow"), False),
    ("all of none", nnx.All(), True),
    ("any", nnx.Any("slow", nnx.Param), True),
    ("any of none", nnx.Any(), False),
    ("a part of the path", nnx.PathContains("encoder"), True),
    ("a number in the path", nnx.PathContains(0), True),
    ("a piece of a part, exactly", nnx.PathContains("kern"), False),
    ("a piece of a part", nnx.PathContains("kern", exact=False), True),
    ("its path", nnx.PathIn(("other",), PATH), True),
    ("other paths", nnx.PathIn(("encoder",), ("kernel",)), False),
    ("OfType", nnx.OfType(nnx.Param), True),
    ("WithTag", nnx.WithTag("fast"), True),
    ("Everything", nnx.Everything(), True),
    ("Nothing", nnx.Nothing(), False),
    ("nested combinations", nnx.All(nnx.Not(nnx.Any("slow", nnx.BatchStat)), (nnx.Param, None)), True),
]


@pytest.mark.parametrize(("filter", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_filter_matches(filter, expected):
    assert nnx.to_predicate(filter)(PATH, PARAM) is expected


def test_arrays_match_by_type_and_path():
    array = jnp.ones(2)
    assert nnx.to_predicate(type(array))((), array)
    assert not nnx.to_predicate(nnx.Param)((), array)
    assert not nnx.to_predicate("fast")((), array)
    assert nnx.to_predicate(nnx.PathContains("kernel"))(PATH, array)


def test_filters_are_compared_and_hashed_by_what_they_match():
    for make in (
        lambda: nnx.Any(nnx.Param, "a"),
        lambda: nnx.All(nnx.PathContains("x"), ...),
        lambda: nnx.Not(nnx.Param),
        lambda: nnx.PathIn(("a", "b"), ("c",)),
        lambda: nnx.OfType(nnx.Param),
        lambda: nnx.WithTag("a"),
        lambda: nnx.PathContains("a", exact=False),
    ):
        assert make() == make()
        assert hash(make()) == hash(make())
        assert repr(make()) == repr(make())
    assert nnx.PathIn(("a",), ("b",)) == nnx.PathIn(("b",), ("a",))
    assert nnx.Any(nnx.Param) != nnx.All(nnx.Param)
    assert nnx.Not(nnx.Param) != nnx.Not(nnx.BatchStat)


def test_what_is_no_filter_is_refused():
    with pytest.raises(TypeError, match="Got 3 as a filter, expected a variable type, a tag, a function"):
        nnx.to_predicate(3)


@pytest.mark.parametrize("everything", [..., True])
def test_everything_must_come_last(everything):
    state = nnx.State({"a": nnx.Param(1)})
    with pytest.raises(ValueError, match=r"as filter 0 of 2: it matches everything.*Put it last"):
        nnx.split_state(state, everything, nnx.Param)


def test_a_leaf_goes_to_the_first_filter_that_it_matches():
    state = nnx.State({"a": nnx.Param(1), "b": nnx.Param(2, tag="x"), "c": nnx.BatchStat(3)})
    tagged, params, rest = state.split("x", nnx.Param, ...)
    assert [list(tagged), list(params), list(rest)] == [["b"], ["a"], ["c"]]
