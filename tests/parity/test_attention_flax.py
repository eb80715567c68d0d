"""Attention against flax.nnx: equal seeds give bit-equal parameters, outputs, gradients and caches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx
from flax.nnx.nn.attention import dot_product_attention_weights as flax_weights

from easyflax import nnx
from easyflax.nnx.nn.attention import dot_product_attention_weights
from tests.parity.flax_oracle import assert_same, assert_same_state, make_both

BF16 = jnp.bfloat16
F32 = jnp.float32


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32), dtype)


# -- the layer


class Case(NamedTuple):
    """How a layer is made, the shapes of what it is called with, and the other arguments of the call."""

    options: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    call: Mapping[str, Any] = MappingProxyType({})
    dtype: Any = F32

    def __str__(self) -> str:
        given = ",".join(
            f"{k}={v}" if type(v) in (int, bool) else k for k, v in {**self.options, **self.call}.items()
        )
        return f"{given}-{'x'.join(map(str, self.shapes[0]))}-{jnp.dtype(self.dtype).name}"


SELF = ((2, 5, 8),)
CROSS = ((2, 5, 8), (2, 7, 8), (2, 7, 8))
MASK = np.arange(2 * 25).reshape(2, 1, 5, 5) % 3 > 0
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
    Case({}, SELF),
    Case({"dropout_rate": 0.3, "broadcast_dropout": False}, SELF, {"deterministic": False}),
    Case({"qkv_features": 12, "out_features": 6, **INITIALIZERS}, CROSS),
    Case({"in_kv_features": 3, "use_bias": False}, ((2, 5, 8), (2, 7, 3)), {}, BF16),
    Case({"num_kv_heads": 2, "normalize_qk": True}, SELF, {"is_causal": True}),
    Case({"num_kv_heads": 1}, SELF, {"mask": MASK}),
    Case({"dropout_rate": 0.3, "deterministic": False, "num_kv_heads": 2}, SELF, {"mask": MASK}),
    Case({"normalize_qk": True, "dtype": BF16}, SELF, {"mask": MASK, "is_causal": True}),
    Case({"param_dtype": BF16}, SELF, {"is_causal": True}, BF16),
    Case({"precision": "highest"}, CROSS),
    Case({"dropout_rate": 0.3, "deterministic": False, "normalize_qk": True}, CROSS, {}, BF16),
    Case(METADATA, SELF),
    Case({"dropout_rate": 0.3, "deterministic": True}, SELF),
    Case({}, ((5, 8),)),
    Case({}, ((2, 3, 5, 8),), {"is_causal": True}),
]  # fmt: skip


def _make(case: Case) -> tuple[Any, Any]:
    options = {"decode": False, **case.options}
    return make_both(lambda lib: lib.MultiHeadAttention(4, 8, **options, rngs=lib.Rngs(7, dropout=3)))


def _inputs(case: Case) -> list[jax.Array]:
    return [normal(*shape, dtype=case.dtype, seed=seed) for seed, shape in enumerate(case.shapes)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parameters_and_outputs_are_those_of_flax(case: Case) -> None:
    ours, theirs = _make(case)
    assert_same_state(ours, theirs)
    inputs = _inputs(case)
    for _ in range(2):  # random streams move on
        assert_same(ours(*inputs, **case.call), theirs(*inputs, **case.call))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize(
    "options", [{"num_kv_heads": 2}, {"dropout_rate": 0.3, "deterministic": False}], ids=str
)
def test_sown_weights_are_those_of_flax(options: dict[str, Any]) -> None:
    def run(lib: Any) -> tuple[Any, Any]:
        layer = lib.MultiHeadAttention(4, 8, decode=False, **options, rngs=lib.Rngs(7))
        return lib.capture(layer, lib.Intermediate)(normal(2, 5, 8), sow_weights=True)

    (y, sown), (flax_y, flax_sown) = make_both(run)
    assert_same(y, flax_y)
    (weights,), (flax_one,) = sown["attention_weights"], flax_sown["attention_weights"]
    assert_same(weights, flax_one)
    assert weights.shape == (2, 4, 5, 5)


def _gradients(lib: Any, layer: Any, case: Case) -> Any:
    def loss(layer: Any, x: jax.Array, *others: jax.Array) -> jax.Array:
        y = layer(x, *others, **case.call).astype(F32)
        return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum()

    return lib.jit(lib.grad(loss, argnums=(0, 1)))(layer, *_inputs(case))


@pytest.mark.parametrize("case", CASES[:8], ids=str)
def test_gradients_under_jit_are_those_of_flax(case: Case) -> None:
    ours, theirs = _make(case)
    grads, dx = _gradients(nnx, ours, case)
    flax_grads, flax_dx = _gradients(flax_nnx, theirs, case)
    assert_same(dx, flax_dx)
    assert_same_state(grads, flax_grads)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("case", CASES[4:12:2], ids=str)
def test_jitted_calls_agree_with_flax(case: Case) -> None:
    ours, theirs = _make(case)
    inputs = _inputs(case)
    y = nnx.jit(lambda layer, *inputs: layer(*inputs, **case.call))(ours, *inputs)
    flax_y = flax_nnx.jit(lambda layer, *inputs: layer(*inputs, **case.call))(theirs, *inputs)
    assert_same(y, flax_y)
    assert_same_state(ours, theirs)


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
