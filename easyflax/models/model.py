"""`Model`: what is trained; over any module, between symbolic inputs and outputs, or with a `call` of its
own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax

import easyflax.nnx as nnx
from easyflax.errors import unknown_name_message
from easyflax.interop.flax_nnx import FlaxModule, adapt_if_flax, refresh_mirrors, sync_mirrors
from easyflax.layers import abstract, freezing, weight_order
from easyflax.layers.building import build_on, unbuilt
from easyflax.layers.calling import call_plain
from easyflax.layers.layer import Layer
from easyflax.layers.precision import call_in_precision
from easyflax.layers.symbolic import Symbolic, symbolic_leaves
from easyflax.models.children import Children, named_layers
from easyflax.models.graph import Graph, is_single
from easyflax.models.measures import specs_of_rows, with_free_rows
from easyflax.models.run import Run
from easyflax.models.summary import print_summary
from easyflax.models.trainer import Trainer
from easyflax.naming import snake_case

__all__ = ["Model"]


class _Module:
    """The attribute `module`: the one that was given, also if that is of Flax; else the model itself."""

    def __get__(self, model: Any, owner: Any) -> Any:
        if model is None:
            return self
        module = vars(model).get("module", model)
        return module.module if isinstance(module, FlaxModule) else module

    def __set__(self, model: Any, module: Any) -> None:
        vars(model)["module"] = module

    def __delete__(self, model: Any) -> None:
        del vars(model)["module"]


class Model(Trainer, Layer):
    """A module with `compile`, `fit`, `evaluate` and `predict`.

        Model(module)                        # any NNX module, of flax.nnx too
        Model(inputs, outputs)               # what lies between symbolic values, see `ef.Input`
        class Net(Model): ...                # layers in __init__, and __call__ or Keras's call

    The module is trained in place: after `fit`, and whenever a callback looks, it holds the newest weights.
    It is called with one argument, `module(x)`; if `x` is a dict, list or tuple of arrays, that is the
    argument. Training runs it in training mode and everything else in inference mode (see
    `easyflax.train.binding.call_in_mode`); the module's own mode is left as it is. A model is a module
    itself, and a layer of other models.

    Args:
        inputs: the module; or a symbolic value, or a list, tuple or dict of them.
        outputs: symbolic values in any nesting.
        name: unique in a model that this one is part of.
        trainable: False freezes all weights.

    Raises:
        TypeError: there is neither a module nor symbolic values.
        ValueError: outputs and inputs are not connected, or two layers have one name.

    Attributes:
        module: what is trained: the module given, or the model itself.

    Examples:
        >>> import numpy as np
        >>> x = np.arange(32.0).reshape(8, 4) / 32
        >>> model = Model(nnx.Linear(4, 1, rngs=nnx.Rngs(0)))
        >>> model.compile(optimizer="sgd", loss="mse")
        >>> history = model.fit(x, x.sum(axis=1), epochs=2, verbose=0)
        >>> model.predict(x, verbose=0).shape
        (8, 1)
    """

    __slots__ = ("_kept_run",)  # no part of the structure

    __wraps__ = "module"  # its name is left out of the paths in messages
    module = _Module()
    layers = Children()
    _has_own_call: ClassVar[bool] = False
    _is_made_of_layers: ClassVar[bool] = True
    _is_between_values: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        if outputs is not None:
            self.module = Graph(inputs, outputs)
            self._auto_name = "functional"
        elif inputs is not None:
            self.module = _checked_module(inputs)
            self._auto_name = snake_case(type(inputs).__name__)
        elif type(self) is Model:
            raise TypeError(
                "Model: got neither a module nor inputs and outputs. Pass an NNX module, or ef.Model(inputs, "
                "outputs) with what ef.Input and layers return, or derive a class with __call__ from "
                "ef.Model."
            )
        if not trainable:
            self.trainable = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_own_call = cls.call is not Layer.call or cls.__call__ is not Model.__call__
        if "__call__" in vars(cls):
            cls.__call__ = _in_precision(cls.__call__)

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module: as it is, or in the mode that `training=` tells."""
        if not self._is_wrapper:
            return Layer.__call__(self, *args, **kwargs)
        if isinstance(self.trained_module, Layer):
            return self.trained_module(*args, **kwargs)
        return call_in_precision(call_plain, (self.trained_module, args, kwargs), {})

    def _nested(self, specs: Any) -> Any:
        """Returns outputs of a symbolic call in the nesting that the model was stated with, as Keras does."""
        stated = self._is_stated and isinstance(self.trained_module, Graph)
        return type(self.output)([specs]) if stated and is_single(self.output) else specs

    def _in_compute_dtype(self, tree: Any) -> Any:
        return tree if self._is_wrapper else Layer._in_compute_dtype(self, tree)

    @property
    def _is_wrapper(self) -> bool:
        """Whether another module is trained: there is one, and the class does not say itself what a call
        does."""
        return "module" in vars(self) and not self._has_own_call

    @property
    def _is_stated(self) -> bool:
        """Whether the model knows its symbolic inputs and outputs, and so has names for them."""
        return self._is_wrapper and getattr(self.trained_module, "stated", None) is not None

    @property
    def _is_in_paths(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether its name is a part of the paths of its weights: as in Keras not that of a graph."""
        return not (self._is_wrapper and isinstance(self.trained_module, Graph))

    @property
    def _can_be_called(self) -> bool:
        """Whether there is anything that says what a call does."""
        return self._is_wrapper or self._has_own_call

    @property
    def trained_module(self) -> Any:
        """What is trained: the module that was given, or the model itself."""
        return vars(self)["module"] if self._is_wrapper else self

    # -- building

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        if self._is_wrapper:
            return getattr(self.trained_module, "built", True) is not False
        return vars(self).get("built", False)

    @built.setter
    def built(self, value: bool) -> None:
        if vars(self).get("built") is not value:
            vars(self)["built"] = value
            self._structure_changed()

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights for inputs of a shape; a call on data, and `fit`, do it, too.

        Args:
            input_shape: with the batch axis, None for free axes; or a nesting of shapes.

        Raises:
            ValueError: the shapes do not fit.
        """
        if not self._run.is_building:
            build_on(self.trained_module, abstract.specs_of_shapes(input_shape, "float32"))

    def build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Builds the model for a call with these arguments."""
        if self._is_wrapper:
            self.trained_module.build_for(args, kwargs)
        else:
            Layer.build_for(self, args, kwargs)

    def _make_weights(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) == 1 and not kwargs:
            self._run.input_specs = abstract.with_rows(args[0])
        if type(self).build is Model.build:
            return  # the layers inside build themselves when they are called
        self._run.is_building = True
        try:
            Layer._make_weights(self, args, kwargs)
        finally:
            self._run.is_building = False

    # -- looking inside

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs.

        Raises:
            AttributeError: the model was not stated by symbolic values, and is not a Sequential with a known
                shape.
        """
        return symbolic_leaves(self._stated("inputs")[0])

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs.

        Raises:
            AttributeError: as for `inputs`.
        """
        return symbolic_leaves(self._stated("outputs")[1])

    @property
    def input(self) -> Any:
        """The symbolic inputs, in the nesting that the model is called with."""
        return self._stated("input")[0]

    @property
    def output(self) -> Any:
        """The symbolic outputs, in the nesting that the model returns."""
        return self._stated("output")[1]

    @property
    def input_names(self) -> list[str]:
        """The names of `inputs`."""
        return [value.name for value in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that return `outputs`."""
        return [value.name for value in self.outputs]

    @property
    def input_shape(self) -> Any:
        """The shapes of `input`; of a single one in a list its own."""
        return _shapes(self.input)

    @property
    def output_shape(self) -> Any:
        """The shapes of `output`; of a single one in a list its own."""
        return _shapes(self.output)

    def _stated(self, what: str) -> tuple[Any, Any]:
        stated = getattr(self.trained_module, "stated", None) if self._is_wrapper else None
        if stated is None:
            raise AttributeError(
                f"{type(self).__name__} '{self.name}' has no {what}, expected a model between ef.Input and "
                "outputs, or a Sequential that knows its input shape. Begin the Sequential with "
                "ef.Input(shape), or call build(input_shape)."
            )
        return stated[0], stated[-1]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Returns a layer by its name, or by its place in `layers`.

        Raises:
            ValueError: there is no such layer, or neither or both were given.
        """
        if (name is None) == (index is None):
            raise ValueError(
                f"get_layer: got name={name!r} and index={index!r}, expected one of them. Pass a name, such "
                "as 'dense'."
            )
        layers = named_layers(self)
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(
                    f"get_layer: got index {index}, expected one from 0 to {len(layers) - 1}, since there "
                    f"are {len(layers)} layers. See model.layers."
                )
            return list(layers.values())[index]
        if name not in layers:
            raise ValueError(unknown_name_message("layer", str(name), layers))
        return layers[name]

    def summary(
        self,
        input_shape: Any = None,
        line_length: int | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
        *,
        flops: bool = False,
        max_depth: int | None = None,
    ) -> None:
        """Prints a table of the layers: name and type, output shape, parameters, what each is connected to.

        Layers of a model within the model are one row, as are those of a layer. Of other modules each one
        that holds variables has a row, under its path. A layer that is called several times has one row.

        Args:
            input_shape: shape of one row, such as `(28, 28, 1)`, None for free axes, or a nesting of shapes;
                a `jax.ShapeDtypeStruct` for another dtype than float32. The model is built for it where it
                has no weights yet. By default that of `ef.Input` or of the data last seen; without either,
                no output shapes are known.
            line_length: characters of a line; by default as many as there are.
            print_fn: called with the whole text, instead of printing it.
            expand_nested: shows the layers of models within the model, too.
            show_trainable: adds a column that says whether a layer is trained.
            layer_range: names, or regular expressions, of the first and the last layer to be shown.
            flops: adds the floating-point operations of one call of each layer for one row of input, as XLA
                counts them in inference mode, and those of the whole model.
            max_depth: shows so many levels of models within models, 1 for the layers of this one alone; goes
                before `expand_nested`.

        Raises:
            ValueError: the model has no weights yet and no `input_shape` is given, or cannot be called on
                such an input; `layer_range` names no layer; `flops` are asked for and the shape is not
                known; or `max_depth` is less than 1.
        """
        specs = with_free_rows(self._run.input_specs) if input_shape is None else specs_of_rows(input_shape)
        if input_shape is not None:
            build_on(self.trained_module, specs)
        self._require_built("summary")
        print_summary(
            self,
            specs,
            line_length=line_length,
            print_fn=print_fn,
            expand_nested=expand_nested,
            show_trainable=show_trainable,
            layer_range=layer_range,
            flops=flops,
            max_depth=max_depth,
        )

    # -- weights

    @property
    def weights(self) -> list[nnx.Variable[Any]]:
        """All weights, in the order of `layers`, without the state of random streams."""
        refresh_mirrors(self.trained_module)
        return weight_order.ordered_weights(self)

    def _children_in_order(self) -> list[tuple[str, Any]] | None:
        """Returns what holds weights, in Keras's order: of a wrapper its own variables, then the module."""
        if not self._is_wrapper:
            return None
        own = {name: value for name, value in vars(self).items() if name != "module"}
        variables = [item for item in sorted(own.items()) if isinstance(item[1], nnx.Variable)]
        others = [item for item in sorted(own.items()) if not isinstance(item[1], nnx.Variable)]
        return [*variables, ("module", self.trained_module), *others]

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights, read when `fit` begins; setting it sets all layers inside."""
        return vars(self.trained_module).get("trainable", True)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        freezing.set_trainable(self, value)
        freezing.set_trainable(self.trained_module, value)

    def set_weights(self, weights: Any) -> None:
        """Sets the weights, in the order of `get_weights`; nothing is changed if they do not fit.

        Raises:
            ValueError: their number, a shape or a dtype differs, or the model is not built.
        """
        mirrors = refresh_mirrors(self.trained_module)
        weight_order.set_weights(self, weights)
        sync_mirrors(mirrors)

    def count_params(self) -> int:
        """Returns how many numbers the weights hold.

        Raises:
            ValueError: the model is not built.
        """
        self._require_built("count_params")
        return Layer.count_params(self)

    def _require_built(self, call: str) -> None:
        """Raises if a layer has no weights yet.

        Raises:
            ValueError: that is so.
        """
        waiting = [module for _, module in unbuilt(self)]
        if all(isinstance(module, Model) and type(module).build is Model.build for module in waiting):
            for module in reversed(waiting):  # nothing in them waits for the shape of an input
                module.build_for((), {})
        weight_order.check_built(self, call)

    @property
    def _run(self) -> Run:
        run = getattr(self, "_kept_run", None)
        if run is None:
            run = Run()
            object.__setattr__(self, "_kept_run", run)
        return run


def _checked_module(module: Any) -> Any:
    module = adapt_if_flax(module)
    if isinstance(module, nnx.Module):
        return module
    if isinstance(module, Symbolic):
        raise TypeError("Model: got symbolic inputs without outputs. Pass both: ef.Model(inputs, outputs).")
    advice = "Call the class first." if isinstance(module, type) else "Derive its class from nnx.Module."
    raise TypeError(f"Model: module is {module!r}, expected an instance of nnx.Module. {advice}")


def _in_precision(call: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method `__call__` that heeds the precision of a step, as that of layers does."""

    @functools.wraps(call)
    def calling(self: Model, *args: Any, **kwargs: Any) -> Any:
        return call_in_precision(functools.partial(call, self), args, kwargs, casts_inputs=True)

    return calling


def _shapes(tree: Any) -> Any:
    shapes = jax.tree.map(lambda value: value.shape, tree, is_leaf=lambda leaf: isinstance(leaf, Symbolic))
    return shapes[0] if is_single(tree) else shapes
