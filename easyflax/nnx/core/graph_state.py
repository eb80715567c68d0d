"""States that know the structure of the module that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

import jax
from jax.tree_util import DictKey

from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.state import State, type_aware

A = TypeVar("A")
PureState = tuple[GraphDef[A], State]  # what `nnx.split(module)` returns

__all__ = ["GraphState", "PureState", "common_graphdef"]


class GraphState(MutableMapping[Any, Any], Generic[A]):
    """A `State` together with the `GraphDef` of its module, as `nnx.unpack` returns it; a pytree with the
    paths of the state.

    Entries are read and set as those of a `State`: `state["kernel"]`, `state.kernel`.
    """

    __slots__ = ("_graphdef", "_state")

    _graphdef: GraphDef[A]
    _state: State

    def __init__(self, graphdef: GraphDef[A], state: State) -> None:
        if not isinstance(state, State):
            raise ValueError(
                f"GraphState got a {type(state).__name__}, expected a State. The state of a single variable "
                "or array has no paths: use nnx.split for it."
            )
        object.__setattr__(self, "_graphdef", graphdef)
        object.__setattr__(self, "_state", state)

    def __getitem__(self, key: Any) -> Any:
        return self._state[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._state[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._state[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)

    def __getattr__(self, name: str) -> Any:
        if name in ("_graphdef", "_state"):
            raise AttributeError(name)
        return getattr(self._state, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._state[name] = value

    def __repr__(self) -> str:
        return f"GraphState({self._state!r})"

    def __reduce__(self) -> Any:
        return GraphState, (self._graphdef, self._state)


def common_graphdef(states: Sequence[Any]) -> GraphDef[Any]:
    """Returns the structure that all of `states` came from.

    Raises:
        ValueError: one of them is no `GraphState`, or comes from another structure.
    """
    for state in states:
        if not isinstance(state, GraphState):
            raise ValueError(
                f"merge got a {type(state).__name__} besides a GraphState. Expected GraphState objects only: "
                "pass all that nnx.unpack returned."
            )
        if state._graphdef != states[0]._graphdef:
            raise ValueError(
                "merge got GraphStates of different modules. The GraphDef must be the same in all of them: "
                "pass all that one call of nnx.unpack returned."
            )
    return states[0]._graphdef


def _flatten_with_keys(packed: GraphState[Any]) -> tuple[list[tuple[Any, Any]], Any]:
    keys = tuple(sorted(packed._state, key=type_aware))
    return [(DictKey(key), packed._state[key]) for key in keys], (packed._graphdef, keys)


def _unflatten(aux: Any, children: Iterable[Any]) -> GraphState[Any]:
    graphdef, keys = aux
    return GraphState(graphdef, State(zip(keys, children, strict=True)))


jax.tree_util.register_pytree_with_keys(GraphState, _flatten_with_keys, _unflatten)
