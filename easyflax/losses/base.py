"""What a loss is: values for each element, reduced to one number a row and to one number a batch.

A loss is a pure function of labels and outputs with a name, made from three steps. `call` computes a value
for each element (the last axis is gone, as in Keras). `per_row` averages those of each row. `__call__` weighs
the values, leaves out what is masked and the rows that only pad the batch, and reduces to a scalar.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.serialization as serialization
from easyflax.losses.reduction import MEAN, Reduction, check_reduction, divisor, reduce_values
from easyflax.losses.shapes import Shape, align, as_numbers, check_same_shape, same_rank
from easyflax.masks import mask_of
from easyflax.naming import snake_case

__all__ = ["EPSILON", "BuiltInLoss", "ElementwiseLoss", "FunctionLoss", "Loss"]

# What Keras adds or clips to wherever a division or a logarithm would meet zero.
EPSILON = 1e-7


class Loss:
    """The base class of all losses; subclass it and define `call`.

    Args:
        name: the name in logs and messages; the class's name in snake case when left out.
        reduction: how the values of a batch become one number. `"sum_over_batch_size"` (also `"mean"`)
            divides the weighted sum by the number of values, `"mean_with_sample_weight"` by the sum of the
            weights, `"sum"` by nothing. `"none"` or `None` returns the values themselves, and cannot be
            trained on.
        dtype: of labels and outputs in `call`, and of the result; float32, or what is wider among the
            outputs, when left out. Sums are taken in float32 at least. A policy such as `"mixed_bfloat16"`
            stands for its dtype of computation.

    Raises:
        ValueError: `reduction` is unknown.

    Examples:
        >>> class Cubic(Loss):
        ...     def call(self, y_true, y_pred):
        ...         return jnp.mean(jnp.abs(y_true - y_pred) ** 3, axis=-1)
        >>> float(Cubic()([[0.0], [0.0]], [[1.0], [2.0]]))
        4.5
    """

    from_logits: bool | None = False
    _advice_for_rows: ClassVar[str] = "Return one value a row: leave out the mean over the batch."

    def __init__(self, name: str | None = None, reduction: Reduction = MEAN, dtype: Any = None):
        check_reduction(reduction)
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction
        self._dtype = None if dtype is None else _dtype_of(dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    @property
    def dtype(self) -> str:
        """The name of the dtype that was asked for; `"float32"` if none was."""
        return "float32" if self._dtype is None else self._dtype.name

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this loss again; extend it for arguments of one's own."""
        config = {"name": self.name, "reduction": self.reduction}
        return config if self._dtype is None else {**config, "dtype": self._dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns a new loss of this class from what `get_config` returned."""
        return cls(**config)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each element, `(batch, ...)`; for subclasses to define.

        Args:
            y_true: labels, floating or at least 32-bit integers; nestings as they were passed.
            y_pred: outputs of the model, floating.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no `call`, expected a method call(self, y_true, y_pred). "
            "Define it; it returns one value a row."
        )

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        """Checks labels on the host before the first step; a loss of one's own may refuse what it cannot use.

        Args:
            y: all labels of a data set, `(rows, ...)`.
            output_shape: the shape of the model's output, with its batch axis.
        """
        del y, output_shape  # what labels fit is known to the subclasses only

    def resolve(self, *, from_logits: bool) -> Loss:
        """Returns this loss with `from_logits` decided, where it was left open; else itself."""
        if self.from_logits is not None:
            return self
        resolved = copy.copy(self)
        resolved.from_logits = from_logits
        return resolved

    def values(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the loss of each element, `(batch, ...)`, in float32 or wider."""
        return self._values_and_mask(y_true, y_pred)[0]

    def is_row_wise(self, y_true: Any, y_pred: Any) -> bool:
        """Returns whether the loss gives a value for each row by itself, so that rows can be left out.

        Nothing is computed.

        Args:
            y_true: labels, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        values = jax.eval_shape(self.values, y_true, y_pred)
        return values.ndim > 0 and values.shape[0] == _batch_size(y_pred)

    def per_row(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Returns the loss of each row, `(batch,)`: the mean over all other axes.

        Raises:
            ValueError: labels and outputs do not fit, or the loss does not return one value a row.
        """
        values = self._by_row(self.values(y_true, y_pred), y_pred)
        return values.reshape(values.shape[0], -1).mean(axis=1)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> jax.Array:
        """Returns the loss of a batch; elements that the mask of `y_pred` leaves out count nowhere.

        Args:
            y_true: labels.
            y_pred: outputs of the model.
            sample_weight: `(batch,)`, or the shape of the values where each element has its own weight.
            mask: `(batch,)`, False for rows that only pad the batch; these count nowhere.

        Returns:
            A scalar; the weighted values when `reduction` is `"none"`.

        Raises:
            ValueError: labels and outputs do not fit, or there are weights or a mask and the loss does not
                return one value a row.
        """
        values, own_mask = self._values_and_mask(y_true, y_pred)
        if mask is not None or np.ndim(sample_weight) > 0:
            values = self._by_row(values, y_pred)
        result = reduce_values(
            self.name,
            values,
            self.reduction,
            sample_weight=sample_weight,
            masks=[found for found in (mask_of(y_pred), own_mask) if found is not None],
            rows=mask,
        )
        return result if self._dtype is None else result.astype(self._dtype)

    def divisor(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> jax.Array | None:
        """Returns the number that the mean over a batch divides by, float32 `()`; 1 if nothing is divided.

        None if the loss says one number for the batch, so that nobody knows.

        Args:
            y_true: labels.
            y_pred: outputs of the model.
            sample_weight: as in a call.
        """
        if self.reduction == "sum":
            return jnp.ones((), jnp.float32)
        values, own_mask = self._values_and_mask(y_true, y_pred)
        if values.ndim == 0:
            return None
        masks = [found for found in (mask_of(y_pred), own_mask) if found is not None]
        return divisor(self.name, values, self.reduction, sample_weight=sample_weight, masks=masks)

    def _values_and_mask(self, y_true: Any, y_pred: Any) -> tuple[jax.Array, Any]:
        """Returns the values and the mask that `call` attached to them, or None."""
        y_true = jax.tree.map(self._as_label, y_true, is_leaf=_is_numbers)
        y_pred = jax.tree.map(self._as_output, y_pred, is_leaf=_is_numbers)
        result = self.call(y_true, y_pred)
        if result is None or isinstance(result, Mapping | str | tuple):
            kind = "None" if result is None else f"a {type(result).__name__}"
            raise ValueError(
                f"Loss {self.name!r} returned {kind}, expected an array. Return one value a row from it."
            )
        values = jnp.asarray(result)
        return values.astype(jnp.promote_types(values.dtype, jnp.float32)), mask_of(result)

    def _as_output(self, array: Any) -> jax.Array:
        array = as_numbers(self.name, "outputs", array)
        return array.astype(self._dtype or jnp.promote_types(array.dtype, jnp.float32))

    def _as_label(self, array: Any) -> jax.Array:
        """Integers stay integers, so that they can index, but do not wrap around at 255."""
        array = as_numbers(self.name, "labels", array)
        if jnp.issubdtype(array.dtype, jnp.inexact):
            return self._as_output(array)
        return array.astype(jnp.int64 if array.dtype.itemsize == 8 else jnp.int32)

    def _by_row(self, values: jax.Array, y_pred: Any) -> jax.Array:
        batch = _batch_size(y_pred)
        if values.ndim == 0 or values.shape[0] != batch:
            raise ValueError(
                f"Loss {self.name!r} returned shape {values.shape} for a batch of {batch}, expected "
                f"({batch},) or ({batch}, ...) to weigh rows or leave some out. {self._advice_for_rows}"
            )
        return values


class BuiltInLoss(Loss):
    """A loss that is a function of this package with arguments, each an attribute of that name.

    Attributes:
        function: what computes the values.
        unwritten: arguments that Keras leaves out of configurations; here they are written when they are not
            the default.
    """

    function: ClassVar[Callable[..., jax.Array]]
    unwritten: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reduction: Reduction, name: str | None, dtype: Any, **arguments: Any):
        super().__init__(name, reduction, dtype)
        self._argument_names = tuple(arguments)
        vars(self).update(arguments)

    def get_config(self) -> dict[str, Any]:
        defaults = inspect.signature(type(self).__init__).parameters
        written = {
            name: value
            for name, value in self._arguments().items()
            if name not in self.unwritten or value != defaults[name].default
        }
        return {**super().get_config(), **written}

    def call(self, y_true: Any, y_pred: Any) -> jax.Array:
        if self.from_logits is None:
            raise ValueError(
                f"{self.name}: whether outputs are logits was left open, expected True or False. Compile a "
                "model with this loss, call loss.resolve(from_logits=...), or construct it with "
                "from_logits=..."
            )
        return type(self).function(y_true, y_pred, **self._arguments())

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        check_same_shape(self.name, np.shape(y), output_shape)

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._argument_names}


class ElementwiseLoss(BuiltInLoss):
    """A mean over the last axis; outputs `(batch,)` are rows of one element."""

    def call(self, y_true: Any, y_pred: Any) -> jax.Array:
        return super().call(*align(self.name, y_true, y_pred))


class FunctionLoss(Loss):
    """A plain function `(y_true, y_pred)` that returns one value a row, as a loss.

    As in Keras the function sees labels `(batch,)` as `(batch, 1)` where the outputs are that, and the like.
    """

    def __init__(
        self,
        fn: Callable[[Any, Any], Any],
        reduction: Reduction = MEAN,
        name: str | None = None,
        dtype: Any = None,
    ):
        found = getattr(fn, "name", None) or getattr(fn, "__name__", type(fn).__name__)
        super().__init__(name or snake_case(str(found)), reduction, dtype)
        self.fn = fn

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": serialization.serialize(self.fn)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        return cls(**serialization.deserialize(dict(config)))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        leaves, structure = jax.tree.flatten(y_pred)
        if jax.tree.structure(y_true) == structure:
            pairs = [same_rank(*both) for both in zip(jax.tree.leaves(y_true), leaves)]
            y_true, y_pred = (jax.tree.unflatten(structure, [both[i] for both in pairs]) for i in (0, 1))
        return self.fn(y_true, y_pred)


def _is_numbers(value: Any) -> bool:
    """Returns whether `value` is a number or nested lists of numbers, which are one array."""
    if not isinstance(value, list | tuple):
        return isinstance(value, int | float)
    return bool(value) and all(map(_is_numbers, value))


def _batch_size(y_pred: Any) -> int:
    shape = np.shape(jax.tree.leaves(y_pred, is_leaf=_is_numbers)[0])
    return shape[0] if shape else 1


def _dtype_of(dtype: Any) -> np.dtype:
    """Returns the dtype that computation is in by a dtype or policy; without 64 bits where jax has none."""
    dtype = getattr(dtype, "compute_dtype", dtype)
    if isinstance(dtype, Mapping):
        dtype = serialization.deserialize(dtype)
    name = dtype.removeprefix("mixed_") if isinstance(dtype, str) else dtype
    return jax.dtypes.canonicalize_dtype(jnp.dtype(name))
