"""Attention with several heads between projections, and its cache for decoding token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs, RngStream
from easyflax.nnx.core.variables import Cache
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.attention import (
    broadcasting_problem,
    dot_product_attention,
    without_axes_before,
)
from easyflax.nnx.layers.attention_cache import add_position, check_room
from easyflax.nnx.layers.attention_masks import combine_masks
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import default_kernel_init
from easyflax.nnx.layers.linear_general import LinearGeneral
from easyflax.nnx.layers.normalization import LayerNorm
from easyflax.nnx.layers.stochastic import draw_key

__all__ = ["MultiHeadAttention"]

NO_METADATA: Mapping[str, Any] = MappingProxyType({})
# What errors say of the two modes.
DECODE = ("True (use the cache) or False (attend to the inputs)", "take nnx.view(model, decode=False)")
DETERMINISTIC = ("True (inference) or False (training)", "call model.train() or model.eval()")


class MultiHeadAttention(Module):
    """Attention of several heads: each looks at projections of its own, and one more projection joins them.

    The layers `query`, `key`, `value` and `out` project; with `normalize_qk` there are `query_ln` and
    `key_ln`.
    The size of a head is `qkv_features // num_heads`.

    For decoding token by token, `init_cache` makes `cached_key`, `cached_value` and `cache_index`; each call
    with `decode=True` adds one position to them and attends to all positions so far.

    Args:
        num_heads: number of heads; it divides `qkv_features`.
        in_features: size of the last axis of the queries.
        qkv_features: size of all heads together; by default `in_features`.
        out_features: size of the last axis of the output; by default `in_features`.
        num_kv_heads: number of heads of keys and values, each used by equally many heads of queries; by
            default `num_heads`.
        in_kv_features: size of the last axis of keys and values; by default `in_features`.
        dtype: the dtype to compute in; by default what inputs and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        broadcast_dropout: whether one decision drops a weight in all heads and batches.
        dropout_rate: the share of attention weights set to zero while training, from 0 to 1.
        deterministic: True leaves the dropout out (and is what `model.eval()` sets), False applies it; None
            requires it at each call, if there is dropout.
        precision: of all products, see `jax.lax.Precision`.
        kernel_init: makes the kernels, `(key, shape, dtype) -> array`.
        out_kernel_init: makes the kernel of `out`; by default `kernel_init`.
        bias_init: makes the biases.
        out_bias_init: makes the bias of `out`; by default `bias_init`.
        use_bias: whether the projections add biases.
        attention_fn: `dot_product_attention`, or a function with its arguments.
        decode: whether calls add to the cache and use it; None requires it at each call.
        normalize_qk: whether to normalise queries and keys of each head, for training at high rates.
        qkv_promote_dtype: brings `(inputs, kernel, bias)` of `query`, `key` and `value` to one dtype.
        out_promote_dtype: likewise for `out`.
        ln_promote_dtype: brings `(inputs, scale, bias)` of `query_ln` and `key_ln` to one dtype.
        qkv_dot_general: computes the products of `query`, `key` and `value`, with the signature of
            `jax.lax.dot_general`.
        out_dot_general: likewise for `out`.
        qkv_dot_general_cls: called without arguments, for a function to use instead of `qkv_dot_general`.
        out_dot_general_cls: likewise for `out`.
        rngs: its `params` stream gives the keys: for `query`, `key`, `value`, the norms and `out`, in this
            order; its `dropout` stream, if there is dropout, those of the dropout.
        keep_rngs: whether to keep a stream for the dropout; without it, pass `rngs` at each call.
        kernel_metadata: metadata for the kernels.
        out_kernel_metadata: metadata for the kernel of `out`; if empty, `kernel_metadata`.
        bias_metadata: metadata for the biases.
        out_bias_metadata: metadata for the bias of `out`; if empty, `bias_metadata`.
        query_ln_scale_metadata: metadata for the scale of `query_ln`.
        key_ln_scale_metadata: metadata for the scale of `key_ln`.

    Raises:
        TypeError: a size is no integer, or `rngs` is a bare seed or key.
        ValueError: a size is not positive, the numbers of heads do not divide, or `dropout_rate` is outside
            `[0, 1]`.
        AttributeError: `rngs` lacks a stream that is needed.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.MultiHeadAttention(2, in_features=8, decode=False, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((3, 5, 8))
        >>> layer(x, is_causal=True).shape  # self-attention
        (3, 5, 8)
        >>> decoder = nnx.view(layer, decode=True, batch_size=3, max_length=5)
        >>> decoder(x[:, :1]).shape, int(decoder.cache_index[...])
        ((3, 1, 8), 1)

    Source: Vaswani et al. 2017, section 3.2, https://arxiv.org/abs/1706.03762; groups of heads: Ainslie et
    al. 2023, https://arxiv.org/abs/2305.13245; `normalize_qk`: Dehghani et al. 2023, section 2,
    https://arxiv.org/abs/2302.05442
    """

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        qkv_features: int | None = None,
        out_features: int | None = None,
        num_kv_heads: int | None = None,
        in_kv_features: int | None = None,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        broadcast_dropout: bool = True,
        dropout_rate: float = 0.0,
        deterministic: bool | None = None,
        precision: lax.PrecisionLike = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        out_kernel_init: initializers.Initializer | None = None,
        bias_init: initializers.Initializer = initializers.zeros,
        out_bias_init: initializers.Initializer | None = None,
        use_bias: bool = True,
        attention_fn: Callable[..., jax.Array] = dot_product_attention,
        decode: bool | None = None,
        normalize_qk: bool = False,
        qkv_promote_dtype: PromoteDtype = promote_dtype,
        out_promote_dtype: PromoteDtype = promote_dtype,
        ln_promote_dtype: PromoteDtype = promote_dtype,
        qkv_dot_general: Callable[..., jax.Array] | None = None,
        out_dot_general: Callable[..., jax.Array] | None = None,
        qkv_dot_general_cls: Callable[[], Callable[..., jax.Array]] | None = None,
        out_dot_general_cls: Callable[[], Callable[..., jax.Array]] | None = None,
        rngs: Rngs,
        keep_rngs: bool = True,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        out_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
        out_bias_metadata: Mapping[str, Any] = NO_METADATA,
        query_ln_scale_metadata: Mapping[str, Any] = NO_METADATA,
        key_ln_scale_metadata: Mapping[str, Any] = NO_METADATA,
    ) -> None:
        self.num_heads = num_heads
        self.in_features = in_features
        self.qkv_features = in_features if qkv_features is None else qkv_features
        self.out_features = in_features if out_features is None else out_features
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.in_kv_features = in_features if in_kv_features is None else in_kv_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.broadcast_dropout = broadcast_dropout
        self.dropout_rate = dropout_rate
        self.deterministic = deterministic
        self.precision = precision
        self.use_bias = use_bias
        self.attention_fn = attention_fn
        self.decode = decode
        self.normalize_qk = normalize_qk
        self.qkv_promote_dtype = qkv_promote_dtype
        self.out_promote_dtype = out_promote_dtype
        self.ln_promote_dtype = ln_promote_dtype
        self.qkv_dot_general = qkv_dot_general
        self.out_dot_general = out_dot_general
        self.qkv_dot_general_cls = qkv_dot_general_cls
        self.out_dot_general_cls = out_dot_general_cls
        self._check_options()
        checks.check_rngs(self, rngs)
        self.head_dim = self.qkv_features // num_heads

        shared: dict[str, Any] = {
            "use_bias": use_bias,
            "dtype": dtype,
            "param_dtype": param_dtype,
            "precision": precision,
            "rngs": rngs,
        }
        projection: dict[str, Any] = {
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "promote_dtype": qkv_promote_dtype,
            "dot_general": qkv_dot_general,
            "dot_general_cls": qkv_dot_general_cls,
            "kernel_metadata": kernel_metadata,
            "bias_metadata": bias_metadata,
            **shared,
        }
        key_shape = (self.num_kv_heads, self.head_dim)
        self.query = LinearGeneral(in_features, (num_heads, self.head_dim), **projection)
        self.key = LinearGeneral(self.in_kv_features, key_shape, **projection)
        self.value = LinearGeneral(self.in_kv_features, key_shape, **projection)
        self.query_ln = self._norm(query_ln_scale_metadata, rngs) if normalize_qk else None
        self.key_ln = self._norm(key_ln_scale_metadata, rngs) if normalize_qk else None
        self.out = LinearGeneral(
            (num_heads, self.head_dim),
            self.out_features,
            axis=(-2, -1),
            kernel_init=out_kernel_init or kernel_init,
            bias_init=out_bias_init or bias_init,
            promote_dtype=out_promote_dtype,
            dot_general=out_dot_general,
            dot_general_cls=out_dot_general_cls,
            kernel_metadata=out_kernel_metadata or kernel_metadata,
            bias_metadata=out_bias_metadata or bias_metadata,
            **shared,
        )
        self.rngs = rngs.dropout.fork() if keep_rngs and dropout_rate > 0 else None
        self.cached_key: Cache[jax.Array] | None = None
        self.cached_value: Cache[jax.Array] | None = None
        self.cache_index: Cache[jax.Array] | None = None

    def __call__(
        self,
        inputs_q: ArrayLike,
        inputs_k: ArrayLike | None = None,
        inputs_v: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        deterministic: bool | None = None,
        rngs: Rngs | RngStream | None = None,
        sow_weights: bool = False,
        decode: bool | None = None,
        is_causal: bool = False,
        out_sharding: Any = None,
        qkv_sharding: Any = None,
    ) -> jax.Array:
        """Returns what each query finds among the keys, `(batch..., queries, out_features)`.

        Args:
            inputs_q: `(batch..., queries, in_features)`.
            inputs_k: `(batch..., keys, in_kv_features)`; by default `inputs_q`.
            inputs_v: `(batch..., keys, in_kv_features)`; by default `inputs_k`.
            mask: False or 0 where a query must not look at a key, of a shape that broadcasts to
                `(batch..., num_heads, queries, keys)`; in decoding `keys` is the length of the cache.
            deterministic: goes before the attribute of that name.
            rngs: its `dropout` stream, or a stream itself, goes before the layer's own.
            sow_weights: whether to store the weights, as the `nnx.Intermediate` `attention_weights`.
            decode: goes before the attribute of that name. With True, keys and values are one position,
                which the cache takes; compiled code cannot tell that the cache is full and then overwrites
                its last position.
            is_causal: whether the n-th query may look at the first n keys only; decoding does so anyway.
            out_sharding: sharding of the output, for meshes with explicit axes.
            qkv_sharding: sharding of the projected queries, keys and values, likewise.

        Raises:
            ValueError: shapes do not go together, `decode` or, with dropout, `deterministic` or `rngs` given
                nowhere, or a cache that is missing, of another shape, or full.
        """
        keys_in, values_in = self._keys_and_values(inputs_q, inputs_k, inputs_v)
        self._check_inputs(inputs_q, keys_in, values_in)
        decode = self._mode("decode", decode, *DECODE)
        self._check_mask(mask, inputs_q, self._number_of_keys(keys_in, decode))
        dropout_rng = self._dropout_rng(deterministic, rngs)

        query = self.query(inputs_q, out_sharding=qkv_sharding)  # (batch..., queries, heads, head_dim)
        key = self.key(keys_in, out_sharding=qkv_sharding)  # (batch..., keys, kv_heads, head_dim)
        value = self.value(values_in, out_sharding=qkv_sharding)
        if self.query_ln is not None and self.key_ln is not None:
            query, key = self.query_ln(query), self.key_ln(key)
        if decode:
            key, value, mask = self._add_to_cache(key, value, mask)
            is_causal = False  # a query at position 0 of one would be told that it is the first

        x = self.attention_fn(
            query,
            key,
            value,
            mask=mask,
            dropout_rng=dropout_rng,
            dropout_rate=self.dropout_rate,
            broadcast_dropout=self.broadcast_dropout,
            deterministic=dropout_rng is None,
            dtype=self.dtype,
            precision=self.precision,
            module=self if sow_weights else None,
            is_causal=is_causal,
        )
        return self.out(x, out_sharding=out_sharding)

    def init_cache(self, input_shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> None:
        """Makes an empty cache for decoding.

        Args:
            input_shape: `(batch..., max_length, features)`, of the whole sequences.
            dtype: of the keys and values in the cache; attention takes them in the dtype of the layer's own.

        Raises:
            ValueError: `input_shape` has fewer than two sizes.

        Examples:
            >>> import jax.numpy as jnp
            >>> from easyflax import nnx
            >>> layer = nnx.MultiHeadAttention(2, in_features=8, decode=True, rngs=nnx.Rngs(0))
            >>> x = jnp.ones((3, 5, 8))
            >>> layer.init_cache(x.shape)
            >>> jnp.concatenate([layer(x[:, i : i + 1]) for i in range(5)], axis=1).shape
            (3, 5, 8)
        """
        if len(input_shape) < 2:
            raise ValueError(
                f"{checks.describe(self)}: got input_shape={tuple(input_shape)} for the cache, expected "
                "(batch..., max_length, features). Pass the shape of the whole inputs, for example x.shape."
            )
        shape = (*input_shape[:-1], self.num_kv_heads, self.head_dim)
        self.cached_key = Cache(jnp.zeros(shape, dtype))
        self.cached_value = Cache(jnp.zeros(shape, dtype))
        self.cache_index = Cache(jnp.zeros((), jnp.int32))

    def set_view(
        self,
        deterministic: bool | None = None,
        decode: bool | None = None,
        batch_size: int | Sequence[int] | None = None,
        max_length: int | None = None,
    ) -> None:
        """Sets the mode, and makes a cache, for `nnx.view`.

        Args:
            deterministic: True leaves the dropout out, False applies it.
            decode: whether calls use the cache.
            batch_size: size of the batch axis, or sizes of the batch axes, of a cache; a cache that the layer
                has in this size stays as it is.
            max_length: how many positions the cache has; give it together with `batch_size`.

        Raises:
            TypeError: only one of `batch_size` and `max_length` is given.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        if decode is not None:
            self.decode = decode
        if batch_size is None and max_length is None:
            return
        if batch_size is None or max_length is None:
            raise TypeError(
                f"{checks.describe(self)}: got batch_size={batch_size} and max_length={max_length}, expected "
                "both or neither. Pass both, to make a cache of that size."
            )
        batch = (batch_size,) if isinstance(batch_size, int) else tuple(batch_size)
        if self.cached_key is None or self.cached_key.shape[:-2] != (*batch, max_length):
            self.init_cache((*batch, max_length, self.in_features), self.dtype or self.param_dtype)

    # -- parts of the constructor

    def _norm(self, scale_metadata: Mapping[str, Any], rngs: Rngs) -> LayerNorm:
        return LayerNorm(
            self.head_dim,
            use_bias=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            promote_dtype=self.ln_promote_dtype,
            rngs=rngs,
            scale_metadata=scale_metadata,
        )

    def _check_options(self) -> None:
        sizes = ("num_heads", "in_features", "qkv_features", "out_features", "num_kv_heads", "in_kv_features")
        checks.check_sizes(self, **{name: getattr(self, name) for name in sizes})
        for whole, part in (("qkv_features", "num_heads"), ("num_heads", "num_kv_heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{type(self).__name__}: got {whole}={getattr(self, whole)} and "
                    f"{part}={getattr(self, part)}, expected {whole} to be divisible by {part}. Choose them "
                    "so."
                )
        if not 0.0 <= self.dropout_rate <= 1.0:
            raise ValueError(
                f"{type(self).__name__}: got dropout_rate={self.dropout_rate}, expected a probability from 0 "
                "to 1. Pass the share of weights to drop, for example dropout_rate=0.1."
            )

    # -- parts of a call

    def _keys_and_values(
        self, q: ArrayLike, k: ArrayLike | None, v: ArrayLike | None
    ) -> tuple[ArrayLike, ArrayLike]:
        if k is None and v is not None:
            raise ValueError(
                f"{checks.describe(self)}: got inputs_v without inputs_k, expected keys with the values. "
                "Pass the same array as inputs_k; values are by default the same as keys."
            )
        k = q if k is None else k
        return k, k if v is None else v

    def _check_inputs(self, q: ArrayLike, k: ArrayLike, v: ArrayLike) -> None:
        checked = [("inputs_q", q, "in_features"), ("inputs_k", k, "in_kv_features")]
        if v is not k:
            checked.append(("inputs_v", v, "in_kv_features"))
        for name, x, argument in checked:
            size = getattr(self, argument)
            checks.check_features(self, x, size, argument=argument, spatial_axes=1, name=name)
        shapes = np.shape(q), np.shape(k), np.shape(v)
        if shapes[0][:-2] != shapes[1][:-2] or shapes[1][:-1] != shapes[2][:-1]:
            raise ValueError(
                f"{checks.describe(self)}: got inputs_q, inputs_k and inputs_v of shapes "
                f"{', '.join(map(str, shapes))}, expected equal batch axes, all but the last two, and as "
                "many values as keys. Broadcast them first, for example with jnp.broadcast_to."
            )

    def _number_of_keys(self, inputs_k: ArrayLike, decode: bool) -> int:
        shape = np.shape(inputs_k)
        if not decode:
            return shape[-2]
        keys, _, index = self._cache()
        check_room(self, keys.shape, index[...], shape[:-1])
        return keys.shape[-3]

    def _check_mask(self, mask: ArrayLike | None, q: ArrayLike, keys: int) -> None:
        if mask is None or self.attention_fn is not dot_product_attention:
            return
        *batch, queries, _ = np.shape(q)
        problem = broadcasting_problem("mask", np.shape(mask), (*batch, self.num_heads, queries, keys))
        if problem:
            raise ValueError(f"{checks.describe(self)}: {problem}")

    def _mode(self, name: str, given: bool | None, meaning: str, advice: str) -> bool:
        mode = getattr(self, name) if given is None else given
        if mode is None:
            raise ValueError(
                f"{checks.describe(self)}: got no {name}, expected {meaning}. Pass it to the constructor or "
                f"to the call, or {advice} first."
            )
        return mode

    def _dropout_rng(self, deterministic: bool | None, rngs: Rngs | RngStream | None) -> jax.Array | None:
        """The key for this call, or None if nothing is dropped."""
        if self.dropout_rate == 0.0 or self._mode("deterministic", deterministic, *DETERMINISTIC):
            return None
        return draw_key(self, self.rngs if rngs is None else rngs, "dropout")

    def _cache(self) -> tuple[Cache[jax.Array], Cache[jax.Array], Cache[jax.Array]]:
        if self.cached_key is None or self.cached_value is None or self.cache_index is None:
            raise ValueError(
                f"{checks.describe(self)}: got decode=True without a cache, expected one to add to. Call "
                "init_cache((batch..., max_length, features)) on the layer, or take "
                "nnx.view(model, decode=True, batch_size=..., max_length=...)."
            )
        return self.cached_key, self.cached_value, self.cache_index

    def _add_to_cache(
        self, key: jax.Array, value: jax.Array, mask: ArrayLike | None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Returns all keys and values so far, with room for more, and the mask that leaves the room out."""
        keys, values, index = self._cache()
        keys[...], values[...], filled = add_position(keys[...], values[...], index[...], key, value)
        index[...] += 1
        if mask is not None:
            mask = without_axes_before(mask, filled.ndim)
            mask = mask.reshape((1,) * (filled.ndim - mask.ndim) + mask.shape)
        return keys[...].astype(key.dtype), values[...].astype(value.dtype), combine_masks(mask, filled)
