"""`Embedding`: a table of vectors, looked up by integer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax import constraints, initializers, regularizers
from easyflax.layers.layer import Layer, Shape
from easyflax.layers.specs import ArraySpec
from easyflax.nnx.layers import checks
from easyflax.nnx.layers.embedding import embed

__all__ = ["Embedding"]


class Embedding(Layer):
    """Returns the rows of a table at the integers of the input: `(...)` to `(..., output_dim)`.

    The weight is `embeddings`, `(input_dim, output_dim)`.

    Args:
        input_dim: number of rows; the input holds integers from 0 to `input_dim - 1`.
        output_dim: length of each row.
        embeddings_initializer: see `easyflax.initializers`.
        embeddings_regularizer: see `easyflax.regularizers`.
        embeddings_constraint: see `easyflax.constraints`.
        mask_zero: whether 0 stands for padding, which later layers leave out; row 0 is then not used.
        weights: the table, an array or a list of one.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`; `input_length`, an older
            spelling of `input_shape=(input_length,)`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or the table has another shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = Embedding(10, 4, mask_zero=True)
        >>> layer(jnp.array([[3, 0]])).shape, layer.compute_mask(jnp.array([[3, 0]])).tolist()
        ((1, 2, 4), [[True, False]])
    """

    autocast = False  # rows are taken of the table as it is stored, and cast then

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        if (input_length := kwargs.pop("input_length", None)) is not None:
            kwargs["input_shape"] = np.atleast_1d(input_length).tolist()
        super().__init__(**kwargs)
        checks.check_sizes(self, input_dim=input_dim, output_dim=output_dim)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        if weights is not None:
            self.build_for((ArraySpec((None,), jnp.int32),), {})
            self.set_weights(
                weights if isinstance(weights, list | tuple) and len(weights) == 1 else [weights]
            )

    def build(self, input_shape: Shape) -> None:
        del input_shape  # rows are looked up at any place
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def call(self, inputs: jax.Array) -> jax.Array:
        ids = jnp.asarray(inputs)
        ids = ids if jnp.issubdtype(ids.dtype, jnp.integer) else ids.astype("int32")
        return embed(ids, self.embeddings[...]).astype(self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        del mask  # an embedding begins one
        return jnp.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("weights", None)  # weights are no configuration
        return config
