"""Normalisation of each example by itself: closed forms, invariances, messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import (
    BatchNormalization,
    Dense,
    GroupNormalization,
    LayerNormalization,
    ReLU,
    RMSNormalization,
    SpectralNormalization,
    UnitNormalization,
)
from easyflax.layers.normalization import l2_normalize

X = np.random.default_rng(0).normal(2.0, 3.0, size=(3, 4, 6)).astype("float32")


@pytest.mark.parametrize("axis", [-1, 1, [1, 2], [-2, -1]], ids=str)
def test_layer_normalization_gives_mean_zero_and_variance_one_along_its_axes(axis):
    axes = tuple(axis) if isinstance(axis, list) else (axis,)
    layer = LayerNormalization(axis, epsilon=1e-9)
    y = np.asarray(layer(X))
    np.testing.assert_allclose(y.mean(axes), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1.0, rtol=1e-4)
    assert layer.gamma.shape == tuple(X.shape[one] for one in axes)


@pytest.mark.parametrize(
    "layer",
    [
        LayerNormalization(epsilon=0.0),
        GroupNormalization(2, epsilon=0.0),
        RMSNormalization(epsilon=0.0),
        UnitNormalization(),
    ],
    ids=lambda layer: layer.name,
)
def test_the_scale_of_the_input_does_not_matter(layer):
    np.testing.assert_allclose(layer(X), layer(8.0 * X), rtol=1e-5, atol=1e-6)


def test_the_root_mean_square_of_the_output_is_one():
    y = RMSNormalization(epsilon=0.0)(X)
    np.testing.assert_allclose(jnp.mean(y**2, -1), 1.0, rtol=1e-5)


def test_one_group_is_layer_normalization_over_all_axes_but_the_first():
    np.testing.assert_allclose(GroupNormalization(1)(X), LayerNormalization([1, 2])(X), rtol=1e-5, atol=1e-6)


def test_built_layers_are_those_of_nnx_with_kerass_names():
    kinds = (LayerNormalization, nnx.LayerNorm), (GroupNormalization, nnx.GroupNorm)
    for kind, of_nnx in kinds:
        layer = kind() if kind is LayerNormalization else kind(2)
        layer(X)
        assert isinstance(layer, of_nnx)
        assert layer.gamma is layer.scale
        assert layer.beta is layer.bias
        assert layer.get_config()["scale"] is True


def test_zeros_stay_zeros_and_have_finite_gradients():
    layer = UnitNormalization()
    grad = jax.grad(lambda x: jnp.sum(layer(x)))(jnp.zeros((2, 3)))
    assert bool(jnp.isfinite(grad).all())
    np.testing.assert_array_equal(l2_normalize(jnp.zeros(3), 0, epsilon=1e-7), 0.0)


def test_inputs_in_float32_are_normalized_in_it_under_a_mixed_policy():
    x = (1000.0 + X).astype("float32")  # bfloat16 keeps steps of 4 there
    layer = LayerNormalization(dtype="mixed_bfloat16")
    y = layer(jnp.asarray(x))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, "float32"), LayerNormalization()(x), atol=0.02)


def test_the_largest_singular_value_of_the_kernel_becomes_one():
    layer = SpectralNormalization(Dense(5), power_iterations=50)
    layer(X, training=True)
    assert float(jnp.linalg.norm(layer.layer.kernel[...], 2)) == pytest.approx(1.0, rel=1e-2)


def test_in_inference_the_kernel_stays_as_it_is():
    layer = SpectralNormalization(Dense(5))
    layer(X)
    before = layer.get_weights()
    layer(X)
    jax.tree.map(np.testing.assert_array_equal, before, layer.get_weights())


def test_a_kernel_of_zeros_is_left_and_can_be_normalized_later():
    layer = SpectralNormalization(Dense(5, kernel_initializer="zeros"), power_iterations=50)
    np.testing.assert_array_equal(layer(X, training=True), 0.0)
    layer.layer.kernel.set_value(jnp.eye(6, 5) * 3.0)
    layer(X, training=True)
    assert float(jnp.linalg.norm(layer.layer.kernel[...], 2)) == pytest.approx(1.0, rel=1e-4)


def test_a_wrapped_layer_that_is_frozen_stays_so():
    layer = SpectralNormalization(Dense(5))
    layer(X)
    assert layer.kernel is layer.layer.kernel
    assert [w.shape for w in layer.weights] == [(6, 5), (1, 5), (5,)]
    layer.layer.trainable = False
    assert layer.trainable_weights == []


def test_a_wrapped_layer_comes_back_from_its_configuration():
    layer = SpectralNormalization(Dense(5, activation="relu"), power_iterations=3)
    again = SpectralNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.layer, Dense)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LayerNormalization("last"), r"LayerNormalization: got axis='last', expected an integer"),
        (lambda: LayerNormalization(rms_scaling=True), "Use RMSNormalization"),
        (lambda: GroupNormalization(axis=[1]), r"GroupNormalization: .*axis"),
        (lambda: BatchNormalization(axis=[1]), r"BatchNormalization: .*axis"),
        (lambda: GroupNormalization(0), "got groups=0, expected a positive integer, or -1"),
        (lambda: SpectralNormalization(nnx.relu), "a layer of type .*, expected one of easyflax.layers"),
        (lambda: SpectralNormalization(Dense(2), 0), "power_iterations=0, expected 1 or more"),
    ],
    ids=["axis", "rms", "group-axis", "batch-axis", "groups", "wrapped", "iterations"],
)
def test_arguments_that_make_no_sense_are_refused(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (GroupNormalization(4, name="norm"), r"GroupNormalization 'norm': .*6 features .* groups=4"),
        (GroupNormalization(1, axis=0, name="norm"), "expected another axis than the first"),
        (LayerNormalization([1, 3], name="norm"), r"'norm': .*no axis 3, expected one with axis=\[1, 3\]"),
        (UnitNormalization(3, name="norm"), r"UnitNormalization 'norm': .*no axis 3"),
        (SpectralNormalization(ReLU()), "'re_lu' has neither a kernel nor embeddings"),
    ],
    ids=["groups", "batch-axis", "axis", "unit", "no-kernel"],
)
def test_inputs_that_do_not_fit_are_named(layer, match):
    with pytest.raises(ValueError, match=match):
        layer(X)


def test_free_sizes_of_features_are_refused():
    with pytest.raises(ValueError, match=r"\(None, None\), expected a known size of axis -1"):
        LayerNormalization().compute_output_shape((None, None))
