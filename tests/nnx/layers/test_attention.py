from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from easyflax import nnx
from easyflax.nnx.nn.attention import dot_product_attention_weights

KEY = jax.random.key(0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_loops(query: Any, key: Any, value: Any, bias: Any = 0.0, mask: Any = True) -> np.ndarray:
    """Attention head by head in NumPy, for any batch axes."""
    q, k, v = (np.moveaxis(np.asarray(x, float), -2, -3) for x in (query, key, value))
    k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], axis=-3) for x in (k, v))
    logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]) + bias
    weights = np.exp(logits - logits.max(-1, keepdims=True)) * np.broadcast_to(mask, logits.shape)
    return np.moveaxis(weights / weights.sum(-1, keepdims=True) @ v, -3, -2)


@pytest.mark.parametrize(
    ("batch", "dropout_rate"),
    [((), 0.0), ((2,), 0.5), ((2, 3), 0.0), ((2, 3), 0.5)],
    ids=["fused, no batch", "in steps", "fused, two batch axes", "in steps, two batch axes"],
)
def test_it_averages_values_by_the_softmax_of_the_products(
    batch: tuple[int, ...], dropout_rate: float
) -> None:
    query, key, value = (
        normal(*batch, 5, 4, 8),
        normal(*batch, 6, 2, 8, seed=1),
        normal(*batch, 6, 2, 8, seed=2),
    )
    attend = jax.jit(
        lambda *args: nnx.dot_product_attention(*args, dropout_rate=dropout_rate, deterministic=True)
    )
    np.testing.assert_allclose(attend(query, key, value), by_loops(query, key, value), rtol=1e-4, atol=1e-5)
    # Biases and masks of any shape that broadcasts:
    ones = (1,) * len(batch)
    for bias_shape, mask_shape in [((4, 1, 1), (*batch, 1, 1, 6)), ((*batch, 4, 5, 6), (*ones, 1, 5, 6))]:
        bias, mask = normal(*bias_shape, seed=3), normal(*mask_shape, seed=4) > -1.0
        mask[..., 0] = True
        got = attend(query, key, value, bias, mask)
        expected = by_loops(query, key, value, bias, mask)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "dropout_rate"), [((), 0.5), ((2, 3), 0.0)], ids=str)
def test_a_causal_query_looks_at_no_later_key(batch: tuple[int, ...], dropout_rate: float) -> None:
    query, key, value = (normal(*batch, 5, 2, 4, seed=seed) for seed in range(3))
    mask = np.array([[True, True, False, True, True]])
    got = nnx.dot_product_attention(
        query, key, value, mask=mask, is_causal=True, dropout_rate=dropout_rate, deterministic=True
    )
    expected = by_loops(query, key, value, mask=np.tril(np.ones((5, 5))) * mask)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value_heads", [1, 2, 4])
def test_values_may_have_another_depth_and_number_of_heads_than_keys(value_heads: int) -> None:
    query, key, value = normal(2, 5, 4, 8), normal(2, 6, 2, 8, seed=1), normal(2, 6, value_heads, 3, seed=2)
    got = nnx.dot_product_attention(query, key, value)
    assert got.shape == (2, 5, 4, 3)
    np.testing.assert_allclose(got, by_loops(query, key, value), rtol=1e-4, atol=1e-5)


def test_a_query_that_may_look_at_nothing_gets_the_mean_of_the_values() -> None:
    query, value = normal(3, 1, 4), normal(3, 1, 4, seed=1)
    for rate in (0.0, 0.5):
        y = nnx.dot_product_attention(
            query, query, value, mask=np.zeros((3, 3)), dropout_rate=rate, deterministic=True
        )
        np.testing.assert_allclose(y, np.broadcast_to(value.mean(0), y.shape), rtol=1e-5)


def _operations(jaxpr: Any) -> Iterator[Any]:
    """All operations, those of inlined functions too, which some versions of jax show as calls."""
    for operation in jaxpr.eqns:
        yield operation
        for inner in operation.params.values():
            if hasattr(inner, "eqns"):
                yield from _operations(inner)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("highest", lax.Precision.HIGHEST),
        (lax.Precision.HIGH, lax.Precision.HIGH),
        (("high", "high"), lax.Precision.HIGH),
        (("high", "highest"), (lax.Precision.HIGH, lax.Precision.HIGHEST)),
        ("F32_F32_F32", lax.DotAlgorithmPreset.F32_F32_F32),
    ],
    ids=str,
)
def test_all_products_have_the_precision_asked_for(precision: Any, expected: Any) -> None:
    x = jnp.ones((3, 2, 4))
    jaxpr = jax.make_jaxpr(lambda x: nnx.dot_product_attention(x, x, x, precision=precision))(x)
    found = [one.params["precision"] for one in _operations(jaxpr) if one.primitive.name == "dot_general"]
    assert len(found) == 2
    for one in found:
        assert one == (expected if not isinstance(expected, lax.Precision) else (expected, expected))


def test_float16_compiles_on_cpus_too() -> None:
    x = jnp.asarray(normal(5, 2, 4), jnp.float16)
    y = jax.jit(nnx.dot_product_attention)(x, x, x)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, by_loops(x, x, x), atol=5e-3)


def test_the_inputs_are_brought_to_one_dtype() -> None:
    x = jnp.ones((3, 2, 4), jnp.bfloat16)
    assert nnx.dot_product_attention(x, x.astype(jnp.float32), x).dtype == jnp.float32
    assert nnx.dot_product_attention(x, x, x, dtype=jnp.float32).dtype == jnp.float32
    assert nnx.dot_product_attention(x, x, x).dtype == jnp.bfloat16


def test_weights_sum_to_one_and_make_the_output() -> None:
    query, key, value = normal(2, 5, 4, 8), normal(2, 6, 2, 8, seed=1), normal(2, 6, 2, 8, seed=2)
    weights = dot_product_attention_weights(query, key)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    got = np.einsum("bhqk,bkhd->bqhd", weights, np.repeat(value, 2, axis=2))
    np.testing.assert_allclose(got, nnx.dot_product_attention(query, key, value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("broadcast", [True, False])
def test_dropout_drops_and_scales_weights(broadcast: bool) -> None:
    x = normal(8, 10, 4, 2)
    options = {"dropout_rate": 0.25, "dropout_rng": KEY, "broadcast_dropout": broadcast}
    weights = np.asarray(dot_product_attention_weights(x, x))
    ratio = np.asarray(dot_product_attention_weights(x, x, **options)) / weights
    np.testing.assert_allclose(ratio[ratio != 0], 1 / 0.75, rtol=1e-5)
    assert (ratio == 0).mean() == pytest.approx(0.25, abs=0.15 if broadcast else 0.03)
    shared = (np.round(ratio, 3) == np.round(ratio[:1, :1], 3)).all()
    assert shared == broadcast


def test_all_weights_dropped_give_zeros_with_gradients_of_zero() -> None:
    x = jnp.ones((3, 2, 4))
    value, grads = jax.value_and_grad(
        lambda x: nnx.dot_product_attention(x, x, x, dropout_rate=1.0, dropout_rng=KEY).sum()
    )(x)
    assert float(value) == 0.0
    np.testing.assert_array_equal(grads, 0.0)


def test_weights_are_sown_before_dropout() -> None:
    class Model(nnx.Module):
        def __call__(self, x: jax.Array) -> jax.Array:
            return nnx.dot_product_attention(x, x, x, dropout_rate=0.5, dropout_rng=KEY, module=self)

    _, sown = nnx.capture(Model(), nnx.Intermediate)(jnp.asarray(normal(3, 2, 4)))
    np.testing.assert_allclose(sown["attention_weights"][0].sum(-1), 1.0, rtol=1e-5)


# -- errors


@pytest.mark.parametrize(
    ("q", "k", "v", "message"),
    [
        (
            (2, 5, 4, 8),
            (5, 4, 8),
            (5, 4, 8),
            r"expected the same rank, \(batch\.\.\., length, heads, depth\)",
        ),
        ((4, 8), (4, 8), (4, 8), r"\(4, 8\), expected the same rank, "),
        ((2, 5, 4, 8), (3, 5, 4, 8), (3, 5, 4, 8), r"expected equal batch dims, .*\. Broadcast"),
        (
            (2, 5, 4, 8),
            (2, 5, 4, 8),
            (2, 6, 4, 8),
            r"the lengths must match, expected as many values as keys",
        ),
        ((2, 5, 4, 8), (2, 5, 4, 7), (2, 5, 4, 8), r"the depths must match, .*\. Project them"),
        (
            (2, 5, 5, 8),
            (2, 5, 2, 8),
            (2, 5, 2, 8),
            r"query heads, 5, must be a multiple of .* key heads, 2\.",
        ),
        (
            (2, 5, 4, 8),
            (2, 5, 4, 8),
            (2, 5, 3, 8),
            r"query heads, 4, must be a multiple of .* value heads, 3\.",
        ),
    ],
)
def test_shapes_that_do_not_go_together_are_told(q: Any, k: Any, v: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"dot_product_attention: got query of shape .*{message}"):
        nnx.dot_product_attention(jnp.ones(q), jnp.ones(k), jnp.ones(v))


@pytest.mark.parametrize("sown", [False, True])
def test_a_mask_made_for_one_batch_serves_without_batch_axes(sown: bool) -> None:
    x = jax.random.normal(KEY, (3, 2, 4))
    mask, bias = nnx.make_causal_mask(jnp.ones((1, 3))), jnp.ones((1, 1, 1, 3))
    module = nnx.Module() if sown else None
    y = nnx.dot_product_attention(x, x, x, bias, mask, module=module)
    np.testing.assert_allclose(y, nnx.dot_product_attention(x, x, x, is_causal=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bias", "mask"])
@pytest.mark.parametrize("shape", [(2, 6), (3, 4, 5, 6), (2, 2, 5, 6), (3, 2, 4, 5, 6)], ids=str)
def test_a_bias_or_mask_that_does_not_broadcast_is_told(name: str, shape: tuple[int, ...]) -> None:
    query, key = jnp.ones((2, 5, 4, 8)), jnp.ones((2, 6, 4, 8))
    message = rf"got a {name} of shape .* expected one that broadcasts to .* = \(2, 4, 5, 6\)\. Add axes"
    with pytest.raises(ValueError, match="dot_product_attention: " + message):
        nnx.dot_product_attention(query, key, key, **{name: jnp.ones(shape)})
    with pytest.raises(ValueError, match="dot_product_attention_weights: " + message):
        dot_product_attention_weights(query, key, **{name: jnp.ones(shape)})


def test_dropout_needs_a_key() -> None:
    x = jnp.ones((3, 2, 4))
    with pytest.raises(ValueError, match=r"got no dropout_rng with dropout_rate=0\.5, expected .*\. Pass"):
        nnx.dot_product_attention(x, x, x, dropout_rate=0.5)
