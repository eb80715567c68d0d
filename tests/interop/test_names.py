import pytest

from easyflax.interop.names import Renamer


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


def test_entries_that_are_no_beginning_of_a_name_are_refused():
    renamer = Renamer({"a": "x", "c": "y"})
    renamer("a.b")
    with pytest.raises(ValueError, match=r"load: got names=\{'c': \.\.\.\}, expected beginnings of 'a\.b'"):
        renamer.check_used(["a.b"], "load")
