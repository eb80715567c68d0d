import inspect

import pytest

from easyflax import errors


def classes() -> list[type]:
    return [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


def test_every_error_class_is_an_easyflax_error_and_stands_in_the_tree_of_the_docstring():
    assert errors.__doc__ is not None
    for cls in classes():
        assert issubclass(cls, errors.EasyflaxError)
        assert f"  {cls.__name__}  " in errors.__doc__


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("TraceContextError", RuntimeError),
        ("NotCompiledError", RuntimeError),
        ("NonFiniteLossError", FloatingPointError),
        ("NonFiniteLossError", RuntimeError),
        ("CheckpointError", RuntimeError),
        ("DownloadError", OSError),
    ],
)
def test_an_error_is_caught_by_its_built_in_type(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


@pytest.mark.parametrize(
    ("got", "advice"),
    [
        ("Adam", "Did you mean 'adam'?"),
        ("SparseCategoricalCrossentropy", "Did you mean 'sparse_categorical_crossentropy'?"),
        ("xyz", "Pass one of these names."),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(got, advice):
    known = ["sparse_categorical_crossentropy", "mean_squared_error", "adam"]
    assert errors.unknown_name_message("loss", got, known) == (
        f"Unknown loss '{got}': expected one of 'adam', 'mean_squared_error', "
        f"'sparse_categorical_crossentropy'. {advice}"
    )
