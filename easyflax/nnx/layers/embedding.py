"""Looking up vectors by integer: `y = E[i]`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param, reading_dtype
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype

__all__ = ["Embed", "embed"]

default_embed_init = initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


def embed(ids: jax.Array, embedding: jax.Array, *, out_sharding: Any = None) -> jax.Array:
    """Returns the rows of `embedding` at `ids`.

    Args:
        ids: integers; negative ones count from the end, those out of range give rows of NaN.
        embedding: `(num_embeddings, features)`. With one row, every id gives that row.
        out_sharding: sharding of the result, for meshes with explicit axes.

    Returns:
        `(*ids.shape, features)`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.embedding import embed
        >>> embed(jnp.array([1, -1, 5]), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[3.0, 4.0], [3.0, 4.0], [nan, nan]]
    """
    if out_sharding is None:
        return _rows(embedding, ids)
    # `jnp.take` does not know the option, so the compiler lays out the lookup.
    return jax.sharding.auto_axes(out_sharding=out_sharding)(_rows)(embedding, ids)


def _rows(embedding: jax.Array, ids: jax.Array) -> jax.Array:
    if embedding.shape[0] == 1:
        return jnp.broadcast_to(jnp.reshape(embedding, -1), (*ids.shape, embedding.shape[1]))
    return jnp.take(embedding, ids, axis=0)


class Embed(Module):
    """A table of vectors, looked up by integers from 0 to `num_embeddings - 1`.

    The parameter is `embedding`, of shape `(num_embeddings, features)`.

    Args:
        num_embeddings: number of rows: the size of the vocabulary.
        features: length of each vector.
        dtype: the dtype of the output; by default that of the embedding.
        param_dtype: the dtype that the embedding is stored in.
        embedding_init: makes the embedding, `(key, shape, dtype) -> array`.
        promote_dtype: brings `(embedding,)`, or `(query, embedding)` in `attend`, to one dtype.
        rngs: its `params` stream gives the key.
        embedding_metadata: metadata for the variable `embedding`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.Embed(num_embeddings=10, features=4, rngs=nnx.Rngs(0))
        >>> vectors = layer(jnp.array([[1, 2, 3]]))
        >>> vectors.shape, layer.attend(vectors).shape
        ((1, 3, 4), (1, 3, 10))

    Source: Press and Wolf 2017, "Using the output embedding to improve language models",
    https://arxiv.org/abs/1608.05859 (for `attend`).
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        embedding_init: initializers.Initializer = default_embed_init,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
        embedding_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        checks.check_sizes(self, num_embeddings=num_embeddings, features=features)
        checks.check_rngs(self, rngs)
        embedding = embedding_init(rngs.params(), (num_embeddings, features), param_dtype)
        self.embedding = Param(embedding, **embedding_metadata)
        self.num_embeddings = num_embeddings
        self.features = features
        self.dtype = dtype or self.embedding.dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the vectors at `inputs`, `(...)` to `(..., features)`.

        Args:
            inputs: integers; negative ones count from the end, those out of range give NaN.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: `inputs` are not integers.
        """
        ids = jnp.asarray(inputs)
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"{checks.describe(self)}: got inputs of dtype {ids.dtype}, expected integers, the rows to "
                "look up. Convert them first, for example with inputs.astype(int)."
            )
        (embedding,) = self.promote_dtype((self.embedding[...],), dtype=self._lookup_dtype, inexact=False)
        return embed(ids, embedding, out_sharding=out_sharding)

    @property
    def _lookup_dtype(self) -> Any:
        """`dtype`; None where parameters are read in another one than they are stored in, and it is that."""
        is_read_as_it_is = reading_dtype() is None or self.dtype != self.embedding.get_raw_value().dtype
        return self.dtype if is_read_as_it_is else None

    def attend(self, query: ArrayLike, out_sharding: Any = None) -> jax.Array:
        """Returns the inner product of `query` with every row, `(..., features)` to `(..., num_embeddings)`.

        With it a language model uses one table for its input and its output.

        Args:
            query: floating.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: the last axis of `query` is not `features` long.
        """
        embedding = self.embedding[...]
        checks.check_features(self, query, embedding.shape[1], argument="features")
        query, embedding = self.promote_dtype((query, embedding), dtype=self._lookup_dtype)
        return jnp.dot(query, embedding.T, out_sharding=out_sharding)
