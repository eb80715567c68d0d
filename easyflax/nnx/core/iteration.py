"""Looking through a graph of modules: everything in it, its modules, its children, what it has twice.

All functions here take a module, a variable, a state, or a plain container of these, and follow attributes in
the order of sorted names, each object once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from easyflax.nnx.core.filters import Filter, Path, to_predicate
from easyflax.nnx.core.graphdef import ARRAY, NODE, VARIABLE, Ref, collect_nodes, resolve_root
from easyflax.nnx.core.module import Module, Pytree, sorted_items
from easyflax.nnx.core.state import State, type_aware
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import walk

__all__ = [
    "find_duplicates",
    "iter_children",
    "iter_graph",
    "iter_module_children",
    "iter_modules",
    "set_attributes",
    "set_metadata",
]


def iter_graph(node: Any, /) -> Iterator[tuple[Path, Any]]:
    """Iterates over `(path, value)` of everything below `node`, children before their parents, each object
    once; static values included.

    >>> from easyflax import nnx
    >>> layer = nnx.Dict(scale=nnx.Param(2.0), name="gain")
    >>> [path for path, _ in nnx.iter_graph([layer, layer])]
    [(0, 'name'), (0, 'scale'), (0,), ()]
    """
    found = walk(node)
    graphdef, arrays = found.graphdef, found.arrays()
    nodes = collect_nodes(graphdef, (node,))
    seen: set[Ref] = set()
    # (path, tag, payload, whether the children were done)
    stack: list[tuple[Path, int, Any, bool]] = [((), *graphdef.roots[0], False)]
    while stack:
        path, tag, payload, done = stack.pop()
        if tag in (NODE, VARIABLE) and not done:
            if (tag, payload) in seen:
                continue
            seen.add((tag, payload))
        if tag == NODE and not done:
            stack.append((path, tag, payload, True))
            stack.extend(
                ((*path, key), t, p, False) for key, t, p in reversed(graphdef.nodes[payload].children)
            )
            continue
        yield path, resolve_root((tag, payload), nodes, found.variables, arrays)


def iter_modules(node: Any, /) -> Iterator[tuple[Path, Module]]:
    """Iterates over `(path, module)` of all modules below `node` and itself, children before their parents,
    each once."""
    return ((path, value) for path, value in iter_graph(node) if isinstance(value, Module))


def iter_children(node: Any, /) -> Iterator[tuple[Any, Any]]:
    """Iterates over `(name, child)` of the modules, random streams and variables that are attributes of
    `node`.

    Raises:
        ValueError: `node` is no module and no container.
    """
    return ((name, value) for name, value in _items(node) if isinstance(value, (Pytree, Variable)))


def iter_module_children(node: Any, /) -> Iterator[tuple[Any, Module]]:
    """Iterates over `(name, module)` of the modules that are attributes of `node`.

    Raises:
        ValueError: `node` is no module and no container.
    """
    return ((name, value) for name, value in _items(node) if isinstance(value, Module))


def _items(node: Any) -> list[tuple[Any, Any]]:
    if isinstance(node, Pytree):
        return sorted_items(node)
    if isinstance(node, (list, tuple)):
        return list(enumerate(node))
    if isinstance(node, (State, dict)):
        return sorted(node.items(), key=lambda item: type_aware(item[0]))
    raise ValueError(
        f"Got a {type(node).__name__}, expected something that has children: a module, or a list, tuple or "
        "dict of modules. Pass the module that holds it."
    )


def find_duplicates(node: Any, /, *, only: Filter = ...) -> list[list[Path]]:
    """Returns the paths of each module, variable or array that `node` has in more than one place.

    >>> from easyflax import nnx
    >>> layer = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    >>> nnx.find_duplicates(nnx.Dict(a=layer, b=nnx.Param(0), c=layer))
    [[('a',), ('c',)]]

    Args:
        node: a module, or a container of modules.
        only: selects, by path and value, the further places that count.
    """
    selected = to_predicate(only)
    found = walk(node)
    graphdef, arrays = found.graphdef, found.arrays()
    nodes = collect_nodes(graphdef, (node,))
    places: dict[int, list[Path]] = {}
    stack: list[tuple[Path, int, Any]] = [((), *graphdef.roots[0])]
    while stack:
        path, tag, payload = stack.pop()
        if tag not in (NODE, VARIABLE, ARRAY):
            continue
        value = resolve_root((tag, payload), nodes, found.variables, arrays)
        if id(value) in places:
            if selected(path, value):
                places[id(value)].append(path)
            continue
        if tag != NODE or isinstance(value, (Pytree, State)):
            places[id(value)] = [path]
        if tag == NODE:
            children = graphdef.nodes[payload].children
            stack.extend(((*path, key), t, p) for key, t, p in reversed(children))
    return [paths for paths in places.values() if len(paths) > 1]


def set_attributes(node: Any, *filters: Filter, raise_if_not_found: bool = True, **attributes: Any) -> None:
    """Sets attributes on all modules below `node` that have them; see `Module.set_attributes`."""
    selected = to_predicate(filters or ...)
    left = set(attributes)
    for path, module in list(iter_modules(node)):
        if selected(path, module):
            for name, value in attributes.items():
                if hasattr(module, name):
                    left.discard(name)
                    if getattr(module, name) is not value:
                        setattr(module, name, value)
    if left and raise_if_not_found:
        raise ValueError(
            f"No module of this {type(node).__name__} that the filters select has the attributes "
            f"{sorted(left)}, expected each in one module at least. Check the names; there are "
            f"{_names(node)}. Or pass raise_if_not_found=False."
        )


def _names(node: Any) -> list[str]:
    """Returns the names of the static attributes of all modules, for messages."""
    return sorted(
        {
            str(name)
            for _, module in iter_modules(node)
            for name, value in vars(module).items()
            if isinstance(name, str) and name[0] != "_" and not isinstance(value, (Pytree, Variable))
        }
    )


def set_metadata(node: Any, /, *, only: Filter = Variable, **metadata: Any) -> None:
    """Sets metadata of all variables of a module, or of those that a filter selects, in place.

    >>> from easyflax import nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> nnx.set_metadata(layer, only=nnx.PathContains("kernel"), decay=True)
    >>> layer.kernel.decay, layer.bias.has_metadata("decay")
    (True, False)

    Args:
        node: a module, or a container of modules.
        only: which variables.
        **metadata: hashable values by name; other metadata stays.

    Raises:
        TraceContextError: a variable was made outside of the transform that is running.
    """
    selected = to_predicate(only)
    found = walk(node)
    for path, variable in list(zip(found.graphdef.paths().variables, found.variables, strict=True)):
        if selected(path, variable):
            variable.set_metadata(**metadata)
