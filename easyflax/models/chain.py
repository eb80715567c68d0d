"""A module that calls its layers one after the other: what `ef.Sequential` holds."""

from __future__ import annotations

from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import adapt_if_flax
from easyflax.layers import abstract
from easyflax.layers.building import has_unbuilt
from easyflax.layers.calling import call_in_model
from easyflax.layers.input_layer import InputLayer
from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import Input, Symbolic, apply, input_of
from easyflax.masks import with_masks
from easyflax.models.naming import named

__all__ = ["Chain"]


class Chain(Layer):
    """Calls modules and functions one after the other, each with what the one before returned.

    Attributes:
        layers: the modules and functions, without an input layer.
    """

    __slots__ = ("_stated",)  # copies do not have it

    _is_in_paths = False  # but the model that holds it is
    _is_made_of_layers = True

    def __init__(self, model_name: str = "sequential") -> None:
        super().__init__()
        self._auto_name = model_name
        self.layers = nnx.List([])

    @property
    def _root_name(self) -> str | None:
        return self.name

    def add(self, layer: Any) -> None:
        """Appends a layer; where the shape of the input is known, the layer is built and checked.

        Raises:
            TypeError: it is neither a module nor a function.
            ValueError: its name is taken, it is an input that is not the first layer, or the shapes do not
                fit.
        """
        layer = layer.step.function if isinstance(layer, Symbolic) else layer
        if isinstance(layer, InputLayer):
            self._begin_with(layer)
            return
        layer = adapt_if_flax(layer)
        self._check(layer)
        named([*self.layers, layer])
        if not self.layers and self.stated is None and (known := _known_input(layer)) is not None:
            self._begin_with(known)
        if self.stated is not None:
            self.stated = [*self.stated, apply(layer, self.stated[-1])]
        self.layers.append(layer)
        self.built = self.stated is not None or not has_unbuilt(self.layers)

    def pop(self) -> Any:
        """Takes the last layer out and returns it.

        Raises:
            TypeError: there is none.
        """
        if not self.layers:
            raise TypeError("pop: the model has no layers, expected one at least. Add one before.")
        layer = self.layers.pop()
        if self.stated is not None:
            self.stated = self.stated[:-1]
        return layer

    @property
    def stated(self) -> list[Any] | None:
        """The symbolic input and the output of each layer; None while the shape of the input is unknown."""
        return getattr(self, "_stated", None)

    @stated.setter
    def stated(self, values: list[Any] | None) -> None:
        object.__setattr__(self, "_stated", values)

    def _in_compute_dtype(self, tree: Any) -> Any:
        return tree  # each layer does that for itself

    def _make_weights(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        specs = abstract.specs_of(args[0] if args else kwargs["inputs"])
        self._begin(jax.tree.map(lambda spec: Input(batch_shape=spec.shape, dtype=spec.dtype), specs))

    def _begin_with(self, layer: InputLayer) -> None:
        if self.layers or self.stated is not None:
            raise ValueError(
                f"Sequential: got an Input as layer {len(self.layers)}, expected it before all other layers, "
                "once. Put it first, or state a model with several inputs as ef.Model(inputs, outputs)."
            )
        self._begin(input_of(layer))

    def _begin(self, value: Any) -> None:
        values = [value]
        for layer in self.layers:
            values.append(apply(layer, values[-1]))
        self.stated = values

    def _check(self, layer: Any) -> None:
        number = len(self.layers)
        if isinstance(layer, type) or not callable(layer):
            raise TypeError(
                f"Sequential: layers[{number}] is {layer!r}, expected a module or a function. Pass an "
                "instance, such as ef.layers.Dense(8), nnx.Linear(4, 8, rngs=nnx.Rngs(0)) or nnx.relu."
            )
        if any(inner is self for _, inner in nnx.iter_graph(layer)):
            raise ValueError(
                f"Sequential: layers[{number}] is or contains the model itself, expected no cycle. Make "
                "another model of the layers that shall be called twice."
            )

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns what the last layer returns."""
        value = with_masks(inputs, mask)
        for layer in self.layers:
            value = call_in_model(layer, (value,), {})
        return value


def _known_input(layer: Any) -> InputLayer | None:
    """Returns an input for a layer that was given the shape of its own, or has been called on a single
    one."""
    if getattr(layer, "_row_shape", None) is not None:
        return InputLayer(layer._row_shape)
    module = getattr(layer, "trained_module", layer)
    calls = getattr(module, "_symbolic_calls", ())
    stated = getattr(module, "stated", None) or [call.inputs for call in calls]
    if stated and isinstance(stated[0], Symbolic):
        return InputLayer(batch_shape=stated[0].shape, dtype=stated[0].dtype)
    return None
