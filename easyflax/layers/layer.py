"""`Layer`: an NNX module in Keras's manner, whose weights are made when the shape of its input is known.

    class Scale(Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

A layer is built by its first call, on arrays or on symbolic values. It is a module like any other before and
after that: NNX transforms, optimizers and states take it, and it may hold and be held by plain NNX modules.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import activations, masks, random, regularizers
from easyflax.errors import TraceContextError
from easyflax.interop.flax_nnx import adapt_inside
from easyflax.layers import abstract, showing, weight_order
from easyflax.layers.call_context import around_call, current_training
from easyflax.layers.dtypes import (
    DTypePolicy,
    VariableDtype,
    cast_floating,
    policy_config,
    resolve_policy,
)
from easyflax.layers.input_spec import check_inputs
from easyflax.layers.loss_term import add_loss, loss_terms
from easyflax.layers.metric_term import add_metric
from easyflax.layers.precision import begins_here, call_in_precision, reading_in, running_policy
from easyflax.layers.remat import current_scope
from easyflax.layers.variable import make_variable
from easyflax.layers.weighted import Weighted
from easyflax.naming import snake_case
from easyflax.nnx.core.naming import describe
from easyflax.serialization import serialize

Shape = tuple[int | None, ...]

_serial_numbers = itertools.count()
_TOLD_ELSEWHERE = ("activity_regularizer", "autocast", "input_shape")  # or nowhere, as in Keras


class Layer(Weighted):
    """Base class of the layers that make their weights when they are first called.

    Subclasses define `call(self, inputs)`, and `build(self, input_shape)` if they have weights or layers that
    depend on the shape of the input. If `call` has a parameter `training`, it gets what the caller passes,
    else what the layer around was called with, else the layer's mode: inference until `.train()` is called,
    as `fit` does it.

    Args:
        activity_regularizer: of the output, added to the loss divided by the rows of the batch; see
            `easyflax.regularizers`.
        trainable: whether training changes the weights, see the property.
        dtype: the dtype of weights and computation, or "mixed_bfloat16" and "mixed_float16" for weights in
            float32; or a `DTypePolicy`. By default that of `compile(precision=)` in its steps, and otherwise
            the global policy at this time, see `easyflax.config.set_dtype_policy`.
        autocast: whether inputs, and weights in `call`, are cast to the dtype that the layer computes in.
        name: unique in a model; by default the model counts: "dense", "dense_1", ...
        input_shape: of one row, for the first layer of a `Sequential` without `Input`. An older spelling, as
            is `input_dim=4` for `input_shape=(4,)`.

    Raises:
        ValueError: `dtype` is unknown, or the name is empty.

    Examples:
        >>> import jax.numpy as jnp
        >>> class Scale(Layer):
        ...     def build(self, input_shape):
        ...         self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")
        ...
        ...     def call(self, inputs):
        ...         return inputs * self.scale
        >>> layer = Scale()
        >>> layer(jnp.arange(6.0).reshape(2, 3)).shape, layer.scale.shape
        ((2, 3), (3,))
    """

    # No part of the structure, copies are without: see `abstract`, `models/naming.py`, and `input`.
    __slots__ = ("_noted_in", "_serial_number", "_symbolic_calls")

    supports_masking: bool = False
    input_spec: Any = None
    built: bool = False
    activity_regularizer: Any = None
    dtype_policy: DTypePolicy = DTypePolicy("float32")
    dtype: Any = VariableDtype()
    autocast: bool = True
    _has_own_dtype: bool = False
    _row_shape: tuple[int | None, ...] | None = None
    _name: str | None = None
    _auto_name: str | None = None
    _weight_order: tuple[str, ...] = ()
    _call_parameters: ClassVar[frozenset[str]] = frozenset()
    _positional: ClassVar[tuple[str, ...]] = ()
    _makes_masks: ClassVar[bool] = False
    _is_between_values: ClassVar[bool] = False  # made of symbolic values
    _is_in_paths: bool = True  # its name is a part of the paths of its weights
    _is_made_of_layers: ClassVar[bool] = False  # and only calls them
    _remat_scope: Any = None

    def __new__(cls, *args: Any, **_kwargs: Any) -> Any:
        if args and hasattr(type(args[0]), "__easyflax_call__") and not cls._is_between_values:
            raise TypeError(
                f"{cls.__name__}: got {args[0]!r} as an argument of the class, expected the options of the "
                f"layer. Make the layer first, then call it: {cls.__name__}(...)(x)."
            )
        layer = super().__new__(cls)
        object.__setattr__(layer, "_serial_number", next(_serial_numbers))
        return layer

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Any = None,
        **unknown: Any,
    ) -> None:
        if input_shape is None and "input_dim" in unknown:
            input_shape = (unknown.pop("input_dim"),)
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: got the unknown argument {next(iter(unknown))!r}, expected one of "
                f"{sorted(_init_parameters(type(self)))}. Check its spelling."
            )
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(
                f"{type(self).__name__}: name is {name!r}, expected a string such as 'head'. Leave it out to "
                "have one made."
            )
        if name is not None:
            self._name = name
        if input_shape is not None:
            self._row_shape = tuple(input_shape)
        if activity_regularizer is not None:
            self.activity_regularizer = regularizers.get(activity_regularizer)
        policy = resolve_policy(dtype)
        if policy != self.dtype_policy:
            self.dtype_policy = policy
        if dtype is not None and not isinstance(dtype, dict):
            self._has_own_dtype = True
        if not autocast:
            self.autocast = False
        if not trainable:
            self.trainable = False
        if (scope := current_scope()) is not None:
            self._remat_scope = scope

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, adapt_inside(value))
        if vars(self).get("built") and name not in self._weight_order:
            super().__setattr__("_weight_order", weight_order.with_attribute(self, name))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._call_parameters, cls._positional = _parameters_of(cls.call)
        cls._makes_masks = cls.compute_mask is not Layer.compute_mask
        if "build" in vars(cls):
            cls.build = _finishing(cls.build)
        has_mode = hasattr(cls, "deterministic") or hasattr(cls, "use_running_average")
        if "training" in cls._call_parameters and not has_mode:
            cls.deterministic = True  # type: ignore[attr-defined]  # what train() and eval() set on instances

    # -- what subclasses define

    def build(self, input_shape: Any) -> None:
        """Makes the weights; called once, before the first `call`.

        Args:
            input_shape: the shape of the first argument of `call`, None for the batch axis and other free
                ones, in its nesting. A `build` with several parameters is given the shapes of the arguments
                of `call` by name: `query_shape` for `query`.
        """

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; defined by subclasses."""
        raise NotImplementedError(
            f"{type(self).__name__} has no method call, expected one that computes the output. Define "
            "call(self, inputs)."
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002  what subclasses look at
        """Returns the mask that goes with the output: that of the input where `supports_masking`, else
        None."""
        return mask if self.supports_masking else None

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Builds the layer if that is to be done, and returns what `call` returns.

        Raises:
            ValueError: the shapes do not fit, see the layer.
            TraceContextError: the layer is not built and was passed by closure into a transform.
        """
        names = self._positional
        if len(args) > 1 and "training" in names[: len(args)]:  # layer(x, training), as some programs have it
            at = names.index("training")
            args, kwargs = args[:at], {**dict(zip(names[at:], args[at:])), **kwargs}
        if begins_here():
            return call_in_precision(self, args, kwargs)
        if self.autocast:
            args, kwargs = self._in_compute_dtype((args, kwargs))
        if self.input_spec is not None:
            check_inputs(self, self.input_spec, _first(args, kwargs))
        if not self.built:
            self.build_for(args, kwargs)
        if self._remat_scope is None:
            return self._compute(*args, **kwargs)
        return self._remat_scope.call(self, Layer._compute, args, kwargs)

    def _compute(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `call` in the mode, with the masks and in the precision that it is for."""
        given = kwargs.pop("training", None)
        training = current_training() if given is None else given
        if "training" in self._call_parameters:
            kwargs["training"] = self._is_in_training() if training is None else training
        mask = self._take_masks(args, kwargs)
        with around_call(given), reading_in(self._policy, autocast=self.autocast):
            outputs = self.call(*args, **kwargs)
            self._penalize_activity(outputs)
        if mask is not None or self._makes_masks:
            masks.attach_masks(outputs, self.compute_mask(_first(args, kwargs), mask))
        return outputs

    def _take_masks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Adds the masks of the arguments to `kwargs` where `call` takes them; returns that of the first
        one."""
        found = masks.masks_of((args, kwargs))
        if found is None:
            return kwargs.get("mask")
        is_alone = sum(map(_holds_arrays, (*args, *kwargs.values()))) < 2
        named = masks.masks_by_name(self._positional, kwargs, found, is_alone)
        kwargs.update((name, mask) for name, mask in named.items() if name in self._call_parameters)
        given = kwargs.get("mask")
        return _first(*found) if given is None else given

    def _penalize_activity(self, outputs: Any) -> None:
        if self.activity_regularizer is not None:
            for output in jax.tree.leaves(outputs):
                rows = jnp.shape(output)[0] if jnp.ndim(output) else 1
                self.add_loss(self.activity_regularizer(output) / rows)

    def _is_in_training(self) -> bool:
        return not self.deterministic  # type: ignore[attr-defined]

    def _nested(self, specs: Any) -> Any:
        """Returns what a call on symbolic values returns, by the specs of what one on arrays does."""
        return specs

    def _in_compute_dtype(self, tree: Any) -> Any:
        return cast_floating(tree, self.compute_dtype)

    # -- building

    def build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Builds the layer for a call with these arguments, arrays or `jax.ShapeDtypeStruct`s.

        Raises:
            ValueError: the shapes do not fit.
            TraceContextError: a transform is running that the layer was not passed to.
        """
        if self.built:
            return
        if not self._is_current():
            raise TraceContextError(
                f"{describe(self)} has no weights yet and was called inside of a transform that it was not "
                "passed to. Call it once before, or pass it to the transform as an argument."
            )
        if (noted := getattr(self, "_noted_in", None)) is not None:  # a copy that is called for its shapes
            layer, waiting = noted
            waiting.append((layer, *abstract.specs_of((args, kwargs))))
        self._make_weights(args, kwargs)
        self._has_been_built()

    def _has_been_built(self) -> None:
        self._weight_order = weight_order.order_of(self)
        for name in self._weight_order:
            variable = vars(self)[name]
            if isinstance(variable, nnx.Variable) and not variable.has_metadata("name"):
                variable.set_metadata(name=name)
        self.built = True

    def _make_weights(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes = abstract.shapes_for_build(self, args, kwargs)
        if isinstance(shapes, dict):
            self.build(**shapes)
        else:
            self.build(*shapes)

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Any:
        """Returns a new variable; assign it to an attribute, `self.kernel = self.add_weight(...)`.

        Args:
            shape: of the variable.
            initializer: see `easyflax.initializers`; glorot_uniform by default, zeros for integers and bools.
            dtype: that of the layer's weights by default.
            trainable: whether it is an `nnx.Param`; else a plain `nnx.Variable`, which `call` may change.
            autocast: whether `call` sees a trained one in the dtype that the layer computes in.
            regularizer: adds to the loss, see `easyflax.regularizers`.
            constraint: is applied after each update, see `easyflax.constraints`.
            name: what `variable.name` says, by default the name of the attribute.
        """
        return make_variable(
            shape,
            initializer,
            self.variable_dtype if dtype is None else dtype,
            trainable=trainable,
            autocast=autocast,
            regularizer=regularizer,
            constraint=constraint,
            name=name,
        )

    def make_rngs(self, seed: Any = None) -> nnx.Rngs:
        """Returns random streams from `seed`, an int, or from the global seed where it is None."""
        return nnx.Rngs(random.next_key() if seed is None else seed)

    # -- losses of the last call

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar to the loss that is trained on; called within `call`.

        Args:
            loss: a scalar, or several in a list.

        Raises:
            ValueError: it is no scalar.
        """
        add_loss(self, loss)

    def add_metric(self, value: Any, name: str) -> None:
        """Adds a scalar to the logs of `fit` and `evaluate`, under its name; called within `call`.

        They show the mean over the rows of the epoch. Several values under one name in one call of the model
        are averaged.

        Args:
            value: a scalar.
            name: in the logs.

        Raises:
            ValueError: `value` is no scalar.

        Examples:
            >>> class Watched(Layer):
            ...     def call(self, inputs):
            ...         self.add_metric(jnp.mean(inputs), name="mean")
            ...         return inputs
            >>> import easyflax as ef
            >>> model = ef.Sequential([Watched(), ef.layers.Dense(1)])
            >>> model.compile("sgd", "mse")
            >>> sorted(model.evaluate(jnp.ones((4, 3)), jnp.ones((4, 1)), verbose=0, return_dict=True))
            ['loss', 'mean']
        """
        add_metric(self, value, name)

    @property
    def losses(self) -> list[Any]:
        """What was added in the last call, and what the regularizers of the trained weights give."""
        penalties = [
            regularizer(one.get_value())
            for one in self.trainable_weights
            if (regularizer := one.get_metadata().get("regularizer")) is not None
        ]
        return [*loss_terms(self), *penalties]

    # -- what it is called with

    @property
    def name(self) -> str:
        """The layer's name; without one of its own, the one that the first model gave it."""
        return self._name or self._auto_name or snake_case(type(self).__name__)

    @property
    def _root_name(self) -> str | None:
        """What the paths of its weights begin with, where it is the whole that is trained."""
        return self.name if self._is_in_paths else None

    @property
    def _policy(self) -> DTypePolicy:
        """The layer's own policy; without one, that of the step that is running, if it has one."""
        running = None if self._has_own_dtype else running_policy()
        return running or self.dtype_policy

    @property
    def compute_dtype(self) -> Any:
        """The dtype that inputs are cast to and that is computed in."""
        return self._policy.compute

    @property
    def variable_dtype(self) -> Any:
        """The dtype of the weights."""
        return self._policy.variable

    @property
    def _dtype_config(self) -> Any:
        """What layers inside are given as `dtype`."""
        return policy_config(self.dtype_policy, is_own=self._has_own_dtype)

    @property
    def input(self) -> Any:
        """The symbolic value or values that the layer was first called on.

        Raises:
            AttributeError: it was called on none.
        """
        return self._first_symbolic_call("input").inputs

    @property
    def output(self) -> Any:
        """The symbolic value or values that its first symbolic call returned.

        Raises:
            AttributeError: it was not called on symbolic values.
        """
        return self._first_symbolic_call("output").outputs

    def _first_symbolic_call(self, what: str) -> Any:
        calls = getattr(self, "_symbolic_calls", None)
        if not calls:
            raise AttributeError(
                f"{type(self).__name__} '{self.name}' has no symbolic {what}, expected a call on one before. "
                "Call it on ef.Input(...), or put it in a model whose input shape is known."
            )
        return calls[0]

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the output's shape for inputs of these shapes, None for free axes; builds the layer."""
        specs = [abstract.specs_of_shapes(shape, self.compute_dtype) for shape in args]
        named = {
            name.removesuffix("_shape"): abstract.specs_of_shapes(shape, self.compute_dtype)
            for name, shape in kwargs.items()
        }
        self.build_for(tuple(specs), named)
        return jax.tree.map(lambda spec: tuple(spec.shape), abstract.output_specs(self, specs, named))

    def _hides(self, name: str, value: Any) -> bool:
        """Whether `repr` leaves an attribute out."""
        return showing.says_nothing(self, name, value)

    # -- configuration

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain JSON, by Keras's keys.

        They are read from attributes of the same names. A subclass that keeps one elsewhere overrides this,
        and adds it to what `super().get_config()` returns.
        """
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable, "dtype": self._dtype_config}
        for name in _init_parameters(type(self)):
            if name not in (*config, *_TOLD_ELSEWHERE) and hasattr(self, name):
                value = getattr(self, name)
                config[name] = activations.serialize(value) if callable(value) else serialize(value)
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a new layer, not built, of what `get_config` returned."""
        known = _init_parameters(cls)
        # Keras writes None for arguments that are not offered here, such as `quantization_config`.
        return cls(**{name: value for name, value in config.items() if value is not None or name in known})


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def _holds_arrays(tree: Any) -> bool:
    return any(hasattr(leaf, "shape") for leaf in jax.tree.leaves(tree))


@functools.cache  # most classes inherit `call`, and looking at it takes as long as making the class
def _parameters_of(call: Callable[..., Any]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Returns the names of the parameters of a method, and in order those that can be given by position."""
    parameters = inspect.signature(call).parameters
    positional = [name for name, one in parameters.items() if one.kind <= one.POSITIONAL_OR_KEYWORD]
    return frozenset(parameters), tuple(positional[1:])


def _finishing(build: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method `build` after which the layer counts as built, also where a user calls it."""

    @functools.wraps(build)
    def finishing(self: Layer, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self._has_been_built()

    return finishing


def _init_parameters(cls: type) -> list[str]:
    """Returns the names of the constructor's arguments, those of the base classes' that **kwargs take too."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if base is Layer or "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"])
            names |= dict.fromkeys(list(signature.parameters)[1:])
            kinds = {parameter.kind for parameter in signature.parameters.values()}
            if base is Layer or inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return [name for name in names if name not in ("args", "kwargs", "unknown")]
