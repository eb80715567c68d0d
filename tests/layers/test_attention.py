"""Attention layers: averages by hand, masks, configurations, and what their messages say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers
from easyflax.layers import AdditiveAttention, Attention, GroupQueryAttention, MultiHeadAttention

RNG = np.random.default_rng(0)
QUERY = jnp.asarray(RNG.normal(size=(2, 3, 4)).astype("float32"))
VALUE = jnp.asarray(RNG.normal(size=(2, 5, 4)).astype("float32"))
VALUE_MASK = jnp.array([[True, True, False, False, False], [True] * 5])
HEADS = [lambda **kw: MultiHeadAttention(2, 3, **kw), lambda **kw: GroupQueryAttention(3, 4, 2, **kw)]


def test_equal_scores_give_the_mean():
    outputs, weights = Attention()([0 * QUERY, VALUE], return_attention_scores=True)
    np.testing.assert_allclose(weights, jnp.full((2, 3, 5), 0.2), rtol=1e-6)
    np.testing.assert_allclose(outputs, jnp.broadcast_to(VALUE.mean(1, keepdims=True), (2, 3, 4)), rtol=1e-5)


@pytest.mark.parametrize("layer", [Attention(), AdditiveAttention(), Attention(score_mode="concat")])
def test_masked_values_do_not_count_and_masked_queries_give_zero(layer):
    query_mask = jnp.array([[True, False, True]] * 2)
    outputs = layer([QUERY, VALUE], mask=[query_mask, VALUE_MASK])
    assert not outputs[:, 1].any()
    short = layer([QUERY[:1], VALUE[:1, :2]])
    np.testing.assert_allclose(outputs[0, ::2], short[0, ::2], rtol=1e-5, atol=1e-6)
    assert layer.compute_mask(None, [query_mask, None]) is query_mask


def test_a_causal_mask_hides_what_follows():
    outputs, weights = Attention()([QUERY, VALUE], use_causal_mask=True, return_attention_scores=True)
    assert not jnp.triu(weights, 1).any()
    np.testing.assert_allclose(outputs[:, 0], VALUE[:, 0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", HEADS, ids=["all", "groups"])
def test_values_that_are_masked_do_not_matter(make):
    layer = make()
    expected = layer(QUERY[:1], VALUE[:1, :2])
    got = layer(QUERY, VALUE, value_mask=VALUE_MASK)
    np.testing.assert_allclose(got[:1], expected, rtol=1e-4, atol=1e-6)
    by_hand = layer(QUERY, VALUE, attention_mask=jnp.broadcast_to(VALUE_MASK[:, None], (2, 3, 5)))
    np.testing.assert_allclose(by_hand, got, rtol=1e-5)
    in_steps, weights = layer(QUERY, VALUE, value_mask=VALUE_MASK, return_attention_scores=True)
    np.testing.assert_allclose(in_steps, got, rtol=1e-4, atol=1e-6)
    assert not weights[0, ..., 2:].any()
    assert layer.compute_mask(QUERY, VALUE_MASK) is VALUE_MASK


@pytest.mark.parametrize("make", HEADS, ids=["all", "groups"])
def test_windows_and_causal_masks_limit_how_far_queries_look(make):
    layer = make(sliding_window=2)
    x = VALUE
    _, weights = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    seen = np.asarray((weights > 0).all((0, 1)))
    assert np.array_equal(seen, np.tril(np.ones((5, 5), bool)) & ~np.tril(np.ones((5, 5), bool), -2))


@pytest.mark.slow
def test_dropout_acts_in_training_only():
    layer = MultiHeadAttention(1, 4, dropout=0.5, seed=0)
    first = layer(QUERY, VALUE)
    assert jnp.array_equal(first, layer(QUERY, VALUE))
    assert not jnp.array_equal(first, layer(QUERY, VALUE, training=True))


@pytest.mark.slow
def test_attention_goes_along_the_axes_that_are_stated():
    x = jnp.asarray(RNG.normal(size=(2, 3, 2, 4)).astype("float32"))
    layer = MultiHeadAttention(2, 3, attention_axes=1)
    outputs, weights = layer(x, x, return_attention_scores=True)
    assert weights.shape == (2, 2, 2, 3, 3)
    np.testing.assert_allclose(layer(x[:, :, :1], x[:, :, :1]), outputs[:, :, :1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_layers_are_called_on_symbolic_values():
    x = ef.Input((None, 4))
    y = MultiHeadAttention(2, 3, output_shape=6)(x, x, use_causal_mask=True)
    z = Attention()([x, y[..., :4]])
    assert (y.shape, z.shape) == ((None, None, 6), (None, None, 4))
    assert ef.Model(x, [y, z])(QUERY)[1].shape == (2, 3, 4)


class Mark(layers.Layer):
    """Masks what is zero."""

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, mask=None):
        return jnp.any(inputs != 0, axis=-1)


@pytest.mark.slow
def test_masks_of_the_inputs_reach_the_layers():
    query, value = ef.Input((None, 4)), ef.Input((None, 4))
    marked = Mark()(value)
    model = ef.Model([query, value], [Attention()([query, marked]), MultiHeadAttention(1, 2)(query, marked)])
    padded = VALUE.at[:, 2:].set(0)
    for got, expected in zip(model([QUERY, padded]), model([QUERY, VALUE[:, :2]]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_mixed_precision_computes_in_bfloat16():
    layer = MultiHeadAttention(2, 3, dtype="mixed_bfloat16")
    assert layer(QUERY, VALUE).dtype == jnp.bfloat16
    assert layer.query_dense.kernel.dtype == jnp.float32
    assert Attention(use_scale=True, dtype="mixed_bfloat16")([QUERY, VALUE]).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "layer",
    [
        Attention(True, "concat", 0.1, seed=3),
        AdditiveAttention(dropout=0.1),
        MultiHeadAttention(2, 3, 4, use_gate=True, activity_regularizer="l2", attention_axes=1),
        GroupQueryAttention(3, 4, 2, kernel_regularizer="l1", sliding_window=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_configurations_make_equal_layers(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Attention()(QUERY), r"Attention: got inputs of .*expected a list of two or three"),
        (lambda: Attention()([QUERY, VALUE], mask=VALUE_MASK), r"got mask of .*expected a list"),
        (lambda: Attention(score_mode="sum"), r"got score_mode='sum', expected 'dot' or 'concat'"),
        (lambda: AdditiveAttention(dropout=2), r"got dropout=2, expected a share"),
        (lambda: MultiHeadAttention(0, 4), r"got num_heads=0, expected a positive integer"),
        (lambda: MultiHeadAttention(1, 4, dropout=2), r"got dropout=2, expected a share"),
        (lambda: MultiHeadAttention(1, 4)(QUERY, VALUE, QUERY), r"expected as many values as keys"),
        (lambda: MultiHeadAttention(1, 4)(QUERY[0], VALUE), r"expected \(batch, queries, features\)"),
        (lambda: MultiHeadAttention(1, 4, dropout=0.1, flash_attention=True), r"expected no dropout"),
        (lambda: GroupQueryAttention(4, 3, 2), r"num_query_heads=3 and num_key_value_heads=2, expected a"),
        (lambda: GroupQueryAttention(4, 2, 2)(VALUE[None], VALUE[None]), r"Use MultiHeadAttention"),
    ],
    ids=["list", "mask", "mode", "share", "heads", "dropout", "keys", "rank", "flash", "groups", "axes"],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there it can be used")
def test_flash_attention_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match=r"got flash_attention=True with queries.*expected.*a GPU"):
        MultiHeadAttention(1, 4, flash_attention=True)(QUERY, VALUE)
