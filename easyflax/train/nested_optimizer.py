"""Shows an optimizer the parameters as `nnx.Optimizer` shows them: nested by path, and at first as variables.

The train state keeps parameters in a flat dict. What optax users write to tell parameters apart, labels and
masks by path or `nnx.multi_transform` by filter, is written for the model's own nesting and kinds.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

import easyflax.nnx as nnx
from easyflax.train.binding import Arrays, Binding

__all__ = ["nest"]


def nest(optimizer: optax.GradientTransformation, binding: Binding) -> optax.GradientTransformationExtraArgs:
    """Returns `optimizer` for the flat dicts of `binding`: it is given an `nnx.State` in their place.

    Args:
        optimizer: its `init` is given variables, as `nnx.Optimizer` does it, its `update` arrays.
        binding: the model.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    names, state = binding.params_state()
    structure = jax.tree.structure(state, is_leaf=_is_variable)

    def nested(arrays: Arrays | None) -> Any:
        return arrays if arrays is None else structure.unflatten([arrays[name] for name in names])

    def init(params: Any) -> Any:
        variables = [binding.params[name] for name in names]
        # The identity tells which variable it is, for optimizers that were told of some.
        paths = binding.layer_paths()
        leaves = [
            one.replace(params[name], identity=id(one), path=paths[name])
            for name, one in zip(names, variables)
        ]
        return nnx.as_pure(optimizer.init(structure.unflatten(leaves)))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Arrays, Any]:
        updates, state = optimizer.update(nested(updates), state, nested(params), **extra)
        return dict(zip(names, structure.flatten_up_to(updates), strict=True)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
