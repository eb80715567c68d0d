"""`CategoryEncoding` and `Discretization`."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import layers


def test_integers_out_of_range_become_zeros():
    encoded = layers.CategoryEncoding(3, "one_hot")(np.array([0, 2, 3, -1]))
    assert encoded.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_counts_are_weighted():
    layer = layers.CategoryEncoding(3, output_mode="count")
    assert layer(np.array([[0, 0, 2]])).tolist() == [[2, 0, 1]]
    assert layer(np.array([[0, 0, 2]]), count_weights=np.array([[0.5, 1, 4]])).tolist() == [[1.5, 0, 4]]
    with pytest.raises(ValueError, match="got count_weights with output_mode='multi_hot'"):
        layers.CategoryEncoding(3)(np.array([[0]]), count_weights=np.array([[1.0]]))


def test_quantiles_split_data_into_equal_parts():
    data = np.random.default_rng(0).normal(size=4000)
    layer = layers.Discretization(num_bins=4)
    layer.adapt(data[i : i + 500] for i in range(0, 4000, 500))
    counts = np.bincount(layer(data))
    assert counts.size == 4
    assert abs(counts - 1000).max() < 60
    again = layers.Discretization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(data), layer(data))


def test_steps_say_how_many_batches_are_read():
    layer = layers.Discretization(num_bins=2)
    layer.adapt((np.full(10, i) for i in range(100)), steps=2)
    assert 0 <= layer.bin_boundaries[0] <= 1


def test_bins_work_on_symbolic_values():
    layer = layers.Discretization([0.0, 1.0], output_mode="one_hot")
    assert layer.compute_output_shape((None, 1)) == (None, 3)
    assert layer(jnp.array([[0.5]])).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: layers.CategoryEncoding(), "num_tokens is None"),
        (lambda: layers.CategoryEncoding(3, "hot"), "output_mode is 'hot'"),
        (lambda: layers.CategoryEncoding(3, sparse=True), "sparse is True, expected False"),
        (lambda: layers.Discretization(), "expected one of them"),
        (lambda: layers.Discretization([1.0], num_bins=2), "expected one of them"),
        (lambda: layers.Discretization(num_bins=0), "num_bins is 0"),
        (lambda: layers.Discretization(num_bins=2)(jnp.ones(2)), "has no bin boundaries yet"),
        (lambda: layers.Discretization([1.0]).adapt(np.ones(2)), "made with bin_boundaries"),
        (lambda: layers.Discretization(num_bins=2).adapt([]), "adapt got no values"),
    ],
)
def test_bad_input_is_named(make_layer, message):
    with pytest.raises(ValueError, match=message):
        make_layer()
