"""The functional interface to graphs of modules: split them into structure and state, put them together
again, look through them.

>>> import jax.numpy as jnp
>>> from easyflax import nnx
>>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
>>> graphdef, params = nnx.split(model, nnx.Param)
>>> sorted(params)
['bias', 'kernel']
>>> nnx.merge(graphdef, params)(jnp.ones((1, 2))).shape
(1, 3)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import jax

from easyflax.nnx.core.filters import Filter, Path, filters_to_predicates
from easyflax.nnx.core.graph_state import GraphState, common_graphdef
from easyflax.nnx.core.graphdef import (
    ARRAY,
    NODE,
    VARIABLE,
    GraphDef,
    assemble,
    collect_nodes,
    make_variables,
    resolve_root,
)
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.state import FlatState, State, check_exhausted, from_flat_state, iter_leaves, partition
from easyflax.nnx.core.tracking import current_trace
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import Walk, path_part, walk

A = TypeVar("A")


def leaves_with_paths(found: Walk) -> list[tuple[Path, Any]]:
    """Returns `(path, leaf)` of the variables and then of the arrays without one."""
    paths = found.graphdef.paths()
    return [
        *zip(paths.variables, found.variables, strict=True),
        *zip(paths.arrays, found.arrays(), strict=True),
    ]


def states_by_filter(leaves: list[tuple[Path, Any]], filters: tuple[Filter, ...]) -> tuple[State, ...]:
    """Returns a state for each filter, or one of all leaves if there is none.

    Raises:
        ValueError: a leaf matches no filter.
    """
    filters = filters or (...,)
    groups, rest = partition(leaves, filters)
    check_exhausted(rest, filters)
    return tuple(map(_as_state, groups))


def _as_state(group: list[tuple[Path, Any]]) -> Any:
    """Returns the state of some leaves; that of a variable or array that is itself the root is the leaf."""
    return group[0][1] if len(group) == 1 and group[0][0] == () else from_flat_state(group)


@overload
def split(node: A, only: Filter = ..., /) -> tuple[GraphDef[A], State]: ...
@overload
def split(
    node: A, first: Filter, second: Filter, /, *filters: Filter
) -> tuple[GraphDef[A], State, State, *tuple[State, ...]]: ...
def split(node: Any, *filters: Filter) -> Any:
    """Splits a module into its structure and its state.

    Args:
        node: a module, variable, state, or a container of these.
        *filters: one state is returned for each; a leaf goes to the first filter it matches. Without filters
            there is one state.

    Returns:
        `(graphdef, state, ...)`. The states hold the module's variables themselves.

    Raises:
        ValueError: a leaf matches no filter.
    """
    found = walk(node)
    return (found.graphdef, *states_by_filter(leaves_with_paths(found), filters))


def graphdef(node: A) -> GraphDef[A]:
    """Returns the structure of a module."""
    return walk(node).graphdef


@overload
def state(node: Any, only: Filter = ..., /) -> State: ...
@overload
def state(
    node: Any, first: Filter, second: Filter, /, *filters: Filter
) -> tuple[State, State, *tuple[State, ...]]: ...
def state(node: Any, *filters: Filter) -> Any:
    """Returns the state of a module: all of it, or one state for each filter. Leaves that match no filter
    are left out."""
    groups, _ = partition(leaves_with_paths(walk(node)), filters or (...,))
    states = tuple(map(_as_state, groups))
    return states[0] if len(states) == 1 else states


variables = state


def merge(
    graphdef: GraphDef[A] | GraphState[A],
    /,
    *states: Any,
    copy: bool = False,
    recreate_variables: bool = True,
) -> A:
    """Puts a module together again from its structure and its states (or nested dicts); the reverse of
    `split`, and of `unpack`.

    Args:
        graphdef: the structure, or the first of the states that `unpack` returned, which know it.
        *states: the states, or all their leaves as a list, in the order of `jax.tree.leaves`.
        copy: make new variables, in place of using those of the states. Variables made outside of the
            transform that is running could not be changed, and are always copied.
        recreate_variables: put leaves of the states that are no variables into new ones; otherwise they take
            the place of the variables.

    Raises:
        TypeError: there is no state.
        ValueError: a leaf of the structure is in none of the states, or the states have leaves that it does
            not have.
    """
    if isinstance(graphdef, GraphState):
        states = (graphdef, *states)
        graphdef = common_graphdef(states)
    if not isinstance(graphdef, GraphDef):
        raise TypeError(
            f"merge got a {type(graphdef).__name__} first, expected a GraphDef, or the GraphState that "
            "nnx.unpack returns. Pass what nnx.split returned: nnx.merge(graphdef, state)."
        )
    if not states:
        raise TypeError(
            "merge() missing 1 required positional argument: 'state'. Pass all the states that split "
            "returned."
        )
    leaves, arrays = given_leaves(graphdef, states)
    new: list[Any] = make_variables(graphdef, leaves)
    trace = current_trace()
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, Variable):
            new[position] = leaf.copy() if copy or leaf._trace != trace else leaf
        elif not recreate_variables:
            new[position] = leaf
    return resolve_root(graphdef.roots[0], assemble(graphdef, new, arrays), new, arrays)


def unpack(node: Any, *filters: Filter) -> Any:
    """Returns the state of a module, or one state for each filter, as a `GraphState`, which knows the
    module's structure: `merge` needs nothing else.

    >>> from easyflax import nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> kernel, bias = nnx.unpack(layer, nnx.PathContains("kernel"), ...)
    >>> nnx.merge(kernel, bias).kernel is layer.kernel
    True

    Raises:
        ValueError: a leaf matches no filter.
    """
    structure, *states = split(node, *filters)
    packed = tuple(GraphState(structure, state) for state in states)
    return packed[0] if len(packed) == 1 else packed


def given_leaves(graphdef: GraphDef[Any], states: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Returns what some states have for the variables and for the arrays of a structure, in its order.

    Raises:
        ValueError: they lack a leaf, or have leaves that the structure does not have.
    """
    paths = graphdef.paths()
    known = {*paths.variables, *paths.arrays}
    given = {path: leaf for one in states for path, leaf in _leaves_of(one, known)}
    missing = [path for path in [*paths.variables, *paths.arrays] if path not in given]
    if missing:
        raise ValueError(
            f"The states lack {len(missing)} of the {graphdef.num_leaves} leaves of this graphdef: "
            f"{_shown(missing)}. "
            "Pass all the states that split returned."
        )
    if len(given) > graphdef.num_leaves:
        extra = sorted(given.keys() - known, key=str)
        raise ValueError(
            f"The states have {len(extra)} leaves that this graphdef does not have: {_shown(extra)}. Merge "
            "them with the graphdef "
            "that they were split from, or filter them first."
        )
    return [given[path] for path in paths.variables], [given[path] for path in paths.arrays]


def _leaves_of(state: Any, known: set[Path]) -> Iterator[tuple[Path, Any]]:
    if isinstance(state, Mapping):
        return iter_leaves(state, is_leaf=known.__contains__)
    if isinstance(state, (Variable, jax.Array)):
        return iter([((), state)])
    leaves = list(state)
    if all(isinstance(leaf, tuple) and len(leaf) == 2 for leaf in leaves):
        return iter(leaves)  # a FlatState
    if len(leaves) != len(known):
        raise ValueError(
            f"A list of {len(leaves)} leaves was given in place of a state, expected {len(known)}, one for "
            "each leaf of the graphdef. Pass all that jax.tree.leaves gives, variables as leaves."
        )
    return zip((path for path, _ in FlatState((path, None) for path in known)), leaves, strict=True)


def _shown(paths: list[Path]) -> str:
    text = ", ".join("/".join(map(str, path)) for path in paths[:8])
    return text + (", ..." if len(paths) > 8 else "")


def update(node: Any, state: Any, /, *states: Any) -> None:
    """Sets the variables of a module in place from states or nested dicts; paths that are not in them stay as
    they are.

    Raises:
        TypeError: a module was passed as state.
        ValueError: a path leads through something that is no module or container, or ends at a module.
    """
    for one in (state, *states):
        if isinstance(one, Pytree):
            raise TypeError(
                f"update got a {type(one).__name__}, expected a state or a nested dict. "
                "Pass nnx.state(...) of it."
            )
        if isinstance(node, Variable):
            node.update_from_state(one) if isinstance(one, Variable) else node.set_raw_value(one)
        elif _updated_value(node, one, ()) is not node:
            raise ValueError(
                f"update got values for arrays that are items of a {type(node).__name__}, which cannot be "
                "changed. "
                "Pass a list in its place, or hold the arrays in variables."
            )


def _update(node: Any, new: Mapping[Any, Any], path: Path) -> None:
    for key, value in new.items():
        where = (*path, key)
        known, current = _get(node, key)
        if isinstance(current, Variable):
            if isinstance(value, Variable):
                current.update_from_state(value)
            else:
                current.set_raw_value(value)
        elif isinstance(value, (State, dict)):
            if not known:
                raise ValueError(
                    f"update got values below '{'/'.join(map(str, where))}', where the module has nothing. "
                    "Update a module of the same structure."
                )
            rebuilt = _updated_value(current, value, where)
            if rebuilt is not current:
                _set(node, key, rebuilt)
        elif isinstance(current, Pytree):
            raise ValueError(
                f"update got a {type(value).__name__} for '{'/'.join(map(str, where))}', where the module "
                f"has a {type(current).__name__}. "
                "Pass a mapping of that module's leaves."
            )
        else:
            _set(node, key, value.copy() if isinstance(value, Variable) else value)


def _updated_value(node: Any, new: Mapping[Any, Any], path: Path) -> Any:
    """Updates below `node` in place, or returns a changed copy where it is immutable."""
    if isinstance(node, (Pytree, State, list, dict)):
        _update(node, new, path)
        return node
    entries, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    children = {path_part(entry[0]): child for entry, child in entries}
    content = dict(children)
    _update(content, new, path)
    return (
        node
        if all(content[key] is child for key, child in children.items())
        else treedef.unflatten(content.values())
    )


def _get(node: Any, key: Any) -> tuple[bool, Any]:
    if isinstance(node, list):
        return (True, node[key]) if isinstance(key, int) and key < len(node) else (False, None)
    content = node if isinstance(node, (State, dict)) else vars(node)
    return key in content, content.get(key)


def _set(node: Any, key: Any, value: Any) -> None:
    if isinstance(node, (State, list, dict)):
        node[key] = value
    elif isinstance(key, int):
        node[key] = value  # a List
    else:
        setattr(node, key, value)


def clone(node: A, variables: bool = True, *, arrays: bool = False) -> A:
    """Returns a copy of a module that shares no module with it.

    Args:
        node: a module, or a container of modules.
        variables: copy the variables; otherwise they are shared.
        arrays: also copy the arrays on the device, so that those of one copy may be donated.

    Raises:
        ValueError: `arrays` without `variables`.
    """
    if arrays and not variables:
        raise ValueError(
            "clone got arrays=True and variables=False, expected both to be True: shared variables have "
            "shared arrays. Leave out variables=False."
        )
    found = walk(node)
    graphdef, contents = found.graphdef, found.arrays()
    copies = [variable.copy() for variable in found.variables] if variables else found.variables
    if arrays:
        contents = jax.tree.map(_copied, contents)
        for variable in copies:
            variable.set_raw_value(jax.tree.map(_copied, variable.get_raw_value()))
    return resolve_root(graphdef.roots[0], assemble(graphdef, copies, contents), copies, contents)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, jax.Array) else value


@overload
def pop(node: Any, only: Filter, /) -> State: ...
@overload
def pop(
    node: Any, first: Filter, second: Filter, /, *filters: Filter
) -> tuple[State, State, *tuple[State, ...]]: ...
def pop(node: Any, *filters: Filter) -> Any:
    """Takes the leaves that match a filter out of a module and returns them, one state for each filter.

    Raises:
        ValueError: no filter was given, or an item of a list or tuple matches: the others would move up.
    """
    if not filters:
        raise ValueError(
            "pop got no filter, expected at least one, such as nnx.Intermediate. Pass `...` to take out "
            "everything."
        )
    predicates = filters_to_predicates(filters)
    groups: list[list[tuple[Path, Any]]] = [[] for _ in predicates]
    taken: set[int] = set()
    found: list[tuple[Any, Path]] = []
    for path, leaf, owner in _leaves_with_owners(node):
        for predicate, group in zip(predicates, groups, strict=True):
            if predicate(path, leaf):
                _check_can_be_popped(owner, path)
                found.append((owner, path))
                if id(leaf) not in taken:
                    taken.add(id(leaf))
                    group.append((path, leaf))
                break
    for owner, path in found:
        _delete(owner, path[-1])
    states = tuple(map(from_flat_state, groups))
    return states[0] if len(states) == 1 else states


def _leaves_with_owners(node: Any) -> list[tuple[Path, Any, Any]]:
    """Returns `(path, leaf, the node that has it)` for every place of every leaf below `node`, in order."""
    found = walk(node)
    graphdef, arrays = found.graphdef, found.arrays()
    nodes = collect_nodes(graphdef, (node,))
    places: list[tuple[Path, Any, Any]] = []
    seen: set[int] = set()
    stack: list[tuple[Path, int, Any, Any]] = [((), *graphdef.roots[0], None)]
    while stack:
        path, tag, payload, owner = stack.pop()
        if tag in (VARIABLE, ARRAY) and path:
            places.append((path, resolve_root((tag, payload), nodes, found.variables, arrays), owner))
        elif tag == NODE and payload not in seen:
            seen.add(payload)
            children = graphdef.nodes[payload].children
            stack.extend(((*path, key), tag, child, nodes[payload]) for key, tag, child in reversed(children))
    return places


def _check_can_be_popped(owner: Any, path: Path) -> None:
    is_item = isinstance(owner, Pytree) and isinstance(path[-1], int)
    if is_item or not isinstance(owner, (Pytree, State, dict)):
        raise ValueError(
            f"pop found a leaf at '{'/'.join(map(str, path))}', an item of a {type(owner).__name__}: without "
            "it the items behind it "
            "would have other paths. Keep what is to be popped in attributes or in a dict."
        )


def _delete(owner: Any, key: Any) -> None:
    if isinstance(owner, (State, dict)):
        del owner[key]
    else:
        delattr(owner, key)


__all__ = [
    "GraphDef",
    "clone",
    "graphdef",
    "merge",
    "pop",
    "split",
    "state",
    "unpack",
    "update",
    "variables",
]
