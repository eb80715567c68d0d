"""The functions on graphs of modules, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.core.contexts import (
    MergeContext,
    SplitContext,
    UpdateContext,
    current_update_context,
    merge_context,
    split_context,
    update_context,
)
from easyflax.nnx.core.filters import Key, PathParts
from easyflax.nnx.core.flattening import flatten, unflatten
from easyflax.nnx.core.graph import (
    clone,
    graphdef,
    merge,
    pop,
    split,
    state,
    unpack,
    update,
    variables,
)
from easyflax.nnx.core.graph_calls import call
from easyflax.nnx.core.graph_maps import as_pure, map, pure, recursive_map
from easyflax.nnx.core.graph_state import GraphState, PureState
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.iteration import (
    find_duplicates,
    iter_children,
    iter_graph,
    iter_module_children,
    set_metadata,
)
from easyflax.nnx.core.state import FlatState, State
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.transforms.cached_partial import cached_partial

__all__ = [
    "FlatState",
    "GraphDef",
    "GraphState",
    "Key",
    "MergeContext",
    "PathParts",
    "PureState",
    "SplitContext",
    "State",
    "UpdateContext",
    "Variable",
    "as_pure",
    "cached_partial",
    "call",
    "clone",
    "current_update_context",
    "find_duplicates",
    "flatten",
    "graphdef",
    "iter_children",
    "iter_graph",
    "iter_module_children",
    "map",
    "merge",
    "merge_context",
    "pop",
    "pure",
    "recursive_map",
    "set_metadata",
    "split",
    "split_context",
    "state",
    "unflatten",
    "unpack",
    "update",
    "update_context",
    "variables",
]
