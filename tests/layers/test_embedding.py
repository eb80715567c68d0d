import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers


def test_rows_of_the_table_are_returned_and_get_the_gradient():
    layer = layers.Embedding(5, 3)
    ids = jnp.array([[0, 4], [2, 2]])
    out = layer(ids)
    np.testing.assert_array_equal(out, layer.embeddings[...][ids])
    one_hot = jax.nn.one_hot(ids, 5).sum(axis=(0, 1))
    table = layer.embeddings[...]
    gradient = jax.grad(lambda table: table[ids].sum())(table)
    np.testing.assert_allclose(gradient, one_hot[:, None] * np.ones((5, 3)))


def test_a_mask_is_made_only_where_zero_stands_for_padding():
    ids = jnp.array([[0, 4]])
    assert layers.Embedding(5, 3).compute_mask(ids) is None
    assert layers.Embedding(5, 3, mask_zero=True).compute_mask(ids).tolist() == [[False, True]]


def test_a_table_that_is_given_is_there_before_the_first_call():
    table = np.arange(6.0).reshape(3, 2)
    for weights in (table, [table]):
        layer = layers.Embedding(3, 2, weights=weights)
        assert layer.built
        np.testing.assert_array_equal(layer.get_weights()[0], table)
    with pytest.raises(ValueError, match=r"'embeddings' has shape \(3, 2\), expected \(4, 2\)"):
        layers.Embedding(4, 2, weights=table)


def test_input_length_is_the_length_of_a_row():
    assert layers.Embedding(3, 2, input_length=7)._row_shape == (7,)


@pytest.mark.parametrize("sizes", [(0, 3), (3, -1)], ids=str)
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match="expected a positive integer"):
        layers.Embedding(*sizes)
