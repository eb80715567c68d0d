"""`Attention` and `AdditiveAttention`: averages of values by how well queries fit keys, without heads."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from easyflax import random
from easyflax.layers.layer import Layer
from easyflax.nnx.core.naming import describe

__all__ = ["AdditiveAttention", "Attention"]


class Attention(Layer):
    """Averages values with the weights `softmax(query key^T)`.

    It is called on a list: queries `(batch, queries, dim)`, values `(batch, keys, value_dim)`, and keys
    `(batch, keys, dim)`, in place of which the values are used where they are left out.

    Args:
        use_scale: whether the scores are multiplied with a weight, `scale`, a scalar that starts as one.
        score_mode: "dot", or "concat": `concat_score_weight * sum(tanh(scale * (query + key)))`.
        dropout: the share of the weights that is set to zero in training.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: `score_mode` is unknown, or `dropout` no share.

    Examples:
        >>> import jax.numpy as jnp
        >>> queries, values = jnp.ones((1, 2, 4)), jnp.arange(12.0).reshape(1, 3, 4)
        >>> Attention()([queries, values]).shape
        (1, 2, 4)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(
                f"{type(self).__name__}: got score_mode={score_mode!r}, expected 'dot' or 'concat'. Choose "
                "one."
            )
        if not 0 <= dropout <= 1:
            raise ValueError(
                f"{type(self).__name__}: got dropout={dropout}, expected a share from 0 to 1. Pass for "
                "example 0.1."
            )
        self.use_scale = use_scale
        self.score_mode = score_mode
        self.dropout = dropout
        self.seed = seed
        if dropout:
            self.seed_generator = random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        self._check("inputs", input_shape)
        self.scale = self._scalar("scale") if self.use_scale else None
        self.concat_score_weight = (
            self._scalar("concat_score_weight") if self.score_mode == "concat" else None
        )

    def _scalar(self, name: str) -> Any:
        return self.add_weight(shape=(), initializer="ones", name=name)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the averages, `(batch, queries, value_dim)`, and the weights where they are asked for.

        Args:
            inputs: queries, values and, if they are others than the values, keys.
            mask: a list of the masks of queries, `(batch, queries)`, and of values, `(batch, keys)`; None for
                none. Outputs of masked queries are zero, masked values do not count.
            training: whether dropout is applied.
            return_attention_scores: whether to return the weights too, `(batch, queries, keys)`.
            use_causal_mask: whether the n-th query may look at the first n keys only.
        """
        self._check("inputs", inputs)
        query, value, *rest = inputs
        scores = self._scores(query, rest[0] if rest else value)
        query_mask, value_mask = (None, None) if mask is None else self._check("mask", mask)[:2]
        allowed = None if value_mask is None else jnp.asarray(value_mask, bool)[..., None, :]
        if use_causal_mask:
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
            allowed = causal if allowed is None else allowed & causal
        if allowed is not None:
            far = 65504.0 if scores.dtype == jnp.float16 else 1e9  # as Keras: a row without any is averaged
            scores = jnp.where(allowed, scores, scores - jnp.asarray(far, scores.dtype))
        weights = jax.nn.softmax(scores, axis=-1)
        if training and self.dropout:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        outputs = weights @ value
        if query_mask is not None:
            outputs = jnp.where(jnp.asarray(query_mask, bool)[..., None], outputs, 0)
        return (outputs, weights) if return_attention_scores else outputs

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        scale = 1 if self.scale is None else self._value(self.scale)
        if self.concat_score_weight is None:
            return query @ jnp.swapaxes(key, -2, -1) * scale
        sums = jnp.sum(jnp.tanh(scale * _all_pairs(query, key)), axis=-1)
        return self._value(self.concat_score_weight) * sums

    def _value(self, weight: Any) -> jax.Array:
        return weight[...].astype(self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the queries."""
        del inputs
        return None if mask is None else self._check("mask", mask)[0]

    def _check(self, what: str, values: Any) -> Any:
        if not isinstance(values, list | tuple) or len(values) not in (2, 3):
            got = f"{len(values)} entries" if isinstance(values, list | tuple) else type(values).__name__
            raise ValueError(
                f"{describe(self)}: got {what} of {got}, expected a list of two or three: those of queries, "
                "values and keys. Call it as layer([query, value])."
            )
        return values


class AdditiveAttention(Attention):
    """Averages values with the weights `softmax(sum(scale * tanh(query + key)))`.

    It is called as `Attention` is; queries, values and keys have one length.

    Args:
        use_scale: whether there is a weight `scale`, `(dim,)`; else it is one.
        dropout: the share of the weights that is set to zero in training.
        **kwargs: `seed`, see `Attention`; `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: `dropout` is no share.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = AdditiveAttention()
        >>> layer([jnp.ones((1, 2, 4)), jnp.ones((1, 3, 4))]).shape, layer.scale.shape
        ((1, 2, 4), (4,))

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        shape = self._check("inputs", input_shape)[0][-1:]
        self.scale = self.add_weight(shape=shape, name="scale") if self.use_scale else None

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        scale = 1 if self.scale is None else self._value(self.scale)
        return jnp.sum(scale * jnp.tanh(_all_pairs(query, key)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name != "score_mode"}


def _all_pairs(query: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the sums of all queries with all keys, `(batch, queries, keys, dim)`."""
    return query[..., :, None, :] + key[..., None, :, :]
