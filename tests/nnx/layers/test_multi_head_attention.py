from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


def make(num_heads: int = 4, in_features: int = 8, seed: int = 0, **options: Any) -> nnx.MultiHeadAttention:
    return nnx.MultiHeadAttention(num_heads, in_features, rngs=nnx.Rngs(seed), **{"decode": False, **options})


def test_it_joins_what_the_heads_find() -> None:
    layer = make(qkv_features=12, out_features=6, in_kv_features=3, num_kv_heads=2)
    y = np.random.default_rng(1).normal(size=(2, 7, 3)).astype(np.float32)
    query, key, value = (
        np.einsum("blf,fhd->blhd", x, one.kernel[...])
        for x, one in ((X, layer.query), (y, layer.key), (y, layer.value))
    )
    heads = nnx.dot_product_attention(query, key, value)
    expected = np.einsum("blhd,hdf->blf", heads, layer.out.kernel[...])
    np.testing.assert_allclose(layer(X, y), expected, rtol=1e-4, atol=1e-5)
    assert (layer.head_dim, layer.key.kernel.shape) == (3, (3, 2, 3))
    assert layer.query_ln is layer.key_ln is layer.rngs is layer.cached_key is None


def test_keys_are_queries_and_values_are_keys_if_not_given() -> None:
    layer = make()
    y = X[:, :3]
    np.testing.assert_array_equal(layer(X), layer(X, X, X))
    np.testing.assert_array_equal(layer(X, y), layer(X, y, y))


def test_each_position_sees_no_later_one_if_causal() -> None:
    layer = make(normalize_qk=True)
    changed = X.copy()
    changed[:, 3:] += 1.0
    before, after = (layer(x, is_causal=True) for x in (X, changed))
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-6)
    assert not np.allclose(before[:, 3:], after[:, 3:])
    masked = layer(X, mask=nnx.make_causal_mask(X[..., 0]))
    np.testing.assert_allclose(before, masked, rtol=1e-6)


def test_permuting_keys_and_values_together_changes_nothing() -> None:
    layer = make()
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(layer(X), layer(X, X[:, order]), rtol=1e-4, atol=1e-6)


def test_the_functions_it_is_given_are_used() -> None:
    seen: dict[str, Any] = {}

    def attend(query: Any, key: Any, value: Any, **options: Any) -> Any:
        seen.update(options)
        return value

    calls: list[str] = []

    def dot_general(name: str) -> Callable[..., jax.Array]:
        def multiply(*args: Any, **options: Any) -> jax.Array:
            calls.append(name)
            return lax.dot_general(*args, **options)

        return multiply

    layer = make(
        attention_fn=attend,
        qkv_dot_general=dot_general("qkv"), out_dot_general_cls=lambda: dot_general("out"),
        dropout_rate=0.5, broadcast_dropout=False, precision="highest", dtype=jnp.bfloat16,
    )  # fmt: skip
    mask = {"any": "thing"}  # what it is, is for the function to know
    y = layer(X, mask=mask, deterministic=True, is_causal=True, sow_weights=True)
    np.testing.assert_array_equal(y, layer.out(layer.value(X)))
    assert calls[:4] == ["qkv", "qkv", "qkv", "out"]
    assert seen.pop("module") is layer
    assert seen == {
        "mask": mask, "dropout_rng": None, "dropout_rate": 0.5, "broadcast_dropout": False,
        "deterministic": True, "dtype": jnp.bfloat16, "precision": "highest", "is_causal": True,
    }  # fmt: skip


def test_dropout_is_on_in_training_and_off_in_inference() -> None:
    layer = make(dropout_rate=0.5)
    layer.train()
    a, b = layer(X), layer(X)
    assert not np.allclose(a, b)
    assert int(layer.rngs.count[...]) == 2
    layer.eval()
    np.testing.assert_array_equal(layer(X), layer(X))
    np.testing.assert_allclose(layer(X), make()(X), rtol=1e-4, atol=1e-6)
    key = jax.random.key(3)
    given = layer(X, deterministic=False, rngs=key)
    np.testing.assert_array_equal(given, layer(X, deterministic=False, rngs=key))


def test_the_layout_of_heads_and_output_can_be_chosen_on_a_mesh_with_explicit_axes() -> None:
    layer = make()
    x = np.broadcast_to(X[:1], (8, 5, 8)) + np.arange(8.0, dtype=np.float32)[:, None, None]
    expected = layer(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", None, None)))
        y = layer(sharded, qkv_sharding=P("data", None, None, None), out_sharding=P("data", None, None))
    assert y.sharding.spec == P("data", None, None)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_it_can_be_made_and_called_under_eval_shape_and_vmap() -> None:
    abstract = nnx.eval_shape(lambda: make(dropout_rate=0.1))
    assert abstract.out.kernel.shape == (4, 2, 8)

    @nnx.vmap(in_axes=0, out_axes=0)
    def make_one(key: jax.Array) -> nnx.MultiHeadAttention:
        return nnx.MultiHeadAttention(4, 8, decode=False, rngs=nnx.Rngs(key))

    layers = make_one(jax.random.split(jax.random.key(0), 3))
    y = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, X)
    assert y.shape == (3, 2, 5, 8)


# -- decoding


def decode_in_a_loop(layer: nnx.MultiHeadAttention, x: jax.Array) -> jax.Array:
    step = nnx.jit(lambda layer, token: layer(token, decode=True))
    return jnp.concatenate([step(layer, x[..., i : i + 1, :]) for i in range(x.shape[-2])], axis=-2)


def decode_in_scan(layer: nnx.MultiHeadAttention, x: jax.Array) -> jax.Array:
    @nnx.scan(in_axes=(nnx.Carry, -2), out_axes=(nnx.Carry, -2))
    def step(layer: nnx.MultiHeadAttention, token: jax.Array) -> Any:
        return layer, layer(token[..., None, :], decode=True)[..., 0, :]

    return step(layer, x)[1]


def decode_in_fori_loop(layer: nnx.MultiHeadAttention, x: jax.Array) -> jax.Array:
    def step(i: jax.Array, carry: Any) -> Any:
        layer, y = carry
        token = lax.dynamic_slice_in_dim(x, i, 1, x.ndim - 2)
        return layer, lax.dynamic_update_slice_in_dim(y, layer(token, decode=True), i, x.ndim - 2)

    return nnx.fori_loop(0, x.shape[-2], step, (layer, jnp.zeros(x.shape)))[1]


def decode_in_while_loop(layer: nnx.MultiHeadAttention, x: jax.Array) -> jax.Array:
    def step(carry: Any) -> Any:
        layer, y = carry
        i = layer.cache_index[...]
        token = lax.dynamic_slice_in_dim(x, i, 1, x.ndim - 2)
        return layer, lax.dynamic_update_slice_in_dim(y, layer(token, decode=True), i, x.ndim - 2)

    def goes_on(carry: Any) -> Any:
        return carry[0].cache_index[...] < x.shape[-2]

    return nnx.while_loop(goes_on, step, (layer, jnp.zeros(x.shape)))[1]


@pytest.mark.parametrize(
    ("decode", "options", "batch"),
    [
        (decode_in_a_loop, {}, (2,)),
        (decode_in_a_loop, {"normalize_qk": True, "num_kv_heads": 1}, ()),
        (decode_in_scan, {"num_kv_heads": 2, "normalize_qk": True}, (2,)),
        (decode_in_fori_loop, {"num_kv_heads": 2}, (2, 3)),
        (decode_in_while_loop, {"normalize_qk": True, "use_bias": False}, (2, 1)),
    ],
)
def test_decoding_token_by_token_is_the_causal_forward_pass(
    decode: Callable[..., jax.Array], options: dict[str, Any], batch: tuple[int, ...]
) -> None:
    layer = make(**options)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(*batch, 5, 8)), jnp.float32)
    layer.init_cache(x.shape)
    np.testing.assert_allclose(decode(layer, x), layer(x, is_causal=True), rtol=1e-4, atol=1e-5)
    assert int(layer.cache_index[...]) == 5
    np.testing.assert_allclose(layer.cached_value[...], layer.value(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cache_dtype", [jnp.float32, jnp.bfloat16])
def test_a_model_in_bfloat16_decodes_in_bfloat16(cache_dtype: Any) -> None:
    layer = make(param_dtype=jnp.bfloat16)
    x = jnp.asarray(X, jnp.bfloat16)
    layer.init_cache(x.shape, cache_dtype)
    y = decode_in_a_loop(layer, x)
    assert (y.dtype, layer.cached_key.dtype) == (jnp.bfloat16, cache_dtype)
    np.testing.assert_allclose(
        y.astype(np.float32), layer(x, is_causal=True).astype(np.float32), rtol=0.05, atol=0.02
    )


def test_a_mask_in_decoding_hides_positions_of_the_cache() -> None:
    layer = make()
    mask = np.array([[True, True, False, True, True], [True, False, True, True, True]])[:, None, None]
    full = layer(X, mask=mask, is_causal=True)
    for shaped in (mask, mask[:1, 0]):  # the latter with fewer axes
        layer.init_cache(X.shape)
        steps = [layer(X[:, i : i + 1], decode=True, mask=shaped, is_causal=True) for i in range(5)]
        y = jnp.concatenate(steps, axis=1)
        np.testing.assert_allclose(y[:1], full[:1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(y[1], full[1])


def test_the_cache_is_part_of_the_state() -> None:
    layer = make(decode=True)
    layer.init_cache(X.shape)
    graphdef, cache, params = nnx.split(layer, nnx.Cache, ...)
    assert set(cache) == {"cached_key", "cached_value", "cache_index"}
    copy = nnx.merge(graphdef, cache, params, copy=True)
    first = layer(X[:, :1])
    np.testing.assert_array_equal(copy(X[:, :1]), first)
    abstract = nnx.eval_shape(lambda: nnx.view(make(), decode=True, batch_size=(2, 3), max_length=5))
    assert abstract.cached_key.shape == (2, 3, 5, 4, 2)


def test_a_view_makes_the_cache_of_the_size_asked_for() -> None:
    layer = make(param_dtype=jnp.bfloat16)
    decoder = nnx.view(layer, decode=True, batch_size=2, max_length=5)
    assert layer.cached_key is None
    assert not layer.decode
    assert decoder.cached_key.shape == (2, 5, 4, 2)
    assert decoder.cached_key.dtype == jnp.bfloat16
    decoder(X[:, :1])
    again = nnx.view(decoder, batch_size=(2,), max_length=5)
    assert again.cached_key is decoder.cached_key
    longer = nnx.view(decoder, batch_size=2, max_length=9)
    assert (longer.cached_key.shape, int(longer.cache_index[...])) == ((2, 9, 4, 2), 0)
    assert nnx.view(layer, decode=True).cached_key is None  # for init_cache


# -- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, r"got qkv_features=8 and num_heads=3, expected qkv_features to be divisible by"),
        ({"num_kv_heads": 3}, r"got num_heads=4 and num_kv_heads=3, expected num_heads to be divisible by"),
        ({"num_heads": 0}, r"got num_heads=0, expected a positive integer"),
        ({"in_kv_features": -1}, r"got in_kv_features=-1, expected a positive integer"),
        ({"dropout_rate": 1.5}, r"got dropout_rate=1\.5, expected a probability from 0 to 1\. Pass"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="MultiHeadAttention: " + message):
        make(**options)


class Model(nnx.Module):
    def __init__(self, **options: Any) -> None:
        self.blocks = nnx.List([make(in_kv_features=6, **options)])

    def __call__(self, *inputs: Any, **options: Any) -> jax.Array:
        return self.blocks[0](*inputs, **options)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


Q, K = zeros(2, 5, 8), zeros(2, 7, 6)


@pytest.mark.parametrize(
    ("inputs", "call", "message"),
    [
        ((zeros(2, 5, 7), K), {}, r"got inputs_q of shape \(2, 5, 7\) with 7 features .*in_features=7"),
        ((Q, zeros(2, 7, 8)), {}, r"got inputs_k of shape \(2, 7, 8\) with 8 features .*in_kv_features=8"),
        ((Q,), {}, r"got inputs_k of shape \(2, 5, 8\) with 8 features .*in_kv_features=8"),
        ((Q, K, zeros(2, 7, 5)), {}, r"got inputs_v of shape \(2, 7, 5\) .*in_kv_features=5"),
        ((zeros(8), K), {}, r"got inputs_q of shape \(8,\), expected at least 2 axes, \(\.\.\., size, 8\)"),
        ((Q, None, K), {}, r"got inputs_v without inputs_k, expected keys with the values\. Pass"),
        ((Q, zeros(3, 7, 6)), {}, r"of shapes \(2, 5, 8\), \(3, 7, 6\), .*, expected equal batch axes"),
        ((Q, K, zeros(2, 8, 6)), {}, r"\(2, 7, 6\), \(2, 8, 6\), expected .* many values as keys\. B"),
        ((Q, K), {"mask": zeros(2, 7)}, r"mask of shape \(2, 7\), expected .* = \(2, 4, 5, 7\)\. Add axes"),
        ((Q, K), {"mask": zeros(3, 2, 1, 5, 7)}, r"mask of shape \(3, 2, 1, 5, 7\), expected one that"),
        ((Q, K), {"decode": True}, r"got decode=True without a cache, expected one .*\. Call init_cache"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_told_with_the_path_of_the_layer(inputs: Any, call: Any, message: str) -> None:
    model = Model()
    with pytest.raises(ValueError, match=rf"(?s)MultiHeadAttention 'blocks\.0': .*{message}"):
        nnx.jit(lambda model, *inputs: model(*inputs, **call))(model, *inputs)


def test_modes_and_random_keys_must_be_given_somewhere() -> None:
    layer = make(decode=None, dropout_rate=0.5, keep_rngs=False)
    with pytest.raises(
        ValueError, match=r"MultiHeadAttention: got no decode, expected True .* or take nnx\.view"
    ):
        layer(X)
    with pytest.raises(
        ValueError, match=r"got no deterministic, expected True \(inference\) .* call model\.train\(\)"
    ):
        layer(X, decode=False)
    with pytest.raises(
        ValueError, match=r"MultiHeadAttention: got no rngs, expected .*\. Pass rngs=nnx\.Rngs\(dropout=0\)"
    ):
        layer(X, decode=False, deterministic=False)
    with pytest.raises(TypeError, match=r"got rngs of type int, expected nnx\.Rngs"):
        layer(X, decode=False, deterministic=False, rngs=3)
    with pytest.raises(AttributeError, match="No RngStream named 'dropout'"):
        nnx.MultiHeadAttention(4, 8, dropout_rate=0.5, rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match=r"MultiHeadAttention: got rngs of type int, expected nnx\.Rngs"):
        nnx.MultiHeadAttention(4, 8, rngs=0)


@pytest.mark.parametrize("shape", [(2, 2, 8), (3, 1, 8), (1, 8)], ids=str)
def test_decoding_takes_one_token_for_the_batch_of_the_cache(shape: tuple[int, ...]) -> None:
    layer = make(decode=True)
    layer.init_cache((2, 5, 8))
    with pytest.raises(
        ValueError, match=r"got keys for positions of shape .*, expected \(2, 1\), .*\. Pass one token a call"
    ):
        layer(zeros(*shape))
    assert int(layer.cache_index[...]) == 0


def test_a_full_cache_takes_no_more() -> None:
    layer = make(decode=True)
    layer.init_cache((2, 1, 8))
    layer(X[:, :1])
    with pytest.raises(ValueError, match=r"got one more token for a full cache, expected at most 1\. Begin"):
        layer(X[:, :1])


def test_a_cache_needs_batch_and_length() -> None:
    with pytest.raises(
        ValueError, match=r"got input_shape=\(5,\) for the cache, expected .*\. Pass the shape"
    ):
        make().init_cache((5,))
    with pytest.raises(TypeError, match=r"got batch_size=2 and max_length=None, expected both or neither"):
        nnx.view(make(), decode=True, batch_size=2)
