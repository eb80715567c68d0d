"""Attention against flax.nnx: equal seeds give bit-equal parameters, outputs, gradients and caches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx
from flax.nnx.nn.attention import dot_product_attention_weights as flax_weights

from easyflax import nnx
from easyflax.nnx.nn.attention import dot_product_attention_weights
from tests.parity.flax_oracle import (
    Case,
    assert_same,
    assert_same_gradients,
    assert_same_jitted_outputs,
    assert_same_outputs,
    assert_same_state,
    make_both,
)

BF16 = jnp.bfloat16
F32 = jnp.float32


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32), dtype)


# -- the layer


def attention(
    options: dict[str, Any],
    call: dict[str, Any] | None = None,
    shape: tuple[int, ...] = (2, 5, 8),
    dtype: Any = F32,
) -> Case:
    return Case("MultiHeadAttention", (4, 8), shape, {"decode": False, **options}, call or {}, dtype)


MASK = np.arange(2 * 25).reshape(2, 1, 5, 5) % 3 > 0
KEYS, VALUES = normal(2, 7, 8, seed=1), normal(2, 7, 8, seed=2)
OTHER_INPUTS = {"inputs_k": KEYS, "inputs_v": VALUES}
DROPOUT = {"dropout_rate": 0.3, "deterministic": False}
METADATA = {
    "kernel_metadata": {"role": "w"},
    "out_kernel_metadata": {"role": "o"},
    "bias_metadata": {"role": "b"},
    "out_bias_metadata": {"role": "c"},
    "query_ln_scale_metadata": {"role": "q"},
    "key_ln_scale_metadata": {"role": "k"},
    "normalize_qk": True,
}
INITIALIZERS = {
    "kernel_init": nnx.initializers.he_uniform(),
    "out_kernel_init": nnx.initializers.normal(),
    "bias_init": nnx.initializers.normal(0.1),
    "out_bias_init": nnx.initializers.ones,
}

CASES = [
    attention({"dropout_rate": 0.3, "broadcast_dropout": False}, {"deterministic": False}),
    attention({"num_kv_heads": 2, "normalize_qk": True}, {"is_causal": True}),
    attention({"dtype": BF16, "normalize_qk": True}, {"mask": MASK, "is_causal": True}),
    attention({"num_kv_heads": 2, **DROPOUT}, {"mask": MASK}),
    attention({"param_dtype": BF16}, {"is_causal": True}, dtype=BF16),
    attention({"qkv_features": 12, "out_features": 6, **INITIALIZERS}, OTHER_INPUTS),
    attention({"in_kv_features": 3, "use_bias": False}, {"inputs_k": KEYS[..., :3]}, dtype=BF16),
    attention({}),
    attention({"num_kv_heads": 1}, {"mask": MASK}),
    attention({"precision": "highest"}, {"inputs_k": KEYS}),
    attention({"normalize_qk": True, **DROPOUT}, {"inputs_k": KEYS.astype(BF16)}, dtype=BF16),
    attention(METADATA),
    attention({"dropout_rate": 0.3, "deterministic": True}),
    attention({}, shape=(5, 8)),
    pytest.param(attention({}, {"is_causal": True}, shape=(2, 3, 5, 8)), marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parameters_and_outputs_are_those_of_flax(case: Case) -> None:
    assert_same_outputs(case)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_gradients_are_those_of_flax(case: Case) -> None:
    assert_same_gradients(case)


@pytest.mark.parametrize("case", CASES[1:6], ids=str)
def test_jitted_calls_agree_with_flax(case: Case) -> None:
    assert_same_jitted_outputs(case)


@pytest.mark.parametrize("options", [{"num_kv_heads": 2}, DROPOUT], ids=str)
def test_sown_weights_are_those_of_flax(options: dict[str, Any]) -> None:
    def run(lib: Any) -> tuple[Any, Any]:
        layer = attention(options).make(lib)
        return lib.capture(layer, lib.Intermediate)(normal(2, 5, 8), sow_weights=True)

    (y, sown), (flax_y, flax_sown) = make_both(run)
    assert_same(y, flax_y)
    (weights,), (flax_one,) = sown["attention_weights"], flax_sown["attention_weights"]
    assert_same(weights, flax_one)
    assert weights.shape == (2, 4, 5, 5)


def test_rngs_given_at_the_call_are_used_as_in_flax() -> None:
    x = normal(2, 5, 8)

    def run(lib: Any) -> list[jax.Array]:
        options: dict[str, Any] = {"dropout_rate": 0.5, "decode": False, "keep_rngs": False}
        layer = lib.MultiHeadAttention(2, 8, rngs=lib.Rngs(0), **options)
        assert layer.rngs is None
        rngs = lib.Rngs(1, dropout=2)
        return [layer(x, deterministic=False, rngs=one) for one in (rngs, rngs.dropout, rngs)]

    for ours, theirs in zip(*make_both(run), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize(
    "options", [{}, {"num_kv_heads": 2, "normalize_qk": True}, {"param_dtype": BF16, "dtype": BF16}], ids=str
)
def test_decoding_is_that_of_flax(options: dict[str, Any]) -> None:
    ours, theirs = make_both(
        lambda lib: lib.MultiHeadAttention(4, 8, decode=True, **options, rngs=lib.Rngs(0))
    )
    x = normal(2, 4, 8)
    dtype = options.get("dtype", F32)
    ours.init_cache(x.shape, dtype)
    theirs.init_cache(x.shape, dtype)
    assert_same_state(ours, theirs)
    for position in range(4):
        token = x[:, position : position + 1]
        assert_same(ours(token), theirs(token))
    assert_same_state(ours, theirs)


def test_views_put_layers_in_the_modes_of_flax() -> None:
    ours, theirs = make_both(
        lambda lib: lib.view(
            lib.MultiHeadAttention(2, 8, dropout_rate=0.5, rngs=lib.Rngs(0)), deterministic=True, decode=False
        )
    )
    assert (ours.deterministic, ours.decode) == (theirs.deterministic, theirs.decode) == (True, False)
    x = normal(2, 3, 8)
    assert_same(ours(x), theirs(x))


# -- the functions


def _arguments(case: str, dtype: Any) -> dict[str, Any]:
    bias, mask = normal(1, 4, 5, 6, dtype=dtype, seed=3), normal(2, 4, 5, 6, seed=4) > -1.0
    key = jax.random.key(1)
    return {
        "plain": {},
        "bias and mask": {"bias": bias, "mask": mask},
        "causal and float mask": {"is_causal": True, "mask": mask.astype(F32)},
        "dropout": {"bias": bias, "dropout_rate": 0.3, "dropout_rng": key, "precision": "highest"},
        "dropout of each": {
            "mask": mask,
            "dropout_rate": 0.3,
            "dropout_rng": key,
            "broadcast_dropout": False,
        },
        "dropout left out": {"dropout_rate": 0.3, "deterministic": True, "is_causal": True, "dtype": F32},
    }[case]


CONFIGURATIONS = [
    ("plain", 4, BF16),
    ("bias and mask", 2, F32),
    ("bias and mask", 4, BF16),
    ("causal and float mask", 1, F32),
    ("dropout", 4, F32),
    ("dropout", 2, BF16),
    ("dropout of each", 2, F32),
    ("dropout left out", 4, BF16),
]


@pytest.mark.parametrize(("case", "kv_heads", "dtype"), CONFIGURATIONS)
def test_dot_product_attention_and_its_weights_are_those_of_flax(
    case: str, kv_heads: int, dtype: Any
) -> None:
    shapes = (2, 5, 4, 8), (2, 6, kv_heads, 8), (2, 6, kv_heads, 8)
    query, key, value = (normal(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes))
    options = _arguments(case, dtype)
    assert_same(
        nnx.dot_product_attention(query, key, value, **options),
        flax_nnx.dot_product_attention(query, key, value, **options),
    )
    assert_same(dot_product_attention_weights(query, key, **options), flax_weights(query, key, **options))


def test_float16_is_computed_eagerly_as_in_flax() -> None:
    q = normal(2, 5, 4, 8, dtype=jnp.float16)
    assert_same(nnx.dot_product_attention(q, q, q), flax_nnx.dot_product_attention(q, q, q))


@pytest.mark.parametrize("dtype", [F32, bool, BF16])
def test_masks_are_those_of_flax(dtype: Any) -> None:
    tokens, others = jnp.array([[3, 1, 0], [2, 0, 0]]), jnp.array([[3.0, 0, 1, 0], [5, 2, 0, 0]])

    def make(lib: Any) -> list[Any]:
        causal = lib.make_causal_mask(tokens, extra_batch_dims=1, dtype=dtype)
        padding = lib.make_attention_mask(tokens > 0, tokens > 0, dtype=dtype)
        return [
            causal,
            padding,
            lib.make_attention_mask(tokens, others, dtype=dtype),
            lib.make_attention_mask(tokens, others, jnp.greater, 2, dtype),
            lib.make_attention_mask(tokens[0], others[0]),
            lib.combine_masks(causal[0], None, padding, dtype=dtype),
            lib.combine_masks(3 * padding, dtype=dtype),
        ]

    for ours, theirs in zip(*make_both(make), strict=True):
        assert_same(ours, theirs)
    assert nnx.combine_masks(None) is flax_nnx.combine_masks(None) is None


# -- a model


def _block(lib: Any) -> Any:
    class Block(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm1 = lib.LayerNorm(8, rngs=rngs)
            self.attention = lib.MultiHeadAttention(
                2, 8, dropout_rate=0.2, deterministic=False, decode=False, rngs=rngs
            )
            self.norm2 = lib.LayerNorm(8, rngs=rngs)
            self.up = lib.Linear(8, 16, rngs=rngs)
            self.down = lib.Linear(16, 8, rngs=rngs)
            self.dropout = lib.Dropout(0.2, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            mask = lib.make_causal_mask(x[..., 0])
            x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
            return x + self.dropout(self.down(lib.gelu(self.up(self.norm2(x)))))

    return Block(lib.Rngs(0, dropout=1))


@pytest.mark.sampled(0)
@pytest.mark.slow
def test_a_transformer_block_trains_to_the_numbers_of_flax() -> None:
    x, target = normal(2, 5, 8), normal(2, 5, 8, seed=1)

    def train(lib: Any) -> tuple[Any, list[jax.Array]]:
        model = _block(lib)
        optimizer = lib.Optimizer(model, optax.adamw(1e-2), wrt=lib.Param)

        @lib.jit
        def step(model: Any, optimizer: Any) -> jax.Array:
            loss, grads = lib.value_and_grad(lambda model: ((model(x) - target) ** 2).mean())(model)
            optimizer.update(model, grads)
            return loss

        losses = [step(model, optimizer) for _ in range(3)]
        model.eval()
        return model, [*losses, model(x)]

    (ours, our_numbers), (theirs, their_numbers) = make_both(train)
    for number, flax_number in zip(our_numbers, their_numbers, strict=True):
        assert_same(number, flax_number)
    assert_same_state(ours, theirs)
