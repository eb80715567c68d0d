"""`GroupedQueryAttention`: attention whose heads share keys and values in groups."""

from __future__ import annotations

from typing import Any

from easyflax.layers.heads import HeadsAttention
from easyflax.nnx.core.naming import describe
from easyflax.nnx.layers.checks import check_sizes

__all__ = ["GroupQueryAttention", "GroupedQueryAttention"]


class GroupedQueryAttention(HeadsAttention):
    """`MultiHeadAttention` with fewer heads of keys and values, each used by several heads of queries.

    It is called as `layer(query, value, key)`. The weights are those of the projections `query_dense`,
    `key_dense`, `value_dense` and `output_dense`, as in `MultiHeadAttention`.

    Args:
        head_dim: size of each head.
        num_query_heads: number of heads of the queries, a multiple of the next.
        num_key_value_heads: number of heads of keys and values.
        dropout: the share of the weights of the averages that is set to zero in training.
        use_bias: whether the projections have biases.
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
        >>> layer = GroupedQueryAttention(head_dim=4, num_query_heads=6, num_key_value_heads=2)
        >>> x = jnp.ones((1, 5, 8))
        >>> layer(x, x).shape, layer.key_dense.kernel.shape
        ((1, 5, 8), (8, 2, 4))

    Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
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
        check_sizes(
            self,
            head_dim=head_dim,
            num_query_heads=num_query_heads,
            num_key_value_heads=num_key_value_heads,
        )
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"{type(self).__name__}: got num_query_heads={num_query_heads} and num_key_value_heads="
                f"{num_key_value_heads}, expected a multiple. Choose the numbers so that each head of keys "
                "serves equally many queries."
            )
        self.head_dim = head_dim
        self.num_query_heads = num_query_heads
        self.num_key_value_heads = num_key_value_heads
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
        queries, keys = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self.query_dense = self._dense(query_shape, "query", 2, queries)
        self.key_dense = self._dense(key_shape, "key", 2, keys)
        if self.use_gate:
            self.gate_dense = self._dense(query_shape, "gate", 2, queries, "sigmoid")
        self.value_dense = self._dense(value_shape, "value", 2, keys)
        self.output_dense = self._dense(
            (*query_shape[:-1], *queries), "attention_output", 2, (query_shape[-1],)
        )

    def _check_shapes(self, query: Any, value: Any, key: Any) -> None:
        super()._check_shapes(query, value, key)
        if len(query) != 3:
            raise ValueError(
                f"{describe(self)}: got queries of shape {tuple(query)}, expected (batch, queries, "
                "features). Use MultiHeadAttention for several axes."
            )


GroupQueryAttention = GroupedQueryAttention  # Keras's name in its documentation
