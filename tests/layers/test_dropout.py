"""Dropout and noise: statistics, invariances, random state, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
import easyflax.nnx as nnx
from easyflax.layers import (
    AlphaDropout,
    BatchNormalization,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)

X = jnp.asarray(np.random.default_rng(0).normal(size=(200, 50)).astype("float32"))
LAYERS = [Dropout(0.3), AlphaDropout(0.3), GaussianDropout(0.3), GaussianNoise(0.3)]


def test_a_share_of_the_entries_is_zero_and_the_mean_stays():
    y = Dropout(0.25)(jnp.ones((100, 100)), training=True)
    assert float(jnp.mean(y == 0)) == pytest.approx(0.25, abs=0.02)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}


def test_alpha_dropout_keeps_mean_and_variance():
    y = AlphaDropout(0.3)(jax.random.normal(jax.random.key(0), (300, 300)), training=True)
    assert float(y.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(y.std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("layer", "mean", "std"),
    [(GaussianDropout(0.2), 1.0, 0.5), (GaussianNoise(0.3), 1.0, 0.3)],
    ids=["dropout", "noise"],
)
def test_noise_has_the_mean_and_spread_that_was_asked_for(layer, mean, std):
    y = layer(jnp.ones((200, 200)), training=True)
    assert float(y.mean()) == pytest.approx(mean, abs=0.02)
    assert float(y.std()) == pytest.approx(std, abs=0.02)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_nothing_happens_in_inference_and_each_call_in_training_differs(layer):
    assert layer(X) is X
    first, second = layer(X, training=True), layer(X, training=True)
    assert not np.array_equal(first, second)
    assert layer.weights == []


@pytest.mark.parametrize("kind", [type(layer) for layer in LAYERS], ids=lambda kind: kind.__name__)
def test_a_rate_of_zero_changes_nothing_and_holds_no_state(kind):
    layer = kind(0.0)
    assert layer(X, training=True) is X
    assert not nnx.state(layer, nnx.RngState)


@pytest.mark.parametrize(
    ("layer", "shape", "shared"),
    [
        (Dropout(0.5, noise_shape=(None, 1, None)), (8, 5, 16), 1),
        (SpatialDropout1D(0.5), (8, 5, 16), 1),
        (SpatialDropout2D(0.5), (8, 5, 3, 16), (1, 2)),
        (SpatialDropout2D(0.5, data_format="channels_first"), (8, 16, 3, 5), (2, 3)),
        (SpatialDropout3D(0.5), (8, 2, 3, 2, 16), (1, 2, 3)),
    ],
    ids=["noise-shape", "1d", "2d", "channels-first", "3d"],
)
def test_one_decision_holds_along_shared_axes(layer, shape, shared):
    dropped = np.asarray(layer(jnp.ones(shape), training=True)) == 0
    np.testing.assert_array_equal(dropped.any(shared), dropped.all(shared))
    assert 0.3 < dropped.mean() < 0.7


def test_equal_seeds_draw_equally_and_others_follow_from_the_global_seed():
    np.testing.assert_array_equal(*(Dropout(0.5, seed=1)(X, training=True) for _ in range(2)))
    drawn = []
    for _ in range(2):
        ef.utils.set_random_seed(3)
        drawn.append([Dropout(0.5)(X, training=True), Dropout(0.5)(X, training=True)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(*drawn[0])
    ef.utils.set_random_seed(0)


def test_the_counter_is_state_that_a_transform_carries_on():
    layer = Dropout(0.5)
    call = nnx.jit(lambda layer, x: layer(x, training=True))
    assert not np.array_equal(call(layer, X), call(layer, X))
    assert int(layer.seed_generator.state[...][1]) == 2


@pytest.mark.parametrize("kind", [Dropout, BatchNormalization], ids=["dropout", "norm"])
def test_training_may_be_passed_by_position(kind):
    layer = kind(0.5, seed=1) if kind is Dropout else kind()
    layer(X, True)
    np.testing.assert_array_equal(layer(X, False), layer(X))
    assert not np.array_equal(layer(X, True), layer(X, False))


def test_modes_of_nnx_set_the_mode():
    layer = Dropout(1.0)
    layer.train()
    np.testing.assert_array_equal(layer(X), 0.0)
    layer.eval()
    assert layer(X) is X


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Dropout(1.5), r"Dropout: got rate=1.5, expected a number from 0 to 1"),
        (lambda: Dropout("half"), "got rate='half'"),
        (lambda: AlphaDropout(1.0), "got rate=1.0, expected a number from 0 to below 1"),
        (lambda: GaussianDropout(1.0), "got rate=1.0, expected a number from 0 to below 1"),
        (lambda: GaussianNoise(-0.1), "GaussianNoise: got stddev=-0.1"),
        (lambda: Dropout(0.5, noise_shape="all"), "got noise_shape='all', expected a tuple"),
        (lambda: Dropout(0.5, noise_shape=(0, 1)), "expected positive integers and None"),
        (lambda: SpatialDropout2D(0.5, "last"), r"data_format='last', expected one of \['channels_last'"),
    ],
    ids=["rate", "type", "alpha", "gaussian", "noise", "str", "size", "format"],
)
def test_arguments_that_make_no_sense_are_refused(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_inputs_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"SpatialDropout1D 'drop': .*\(200, 50\), expected 3 axes"):
        SpatialDropout1D(0.5, name="drop")(X)
    for noise_shape in ((200, 1, 50), (200, 7)):
        with pytest.raises(ValueError, match=r"Dropout 'drop': .*expected one that broadcasts to it"):
            Dropout(0.5, noise_shape=noise_shape, name="drop")(X, training=True)
