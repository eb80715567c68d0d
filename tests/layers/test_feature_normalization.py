"""`Normalization`: exact statistics, and which data it takes."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers

DATA = np.random.default_rng(0).normal([1000.0, -3.0, 0.0], [0.1, 5.0, 1.0], (50, 3))


def assert_adapted(layer, data=DATA):
    np.testing.assert_allclose(layer.mean, data.mean(axis=0, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, data.var(axis=0, keepdims=True), rtol=1e-6)


class Frame:
    """Stands for what NumPy reads through `__array__`, as data frames."""

    def __array__(self, dtype=None, copy=None):
        return DATA if dtype is None else DATA.astype(dtype)

    def __iter__(self):
        return iter(["a", "b", "c"])


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        jnp.asarray(DATA - [1000, 0, 0]) + jnp.array([1000, 0, 0]),
        DATA.tolist(),
        [DATA[:1], DATA[1:20], DATA[20:]],
        [(DATA[:30], np.zeros(30)), (DATA[30:], np.zeros(20))],
        Frame(),
    ],
    ids=["numpy", "jax", "lists", "batches", "pairs", "frame"],
)
def test_adapt_takes_arrays_and_iterables_of_batches(data):
    layer = layers.Normalization()
    layer.adapt(data)
    np.testing.assert_allclose(layer.mean, DATA.mean(axis=0, keepdims=True), rtol=1e-5)
    if not isinstance(data, jnp.ndarray):  # whose float32 loses the small variance around 1000
        assert_adapted(layer)


def test_adapt_reads_a_generator_once_and_begins_anew():
    layer = layers.Normalization()
    layer.adapt(np.ones((4, 3)))
    layer.adapt(row[None] for row in DATA)
    assert_adapted(layer)


def test_the_statistics_are_weights_that_are_not_trained():
    layer = layers.Normalization()
    layer.adapt(DATA)
    model = ef.Sequential([ef.Input((3,)), layer, layers.Dense(1)])
    assert [weight.shape for weight in layer.get_weights()] == [(3,), (3,), ()]
    assert len(model.trainable_weights) == 2
    model.compile("sgd", "mse")
    model.fit(DATA.astype("float32"), np.zeros((50, 1), "float32"), epochs=1, verbose=0)
    assert_adapted(layer)
    other = layers.Normalization()
    other.build((None, 3))
    other.built = True
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(other(DATA), layer(DATA))


def test_inverting_gives_the_data_back():
    there, back = layers.Normalization(), layers.Normalization(invert=True)
    there.adapt(DATA)
    back.adapt(DATA)
    np.testing.assert_allclose(back(there(DATA)), DATA, rtol=1e-5, atol=1e-5)


def test_given_statistics_need_no_data_and_survive_the_configuration():
    layer = layers.Normalization(mean=[1.0, 2.0], variance=np.array([4.0, 9.0]))
    assert layer(jnp.array([[3.0, 5.0]])).tolist() == [[1.0, 1.0]]
    again = layers.Normalization.from_config(layer.get_config())
    assert again(jnp.array([[3.0, 5.0]])).tolist() == [[1.0, 1.0]]
    assert layers.Normalization(axis=None, mean=1.0, variance=4.0)(jnp.array([3.0])).tolist() == [1.0]


def test_no_variance_divides_by_almost_nothing_and_not_by_zero():
    layer = layers.Normalization()
    layer.adapt(np.ones((3, 1)))
    assert layer(jnp.ones((1, 1))).tolist() == [[0.0]]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"mean of shape .* and a variance of shape None"):
        layers.Normalization(mean=1.0)
    with pytest.raises(ValueError, match=r"mean has shape \(1, 2\), expected at most 1 axes"):
        layers.Normalization(mean=[[1.0, 2.0]], variance=[[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"axis is \(3,\), expected axes of the input"):
        layers.Normalization(axis=3)(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"expected sizes that are known in the axes \(1,\)"):
        layers.Normalization(axis=1)(ef.Input((None, 3)))
    with pytest.raises(ValueError, match="mean and variance were given"):
        layers.Normalization(mean=1.0, variance=1.0).adapt(DATA)
    with pytest.raises(ValueError, match="adapt got no batches"):
        layers.Normalization().adapt([])
    layer = layers.Normalization()
    layer.adapt(DATA)
    with pytest.raises(ValueError, match=r"data of shape \(50, 2\), expected \(None, 3\)"):
        layer.adapt(DATA[:, :2])
