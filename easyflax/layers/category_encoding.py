"""`CategoryEncoding`: integers as vectors of zeros and ones, or of counts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax.layers.image_layer import check_choice
from easyflax.layers.layer import Layer

__all__ = ["CategoryEncoding", "encode", "refuse_sparse"]


class CategoryEncoding(Layer):
    """Encodes integers from 0 to `num_tokens - 1` as vectors of that length.

    Args:
        num_tokens: how many different integers there are. Others become zeros.
        output_mode: "one_hot" encodes each integer; "multi_hot" says for each row which integers are in it,
            and "count" how often.
        sparse: only False.
        **kwargs: see `Layer`.

    Raises:
        ValueError: an argument is unknown or missing.

    Examples:
        >>> import jax.numpy as jnp
        >>> CategoryEncoding(3)(jnp.array([[0, 1], [2, 2]]))
        Array([[1., 1., 0.],
               [0., 0., 1.]], dtype=float32)
    """

    built: bool = True

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_tokens is None or num_tokens < 1:
            raise ValueError(
                f"CategoryEncoding: num_tokens is {num_tokens!r}, expected a positive integer. Pass the "
                "number of different integers."
            )
        refuse_sparse(self, sparse)
        output_mode = "multi_hot" if output_mode == "binary" else output_mode
        self.output_mode = check_choice(self, "output_mode", output_mode, ("multi_hot", "one_hot", "count"))
        self.num_tokens = num_tokens
        self.sparse = sparse

    def call(self, inputs: Any, count_weights: Any = None) -> jax.Array:
        """Returns the encoded integers.

        Args:
            inputs: integers, `(batch, length)`, or `(batch,)`.
            count_weights: what each of them counts, in the output mode "count".

        Raises:
            ValueError: there are `count_weights` in another output mode.
        """
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(
                f"CategoryEncoding '{self.name}': got count_weights with output_mode={self.output_mode!r}, "
                "expected none. Set output_mode='count', or leave them out."
            )
        return encode(
            jnp.asarray(inputs), self.output_mode, self.num_tokens, self.compute_dtype, count_weights
        )


def encode(indices: jax.Array, output_mode: str, depth: int, dtype: Any, weights: Any = None) -> jax.Array:
    """Returns integers as they are ("int"), or encoded as `CategoryEncoding` does it.

    Args:
        indices: integers; one alone stands for a row of one.
        output_mode: "int", "one_hot", "multi_hot" or "count".
        depth: how many different integers there are.
        dtype: of the output.
        weights: of each integer, for "count".
    """
    if output_mode == "int":
        return indices.astype(dtype)
    indices = jnp.atleast_1d(indices).astype(jnp.int32)
    if output_mode == "one_hot":
        is_column = indices.ndim > 1 and indices.shape[-1] == 1
        return jax.nn.one_hot(indices[..., 0] if is_column else indices, depth, dtype=dtype)
    hot = jax.nn.one_hot(indices, depth, dtype=dtype)
    axis = 1 if indices.ndim > 1 else 0
    if output_mode == "multi_hot":
        return jnp.max(hot, axis=axis)
    return jnp.sum(hot if weights is None else hot * jnp.asarray(weights, dtype)[..., None], axis=axis)


def refuse_sparse(layer: Layer, sparse: bool) -> None:
    """Raises if sparse output is wanted.

    Raises:
        ValueError: that is so.
    """
    if sparse:
        raise ValueError(
            f"{type(layer).__name__}: sparse is True, expected False: outputs are dense arrays. Leave it out."
        )
