"""The layer that stands at the beginning of a model and says what it takes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from easyflax.layers.layer import Layer

__all__ = ["InputLayer"]


class InputLayer(Layer):
    """Holds the shape and dtype of an input; `ef.Input` makes one.

    Args:
        shape: of one row; None for an axis of any size.
        batch_size: of the batches, if it is always the same.
        dtype: what inputs are converted to; float32 by default.
        batch_shape: the shape with the batch axis, in place of `shape` and `batch_size`.
        name: by which a dict of inputs is matched.

    Raises:
        ValueError: there is no shape, both, or something else than sizes in it.
    """

    built = True

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        *,
        batch_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if (shape is None) == (batch_shape is None):
            raise ValueError(
                f"Input: got shape={shape!r} and batch_shape={batch_shape!r}, expected one of them. Pass the "
                "shape of one row, such as shape=(28, 28, 1)."
            )
        whole = (batch_size, *_sizes(shape)) if batch_shape is None else _sizes(batch_shape)
        self.batch_shape = whole
        self.dtype = jnp.dtype("float32" if dtype is None else dtype).name

    def call(self, inputs: Any) -> Any:
        """Returns the inputs."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"batch_shape": self.batch_shape, "dtype": self.dtype, "name": self.name}


def _sizes(shape: Any) -> tuple[int | None, ...]:
    if not isinstance(shape, tuple | list) or not all(
        size is None or (isinstance(size, int) and size > 0) for size in shape
    ):
        raise ValueError(
            f"Input: got the shape {shape!r}, expected a tuple of sizes, None for an axis of any size. Pass "
            "for example shape=(28, 28, 1), or shape=(784,) with its comma."
        )
    return tuple(shape)
