"""Attention: averages of values, weighted by how well a query fits the keys."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.variables import Intermediate
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.inlining import inlined

__all__ = ["dot_product_attention", "dot_product_attention_weights"]

Shape = tuple[int, ...]


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: DTypeLike | None = None,
    precision: lax.PrecisionLike = None,
    module: Module | None = None,
    promote_dtype: PromoteDtype = promote_dtype,
    is_causal: bool = False,
) -> jax.Array:
    """Returns for each query the average of the values, weighted by `softmax(query key^T / sqrt(depth))`.

    Without dropout and without `module`, `jax.nn.dot_product_attention` computes it, where its shapes allow:
    it takes the softmax in float32. There may be any number of batch axes, or none.

    Args:
        query: `(batch..., queries, heads, depth)`.
        key: `(batch..., keys, key_heads, depth)`. With fewer heads than `query`, each is used by
            `heads // key_heads` of them in turn.
        value: `(batch..., keys, value_heads, value_depth)`.
        bias: added to the logits; of a shape that broadcasts to `(batch..., heads, queries, keys)`.
        mask: False or 0 where a query must not look at a key; of a shape that broadcasts likewise. A query
            that may look at no key gets the mean of all values.
        broadcast_dropout: whether one decision drops a weight in all heads and batches.
        dropout_rng: the key of the dropout.
        dropout_rate: the share of weights set to zero, from 0 to 1.
        deterministic: whether to leave the dropout out.
        dtype: the dtype to compute in; by default what the inputs promote to.
        precision: of the products, see `jax.lax.Precision`.
        module: sows the weights, as the `nnx.Intermediate` `attention_weights`.
        promote_dtype: brings `(query, key, value)` to one dtype.
        is_causal: whether the n-th query may look at the first n keys only.

    Returns:
        `(batch..., queries, heads, value_depth)`.

    Raises:
        ValueError: shapes do not go together, or dropout has no key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> value = jnp.array([[[0.0]], [[1.0]], [[8.0]]])  # three positions, one head, depth 1
        >>> means = nnx.dot_product_attention(value, 0 * value, value, is_causal=True)
        >>> [round(mean, 3) for mean in means.ravel().tolist()]
        [0.0, 0.5, 3.0]

    Source: Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762; groups of heads: Ainslie et al.
    2023, https://arxiv.org/abs/2305.13245
    """
    q, k, v = promote_dtype((query, key, value), dtype=dtype)
    bias, mask = (None if term is None else without_axes_before(term, q.ndim) for term in (bias, mask))
    _check_shapes("dot_product_attention", q.shape, k.shape, v.shape)
    _check_terms("dot_product_attention", q.shape, k.shape, bias, mask)
    # `dropout_rate` decides even if `deterministic`, as in Flax: the two ways round differently.
    setting = _precision_setting(precision)
    if dropout_rate == 0.0 and module is None and setting is not None and _has_fused(k, v):
        with setting:
            return _fused(q, k, v, bias, mask, is_causal)
    weights = dot_product_attention_weights(
        q,
        k,
        bias,
        mask,
        broadcast_dropout,
        dropout_rng,
        dropout_rate,
        deterministic,
        q.dtype,
        precision,
        module,
        promote_dtype,
        is_causal,
    )
    return _weighted_sum(weights, v, precision)


def dot_product_attention_weights(
    query: ArrayLike,
    key: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: DTypeLike | None = None,
    precision: lax.PrecisionLike = None,
    module: Module | None = None,
    promote_dtype: PromoteDtype = promote_dtype,
    is_causal: bool = False,
) -> jax.Array:
    """Returns the weights that `dot_product_attention` averages the values with, dropout applied.

    Args:
        query: `(batch..., queries, heads, depth)`.
        key: `(batch..., keys, key_heads, depth)`.
        bias: added to the logits; of a shape that broadcasts to that of the result.
        mask: False or 0 where a query must not look at a key; of a shape that broadcasts likewise.
        broadcast_dropout: whether one decision drops a weight in all heads and batches.
        dropout_rng: the key of the dropout.
        dropout_rate: the share of weights set to zero, from 0 to 1; the others are scaled up.
        deterministic: whether to leave the dropout out.
        dtype: the dtype to compute in; by default what the inputs promote to.
        precision: of the product, see `jax.lax.Precision`.
        module: sows the weights before dropout, as the `nnx.Intermediate` `attention_weights`.
        promote_dtype: brings `(query, key)` to one dtype.
        is_causal: whether the n-th query may look at the first n keys only.

    Returns:
        `(batch..., heads, queries, keys)`, each row summing to one before dropout.

    Raises:
        ValueError: shapes do not go together, or dropout has no key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.nn.attention import dot_product_attention_weights
        >>> x = jnp.zeros((2, 1, 4))  # two positions, one head
        >>> dot_product_attention_weights(x, x, is_causal=True).tolist()
        [[[1.0, 0.0], [0.5, 0.5]]]

    Source: Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762
    """
    q, k = promote_dtype((query, key), dtype=dtype)
    bias, mask = (None if term is None else without_axes_before(term, q.ndim) for term in (bias, mask))
    _check_shapes("dot_product_attention_weights", q.shape, k.shape)
    _check_terms("dot_product_attention_weights", q.shape, k.shape, bias, mask)
    logits = _logits(q, k, precision)
    if bias is not None:
        logits = logits + _with_rank(bias, logits.ndim)
    allowed = _allowed(mask, is_causal, logits.shape)
    if allowed is not None:
        logits = jnp.where(allowed, logits, jnp.finfo(q.dtype).min)
    weights = jax.nn.softmax(logits).astype(q.dtype)
    if module is not None:
        module.sow(Intermediate, "attention_weights", weights)
    if deterministic or dropout_rate == 0.0:
        return weights
    return _drop(dropout_rng, weights, dropout_rate, broadcast_dropout)


# -- jax's fused attention


def _has_fused(k: jax.Array, v: jax.Array) -> bool:
    if k.dtype == jnp.float16 and isinstance(k, Tracer) and jax.default_backend() == "cpu":
        return False  # it asks for an algorithm that no compiler for CPUs has
    return k.shape == v.shape


def _fused(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, mask: jax.Array | None, is_causal: bool
) -> jax.Array:
    """`jax.nn.dot_product_attention`, which takes one batch axis or none, for any number of them."""
    mask = None if mask is None else mask.astype(bool)
    batch = q.shape[:-3]
    if len(batch) < 2:
        return jax.nn.dot_product_attention(q, k, v, bias, mask, is_causal=is_causal)
    size = math.prod(batch)
    flat = [x.reshape(size, *x.shape[-3:]) for x in (q, k, v)]
    terms = [None if x is None else _flat_batch(x, batch) for x in (bias, mask)]
    return jax.nn.dot_product_attention(*flat, *terms, is_causal=is_causal).reshape(q.shape)


def _flat_batch(x: jax.Array, batch: Shape) -> jax.Array:
    """Gives a bias or mask one batch axis: of size 1 if it is the same for all batches."""
    x = _with_rank(x, len(batch) + 3)
    if x.shape[:-3] == (1,) * len(batch):
        return x.reshape(1, *x.shape[-3:])
    return jnp.broadcast_to(x, batch + x.shape[-3:]).reshape(math.prod(batch), *x.shape[-3:])


def _precision_setting(precision: lax.PrecisionLike) -> contextlib.AbstractContextManager[None] | None:
    """The context in which products have `precision`, since the fused function has no such argument.

    None for precisions that no context can set: one for each operand, or an algorithm spelled out.
    """
    if precision is None:
        return contextlib.nullcontext()
    one: Any = precision[0] if isinstance(precision, tuple) and precision[0] == precision[1] else precision
    try:
        return jax.default_matmul_precision(lax.Precision(one).name.lower())
    except ValueError:
        return None


# -- attention in steps


_einsum = inlined(jnp.einsum, static_argnums=0, static_argnames="precision")  # keeps what einsum plans


def _logits(q: jax.Array, k: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
    """`(batch..., heads, queries, keys)`, scaled."""
    q = q / np.sqrt(np.float32(q.shape[-1])).astype(q.dtype)
    heads, key_heads = q.shape[-2], k.shape[-2]
    if heads == key_heads:
        return _einsum("...qhd,...khd->...hqk", q, k, precision=precision)
    q = q.reshape(*q.shape[:-2], key_heads, heads // key_heads, q.shape[-1])
    logits = _einsum("...qhgd,...khd->...hgqk", q, k, precision=precision)
    return logits.reshape(*logits.shape[:-4], heads, *logits.shape[-2:])


def _weighted_sum(weights: jax.Array, v: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
    """`(batch..., queries, heads, value_depth)`."""
    heads, value_heads = weights.shape[-3], v.shape[-2]
    if heads == value_heads:
        return _einsum("...hqk,...khd->...qhd", weights, v, precision=precision)
    shape = (*weights.shape[:-3], value_heads, heads // value_heads, *weights.shape[-2:])
    out = _einsum("...hgqk,...khd->...qhgd", weights.reshape(shape), v, precision=precision)
    return out.reshape(*out.shape[:-3], heads, out.shape[-1])


def _allowed(mask: jax.Array | None, is_causal: bool, shape: Shape) -> jax.Array | None:
    """Which logits count, of a shape that broadcasts to `shape`; None if all do."""
    allowed = None if mask is None else _with_rank(mask.astype(bool), len(shape))
    if not is_causal:
        return allowed
    causal = _with_rank(jnp.tril(jnp.ones(shape[-2:], bool)), len(shape))
    return causal if allowed is None else jnp.logical_and(allowed, causal)


def _drop(key: jax.Array | None, weights: jax.Array, rate: float, broadcast: bool) -> jax.Array:
    if rate == 1.0:
        return jnp.zeros_like(weights)  # dividing by zero would make them NaN
    if key is None:
        raise ValueError(
            f"dot_product_attention: got no dropout_rng with dropout_rate={rate}, expected a random key "
            "while deterministic is False. Pass dropout_rng=jax.random.key(0), or deterministic=True."
        )
    keep_rate = 1.0 - rate
    shape = (1,) * (weights.ndim - 2) + weights.shape[-2:] if broadcast else weights.shape
    keep = jax.random.bernoulli(key, keep_rate, shape)
    return weights * (keep.astype(weights.dtype) / jnp.asarray(keep_rate, dtype=weights.dtype))


def without_axes_before(term: ArrayLike, rank: int) -> jax.Array:
    """Returns a bias or mask with `rank` axes or fewer, if those before the last `rank` have the size 1."""
    term = jnp.asarray(term)
    extra = max(term.ndim - rank, 0)
    return term if not extra or math.prod(term.shape[:extra]) != 1 else term.reshape(term.shape[extra:])


def _with_rank(x: jax.Array, rank: int) -> jax.Array:
    """Puts axes of size 1 first, so that no setting of jax minds the different ranks."""
    return x if x.ndim == rank else x.reshape((1,) * (rank - x.ndim) + x.shape)


# -- checks


def _check_shapes(name: str, *shapes: Shape) -> None:
    """Checks the shapes of query, key and, where there is one, value."""
    got = f"{name}: got " + ", ".join(
        f"{word} of shape {shape}" for word, shape in zip(("query", "key", "value"), shapes, strict=False)
    )
    q, k, *rest = shapes
    v = rest[0] if rest else k
    if not len(q) == len(k) == len(v) or len(q) < 3:
        raise ValueError(
            f"{got}, expected the same rank, (batch..., length, heads, depth). Reshape them so that the last "
            "three axes are these."
        )
    if not q[:-3] == k[:-3] == v[:-3]:
        raise ValueError(
            f"{got}, expected equal batch dims, all axes but the last three. Broadcast them first, for "
            "example with jnp.broadcast_to."
        )
    if k[-3] != v[-3]:
        raise ValueError(
            f"{got}: the lengths must match, expected as many values as keys. Pass values for the same "
            "positions as keys."
        )
    if q[-1] != k[-1]:
        raise ValueError(
            f"{got}: the depths must match, expected queries as long as keys. Project them to one size."
        )
    for word, heads in (("key", k[-2]), ("value", v[-2])):
        if not heads or q[-2] % heads:
            raise ValueError(
                f"{got}: the number of query heads, {q[-2]}, must be a multiple of the number of {word} "
                f"heads, {heads}. Choose the numbers of heads so that each serves equally many queries."
            )


def _check_terms(name: str, q: Shape, k: Shape, bias: jax.Array | None, mask: jax.Array | None) -> None:
    """Checks that bias and mask broadcast to the logits."""
    target = (*q[:-3], q[-2], q[-3], k[-3])
    for word, term in (("bias", bias), ("mask", mask)):
        problem = term is not None and broadcasting_problem(word, term.shape, target)
        if problem:
            raise ValueError(f"{name}: {problem}")


def broadcasting_problem(word: str, shape: Shape, target: Shape) -> str | None:
    """Says what is wrong with the shape of a bias or mask for logits of shape `target`, if anything is."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    if math.prod(shape[: -len(target)]) == 1 and all(size in (1, full) for size, full in pairs):
        return None
    return (
        f"got a {word} of shape {shape}, expected one that broadcasts to (batch..., heads, queries, keys) = "
        f"{target}. Add axes of size 1, for example {word}[:, None, None, :] for one entry a key, or "
        f"{word}[:, None] for one a pair of positions."
    )
