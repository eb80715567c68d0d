"""The loss of a whole model: one for each output that has one, weighed and added up.

`LossSpec` is what `compile` was given, checked by name. `resolve` fits it to outputs and targets once they
are known, which gives a `CompiledLoss`, a pure function of arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import easyflax.losses as losses
from easyflax.losses.base import FunctionLoss, Loss
from easyflax.train.outputs import Outputs

__all__ = ["CompiledLoss", "LossPart", "LossSpec", "unused_name"]


@dataclass(frozen=True)
class LossPart:
    """The loss of one output.

    Attributes:
        name: what `<name>_loss` stands for in the logs.
        loss: what scores it.
        weight: what it counts for in the sum.
        output: the number of the output; None for a function that takes targets and outputs as they are
            nested.
    """

    name: str
    loss: Loss
    weight: float
    output: int | None


@dataclass(frozen=True)
class CompiledLoss:
    """The sum of the losses of all outputs.

    Attributes:
        parts: the losses.
        outputs: what they are of.
    """

    parts: tuple[LossPart, ...]
    outputs: Outputs

    @property
    def is_whole(self) -> bool:
        """Whether one function takes targets and outputs as they are nested."""
        return any(part.output is None for part in self.parts)

    @property
    def log_names(self) -> tuple[str, ...]:
        """The names under which parts are logged, if there are several."""
        return tuple(f"{part.name}_loss" for part in self.parts) if len(self.parts) > 1 else ()

    def __call__(
        self, y: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the weighed sum, and each part as it is, by log name.

        Args:
            y: targets.
            y_pred: outputs.
            sample_weight: of the rows, for all outputs or nested as they are; or None.
            mask: `(rows,)`, False for rows that only pad the batch.
        """
        total, values = jnp.zeros((), jnp.float32), []
        for part, targets, outputs, weight in self._chosen(y, y_pred, sample_weight):
            value = part.loss(targets, outputs, sample_weight=weight, mask=mask)
            total = total + (value if part.weight == 1.0 else part.weight * value)
            values.append(value)
        return total, dict(zip(self.log_names, values, strict=False))

    @property
    def is_sum(self) -> bool:
        """Whether the loss of two batches together is the sum of their losses."""
        return bool(self.parts) and all(part.loss.reduction == "sum" for part in self.parts)

    def weight_of(self, y: Any, y_pred: Any, sample_weight: Any = None) -> jax.Array | None:
        """Returns what a batch counts for in the loss of several batches together, float32 `()`.

        None stands for its number of rows, also where several outputs divide by different numbers, so that
        no one number would do.
        """
        if self.is_sum:
            return jnp.ones((), jnp.float32)
        if len(self.parts) != 1:
            return None
        ((part, targets, outputs, weight),) = self._chosen(y, y_pred, sample_weight)
        return part.loss.divisor(targets, outputs, weight)

    def is_row_wise(self, y: Any, y_pred: Any) -> bool:
        """Returns whether all parts value rows, so that some can be left out; computes nothing.

        Args:
            y: targets, arrays or `jax.ShapeDtypeStruct`s.
            y_pred: outputs, likewise.
        """
        found = []  # each is asked, since each says whether its targets fit
        for part, targets, outputs, _ in self._chosen(y, y_pred, None):
            with self._naming(part):
                found.append(part.loss.is_row_wise(targets, outputs))
        return all(found)

    def check_labels(self, y: Any, sample_weight: Any, output_shape: Any) -> None:
        """Raises if a part cannot use its targets, nested NumPy arrays, for an output of its shape.

        Rows whose weight is zero are left aside: they count nowhere, and often have no label.
        """
        shapes = jax.tree.leaves(output_shape, is_leaf=_is_shape)
        targets, weights = self.targets(y), self.weights(sample_weight)
        for part in self.parts:
            if part.output is None or not isinstance(targets[part.output], np.ndarray):
                continue
            labels, weight = targets[part.output], weights[part.output]
            if weight is not None:
                labels = labels[np.reshape(weight, (len(weight), -1)).any(axis=1)]
            if not len(labels):
                continue
            with self._naming(part):
                part.loss.check_labels(labels, shapes[part.output])

    @contextmanager
    def _naming(self, part: LossPart) -> Iterator[None]:
        """Says of which output an error is, where there are several."""
        try:
            yield
        except (TypeError, ValueError) as error:
            if len(self.outputs) == 1 or part.output is None:
                raise
            raise ValueError(f"Output {self.outputs.names[part.output] or part.output!r}: {error}") from error

    def _chosen(self, y: Any, y_pred: Any, sample_weight: Any) -> list[tuple[LossPart, Any, Any, Any]]:
        if self.is_whole or not self.parts:
            return [(part, y, y_pred, sample_weight) for part in self.parts]
        targets, outputs = self.targets(y), self.outputs.leaves(y_pred)
        weights = self.weights(sample_weight)
        return [
            (part, targets[i], outputs[i], weights[i])
            for part in self.parts
            if (i := part.output) is not None
        ]

    def targets(self, y: Any) -> list[Any]:
        """Returns the targets of each output, None where there are none.

        Raises:
            ValueError: they do not fit the outputs.
        """
        if y is None or self.is_whole:
            return [None] * len(self.outputs)
        numbers = {part.output for part in self.parts} or range(len(self.outputs))
        return _targets_of(y, self.outputs, numbers)

    def weights(self, sample_weight: Any) -> list[Any]:
        """Returns the sample weights of each output."""
        if not isinstance(sample_weight, list | tuple | Mapping):
            return [sample_weight] * len(self.outputs)
        return self.outputs.align(sample_weight, "sample_weight")


@dataclass(frozen=True)
class LossSpec:
    """What `compile` was given as `loss` and `loss_weights`.

    Attributes:
        spec: nested as given.
        weights: nested likewise, or a list or dict of numbers, or one number, or None.
    """

    spec: Any
    weights: Any = None

    @classmethod
    def of(cls, spec: Any, weights: Any = None) -> LossSpec:
        """Returns the checked specification.

        Raises:
            TypeError: there is something else than losses, or than numbers in `weights`.
            ValueError: a name is unknown.
        """
        if isinstance(weights, str) or any(
            isinstance(weight, str | bool) or not hasattr(weight, "__float__")
            for weight in jax.tree.leaves(weights)
        ):
            raise TypeError(
                f"compile: loss_weights is {weights!r}, expected numbers. Pass one, a list with one for each "
                "output, or a dict by their names; metrics go into metrics=[...]."
            )
        _check(spec)
        return cls(spec, weights)

    def resolve(self, y: Any, y_pred: Any, outputs: Outputs, kinds: Sequence[str]) -> CompiledLoss:
        """Returns the loss for outputs and targets.

        Args:
            y: targets, as shapes and dtypes.
            y_pred: outputs, likewise.
            outputs: what the model returns.
            kinds: of each output, how the model made it, see `output_kinds`.

        Raises:
            ValueError: losses, weights, targets and outputs do not fit.
        """
        if self.spec is None:
            return CompiledLoss((), outputs)
        if _takes_nesting(self.spec, y, outputs):
            whole = losses.as_loss(self.spec)
            return CompiledLoss((LossPart(whole.name, whole, 1.0, None),), outputs)
        given = self._for_each(outputs)
        weights = self._weights_for_each(outputs, given)
        numbers = {i for i, found in enumerate(given) if found}
        targets, leaves = _targets_of(y, outputs, numbers), outputs.leaves(y_pred)
        parts: list[LossPart] = []
        for i, found in enumerate(given):
            for loss in found:
                if y is not None and targets[i] is None:
                    raise ValueError(_missing(outputs, i))
                resolved = _resolved(loss, targets[i], leaves[i], kinds[i])
                name = unused_name(outputs.loss_name(i, resolved.name), [part.name for part in parts])
                parts.append(LossPart(name, resolved, weights[i], i))
        return CompiledLoss(tuple(self._in_order(parts, outputs)), outputs)

    def _in_order(self, parts: list[LossPart], outputs: Outputs) -> list[LossPart]:
        """Returns the losses of a dict of outputs in the order of their dict, as Keras does."""
        names = list(self.spec) if isinstance(self.spec, Mapping) and outputs.is_dict else []
        if not {outputs.names[part.output or 0] for part in parts} <= set(names):
            return parts
        return sorted(parts, key=lambda part: names.index(outputs.names[part.output or 0]))

    def _for_each(self, outputs: Outputs) -> list[list[Any]]:
        """Returns the losses of each output."""
        if _is_one(self.spec):
            return [[self.spec]] * len(outputs)
        if len(outputs) == 1 and isinstance(self.spec, list | tuple):
            return [[loss for loss in self.spec if loss is not None]]
        aligned = outputs.align(self.spec, "loss", _is_one)
        return [[] if found is None else [found] for found in aligned]

    def _weights_for_each(self, outputs: Outputs, given: list[list[Any]]) -> list[float]:
        weights = self.weights
        if weights is None:
            return [1.0] * len(outputs)
        if not isinstance(weights, list | tuple | Mapping):
            return [float(weights)] * len(outputs)
        numbers = [i for i, found in enumerate(given) if found]
        if isinstance(weights, list | tuple) and len(weights) == len(numbers) < len(outputs):
            by_number = dict(zip(numbers, weights, strict=True))
            return [float(by_number.get(i, 1.0)) for i in range(len(outputs))]
        aligned = outputs.align(weights, "loss_weights")
        return [1.0 if weight is None else float(weight) for weight in aligned]


def _targets_of(y: Any, outputs: Outputs, with_loss: Any) -> list[Any]:
    """Returns the targets of each output, None where there are none.

    Args:
        y: targets: for each output, or for those alone that have a loss.
        outputs: what the model returns.
        with_loss: the numbers of the outputs that have one.

    Raises:
        ValueError: they do not fit.
    """
    numbers = sorted(with_loss)
    if len(numbers) < len(outputs):
        if len(numbers) == 1 and not isinstance(y, list | tuple | Mapping):
            y = [y]
        if isinstance(y, list | tuple) and len(y) == len(numbers):
            by_number = dict(zip(numbers, y, strict=True))
            return [by_number.get(i) for i in range(len(outputs))]
    return outputs.align(y, "y")


def _missing(outputs: Outputs, number: int) -> str:
    name = outputs.names[number] or number
    return (
        f"y has nothing for the output {name!r}, expected targets for {outputs.shown()}. Pass them as well, "
        f"or compile the model with the loss None for that output."
    )


def _check(spec: Any) -> None:
    if isinstance(spec, Mapping) and "class_name" not in spec:
        for one in spec.values():
            _check(one)
    elif isinstance(spec, list | tuple):
        for one in spec:
            _check(one)
    elif spec is not None:
        losses.check(spec)
        if inspect.isroutine(spec):
            _check_takes_two(spec)


def _check_takes_two(function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # of built-in functions nothing is known
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"compile: the loss {function.__name__} takes {signature}, expected a function (y_true, y_pred). "
            "Give other arguments a default, or bind them with functools.partial."
        ) from None


def _is_one(spec: Any) -> bool:
    """Says whether it stands for one loss: no nesting, but a configuration."""
    return not isinstance(spec, list | tuple | Mapping) or "class_name" in spec


def _takes_nesting(spec: Any, y: Any, outputs: Outputs) -> bool:
    """Says whether a single function is to be called on nestings: where targets do not match the outputs."""
    if len(outputs) == 1 or isinstance(spec, str | Mapping | list | tuple) or y is None:
        return False
    return isinstance(losses.as_loss(spec), FunctionLoss) and len(jax.tree.leaves(y)) != len(outputs)


def _resolved(spec: Any, y: Any, y_pred: Any, kind: str) -> Loss:
    shapes = {"output_shape": tuple(y_pred.shape), "y_shape": None if y is None else tuple(y.shape)}
    return losses.as_loss(spec, **shapes).resolve(from_logits=kind == "logits")


def unused_name(name: str, taken: list[str]) -> str:
    """Returns `name`, with a number behind it if it is taken."""
    candidates = (name if number == 0 else f"{name}_{number}" for number in range(len(taken) + 1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _is_shape(tree: Any) -> bool:
    return isinstance(tree, tuple) and all(isinstance(size, int) or size is None for size in tree)
