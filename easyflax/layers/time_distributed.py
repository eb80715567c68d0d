"""`TimeDistributed`: applies a layer to each step of sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers import abstract
from easyflax.layers.building import build_on
from easyflax.layers.calling import call_in_model
from easyflax.layers.layer import Layer
from easyflax.masks import attach_masks
from easyflax.nnx.core.naming import describe
from easyflax.serialization import deserialize

__all__ = ["TimeDistributed"]


class TimeDistributed(Layer):
    """Applies a layer to each step of `(batch, time, ...)`, with the same weights.

    All steps are rows of one large batch. Only in training, where a layer keeps statistics of its batches, as
    `BatchNormalization` does, it is called for one step after the other.

    Args:
        layer: a layer, a model or an NNX module.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: `layer` is none.

    Examples:
        >>> import jax.numpy as jnp
        >>> TimeDistributed(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))(jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
    """

    supports_masking = True

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, nnx.Module) or not callable(layer):
            raise ValueError(
                f"TimeDistributed: got layer={layer!r}, expected a layer or another module. Pass for example "
                "Dense(8); a plain function goes into Lambda."
            )
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        self._check_shape(shape)
        build_on(self.layer, abstract.specs_of_shapes((shape[0], *shape[2:]), self.compute_dtype))

    def _check_shape(self, shape: tuple[int | None, ...]) -> None:
        if len(shape) < 3:
            raise ValueError(
                f"{describe(self)}: got an input of shape {shape}, expected (batch, time, ...) with one axis "
                "more at least. Reshape it."
            )

    def call(self, inputs: jax.Array, training: bool | None = None, mask: Any = None) -> Any:
        """Returns what the layer returns for each step, `(batch, time, ...)`.

        Args:
            inputs: `(batch, time, ...)`.
            training: passed on to the layer.
            mask: `(batch, time)` or more axes, passed on to a layer that takes one.
        """
        self._check_shape(inputs.shape)
        if mask is not None and tuple(mask.shape[:2]) != inputs.shape[:2]:
            raise ValueError(
                f"{describe(self)}: got a mask of shape {tuple(mask.shape)} for an input of shape "
                f"{inputs.shape}, expected {inputs.shape[:2]} as its first two axes. Pass one value for each "
                "step."
            )
        if training and self._keeps_statistics():
            steps = [
                self._on_rows(inputs[:, t], training, None if mask is None else mask[:, t])
                for t in range(inputs.shape[1])
            ]
            return jax.tree.map(lambda *outputs: jnp.stack(outputs, axis=1), *steps)
        batch, time = inputs.shape[:2]
        rows, row_mask = (
            None if x is None else x.reshape(batch * time, *x.shape[2:]) for x in (inputs, mask)
        )
        outputs = self._on_rows(rows, training, row_mask)
        return jax.tree.map(lambda output: output.reshape(batch, time, *output.shape[1:]), outputs)

    def _keeps_statistics(self) -> bool:
        others = nnx.Not(nnx.Any(nnx.Param, nnx.RngState, nnx.Intermediate))
        return bool(jax.tree.leaves(nnx.state(self.layer, others)))

    def _on_rows(self, rows: Any, training: bool | None, mask: Any) -> Any:
        attach_masks(rows, mask)
        return call_in_model(self.layer, (rows,), {"training": training})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**deserialize(config))
