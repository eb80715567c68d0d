"""Layers without weights that stand between others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from easyflax import regularizers
from easyflax.layers.layer import Layer
from easyflax.serialization import deserialize, serialize

__all__ = ["ActivityRegularization", "Identity", "Lambda", "Masking"]


class Identity(Layer):
    """Returns its input.

    Args:
        **kwargs: `name`, `dtype`, see `Layer`.
    """

    built = True
    supports_masking = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Any) -> Any:
        return inputs


class ActivityRegularization(Layer):
    """Returns its input, and adds a penalty on it to the loss: `l1 * sum(|x|) + l2 * sum(x ** 2)` a row.

    Args:
        l1: the strength of the first term.
        l2: the strength of the second term.
        **kwargs: `name`, `dtype`, see `Layer`.
    """

    built = True
    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1 = l1
        self.l2 = l2

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activity_regularizer"]  # follows from the two strengths
        return config


class Masking(Layer):
    """Marks steps of a sequence whose features all equal `mask_value`, so that later layers leave them out.

    The features of these steps become 0 in the output.

    Args:
        mask_value: what stands for padding.
        **kwargs: `name`, `dtype`, see `Layer`.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[[1.0, 0.0], [0.0, 0.0]]])
        >>> Masking().compute_mask(x).tolist()
        [[True, False]]
    """

    built = True
    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = deserialize(mask_value)

    def call(self, inputs: jax.Array) -> jax.Array:
        return jnp.where(self.compute_mask(inputs)[..., None], inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        del mask  # as in Keras, a mask that came before is replaced
        return jnp.any(jnp.not_equal(inputs, self.mask_value), axis=-1)


class Lambda(Layer):
    """Applies a function of arrays.

    The function may take `training` and `mask`. A layer of one's own is better where it has weights; and a
    function with a name where the model will be saved: a `lambda` has no configuration.

    Args:
        function: takes the input, and returns the output.
        output_shape: what `compute_output_shape` returns without looking at the function: the shape without
            the batch axis, or a function from the input's shape to the output's.
        mask: of the output: an array, or a function of `(inputs, mask)`.
        arguments: further keyword arguments for the function.
        **kwargs: `name`, `dtype`, see `Layer`.

    Raises:
        TypeError: `function` cannot be called.

    Examples:
        >>> import jax.numpy as jnp
        >>> Lambda(jnp.clip, arguments={"max": 1.0})(jnp.array([0.5, 3.0])).tolist()
        [0.5, 1.0]
    """

    built = True

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(
                f"Lambda: got {type(function).__name__} as its function, expected something that can be "
                "called. Pass a function of the input, such as jnp.square."
            )
        self.function = function
        self.output_shape = output_shape
        self.mask = mask
        self.arguments = dict(arguments or {})
        self.supports_masking = mask is not None

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        known = _parameters(self.function)
        given = {"mask": mask, "training": training}
        return self.function(
            inputs, **self.arguments, **{name: given[name] for name in given if name in known}
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self.output_shape):
            return self.output_shape(input_shape)
        first = input_shape[0]
        return (first[0] if isinstance(first, list | tuple) else first, *self.output_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("output_shape", "mask"):
            if config[name] is None:
                del config[name]
        return {**config, "function": serialize(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**deserialize(config))


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions may have no signature
        return frozenset()
