"""Losses between distributions, under Keras's names.

The cross-entropies take logits or probabilities. `from_logits=False` is the default of the classes, as in
Keras. `None` leaves it open until the trainer knows how the model ends, which is what a loss given as a
string means here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax.losses.base import ElementwiseLoss, Loss
from easyflax.losses.regression import EPSILON
from easyflax.losses.shapes import (
    Shape,
    align,
    check_class_indices,
    check_integer,
    check_same_shape,
    class_indices,
)

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "KLDivergence",
    "Poisson",
    "SparseCategoricalCrossentropy",
]


class Crossentropy(Loss):
    """What the three cross-entropies share: whether outputs are logits."""

    def __init__(
        self,
        from_logits: bool | None = False,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(reduction=reduction, name=name)
        self.from_logits = from_logits

    def _outputs_are_logits(self) -> bool:
        if self.from_logits is None:
            raise ValueError(
                f"{self.name}: whether outputs are logits was left open, expected True or False. Compile a "
                "model with this loss, call loss.resolve(from_logits=...), or construct it with "
                "from_logits=..."
            )
        return self.from_logits


class BinaryCrossentropy(Crossentropy):
    """Cross-entropy of independent yes-or-no labels.

    Args:
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is replaced by one half, in `[0, 1]`.

    Labels are in `[0, 1]` and have the shape of the outputs; probabilities are clipped to `[1e-7, 1 - 1e-7]`.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`.
    """

    def __init__(
        self,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(from_logits, reduction=reduction, name=name)
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def call(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        y_true = y_true * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self._outputs_are_logits():
            values = optax.losses.sigmoid_binary_cross_entropy(y_pred, y_true)
        else:
            y_pred = jnp.clip(y_pred, EPSILON, 1 - EPSILON)
            values = -y_true * jnp.log(y_pred) - (1 - y_true) * jnp.log1p(-y_pred)
        return values.mean(axis=-1)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        check_same_shape(self.name, np.shape(y), output_shape)
        smallest, largest = _range(y)
        if smallest < 0 or largest > 1:
            raise ValueError(
                f"{self.name}: labels go from {smallest} to {largest}, expected values from 0 to 1. "
                "Map the two classes to 0 and 1, or use 'sparse_categorical_crossentropy' for more classes."
            )


class CategoricalCrossentropy(Crossentropy):
    """Cross-entropy of one-hot labels (or any distribution over classes).

    Args:
        from_logits: whether outputs are logits rather than probabilities.
        label_smoothing: share of each label that is spread evenly over all classes, in `[0, 1]`.

    Labels are `(batch, ..., classes)`. Probabilities are divided by their sum and clipped to
    `[1e-7, 1 - 1e-7]`.

    Raises:
        ValueError: `label_smoothing` is outside `[0, 1]`.

    Source of the smoothing: Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567
    """

    def __init__(
        self,
        from_logits: bool | None = False,
        label_smoothing: float = 0.0,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ):
        super().__init__(from_logits, reduction=reduction, name=name)
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def call(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        _check_classes(self.name, jnp.shape(y_true), jnp.shape(y_pred))
        y_true, y_pred = align(self.name, y_true, y_pred)
        y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        if self._outputs_are_logits():
            return optax.losses.softmax_cross_entropy(y_pred, y_true)
        return -jnp.sum(y_true * _log_probabilities(y_pred), axis=-1)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        _check_classes(self.name, np.shape(y), output_shape)


class SparseCategoricalCrossentropy(Crossentropy):
    """Cross-entropy of labels that are class indices.

    Args:
        from_logits: whether outputs are logits rather than probabilities.

    Labels are integers `(batch, ...)` or `(batch, ..., 1)`, from 0 to classes - 1. An index outside that
    range that the check on the host has not seen (labels of a stream) gives NaN, never the loss of another
    class.
    """

    def call(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        labels, y_pred = class_indices(self.name, y_true, y_pred)
        in_range = (labels >= 0) & (labels < y_pred.shape[-1])
        labels = jnp.where(in_range, labels, 0)
        if self._outputs_are_logits():
            values = optax.losses.softmax_cross_entropy_with_integer_labels(y_pred, labels)
        else:
            values = -jnp.take_along_axis(_log_probabilities(y_pred), labels[..., None], axis=-1)[..., 0]
        return jnp.where(in_range, values, jnp.nan)

    def check_labels(self, y: np.ndarray, output_shape: Shape) -> None:
        check_class_indices(self.name, np.shape(y), output_shape)
        smallest, largest = _range(y)
        check_integer(self.name, y.dtype, f" from {smallest} to {largest}")
        classes = output_shape[-1]
        if smallest < 0 or largest >= classes:
            advice = "Renumber the labels from 0"
            if smallest >= 0:
                advice += f", or let the model end in {largest + 1} units"
            raise ValueError(
                f"{self.name}: labels go from {smallest} to {largest}, expected class indices from 0 to "
                f"{classes - 1} for {classes} classes. {advice}."
            )


class KLDivergence(ElementwiseLoss):
    """The sum over the last axis of `y_true * log(y_true / y_pred)`, with both clipped to `[1e-7, 1]`."""

    def call(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return self.element(*align(self.name, y_true, y_pred)).sum(axis=-1)

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = jnp.clip(y_true, EPSILON, 1), jnp.clip(y_pred, EPSILON, 1)
        return y_true * jnp.log(y_true / y_pred)


class Poisson(ElementwiseLoss):
    """The mean of `y_pred - y_true * log(y_pred)`, for counts and predicted rates."""

    def element(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return y_pred - y_true * jnp.log(y_pred + EPSILON)


def _log_probabilities(y_pred: jax.Array) -> jax.Array:
    y_pred = y_pred / y_pred.sum(axis=-1, keepdims=True)
    return jnp.log(jnp.clip(y_pred, EPSILON, 1 - EPSILON))


def _check_classes(name: str, y_shape: Shape, output_shape: Shape) -> None:
    check_same_shape(name, y_shape, output_shape)
    if len(output_shape) < 2 or output_shape[-1] == 1:
        raise ValueError(
            f"{name}: the last axis of the outputs has one class, expected at least two (one class has no "
            "entropy). Use 'binary_crossentropy' for a single unit."
        )


def _checked_smoothing(amount: float) -> float:
    if not 0 <= amount <= 1:
        raise ValueError(
            f"label_smoothing={amount} is outside [0, 1], expected a share. Pass for example 0.1."
        )
    return amount


def _range(y: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and largest label as Python numbers; zeros for no labels at all."""
    return (np.min(y).item(), np.max(y).item()) if np.size(y) else (0, 0)
