"""`MultiHeadAttention`: several averages of values side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from easyflax.layers.heads import HeadsAttention
from easyflax.nnx.layers.checks import check_sizes

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(HeadsAttention):
    """Maps queries, keys and values to heads, averages the values of each head, and maps the result.

    It is called as `layer(query, value, key)`; the keys are the values where they are left out. The weights
    are those of the projections, `EinsumDense` layers: `query_dense`, kernel `(features, num_heads, key_dim)`
    and bias `(num_heads, key_dim)`, `key_dense`, `value_dense`, and `output_dense`, kernel
    `(num_heads, value_dim, features)`.

    Args:
        num_heads: number of heads.
        key_dim: size of each head's queries and keys.
        value_dim: size of each head's values; `key_dim` by default.
        dropout: the share of the weights of the averages that is set to zero in training.
        use_bias: whether the projections have biases.
        output_shape: sizes of the output's last axes, an int or several; the features of the query by
            default.
        attention_axes: the axes of queries and values along which attention goes, an int or several; all but
            the first and the last by default.
        sliding_window: how far away keys may be, one less steps, in both directions; any by default.
        flash_attention: True for cuDNN's kernel, on GPUs and in half precision; else XLA compiles it.
        kernel_initializer: of the projections, see `easyflax.initializers`.
        bias_initializer: likewise.
        kernel_regularizer: of the projections, see `easyflax.regularizers`.
        bias_regularizer: likewise.
        activity_regularizer: of the outputs of the projections, likewise.
        kernel_constraint: of the projections, see `easyflax.constraints`.
        bias_constraint: likewise.
        use_gate: whether the averages are multiplied with `sigmoid` of another projection of the queries.
        seed: of the dropout, an int; from the global seed by default.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError, ValueError: a size is no positive integer, or arguments do not go together.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = MultiHeadAttention(num_heads=2, key_dim=4)
        >>> x = jnp.ones((1, 5, 8))
        >>> layer(x, x, use_causal_mask=True).shape, layer.query_dense.kernel.shape
        ((1, 5, 8), (8, 2, 4))

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        value_dim = key_dim if value_dim is None else value_dim
        check_sizes(self, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.output_shape = _as_tuple(output_shape)
        self.attention_axes = _as_tuple(attention_axes)
        self._keep(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
        )

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        self._check_shapes(query_shape, value_shape, key_shape)
        free, keys, values = (
            len(query_shape) - 1,
            (self.num_heads, self.key_dim),
            (self.num_heads, self.value_dim),
        )
        axes = tuple(range(1, free)) if self.attention_axes is None else self.attention_axes
        self.attention_axes = tuple(axis % (free + 1) for axis in axes)
        self.query_dense = self._dense(query_shape, "query", free, keys)
        self.key_dense = self._dense(key_shape, "key", len(key_shape) - 1, keys)
        if self.use_gate:
            self.gate_dense = self._dense(query_shape, "gate", free, values, "sigmoid")
        self.value_dense = self._dense(value_shape, "value", len(value_shape) - 1, values)
        self.output_dense = self._dense(
            (*query_shape[:-1], *values), "attention_output", free, self.output_shape or (query_shape[-1],)
        )


def _as_tuple(sizes: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return (sizes,) if isinstance(sizes, int) else None if sizes is None else tuple(sizes)
