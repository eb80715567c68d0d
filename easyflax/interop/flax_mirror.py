"""What the mirror of a Flax module is made of: nodes, variables, and the links that keep both sides in step.

A link remembers the value that both sides had last. The side that has another one now was changed, and hands
it to the other; where both were changed, the Flax module's goes first, since it was set by hand.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import jax
import numpy as np

import easyflax.nnx as nnx
from easyflax.nnx.core.module import sorted_items

__all__ = [
    "MODES",
    "Attachment",
    "Part",
    "Submodule",
    "Survey",
    "build_tree",
    "flax_nnx",
    "walk",
]

Path = tuple[Any, ...]

MODES = ("deterministic", "use_running_average")  # what train() and eval() set
_FLAGS = (*MODES, "trainable")
_FLAX_ONLY = frozenset(("hijax", "ref", "eager_sharding"))  # metadata for modes of Flax's variables
_ABSENT: Any = object()


class _Items:
    """What a node of Flax holds under a number or a name, as an item."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return vars(self)[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        set_child(self, key, value)


class Part(_Items, nnx.Pytree):
    """Stands for a node of a Flax module that is no module: random streams, plain lists."""


class Submodule(_Items, nnx.Module):
    """Stands for a module inside of a Flax module."""


@functools.cache
def flax_nnx() -> Any:
    """Returns the module `flax.nnx`."""
    return import_module("flax.nnx")


@dataclass(frozen=True)
class Survey:
    """The structure of a Flax module.

    Attributes:
        graphdef: Flax's own, without values that were sown.
        nodes: everything that holds variables, and all modules, by path; parents before their children.
        leaves: variables, and arrays without a variable, by path.
        more_places: further paths of what is shared.
    """

    graphdef: Any
    nodes: dict[Path, Any]
    leaves: dict[Path, Any]
    more_places: list[tuple[Path, Path]]  # the further one, and the first

    @classmethod
    def of(cls, module: Any) -> Survey:
        """Returns the structure that `module` has now."""
        flax = flax_nnx()
        graphdef, leaves = _split(module)
        found = dict(flax.iter_graph(module))
        around = {path[:length] for path in leaves for length in range(len(path))}
        around |= {path for path, value in found.items() if isinstance(value, flax.Module)}
        nodes = {path: found[path] for path in sorted(around, key=len)}
        more_places = [
            (path, first)
            for places in flax.find_duplicates(module)
            for first in places
            if first in nodes or first in leaves
            for path in places
            if path != first and path not in leaves and path[:-1] in nodes
        ]
        return cls(graphdef, nodes, leaves, more_places)

    def still_holds(self, module: Any) -> bool:
        """Says whether `module` has the same structure now, and the same variables."""
        graphdef, leaves = _split(module)
        return (
            self.leaves.keys() == leaves.keys()
            and all(leaf is leaves[path] for path, leaf in self.leaves.items() if not _is_array(leaf))
            and self.graphdef == graphdef
        )


def _split(module: Any) -> tuple[Any, dict[Path, Any]]:
    """Returns structure, variables and arrays of a Flax module as if nothing had been sown in it."""
    flax = flax_nnx()
    graphdef, state = flax.split(module)
    flat = dict(flax.to_flat_state(state))
    leaves = {path: leaf for path, leaf in flat.items() if not isinstance(leaf, flax.Intermediate)}
    if len(leaves) < len(flat):
        clean = flax.merge(graphdef, state)
        flax.pop(clean, flax.Intermediate)
        graphdef = flax.graphdef(clean)
    return graphdef, leaves


@dataclass
class Attachment:
    """What ties a mirror to a Flax module.

    Attributes:
        module: the Flax module.
        survey: its structure when the mirror was built.
        links: those of all nodes and leaves.
    """

    module: Any
    survey: Survey
    links: list[NodeLink | VariableLink | ArrayLink] = field(default_factory=list)


def build_tree(root: nnx.Module, attachment: Attachment) -> None:
    """Makes nodes and variables below `root` for what the survey found; those that it has already stay."""
    known = {id(link.theirs): link for link in attachment.links if isinstance(link, NodeLink)}
    survey = attachment.survey
    root = weakref.proxy(root)  # a mirror that nobody uses shall be freed at once, with its arrays
    nodes: dict[Path, NodeLink] = {}
    children: dict[Path, dict[Any, Any]] = {}
    for path, theirs in survey.nodes.items():
        nodes[path] = known.get(id(theirs)) or NodeLink(theirs, _node_for(theirs) if path else root)
        children[path] = {}
        if path:
            children[path[:-1]][path[-1]] = nodes[path].ours
    leaves: list[VariableLink | ArrayLink] = []
    for path, leaf in survey.leaves.items():
        if _is_array(leaf):
            children[path[:-1]][path[-1]] = leaf
            leaves.append(ArrayLink(attachment.module, path, nodes[path[:-1]].ours, leaf))
        else:
            link = _link_to(leaf)
            children[path[:-1]][path[-1]] = link.ours
            leaves.append(link)
    for path, first in survey.more_places:
        children[path[:-1]][path[-1]] = children[first[:-1]][first[-1]] if first else root
    for path, link in nodes.items():
        _set_children(link.ours, children[path])
    attachment.links = [*nodes.values(), *leaves]


def walk(node: Any, path: Path = (), seen: set[int] | None = None) -> Iterator[tuple[Path, Any]]:
    """Iterates over the nodes, variables and arrays of a mirror, itself included, each once."""
    seen = {id(node)} if seen is None else seen
    yield path, node
    for key, child in sorted_items(node):
        if id(child) in seen or not (isinstance(child, Part | Submodule) or _is_leaf(child)):
            continue
        seen.add(id(child))
        if _is_leaf(child):
            yield (*path, key), child
        else:
            yield from walk(child, (*path, key), seen)


def set_child(owner: Any, key: Any, value: Any) -> None:
    """Sets an attribute of a node of a mirror, or an item, by its key in Flax."""
    old = vars(owner).get(key, _ABSENT)
    if old is value:
        return
    vars(owner)[key] = value  # not by setattr: it may be called like a property of the node's class
    if _is_array(old) and _is_array(value):
        owner._value_changed()
    else:
        owner._structure_changed()


# -- links


class NodeLink:
    """Two nodes, whose flags for mode and freezing are kept in step."""

    def __init__(self, theirs: Any, ours: Any) -> None:
        self.theirs = theirs
        self.ours = ours
        self._last: dict[str, Any] = dict.fromkeys(_FLAGS, _ABSENT)

    def pull(self) -> None:
        """Takes over flags that were set in the Flax module."""
        for name in _FLAGS:
            value = _flag(self.theirs, name)
            if value is not self._last[name]:
                self._last[name] = value
                _set_flag(self.ours, name, value)

    def sync(self) -> None:
        """Brings both sides in step."""
        self.pull()
        for name in _FLAGS:
            value = _flag(self.ours, name)
            if value is not self._last[name] and self._last[name] is not _ABSENT:
                self._last[name] = value
                _set_flag(self.theirs, name, value)


class VariableLink:
    """A variable of Flax and one of ours."""

    def __init__(self, theirs: Any) -> None:
        self.theirs = theirs
        self.ours = _kind_for(type(theirs)).from_metadata(theirs.get_raw_value(), _metadata(theirs))
        self._last = theirs.get_raw_value()
        self._last_metadata = _metadata(theirs)

    def pull(self) -> None:
        """Takes over a value that was set in Flax's variable."""
        value = self.theirs.get_raw_value()
        if value is not self._last:
            self._last = value
            self.ours.set_raw_value(value)

    def sync(self) -> None:
        """Brings both sides in step."""
        self.pull()
        value = self.ours.get_raw_value()
        if value is not self._last:
            self._last = value
            self.theirs.set_raw_value(value)

    def sync_metadata(self) -> None:
        """Takes over metadata that was set in Flax's variable."""
        metadata = _metadata(self.theirs)
        if metadata != self._last_metadata:
            self._last_metadata = metadata
            self.ours.set_metadata(metadata)


class ArrayLink:
    """An array that is an attribute of Flax's module without a variable, and the same one in the mirror."""

    def __init__(self, module: Any, path: Path, owner: Any, value: Any) -> None:
        self._module = module
        self._path = path
        self._owner = owner
        self._last = value

    def pull(self) -> None:
        """Takes over an array that was set in the Flax module."""
        value = _item(self._holder(), self._path[-1])
        if value is not self._last:
            self._last = value
            set_child(self._owner, self._path[-1], value)

    def sync(self) -> None:
        """Brings both sides in step; arrays in tuples stay as they are."""
        self.pull()
        value, holder, key = vars(self._owner)[self._path[-1]], self._holder(), self._path[-1]
        if value is self._last or isinstance(holder, tuple):
            return
        self._last = value
        if isinstance(key, str) and hasattr(holder, key):
            setattr(holder, key, value)
        else:
            holder[key] = value

    def _holder(self) -> Any:
        return functools.reduce(_item, self._path[:-1], self._module)


# By the id of Flax's variable, which its link keeps alive: if modules share a variable, their mirrors do.
_links: weakref.WeakValueDictionary[int, VariableLink] = weakref.WeakValueDictionary()


def _link_to(theirs: Any) -> VariableLink:
    link = _links.get(id(theirs))
    if link is None:
        _check_has_value(theirs)
        link = _links[id(theirs)] = VariableLink(theirs)
    link.sync_metadata()
    return link


def _check_has_value(theirs: Any) -> None:
    if isinstance(theirs.get_raw_value(), getattr(jax, "Ref", ())):
        raise TypeError(
            f"Got a {type(theirs).__name__} of flax.nnx that holds a jax.Ref, expected one that holds an "
            "array. Make the module without ref=True and without nnx.use_refs."
        )


# -- nodes, variables and flags of ours for Flax's


@functools.cache
def _class_named(name: str, base: type) -> type:
    return type(name, (base,), {"__doc__": f"Stands for a {name} of Flax.", "__module__": __name__})


def _node_for(theirs: Any) -> Any:
    base = Submodule if isinstance(theirs, flax_nnx().Module) else Part
    return _class_named(type(theirs).__name__, base)()


def _kind_for(kind: type) -> type[nnx.Variable[Any]]:
    """Returns the class of ours of the same name as the first of Flax's own that `kind` derives from."""
    for cls in kind.__mro__:
        ours = getattr(nnx, cls.__name__, None)
        if (
            cls.__module__.startswith("flax.nnx")
            and isinstance(ours, type)
            and issubclass(ours, nnx.Variable)
        ):
            return ours
    return nnx.Variable


def _metadata(theirs: Any) -> dict[str, Any]:
    metadata = theirs.get_metadata()
    return {
        name: metadata[name] for name in metadata if name not in _FLAX_ONLY and not name.startswith("on_")
    }


def _flag(node: Any, name: str) -> Any:
    value = getattr(node, "__dict__", {}).get(name, _ABSENT)
    return value if value is None or isinstance(value, bool) else _ABSENT


def _set_flag(node: Any, name: str, value: Any) -> None:
    if value is not _ABSENT:
        setattr(node, name, value)
    elif _flag(node, name) is not _ABSENT:
        delattr(node, name)


def _set_children(owner: Any, children: dict[Any, Any]) -> None:
    for key, value in list(vars(owner).items()):
        if key not in children and (isinstance(value, Part | Submodule) or _is_leaf(value)):
            del vars(owner)[key]
            owner._structure_changed()
    for key, value in children.items():
        set_child(owner, key, value)


def _item(owner: Any, key: Any) -> Any:
    return getattr(owner, key) if isinstance(key, str) and hasattr(owner, key) else owner[key]


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray)


def _is_leaf(value: Any) -> bool:
    return _is_array(value) or (isinstance(value, nnx.Variable) and not isinstance(value, nnx.Intermediate))
