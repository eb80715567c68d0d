"""Batch normalisation: closed forms, modes, names of weights, several devices, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import easyflax.nnx as nnx
from easyflax.layers import BatchNormalization, Dense
from easyflax.models import Sequential

X = np.random.default_rng(0).normal(2.0, 3.0, size=(16, 4)).astype("float32")


def test_training_normalizes_by_the_batch_and_moves_the_averages_towards_it():
    layer = BatchNormalization(momentum=0.9, epsilon=0.0)
    y = layer(X, training=True)
    np.testing.assert_allclose(y, (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean[...], 0.1 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance[...], 0.9 + 0.1 * X.var(0), rtol=1e-5)


def test_a_direct_call_is_inference_until_train_is_called():
    layer = BatchNormalization(epsilon=0.0)
    np.testing.assert_array_equal(layer(X), X)
    layer.train()
    assert abs(float(layer(X).mean())) < 1e-5
    layer.eval()
    assert abs(float(layer(X).mean())) > 1.0


def test_the_mode_that_was_set_before_the_layer_is_built_holds():
    layer = BatchNormalization()
    layer.train()
    layer(X)
    assert not layer.use_running_average
    assert float(jnp.abs(layer.moving_mean[...]).min()) > 0.0


def test_training_passed_to_a_layer_around_reaches_it():
    model = Sequential([Dense(4), BatchNormalization()])
    model(X, training=True)
    assert float(jnp.abs(model.layers[1].moving_mean[...]).max()) > 0.0


def test_kerass_names_and_those_of_nnx_give_the_same_variables():
    layer = BatchNormalization()
    assert layer.gamma is layer.beta is layer.moving_mean is layer.moving_variance is None
    layer(X)
    assert isinstance(layer, nnx.BatchNorm)
    assert layer.gamma is layer.scale
    assert layer.beta is layer.bias
    assert layer.moving_mean is layer.mean
    assert layer.moving_variance is layer.var
    assert [w.shape for w in layer.weights] == [(4,)] * 4
    assert [id(w) for w in layer.weights] == [id(w) for w in (layer.scale, layer.bias, layer.mean, layer.var)]


def test_a_frozen_layer_keeps_its_averages_and_uses_them():
    layer = BatchNormalization()
    layer(X)
    layer.trainable = False
    np.testing.assert_array_equal(layer(X, training=True), layer(X))
    np.testing.assert_array_equal(layer.moving_mean[...], np.zeros(4))


def test_entries_under_a_mask_do_not_count():
    x = np.stack([X, np.full_like(X, 1e3)], axis=1)
    mask = np.stack([np.ones(16, bool), np.zeros(16, bool)], axis=1)
    layer, plain = BatchNormalization(), BatchNormalization()
    y = layer(x, training=True, mask=mask)
    np.testing.assert_allclose(y[:, 0], plain(X, training=True), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean[...], plain.moving_mean[...], rtol=1e-5)


def test_a_mask_without_entries_leaves_no_nan():
    layer = BatchNormalization()
    layer(X[:, None], training=True, mask=np.zeros((16, 1), bool))
    assert bool(jnp.isfinite(layer.moving_mean[...]).all())


@pytest.mark.parametrize("renorm", [False, True], ids=["plain", "renorm"])
def test_features_along_another_axis_are_the_same_features(renorm):
    x = X.reshape(2, 8, 4)
    last, first = BatchNormalization(renorm=renorm), BatchNormalization(axis=1, renorm=renorm)
    np.testing.assert_allclose(
        np.moveaxis(last(x, training=True), -1, 1), first(np.moveaxis(x, -1, 1), training=True), rtol=1e-5
    )
    np.testing.assert_allclose(last.get_weights()[3], first.get_weights()[3], rtol=1e-5)


def test_renormalization_in_training_is_inference_if_nothing_is_clipped():
    layer = BatchNormalization(renorm=True)
    inference = layer(X)
    np.testing.assert_allclose(layer(X, training=True), inference, rtol=1e-2, atol=1e-2)


def test_a_batch_that_is_divided_among_devices_gives_the_same_statistics():
    layer, alone = BatchNormalization(synchronized=True), BatchNormalization()
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    layer(X)
    call = nnx.jit(lambda layer, x: layer(x, training=True))
    y = call(layer, jax.device_put(X, sharding))
    np.testing.assert_allclose(y, alone(X, training=True), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance[...], alone.moving_variance[...], rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"renorm_clipping": {"max": 2.0}}, "has the key 'max', expected rmax, rmin, dmax"),
        ({"renorm_clipping": {"rmax": 1.0, "rmin": 2.0}}, "expected rmin <= rmax and dmax >= 0"),
        ({"renorm_clipping": {"dmax": -1.0}}, "expected rmin <= rmax and dmax >= 0"),
    ],
    ids=["unknown", "order", "negative"],
)
def test_bounds_that_make_no_sense_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        BatchNormalization(renorm=True, **kwargs)


@pytest.mark.parametrize("renorm", [False, True], ids=["plain", "renorm"])
def test_messages_name_the_layer_and_the_sizes(renorm):
    with pytest.raises(ValueError, match=r"BatchNormalization 'norm': .*\(None, 4\), which has no axis 3"):
        BatchNormalization(axis=3, name="norm")(X)
    layer = BatchNormalization(name="norm", renorm=renorm)
    layer(X)
    with pytest.raises(ValueError, match=r"BatchNormalization 'norm': .*3 features"):
        layer(X[:, :3], training=True)
    with pytest.raises(ValueError, match=r"a mask of shape \(3,\), expected \(16,\)"):
        layer(X, mask=np.ones(3, bool))
