"""Several optimizers for one model: which parameter is whose is said by paths or by a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import jax
import optax

from easyflax.nnx.training.variable_trees import is_variable
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.loss_scale import LossScaleOptimizer
from easyflax.optimizers.named_params import Row, array_rows
from easyflax.optimizers.parted import (
    Members,
    PartedState,
    find_parted,
    members_of,
    merged,
    part,
    with_state,
)
from easyflax.optimizers.parts import Part
from easyflax.optimizers.stateful import Unseen
from easyflax.optimizers.wrappers import needed
from easyflax.serialization import deserialize, serialize

__all__ = ["MultiOptimizer", "OptimizerMap", "Parameter"]


class OptimizerMap(MutableMapping[str, Optimizer]):
    """Optimizers by the paths of parameters, such as `"dense_1/kernel"`, with one for all others.

    Args:
        default_optimizer: for the parameters that no key matches.
        optimizer_map: optimizers by path, or by regular expression that matches whole paths.

    Raises:
        TypeError: `default_optimizer` is no optimizer, or `optimizer_map` no dict.
        ValueError: a key or an optimizer in it is none.

    Examples:
        >>> from easyflax.optimizers import SGD, Adam
        >>> optimizers = OptimizerMap(SGD(0.1), {"encoder/.*": Adam(0.001)})
        >>> optimizers["encoder/dense/kernel"].name, optimizers["head/bias"].name
        ('adam', 'sgd')
    """

    def __init__(
        self, default_optimizer: Optimizer, optimizer_map: Mapping[str, Optimizer] | None = None
    ) -> None:
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(
                f"OptimizerMap: default_optimizer is {default_optimizer!r}, expected an optimizer. Pass for "
                "example ef.optimizers.Adam(0.001)."
            )
        if not isinstance(optimizer_map, Mapping | None):
            raise TypeError(
                f"OptimizerMap: optimizer_map is {optimizer_map!r}, expected a dict of optimizers by path. "
                "Pass for example {'encoder/.*': ef.optimizers.Adam(0.001)}."
            )
        self._default = default_optimizer
        self._by_path: dict[str, Optimizer] = {}
        for path, optimizer in (optimizer_map or {}).items():
            self[path] = optimizer

    @property
    def default_optimizer(self) -> Optimizer:
        """For the parameters that no key matches."""
        return self._default

    def __getitem__(self, path: str) -> Optimizer:
        if path in self._by_path:
            return self._by_path[path]
        found = [pattern for pattern in self._by_path if re.fullmatch(pattern, path)]
        if len(found) > 1:
            raise ValueError(
                f"OptimizerMap: the parameter {path!r} is matched by {' and by '.join(map(repr, found))}, "
                "expected at most one match. Write narrower expressions."
            )
        return self._by_path[found[0]] if found else self._default

    def __setitem__(self, path: str, optimizer: Optimizer) -> None:
        if not isinstance(path, str):
            raise ValueError(
                f"OptimizerMap: got the key {path!r}, expected a path or a regular expression. Pass a "
                "string, such as 'encoder/.*'."
            )
        if path in self._by_path:
            raise ValueError(
                f"OptimizerMap: the key {path!r} is set already, expected a new one. Delete it first."
            )
        _check_may_be_part("OptimizerMap", path, optimizer)
        self._by_path[path] = optimizer

    def __delitem__(self, path: str) -> None:
        del self._by_path[path]

    def __len__(self) -> int:
        return len(self._by_path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __call__(self, parameter: Any) -> Optimizer:
        """Returns the optimizer of what has a `path`."""
        return self[parameter.path]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make it again."""
        return {
            "default_optimizer": serialize(self._default),
            "optimizer_map": serialize(self._by_path),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Returns a new map of what `get_config` returned, here or in Keras."""
        return cls(**{name: deserialize(value, custom_objects) for name, value in config.items()})


@dataclass(frozen=True)
class Parameter:
    """What a function that chooses optimizers is told of a parameter.

    Attributes:
        path: "dense_1/kernel".
        name: "kernel".
        shape: of the parameter.
        dtype: likewise.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: Any


class MultiOptimizer(Optimizer):
    """Several optimizers for one model, each for some of its parameters.

    They have learning rates of their own: `optimizer.optimizers[0].learning_rate` is read and set as of any
    optimizer, and the `learning_rate` of this one is an error.

    Args:
        optimizer_map: an `OptimizerMap`, or a function from a parameter, with `path`, `name`, `shape` and
            `dtype`, to its optimizer.
        loss_scale_factor: see `Optimizer`; those of the optimizers inside are left out.
        name: see `Optimizer`.

    Raises:
        TypeError: `optimizer_map` is neither.
        ValueError: the function returns something else than an optimizer, or one of those that are around
            others.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.optimizers import SGD
        >>> optimizer = MultiOptimizer(OptimizerMap(SGD(1.0), {"slow": SGD(0.5)}))
        >>> params = {"slow": jnp.ones(1), "fast": jnp.ones(1)}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates["slow"].tolist(), updates["fast"].tolist()
        ([-0.5], [-1.0])
    """

    def __init__(
        self,
        optimizer_map: OptimizerMap | Callable[[Any], Optimizer],
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ):
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        if not callable(optimizer_map) or isinstance(optimizer_map, Optimizer | type):
            raise TypeError(
                f"MultiOptimizer: optimizer_map is {optimizer_map!r}, expected an OptimizerMap, or a "
                "function from a parameter to its optimizer. Pass for example "
                "OptimizerMap(Adam(), {'head/.*': SGD()})."
            )
        self._choice = Unseen(_Choice(optimizer_map))

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers inside, those that were chosen so far; their states are parts of this one's."""
        inner = self._choice.value.optimizers
        if not self._has_state:
            return list(inner)
        return [one.attached(self._part(number)) for number, one in enumerate(inner)]

    def _part(self, number: int) -> Part:
        def params() -> dict[str, Any]:
            leaves = jax.tree.leaves(self._held_tree(), is_leaf=is_variable)
            return part(leaves, _parted(self._opt_state()).members[number])

        return Part(
            self,
            lambda opt_state: _parted(opt_state).states[number],
            lambda opt_state, new: with_state(opt_state, number, new),
            params,
        )

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        del learning_rate  # each has its own
        choice: _Choice = self._choice.value

        def init(params: Any) -> Any:
            leaves = jax.tree.leaves(params, is_leaf=is_variable)
            members = choice.members(array_rows(params))
            states = [
                optimizer.init(part(leaves, mine))
                for optimizer, mine in zip(choice.optimizers, members, strict=True)
            ]
            return PartedState(tuple(states), members)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            leaves, structure = jax.tree.flatten(needed(params, "MultiOptimizer"))
            grads = structure.flatten_up_to(updates)
            parts, states = [], []
            for optimizer, inner, mine in zip(choice.optimizers, state.states, state.members, strict=False):
                new: Any = {}
                if mine:
                    new, inner = optimizer.transformation.update(
                        part(grads, mine), inner, part(leaves, mine), **extra
                    )
                parts.append(new)
                states.append(inner)
            return structure.unflatten(merged(parts, state.members)), PartedState(
                tuple(states), state.members
            )

        return optax.GradientTransformationExtraArgs(init, update)

    @property
    def keeps_average(self) -> bool:
        return self.use_ema or any(one.keeps_average for one in self._choice.value.optimizers)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        for optimizer in self._choice.value.optimizers:
            optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def learning_rate(self) -> Any:
        """There is none.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(_OWN_RATES)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:  # noqa: ARG002
        raise AttributeError(_OWN_RATES)

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer_map": serialize(self._choice.value.map_of(self.optimizers)),
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        return cls(**{name: deserialize(value, custom_objects) for name, value in config.items()})


_OWN_RATES = (
    "MultiOptimizer has no learning_rate, expected a look at the optimizers inside: each has its own. Read "
    "and set optimizer.optimizers[0].learning_rate."
)


class _Choice:
    """Which parameter is whose; shared by all copies of a `MultiOptimizer`, so that it is asked once."""

    def __init__(self, optimizer_map: Callable[[Any], Optimizer]):
        self.map = optimizer_map
        self.given: list[Optimizer] = []  # as the map returns them
        self.optimizers: list[Optimizer] = []  # the same without states
        self._by_path: dict[str, int] = {}
        if isinstance(optimizer_map, OptimizerMap):
            for optimizer in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._number_of("optimizer_map", optimizer)

    def members(self, params: list[Row]) -> tuple[Members, ...]:
        """Returns the parameters of each optimizer."""
        numbers = [self._chosen(row) for row in params]
        paths = [row.path for row in params]
        return tuple(
            members_of([row for row, number in enumerate(numbers) if number == wanted], paths)
            for wanted in range(len(self.optimizers))
        )

    def _chosen(self, row: Row) -> int:
        if row.path not in self._by_path:
            told = Parameter(row.path, row.name, tuple(row.array.shape), row.array.dtype)
            self._by_path[row.path] = self._number_of(row.path, self.map(told))
        return self._by_path[row.path]

    def _number_of(self, path: str, optimizer: Any) -> int:
        for number, known in enumerate(self.given):
            if known is optimizer:
                return number
        _check_may_be_part("MultiOptimizer", path, optimizer)
        self.given.append(optimizer)
        inner = optimizer.without_state()
        inner.loss_scale_factor = None  # else gradients would be divided twice
        self.optimizers.append(inner)
        return len(self.given) - 1

    def map_of(self, optimizers: list[Optimizer]) -> Any:
        """Returns the map with these in place of those that it was given."""
        if not isinstance(self.map, OptimizerMap):
            return self.map
        now = {id(old): new for old, new in zip(self.given, optimizers, strict=True)}
        changed = {path: now[id(one)] for path, one in self.map.items()}
        return OptimizerMap(now[id(self.map.default_optimizer)], changed)


def _check_may_be_part(owner: str, path: str, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"{owner}: the optimizer for {path!r} is {optimizer!r}, expected an ef.optimizers object. Return "
            "or pass for example ef.optimizers.Adam(0.001)."
        )
    if isinstance(optimizer, LossScaleOptimizer | MultiOptimizer):
        raise ValueError(
            f"{owner}: the optimizer for {path!r} is a {type(optimizer).__name__}, expected one that has no "
            "other inside. Put the MultiOptimizer into the LossScaleOptimizer, and all optimizers into one."
        )


def _parted(opt_state: Any) -> PartedState:
    found = find_parted(opt_state)
    assert found is not None
    return found
