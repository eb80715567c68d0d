"""Steps in the style of Keras on JAX: `train_step(self, state, data)` is given and returns lists of arrays.

train_step      (trainable, non_trainable, optimizer, metrics)  -> logs, state
test_step       (trainable, non_trainable, metrics)             -> logs, state
predict_step    (trainable, non_trainable)                      -> outputs, non_trainable

The lists are the values of the model's `trainable_variables`, `non_trainable_variables` and
`metrics_variables`, and of the optimizer's `variables`, in their order.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp

import easyflax.nnx as nnx

__all__ = ["call_on_lists", "is_stateless", "step_on_lists"]

_KINDS = {
    "train_step": ("trainable", "non_trainable", "optimizer", "metrics"),
    "test_step": ("trainable", "non_trainable", "metrics"),
    "predict_step": ("trainable", "non_trainable"),
}


class Scope(Protocol):
    """What runs the step; see `own_steps.Scope`."""

    model: Any

    @property
    def optimizer(self) -> Any:
        """The optimizer of `compile`, with the state of this trace."""
        ...


def is_stateless(cls: type, name: str) -> bool:
    """Says whether a step of a class is written as `(self, state, data)`."""
    parameters = list(inspect.signature(getattr(cls, name)).parameters.values())[1:]
    required = [
        one for one in parameters if one.default is one.empty and one.kind <= one.POSITIONAL_OR_KEYWORD
    ]
    return len(required) == 2


def call_on_lists(scope: Scope, name: str, data: Any) -> Any:
    """Calls the model's own step of this name with lists, and takes over those that it returns.

    Raises:
        TypeError: it does not return two things.
        ValueError: lists, or arrays in them, are more or fewer than they were, or of other shapes.
    """
    lists = _Lists(scope, name)
    returned = getattr(scope.model, name)(lists.read(), data)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise TypeError(
            f"{lists.owner} returned {type(returned).__name__}, expected {_RETURNED[name]}, since it takes "
            "(self, state, data). Return both."
        )
    result, state = returned
    lists.write((lists.read()[0], state) if name == "predict_step" else state)
    return result


def step_on_lists(scope: Any, name: str, state: Any, data: Any) -> tuple[Any, Any]:
    """Does on lists what the step of this name does without one of the model's own: `super().train_step`.

    Raises:
        ValueError: as for `call_on_lists`.
    """
    lists = _Lists(scope, name)
    lists.write(state)
    result = getattr(scope, name)(scope.model, data)
    return result, lists.read()[1] if name == "predict_step" else lists.read()


_RETURNED = {
    "train_step": "(logs, state)",
    "test_step": "(logs, state)",
    "predict_step": "(outputs, non_trainable_variables)",
}


class _Lists:
    """The variables of a model and its optimizer, as lists of arrays."""

    def __init__(self, scope: Scope, name: str):
        self.owner = f"{type(scope.model).__name__}.{name}"
        self._kinds = _KINDS[name]
        self._scope = scope
        self._held = {
            kind: getattr(scope.model, f"{kind}_variables") for kind in self._kinds if kind != "optimizer"
        }

    def read(self) -> tuple[list[Any], ...]:
        """Returns their values."""
        return tuple([one.get_raw_value() for one in self._variables(kind)] for kind in self._kinds)

    def write(self, state: Any) -> None:
        """Sets them."""
        if not isinstance(state, tuple | list) or len(state) != len(self._kinds):
            raise ValueError(
                f"{self.owner}: the state is {_counted(state)}, expected {len(self._kinds)} lists: "
                f"{', '.join(self._kinds)} variables. Give them in the order in which they come."
            )
        for kind, values in zip(self._kinds, state, strict=True):
            values = [one.get_raw_value() if isinstance(one, nnx.Variable) else one for one in values]
            self._check(kind, values)
            if kind == "optimizer":
                self._scope.optimizer.assign_variables(values)
            else:
                for variable, value in zip(self._held[kind], values, strict=True):
                    variable.set_raw_value(value)

    def _variables(self, kind: str) -> Sequence[Any]:
        return self._scope.optimizer.variables if kind == "optimizer" else self._held[kind]

    def _check(self, kind: str, values: list[Any]) -> None:
        shapes = [jnp.shape(one.get_raw_value()) for one in self._variables(kind)]
        found = [jnp.shape(value) for value in values]
        if shapes != found:
            raise ValueError(
                f"{self.owner}: the {kind} variables in the state have shapes {found}, expected {shapes}. "
                "Return them all, in the order in which they come."
            )


def _counted(state: Any) -> str:
    return f"a {type(state).__name__}" + (f" of {len(state)}" if isinstance(state, tuple | list) else "")
