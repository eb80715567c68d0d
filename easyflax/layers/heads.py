"""What the layers of attention with heads have in common: projections, masks and the average."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import constraints, initializers, random, regularizers
from easyflax.layers.einsum_dense import EinsumDense
from easyflax.layers.layer import Layer
from easyflax.layers.specs import ArraySpec
from easyflax.nnx.core.naming import describe
from easyflax.nnx.layers.checks import check_sizes

__all__ = ["HeadsAttention", "attention_equations"]


class HeadsAttention(Layer):
    """Base class of attention with heads: subclasses make the projections in `build`.

    Attributes:
        query_dense: maps queries to `(batch, queries..., heads, depth)`.
        key_dense: likewise keys; there may be fewer heads, each for several of the queries'.
        value_dense: likewise values.
        gate_dense: maps queries to what the averages are multiplied with; None without `use_gate`.
        output_dense: maps the averages to the output.
        attention_axes: the axes along which queries look at keys.
    """

    supports_masking = True

    query_dense: EinsumDense
    key_dense: EinsumDense
    value_dense: EinsumDense
    output_dense: EinsumDense
    gate_dense: Any = None
    attention_axes: Any = (1,)

    def _keep(
        self,
        *,
        dropout: float,
        use_bias: bool,
        sliding_window: int | None,
        flash_attention: bool | None,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        activity_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        use_gate: bool,
        seed: Any,
    ) -> None:
        """Sets the arguments that both layers have."""
        if not 0 <= dropout <= 1:
            raise ValueError(
                f"{type(self).__name__}: got dropout={dropout}, expected a share from 0 to 1. Pass for "
                "example 0.1."
            )
        if sliding_window is not None:
            check_sizes(self, sliding_window=sliding_window)
        if flash_attention and dropout:
            raise ValueError(
                f"{type(self).__name__}: got flash_attention=True with dropout={dropout}, expected no "
                "dropout, which that cannot do. Leave one out."
            )
        self.dropout = dropout
        self.use_bias = use_bias
        self.sliding_window = sliding_window
        self.flash_attention = flash_attention
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.use_gate = use_gate
        self.seed = seed
        # That of Keras's arguments is for the outputs of the projections.
        self._projection_regularizer = regularizers.get(activity_regularizer)
        if dropout:
            self.seed_generator = random.SeedGenerator(seed)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("flash_attention", None)  # says how, not what
        regularizer = self._projection_regularizer
        return {
            **config,
            "activity_regularizer": regularizers.serialize(regularizer) if regularizer else None,
        }

    def _dense(self, shape: Any, name: str, kept: int, sizes: tuple[int, ...], activation: Any = None) -> Any:
        """Returns a built projection of inputs of this shape, whose first `kept` axes stay, to `sizes`."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        inputs, new = letters[: len(shape)], letters[len(shape) : len(shape) + len(sizes)]
        layer = EinsumDense(
            f"{inputs},{inputs[kept:]}{new}->{inputs[:kept]}{new}",
            output_shape=(*[None] * (kept - 1), *sizes),
            activation=activation,
            bias_axes=new if self.use_bias else None,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._projection_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self._dtype_config,
            name=name,
        )
        layer.build_for((ArraySpec(tuple(shape), self.compute_dtype),), {})
        return layer

    def _check_shapes(self, query: Any, value: Any, key: Any) -> None:
        if tuple(value[1:-1]) != tuple(key[1:-1]):
            raise ValueError(
                f"{describe(self)}: got values of shape {tuple(value)} and keys of shape {tuple(key)}, "
                "expected as many values as keys. Pass values for the same positions as keys."
            )
        if len(query) < 3:
            raise ValueError(
                f"{describe(self)}: got queries of shape {tuple(query)}, expected (batch, queries, "
                "features). Reshape them."
            )

    # -- calling

    def call(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Returns the output, with the axes of `query`, and the weights of the heads where asked for.

        Args:
            query: `(batch, queries, features)`; `MultiHeadAttention` takes several axes of queries.
            value: `(batch, keys, features)`, likewise.
            key: what the queries are compared with; the values by default.
            query_mask: `(batch, queries)`, False for queries that do not count.
            value_mask: `(batch, keys)`, False for values that nobody may look at.
            key_mask: likewise.
            attention_mask: `(batch, queries, keys)`, or with an axis for heads after the first, False where a
                query must not look at a key.
            return_attention_scores: whether to return the weights too, `(batch, heads, queries, keys)`.
            training: whether dropout is applied.
            use_causal_mask: whether the n-th query may look at the first n keys only.
        """
        key = value if key is None else key
        self._check_shapes(query.shape, value.shape, key.shape)
        mask = self._mask(query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        gate = None if self.gate_dense is None else self.gate_dense(query)
        q, k, v = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        if self.flash_attention:
            outputs, weights = self._flash(q, k, v, mask, return_attention_scores), None
        elif self.dropout or return_attention_scores or q.ndim != 4:
            outputs, weights = self._in_steps(q, k, v, mask, bool(training))
        else:
            outputs, weights = nnx.dot_product_attention(q, k, v, mask=_with_rank(mask, 4)), None
        outputs = self.output_dense(outputs if gate is None else outputs * gate)
        return (outputs, weights) if return_attention_scores else outputs

    def _mask(
        self, query: Any, value: Any, query_mask: Any, value_mask: Any, key_mask: Any, mask: Any, causal: bool
    ) -> jax.Array | None:
        """Returns which queries may look at which keys, `(batch or 1, queries, keys)`; None if all may."""
        masks = [
            (mask, lambda m: m),
            (query_mask, lambda m: m[..., :, None]),
            (value_mask, lambda m: m[..., None, :]),
            (key_mask, lambda m: m[..., None, :]),
        ]
        found = [shaped(jnp.asarray(one, bool)) for one, shaped in masks if one is not None]
        distance = jnp.arange(query.shape[1])[:, None] - jnp.arange(value.shape[1])
        if causal:
            found.append((distance >= 0)[None])
        if self.sliding_window is not None:
            found.append((abs(distance) < self.sliding_window)[None])
        return None if not found else _all_of(found)

    def _in_steps(
        self, q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the averages and the weights; those of queries that may look at nothing are zero."""
        repeats = q.shape[-2] // k.shape[-2]
        k, v = (x if repeats == 1 else jnp.repeat(x, repeats, axis=-2) for x in (k, v))
        to_scores, to_outputs = attention_equations(q.ndim, self.attention_axes)
        scores = jnp.einsum(to_scores, k, q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype))
        mask = _with_rank(mask, scores.ndim, -2 * len(self.attention_axes) - 1)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=tuple(range(-len(self.attention_axes), 0)))
        if mask is not None:
            weights = jnp.where(mask, weights, 0)
        dropped = weights
        if training and self.dropout:
            dropped = random.dropout(weights, self.dropout, seed=self.seed_generator)
        return jnp.einsum(to_outputs, dropped, v), weights

    def _flash(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, with_weights: bool) -> jax.Array:
        """Computes the averages with cuDNN's kernel.

        Raises:
            ValueError: it cannot be used here.
        """
        device = jax.default_backend()
        if device != "gpu" or with_weights or q.ndim != 4 or q.dtype not in (jnp.bfloat16, jnp.float16):
            scores = " and return_attention_scores=True" if with_weights else ""
            raise ValueError(
                f"{describe(self)}: got flash_attention=True{scores} with queries of shape {q.shape} and "
                f"{q.dtype} on {device}, expected one axis of queries, float16 or bfloat16, a GPU, and no "
                "scores to return. Leave flash_attention out."
            )
        return jax.nn.dot_product_attention(q, k, v, mask=_with_rank(mask, 4), implementation="cudnn")


def attention_equations(rank: int, axes: tuple[int, ...]) -> tuple[str, str]:
    """Returns the einsum equations from keys and queries to scores, and from scores and values to outputs.

    Args:
        rank: of the projected queries, `(batch, ..., heads, depth)`.
        axes: those along which queries look at keys.

    Examples:
        >>> attention_equations(4, (1,))
        ('aecd,abcd->acbe', 'acbe,aecd->abcd')
    """
    letters = "abcdefghijklmnopqrstuvwxyz"
    query = letters[:rank]
    key = "".join(letters[rank + axes.index(i)] if i in axes else query[i] for i in range(rank))
    same = "".join(query[i] for i in range(rank - 1) if i not in axes)
    scores = same + "".join(query[i] for i in axes) + "".join(key[i] for i in axes)
    return f"{key},{query}->{scores}", f"{scores},{key}->{query}"


def _all_of(masks: list[jax.Array]) -> jax.Array:
    """Returns the conjunction of masks, of which one may have an axis for heads."""
    rank = max(mask.ndim for mask in masks)
    whole = jnp.ones((), bool)
    for mask in masks:
        whole = whole & (mask if mask.ndim == rank else mask[:, None] if rank == 4 else mask)
    return whole


def _with_rank(mask: Any, rank: int, axis: int = -3) -> Any:
    """Puts axes of size 1 before those of queries and keys until there are `rank`."""
    if mask is None or mask.ndim >= rank:
        return mask
    return jnp.expand_dims(mask, tuple(axis - i for i in range(rank - mask.ndim)))
