"""`clone_model`: the same layers anew, with weights of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import Input, Symbolic, apply
from easyflax.models.chain import Chain
from easyflax.models.inputs import flat_inputs
from easyflax.models.model import Model
from easyflax.models.sequential import Sequential
from easyflax.models.sorting import sorted_steps

__all__ = ["clone_model"]

CloneFunction = Callable[[Any], Any]


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: CloneFunction | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Model:
    """Returns a model of new layers, made by the configurations of those of another one.

    The weights are drawn anew, and nothing is compiled; `clone.set_weights(model.get_weights())` gives it
    the same ones. To copy a model with its weights, `nnx.clone(model)` does.

    Args:
        model: a `Sequential`, a model of symbolic inputs and outputs, or one with a `get_config`.
        input_tensors: what `ef.Input` returns, to state the clone on; nested as the model's inputs.
        clone_function: returns the layer to put in the place of each; by default one of the same
            configuration. Models among the layers are cloned by it, too, where `recursive` is set.
        call_function: calls a new layer: `(layer, *args, **kwargs)`.
        recursive: whether `clone_function` is also called on the layers of models among the layers.

    Raises:
        TypeError: `model` is no model, or a module in it has no configuration, such as one of `nnx`.
        ValueError: `model` says neither what its layers are nor a configuration.

    Examples:
        >>> from easyflax import Input, layers
        >>> model = Sequential([Input((3,)), layers.Dense(2)])
        >>> clone_model(model).count_params()
        8
    """
    if not isinstance(model, Model):
        raise TypeError(f"clone_model: got {model!r}, expected a model. Pass an ef.Model or ef.Sequential.")
    cloner = _Cloner(clone_function, call_function, recursive)
    if model._is_wrapper and isinstance(model.trained_module, Chain):
        return cloner.sequential(model, input_tensors)
    if model._is_stated:
        return cloner.graph(model, input_tensors)
    if clone_function is not None or input_tensors is not None:
        raise ValueError(
            f"clone_model: {type(model).__name__} does not say what its layers are, expected a Sequential or "
            "ef.Model(inputs, outputs) for clone_function and input_tensors. Leave them out."
        )
    return _from_config(model)


class _Cloner:
    """Makes each layer anew, once.

    Args:
        clone_function: see `clone_model`.
        call_function: likewise.
        recursive: likewise.
    """

    def __init__(
        self, clone_function: CloneFunction | None, call_function: Callable[..., Any] | None, recursive: bool
    ) -> None:
        self._clone = clone_function or _from_config
        self._call = call_function or apply
        self._recursive = recursive
        self._made: dict[int, Any] = {}

    def sequential(self, model: Model, inputs: Any) -> Model:
        """Returns a clone of a `Sequential`."""
        chain: Chain = model.trained_module
        known = chain.stated[0] if inputs is None and chain.stated is not None else inputs
        begin = [] if known is None else [_new_input(known) if inputs is None else known]
        return Sequential([*begin, *map(self.layer, chain.layers)], name=model.name)

    def graph(self, model: Model, inputs: Any) -> Model:
        """Returns a clone of a model of symbolic inputs and outputs."""
        old_inputs, old_outputs = model.trained_module.stated
        new_inputs = jax.tree.map(_new_input, old_inputs, is_leaf=_is_symbolic) if inputs is None else inputs
        values = dict(zip(map(id, flat_inputs(old_inputs)), flat_inputs(new_inputs), strict=True))

        def renewed(tree: Any) -> Any:
            return jax.tree.map(
                lambda leaf: values[id(leaf)] if isinstance(leaf, Symbolic) else leaf,
                tree,
                is_leaf=lambda leaf: isinstance(leaf, Symbolic | nnx.Variable | nnx.Pytree),
            )

        old_values = jax.tree.leaves(old_outputs, is_leaf=_is_symbolic)
        for step in sorted_steps(flat_inputs(old_inputs), old_values):
            args, kwargs = renewed((step.args, step.kwargs))
            outputs = self._call(self.layer(step.function), *args, **kwargs)
            olds, news = (jax.tree.leaves(tree, is_leaf=_is_symbolic) for tree in (step.outputs, outputs))
            values.update(zip(map(id, olds), news, strict=True))
        kind = type(model) if type(model).__init__ is Model.__init__ else Model
        return kind(new_inputs, renewed(old_outputs), name=model.name)

    def layer(self, layer: Any) -> Any:
        """Returns what stands in the place of a layer; a plain function stays."""
        if not isinstance(layer, nnx.Module):
            return layer
        if id(layer) not in self._made:
            self._made[id(layer)] = self._new(layer)
        return self._made[id(layer)]

    def _new(self, layer: Any) -> Any:
        if not isinstance(layer, Model):
            return self._clone(layer)
        if self._recursive:
            return clone_model(layer, None, self._clone, self._call, recursive=True)
        return clone_model(layer) if self._clone is _from_config else self._clone(layer)


def _from_config(layer: Any) -> Any:
    if isinstance(layer, Model) and (layer._is_stated or isinstance(layer.trained_module, Chain)):
        return clone_model(layer)
    if not isinstance(layer, Layer):
        raise TypeError(
            f"clone_model: {type(layer).__name__} has no configuration to make it anew from, expected a "
            "layer of ef.layers. Pass a clone_function that makes it, or copy it with weights by nnx.clone."
        )
    return type(layer).from_config(layer.get_config())


def _new_input(value: Symbolic) -> Symbolic:
    return Input(batch_shape=value.shape, dtype=str(value.dtype), name=value.name)


def _is_symbolic(leaf: Any) -> bool:
    return isinstance(leaf, Symbolic)
