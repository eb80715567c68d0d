"""State: nested mappings from paths to variables (or arrays), as `nnx.split` and `nnx.state` return them.

A `State` is a pytree: `jax.tree.map`, `jax.jit` and optax take it as it is. Its leaves are the variables of
the model themselves, not copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar, overload

import jax
from jax.tree_util import DictKey, register_pytree_with_keys

from easyflax.nnx.core.filters import Filter, Path, filters_to_predicates
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable

K = TypeVar("K")
S = TypeVar("S", bound="State")

_MISSING: Any = object()


def type_aware(key: Any) -> tuple[int, Any]:
    """Sort key of the parts of a path: numbers by value, then names."""
    return (0, key) if isinstance(key, int) else (1, str(key))


class FlatState(Sequence[tuple[Path, Any]]):
    """A state as a sorted sequence of `(path, leaf)`."""

    def __init__(self, items: Iterable[tuple[Path, Any]], /, *, sort: bool = True) -> None:
        pairs = list(items)
        if sort:
            pairs.sort(key=lambda pair: tuple(map(type_aware, pair[0])))
        self._pairs = pairs

    @classmethod
    def from_sorted_keys_values(cls, keys: Iterable[Path], values: Iterable[Any], /) -> FlatState:
        """Returns the flat state with the given leaves at the given paths, which are sorted already."""
        return cls(zip(keys, values, strict=True), sort=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths, in order."""
        return tuple(path for path, _ in self._pairs)

    @property
    def leaves(self) -> list[Any]:
        """The leaves, in the order of the paths."""
        return [leaf for _, leaf in self._pairs]

    @overload
    def __getitem__(self, index: int) -> tuple[Path, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> FlatState: ...
    def __getitem__(self, index: Any) -> Any:
        return FlatState(self._pairs[index], sort=False) if isinstance(index, slice) else self._pairs[index]

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[Path, Any]]:
        return iter(self._pairs)

    def __repr__(self) -> str:
        from easyflax.nnx.core.display import format_object

        return format_object(self)

    def to_nested_state(self) -> State:
        """Returns the same leaves as a `State`."""
        return from_flat_state(self)

    def split(self, *filters: Filter) -> Any:
        """Splits by filters; every leaf must match one."""
        groups, rest = partition(self._pairs, filters)
        check_exhausted(rest, filters)
        flats = tuple(FlatState(group, sort=False) for group in groups)
        return flats[0] if len(flats) == 1 else flats

    def filter(self, *filters: Filter) -> Any:
        """Selects by filters; leaves that match none are left out."""
        groups, _ = partition(self._pairs, filters)
        flats = tuple(FlatState(group, sort=False) for group in groups)
        return flats[0] if len(flats) == 1 else flats

    @staticmethod
    def merge(first: Iterable[tuple[Path, Any]], /, *others: Iterable[tuple[Path, Any]]) -> FlatState:
        """Merges flat states; later ones win."""
        pairs: dict[Path, Any] = {}
        for flat in (first, *others):
            pairs.update(flat)
        return FlatState(pairs.items())


jax.tree_util.register_pytree_node(
    FlatState,
    lambda flat: (flat.leaves, flat.paths),
    lambda paths, leaves: FlatState(zip(paths, leaves, strict=True), sort=False),
)


class State(Tracked, MutableMapping[Any, Any]):
    """A nested, mutable mapping with variables (or arrays) as leaves; keys that are names can be read and set
    as attributes.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> state = nnx.State({"layer": {"kernel": nnx.Param(jnp.ones(2))}})
    >>> state.layer.kernel.value.tolist(), state["layer"]["kernel"] is state.layer.kernel
    ([1.0, 1.0], True)
    """

    __slots__ = ("_mapping",)

    def __init__(self, mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /) -> None:
        self._start_tracking()
        object.__setattr__(self, "_mapping", {key: _nested(value) for key, value in dict(mapping).items()})

    @property
    def raw_mapping(self) -> Mapping[Any, Any]:
        """The entries of this level as a plain dictionary."""
        return {
            key: value.raw_mapping if isinstance(value, State) else value
            for key, value in self._mapping.items()
        }

    def __contains__(self, key: object) -> bool:
        return key in self._mapping

    def __getitem__(self, key: Any) -> Any:
        return self._mapping[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        old = self._mapping.get(key, _MISSING)
        self._mapping[key] = value = _nested(value)
        if isinstance(old, jax.Array) and isinstance(value, jax.Array):
            self._value_changed()
        elif old is not value:
            self._structure_changed()

    def __delitem__(self, key: Any) -> None:
        del self._mapping[key]
        self._structure_changed()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_mapping":
            raise AttributeError(name)
        if name not in self._mapping:
            raise AttributeError(
                f"State has no entry '{name}'; it has {sorted(self._mapping, key=type_aware)}."
            )
        return self._mapping[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            return self._mapping == other._mapping
        return self._mapping == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __or__(self: S, other: Mapping[Any, Any]) -> S:
        return type(self).merge(self, other) if other else self  # type: ignore[return-value]

    def __sub__(self, other: State) -> State:
        """The leaves whose paths `other` does not have."""
        taken = dict(to_flat_state(other))
        return from_flat_state([(path, leaf) for path, leaf in to_flat_state(self) if path not in taken])

    def __repr__(self) -> str:
        from easyflax.nnx.core.display import format_object

        return format_object(self)

    def __treescope_repr__(self, path: Any, subtree_renderer: Any) -> Any:
        from easyflax.nnx.core.notebook import render_treescope

        return render_treescope(self, path, subtree_renderer)

    def __getstate__(self) -> dict[str, Any]:
        return {"mapping": self._mapping}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start_tracking()
        object.__setattr__(self, "_mapping", state["mapping"])

    def map(self, f: Callable[[Path, Any], Any]) -> State:
        """Returns a state with every leaf replaced by `f(path, leaf)`."""
        return map_state(f, self)

    def flat_state(self) -> FlatState:
        """Returns the leaves with their paths, sorted."""
        return to_flat_state(self)

    @classmethod
    def from_flat_path(cls, flat: Mapping[Path, Any] | Iterable[tuple[Path, Any]], /) -> State:
        """Returns the state with the given leaves by path."""
        return from_flat_state(flat)

    def to_pure_dict(self, extract_fn: Callable[[Any], Any] | None = None) -> dict[Any, Any]:
        """Returns nested dictionaries with the variables' values as leaves."""
        return to_pure_dict(self, extract_fn)

    def replace_by_pure_dict(
        self, pure_dict: dict[Any, Any], replace_fn: Callable[[Any, Any], Any] | None = None
    ) -> None:
        """Sets the variables' values from nested dictionaries (see `nnx.replace_by_pure_dict`)."""
        replace_by_pure_dict(self, pure_dict, replace_fn)

    def split(self, *filters: Filter) -> Any:
        """Splits by filters into one state each; every leaf must match one."""
        return split_state(self, *filters)

    def filter(self, *filters: Filter) -> Any:
        """Selects by filters, one state each; leaves that match none are left out."""
        return filter_state(self, *filters)

    @staticmethod
    def merge(first: Mapping[Any, Any], /, *others: Mapping[Any, Any]) -> State:
        """Merges states; at equal paths later ones win."""
        return merge_state(first, *others)


def _nested(value: Any) -> Any:
    return State(value) if type(value) is dict else value


def _flatten(state: State) -> tuple[list[Any], tuple[Any, ...]]:
    keys = tuple(sorted(state._mapping, key=type_aware))
    return [state._mapping[key] for key in keys], keys


def _flatten_with_keys(state: State) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
    children, keys = _flatten(state)
    return [(DictKey(key), child) for key, child in zip(keys, children, strict=True)], keys


def _unflatten(keys: tuple[Any, ...], children: Iterable[Any]) -> State:
    return empty_state(dict(zip(keys, children, strict=True)))


def empty_state(mapping: dict[Any, Any], trace: Any = None) -> State:
    """Returns a state over `mapping` itself, whose nested levels must be states already; `trace` is the trace
    level that is running, where it is known."""
    state = object.__new__(State)
    state._start_tracking(trace)
    object.__setattr__(state, "_mapping", mapping)
    return state


register_pytree_with_keys(State, _flatten_with_keys, _unflatten, _flatten)


# -- functions on states (or nested mappings)


def iter_leaves(
    state: Mapping[Any, Any], path: Path = (), is_leaf: Callable[[Path], bool] | None = None
) -> Iterator[tuple[Path, Any]]:
    """Iterates over `(path, leaf)` in the order of paths.

    Args:
        is_leaf: which paths are not to be followed further; the value of a variable may be a dictionary.
    """
    for key in sorted(state, key=type_aware):
        value, where = state[key], (*path, key)
        if isinstance(value, (State, dict)) and not (is_leaf and is_leaf(where)):
            yield from iter_leaves(value, where, is_leaf)
        else:
            yield where, value


def to_flat_state(state: Mapping[Any, Any]) -> FlatState:
    """Returns the leaves of a state as a sorted sequence of `(path, leaf)`."""
    return FlatState(iter_leaves(state), sort=False)


def from_flat_state(flat: Mapping[Path, Any] | Iterable[tuple[Path, Any]]) -> State:
    """Returns the state with the given leaves by path.

    Raises:
        ValueError: one path goes on where another ends.
    """
    root: dict[Any, Any] = {}
    for path, leaf in flat.items() if isinstance(flat, Mapping) else flat:
        level: Any = root
        for key in path[:-1]:
            level = level.setdefault(key, {})
            if not isinstance(level, dict):
                raise ValueError(
                    f"The path {path} goes on below {key!r}, where another path has its leaf. Give each leaf "
                    "a path of its own."
                )
        level[path[-1]] = leaf
    return State(root)


def map_state(f: Callable[[Path, Any], Any], state: State) -> State:
    """Returns a state with every leaf replaced by `f(path, leaf)`."""
    return from_flat_state([(path, f(path, leaf)) for path, leaf in iter_leaves(state)])


def to_pure_dict(state: Mapping[Any, Any], extract_fn: Callable[[Any], Any] | None = None) -> dict[Any, Any]:
    """Returns nested dictionaries with the variables' values as leaves; `extract_fn(leaf)` decides what a
    leaf becomes."""
    extract = extract_fn or (lambda leaf: leaf.get_value() if isinstance(leaf, Variable) else leaf)

    def convert(level: Mapping[Any, Any]) -> dict[Any, Any]:
        return {
            key: convert(value) if isinstance(value, (State, dict)) else extract(value)
            for key, value in level.items()
        }

    return convert(state)


def restore_int_paths(pure_dict: Mapping[Any, Any]) -> dict[Any, Any]:
    """Turns keys such as '0' back into numbers, at every level: some file formats only know text keys."""

    def number(key: Any) -> Any:
        return int(key) if isinstance(key, str) and key.isdigit() else key

    return {
        number(key): restore_int_paths(value) if isinstance(value, Mapping) else value
        for key, value in pure_dict.items()
    }


def replace_by_pure_dict(
    state: State, pure_dict: Mapping[Any, Any], replace_fn: Callable[[Any, Any], Any] | None = None
) -> None:
    """Puts new variables with the values of nested dictionaries into a state.

    Args:
        state: is changed; the variables that it had, which may be a model's, are not.
        pure_dict: paths as in `state`; paths it does not have stay as they are. Text keys match numbers.
        replace_fn: `replace_fn(leaf, value)` returns the new leaf.

    Raises:
        ValueError: `pure_dict` has a path that `state` does not have.
    """
    replace = replace_fn or _replace_value
    known = dict(iter_leaves(state))
    numbered = {tuple(map(str, path)): path for path in known}
    for given, value in iter_leaves(pure_dict, is_leaf=lambda path: tuple(map(str, path)) in numbered):
        path = given if given in known else numbered.get(tuple(map(str, given)))
        if path is None:
            raise ValueError(
                f"The pure dict has a value at {given}, where the state has none. Leave it out, or pass a "
                "dict of the same model."
            )
        level = state
        for key in path[:-1]:
            level = level[key]
        level[path[-1]] = replace(known[path], value)


def _replace_value(leaf: Any, value: Any) -> Any:
    return leaf.copy(value) if isinstance(leaf, Variable) else value


def partition(
    pairs: Iterable[tuple[Path, Any]], filters: Sequence[Filter]
) -> tuple[list[list[Any]], list[Any]]:
    """Puts each `(path, leaf)` into the group of the first filter it matches; also returns those that match
    none."""
    predicates = filters_to_predicates(filters)
    groups: list[list[Any]] = [[] for _ in predicates]
    rest: list[Any] = []
    for path, leaf in pairs:
        for predicate, group in zip(predicates, groups, strict=True):
            if predicate(path, leaf):
                group.append((path, leaf))
                break
        else:
            rest.append((path, leaf))
    return groups, rest


def check_exhausted(rest: Sequence[tuple[Path, Any]], filters: Sequence[Filter]) -> None:
    """Raises a ValueError that lists what no filter matched, if there is any."""
    if rest:
        shown = ", ".join(f"{'/'.join(map(str, path))} ({type(leaf).__name__})" for path, leaf in rest[:8])
        more = f" and {len(rest) - 8} more" if len(rest) > 8 else ""
        raise ValueError(
            f"Non-exhaustive filters: {len(rest)} leaves match none of {list(filters)!r}: {shown}{more}. "
            "Add a filter for them, or `...` as the last one for all that remain."
        )


def split_state(state: State, *filters: Filter) -> Any:
    """Splits a state by filters into one state each (a single one for one filter).

    Raises:
        ValueError: a leaf matches no filter.
    """
    groups, rest = partition(iter_leaves(state), filters)
    check_exhausted(rest, filters)
    states = tuple(map(from_flat_state, groups))
    return states[0] if len(states) == 1 else states


def filter_state(state: State, *filters: Filter) -> Any:
    """Selects the leaves of a state by filters, one state each (a single one for one filter)."""
    groups, _ = partition(iter_leaves(state), filters)
    states = tuple(map(from_flat_state, groups))
    return states[0] if len(states) == 1 else states


def merge_state(first: Mapping[Any, Any], /, *others: Mapping[Any, Any]) -> State:
    """Merges states; at equal paths later ones win."""
    if not others:
        return first if isinstance(first, State) else State(first)
    return from_flat_state([pair for state in (first, *others) for pair in iter_leaves(state)])
