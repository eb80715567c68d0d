"""Masks go along with arrays, from layer to layer."""

import gc

import jax
import jax.numpy as jnp
import numpy as np

import easyflax as ef
from easyflax import layers, masks

IDS = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])


class Net(ef.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(20, 4, mask_zero=True)
        self.dropout = layers.Dropout(0.5)
        self.lstm = layers.LSTM(3)

    def call(self, ids):
        return self.lstm(self.dropout(self.embedding(ids)))


class MeanOfKnown(layers.Layer):
    """Does not work without a mask."""

    def call(self, x, mask=None):
        assert mask is not None
        weights = mask.astype(x.dtype)[..., None]
        return (x * weights).sum(1) / weights.sum(1)


def test_masks_reach_layers_within_the_call_of_a_model_of_ones_own():
    net = Net()
    outputs = net(IDS)
    explicit = net.lstm(jnp.asarray(net.embedding.embeddings[...])[IDS], mask=IDS > 0)
    np.testing.assert_allclose(outputs, explicit, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda ids: net(ids))(IDS), explicit, rtol=1e-6)


def test_padding_does_not_change_the_output_of_layers_called_one_after_the_other():
    embedding, gru = layers.Embedding(20, 4, mask_zero=True), layers.GRU(3)
    np.testing.assert_allclose(gru(embedding(IDS[:1])), gru(embedding(IDS[:1, :3])), rtol=1e-6)


def test_a_layer_that_needs_a_mask_gets_one_when_it_is_called_on_a_symbolic_value():
    ids = ef.Input((None,), dtype="int32")
    hidden = layers.Dense(2)(layers.Embedding(20, 4, mask_zero=True)(ids))
    assert hidden.mask.shape == (None, None)
    model = ef.Model(ids, MeanOfKnown()(hidden))
    assert model.output_shape == (None, 2)
    np.testing.assert_allclose(model(IDS[:1]), model(IDS[:1, :3]), rtol=1e-6)


def test_masks_of_several_arrays_go_by_the_names_of_the_arguments():
    class Seen(layers.Layer):
        def call(self, query, value, query_mask=None, value_mask=None):
            return [query_mask, value_mask]

    embedding = layers.Embedding(20, 4, mask_zero=True)
    query_mask, value_mask = Seen()(embedding(IDS), embedding(IDS[:, :2]))
    np.testing.assert_array_equal(query_mask, IDS > 0)
    np.testing.assert_array_equal(value_mask, IDS[:, :2] > 0)


def test_a_mask_that_is_passed_goes_before():
    hidden = layers.Embedding(20, 4, mask_zero=True)(IDS)
    everything = MeanOfKnown()(hidden, mask=jnp.ones(IDS.shape, bool))
    np.testing.assert_allclose(everything, hidden.mean(1), rtol=1e-6)


def test_conversion_to_the_dtype_of_a_layer_keeps_the_mask():
    hidden = layers.Embedding(20, 4, mask_zero=True)(IDS)
    np.testing.assert_array_equal(masks.mask_of(layers.Dense(2, dtype="bfloat16")(hidden)), IDS > 0)


def test_a_mask_is_forgotten_with_its_array():
    hidden = layers.Embedding(20, 4, mask_zero=True)(IDS)
    before = len(masks._masks)
    assert masks.mask_of(hidden) is not None
    assert masks.mask_of(hidden + 0) is None
    del hidden
    gc.collect()
    assert len(masks._masks) < before
