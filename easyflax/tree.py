"""Nestings of lists, tuples and dicts, under the names that `keras.tree` has.

They are walked as `jax.tree` walks them, dicts in the order of their keys, with two differences: None is a
value like others, and everything that is no list, tuple or dict is a value: modules and variables, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import jax

__all__ = [
    "MAP_TO_NONE",
    "assert_same_paths",
    "assert_same_structure",
    "flatten",
    "flatten_with_path",
    "is_nested",
    "lists_to_tuples",
    "map_shape_structure",
    "map_structure",
    "map_structure_up_to",
    "pack_sequence_as",
    "traverse",
]


class MAP_TO_NONE:
    """What the function given to `traverse` returns for a part that is to become None."""


def is_nested(structure: Any) -> bool:
    """Returns whether `structure` is a list, tuple or dict.

    Examples:
        >>> is_nested([1]), is_nested(1), is_nested(None)
        (True, False, False)
    """
    return isinstance(structure, list | tuple | dict)


def flatten(structure: Any) -> list[Any]:
    """Returns the values in a nesting as one list.

    Examples:
        >>> flatten({"b": [1, (2, None)], "a": 0})
        [0, 1, 2, None]
    """
    return jax.tree.leaves(structure, is_leaf=_is_leaf)


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns pairs of a path, which consists of keys and indices, and a value.

    Examples:
        >>> flatten_with_path([{"foo": 42}])
        [((0, 'foo'), 42)]
    """
    if not is_nested(structure):
        return [((), structure)]
    return [
        ((key, *path), value) for key, part in _items(structure) for path, value in flatten_with_path(part)
    ]


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Returns the nesting of what `func` returns for the values of one or several nestings.

    Args:
        func: takes a value of each.
        *structures: nested in the same way.
        none_is_leaf: whether `func` is called on None; else None stays.

    Raises:
        TypeError: `func` cannot be called.
        ValueError: there are no nestings, or they differ.

    Examples:
        >>> map_structure(lambda a, b: a + b, [1, {"x": 2}], [10, {"x": 20}])
        [11, {'x': 22}]
    """
    _check_callable("map_structure", func)
    _check_some("map_structure", structures)
    for other in structures[1:]:
        assert_same_structure(structures[0], other)

    def apply(first: Any, *others: Any) -> Any:
        return None if first is None and not none_is_leaf else func(first, *others)

    return jax.tree.map(apply, *structures, is_leaf=_is_leaf)


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Returns the nesting of what `func` returns for the parts that stand where the shallow one has values.

    Raises:
        TypeError: `func` cannot be called.
        ValueError: there are no nestings, or one is less deep.

    Examples:
        >>> map_structure_up_to([None, None], len, [[1, 1], [2]])
        [2, 1]
    """
    _check_callable("map_structure_up_to", func)
    _check_some("map_structure_up_to", structures)
    nesting = jax.tree.structure(shallow_structure, is_leaf=_is_leaf)
    try:
        parts = [nesting.flatten_up_to(structure) for structure in structures]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"map_structure_up_to: a nesting is not as deep as the shallow one: {error}. Pass nestings of "
            "the same kinds and lengths down to its values."
        ) from None
    return nesting.unflatten([func(*part) for part in zip(*parts, strict=True)])


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Returns a nesting with parts replaced by what `func` returns for them.

    Args:
        func: is called on the nesting, and on all parts of it; returns None for what it leaves as it is, and
            `MAP_TO_NONE` for None.
        structure: any nesting.
        top_down: whether `func` sees the whole before its parts, which it does not see if it replaces the
            whole; else after them.

    Raises:
        TypeError: `func` cannot be called.

    Examples:
        >>> traverse(lambda part: tuple(part) if isinstance(part, list) else None, [[1], 2], top_down=False)
        ((1,), 2)
    """
    _check_callable("traverse", func)
    if top_down and (found := func(structure)) is not None:
        return None if found is MAP_TO_NONE else found
    parts, nesting = jax.tree.flatten(
        structure, is_leaf=lambda part: part is not structure or not is_nested(part)
    )
    if is_nested(structure):
        structure = nesting.unflatten([traverse(func, part, top_down) for part in parts])
    if top_down or (found := func(structure)) is None:
        return structure
    return None if found is MAP_TO_NONE else found


def pack_sequence_as(structure: Any, flat_sequence: Iterable[Any]) -> Any:
    """Returns the values of a list in the nesting of `structure`.

    Raises:
        ValueError: there are more or fewer values than it has.

    Examples:
        >>> pack_sequence_as({"b": 0, "a": (0, 0)}, [1, 2, 3])
        {'a': (1, 2), 'b': 3}
    """
    nesting = jax.tree.structure(structure, is_leaf=_is_leaf)
    values = list(flat_sequence)
    if len(values) != nesting.num_leaves:
        raise ValueError(
            f"pack_sequence_as got {len(values)} values, expected {nesting.num_leaves}, one for each in the "
            "nesting. Pass what flatten returns for one like it."
        )
    return nesting.unflatten(values)


def assert_same_structure(a: Any, b: Any) -> None:
    """Raises unless two nestings have the same kinds, keys and lengths.

    Raises:
        ValueError: they differ.
    """
    first, second = (jax.tree.structure(_plain_dicts(one), is_leaf=_is_leaf) for one in (a, b))
    if first != second:
        raise ValueError(
            f"Two structures were given that are not nested in the same way: {first} and {second}, expected "
            "equal kinds, keys and lengths. Compare them with ef.tree.flatten_with_path."
        )


def assert_same_paths(a: Any, b: Any) -> None:
    """Raises unless two nestings have the same keys and indices, in whatever kinds of lists and tuples.

    Raises:
        ValueError: they differ.
    """
    first, second = ({path for path, _ in flatten_with_path(one)} for one in (a, b))
    if first != second:
        raise ValueError(
            f"Two structures were given with different paths: only the first has {list(first - second)}, "
            f"only the second {list(second - first)}. Use the same keys and lengths."
        )


def lists_to_tuples(structure: Any) -> Any:
    """Returns a nesting with tuples in place of lists."""
    return traverse(lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False)


def map_shape_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """Returns the nesting of what `func` returns for the shapes in it: lists and tuples of integers and None.

    Examples:
        >>> map_shape_structure(len, {"image": (None, 28, 28), "label": (None,)})
        {'image': 3, 'label': 1}
    """
    return jax.tree.map(func, structure, is_leaf=lambda part: _is_shape(part) or _is_leaf(part))


def _is_leaf(value: Any) -> bool:
    return not is_nested(value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, int | None) for one in value)


def _plain_dicts(structure: Any) -> Any:
    """Kinds of dicts are all one."""
    return traverse(lambda part: dict(part) if isinstance(part, dict) else None, structure, top_down=False)


def _items(structure: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(structure, dict):
        return enumerate(structure)
    return structure.items() if isinstance(structure, OrderedDict) else sorted(structure.items())


def _check_callable(owner: str, func: Any) -> None:
    if not callable(func):
        raise TypeError(f"{owner} got {func!r} as func, expected a function. Pass it before the nestings.")


def _check_some(owner: str, structures: Any) -> None:
    if not structures:
        raise ValueError(f"{owner} got no structures, expected at least one. Pass them after func.")
