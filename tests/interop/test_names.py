import pytest

from easyflax.interop.names import Renamer, prefix_before


def test_without_names_all_stay():
    assert Renamer(None)("a.b") == "a.b"


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        ({"a": "x"}, "a.b", "x.b"),
        ({"a": "x"}, "ab.c", "ab.c"),
        ({"a.b": "x"}, "a.b", "x"),
        ({"a": "x", "a.b": "y.z"}, "a.b.c", "y.z.c"),
        ({"": "model"}, "a.b", "model.a.b"),
        ({"": "model", "a": "a"}, "a.b", "a.b"),
        ({"a": ""}, "a.b", "b"),
        ({"a": None}, "a.b", None),
        ({"a": None, "a.b": "x"}, "a.b", "x"),
        ({"h.*.mlp": "layers.*.ffn"}, "h.10.mlp.weight", "layers.10.ffn.weight"),
        ({"h.*": "layers.layer_*"}, "h.3.mlp", "layers.layer_3.mlp"),
        ({"h.*.mlp": "x.*"}, "h.mlp", "h.mlp"),
        ({"h.*.mlp": "x.*"}, "h.0.1.mlp", "h.0.1.mlp"),
        ({"*.a*": "y.*_*"}, "b.a2.c", "y.b_2.c"),
        ({"*.a*": "y.*_*"}, "b.a", "y.b_"),
        ({"h.*.*": "*.*", "h.*.a": "x.*", "h.0.a": "z"}, "h.1.a", "x.1"),
        ({"h.*.*": "*.*", "h.*.a": "x.*", "h.0.a": "z"}, "h.0.a", "z"),
        ({"h.*.*": "*.*", "h.*.a": "x.*", "h.0.a": "z"}, "h.0.b", "0.b"),
        ({"h.*.a": None, "h": "g"}, "h.0.a.b", None),
        ({"a.b": "x", "*": "y_*"}, "a.b", "x"),
        ({"a.(b)": "x", "a+.*": "*"}, "aa.b", "aa.b"),
    ],
)
def test_the_longest_beginning_whole_up_to_a_dot_counts(names, name, expected):
    assert Renamer(names)(name) == expected


def test_a_function_gets_the_whole_name():
    assert Renamer(lambda name: name.upper() if name != "b" else None)("a") == "A"


def test_entries_with_none_leave_out_their_names_too():
    renamer = Renamer({"a": None, "a.b": "x", "": "y"})
    assert renamer.left_out(["a.c", "a.b.c", "c"]) == ["a.c"]
    assert Renamer(lambda _: None).left_out(["a"]) == []
    assert Renamer({"h.*.mask": None}).left_out(["h.0.mask", "h.0.masks", "h.1.mask.b"]) == [
        "h.0.mask",
        "h.1.mask.b",
    ]


@pytest.mark.parametrize("names", [{"h.*": "x"}, {"h": "x.*"}, {"*.*": "*"}])
def test_stars_on_one_side_only_are_refused(names):
    with pytest.raises(
        ValueError, match=r"Got names=\{'.*'\}, expected as many '\*' on both sides: .* Write"
    ):
        Renamer(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("a", "Got names of type str, expected a mapping from our names to theirs, or a function of a name"),
        ({"a": 3}, r"Got names=\{'a': 3\}, expected text on both sides, or None on the right"),
        ({0: "a"}, r"Got names=\{0: 'a'\}, expected text on both sides, or None on the right"),
    ],
)
def test_what_holds_no_names_is_refused(names, message):
    with pytest.raises(TypeError, match=message):
        Renamer(names)


@pytest.mark.parametrize(
    ("names", "longer", "prefix"),
    [
        (["a.b", "c"], ["x.y.a.b", "x.y.c"], "x.y"),
        (["a", "b", "c"], ["x.a", "x.b", "y.c"], "x"),
        (["a", "b"], ["x.a", "y.b"], None),
        (["a", "b"], ["a", "b"], None),
        ([], ["x.a"], None),
        (["a"], [], None),
    ],
)
def test_a_prefix_is_found_if_most_names_have_it(names, longer, prefix):
    assert prefix_before(names, longer) == prefix


def test_entries_that_are_no_beginning_of_a_name_are_refused():
    renamer = Renamer({"a": "x", "c": "y"})
    renamer("a.b")
    with pytest.raises(ValueError, match=r"load: got names=\{'c': \.\.\.\}, expected beginnings of 'a\.b'"):
        renamer.check_used(["a.b"], "load")
