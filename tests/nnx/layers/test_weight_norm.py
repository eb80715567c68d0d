from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers.weight_norm import l2_normalize, weight_norm

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def _wrapped(**options: Any) -> nnx.WeightNorm:
    rngs = nnx.Rngs(0)
    return nnx.WeightNorm(nnx.Linear(3, 4, rngs=rngs), **options, rngs=rngs)


def test_l2_normalized_vectors_have_norm_one() -> None:
    x = jnp.asarray(X)
    np.testing.assert_allclose(jnp.linalg.norm(l2_normalize(x, 1), axis=1), np.ones(5), rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(l2_normalize(x)), 1.0, rtol=1e-6)
    assert not l2_normalize(jnp.zeros(3)).any()


@pytest.mark.parametrize(("axes", "kept"), [(-1, 1), (0, 0), ((), None)])
def test_weights_have_the_norm_of_their_scale_along_each_feature(axes: Any, kept: int | None) -> None:
    weight = jnp.asarray(X)
    shape = () if kept is None else (weight.shape[kept],)
    scale = jnp.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)
    y = weight_norm(weight, scale, feature_axes=axes)
    others = tuple(axis for axis in range(2) if axis != kept)
    np.testing.assert_allclose(jnp.sqrt((y**2).sum(others)), scale, rtol=1e-6)
    np.testing.assert_array_equal(jnp.sign(y), jnp.sign(weight))


def test_the_layer_computes_with_normalised_weights_and_holds_them_after_the_call() -> None:
    layer = _wrapped(scale_init=nnx.initializers.constant(3.0))
    kernel = np.asarray(layer.layer_instance.kernel[...])
    expected = 3 * kernel / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(layer(X), X @ expected, rtol=1e-5)
    np.testing.assert_allclose(layer.layer_instance.kernel[...], expected, rtol=1e-6)


def test_scales_are_arrays_by_path_and_no_parameters() -> None:
    layer = _wrapped()
    assert list(layer.scales or {}) == [("kernel",)]
    assert [path for path, _ in nnx.to_flat_state(nnx.state(layer, nnx.Param))] == [
        ("layer_instance", "bias"),
        ("layer_instance", "kernel"),
    ]
    assert _wrapped(use_scale=False).scales is None


def test_a_filter_says_which_weights_are_normalised() -> None:
    layer = _wrapped(variable_filter=nnx.Param)
    layer.layer_instance.bias[...] = jnp.array([2.0, -3.0, 4.0, -5.0])
    layer(X)
    assert layer.layer_instance.bias[...].round(5).tolist() == [1.0, -1.0, 1.0, -1.0]


def test_scales_may_be_drawn_and_leave_the_keys_of_later_layers_alone() -> None:
    drawn, constant = nnx.Rngs(0), nnx.Rngs(0)
    layer = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 4, rngs=nnx.Rngs(1)))
    wrapped = nnx.WeightNorm(layer, scale_init=nnx.initializers.normal(1.0), rngs=drawn)
    nnx.WeightNorm(layer, rngs=constant)
    scales = list((wrapped.scales or {}).values())
    assert not np.array_equal(scales[0], scales[1])
    assert drawn.params() == constant.params()


def test_the_gradient_is_that_of_the_function_by_the_weights_before_the_call() -> None:
    layer = _wrapped()
    kernel, bias = layer.layer_instance.kernel[...], layer.layer_instance.bias[...]
    grads = nnx.grad(lambda layer, x: (layer(x) ** 2).sum())(layer, X)
    expected = jax.grad(lambda kernel: ((X @ weight_norm(kernel) + bias) ** 2).sum())(kernel)
    np.testing.assert_allclose(grads["layer_instance"]["kernel"][...], expected, rtol=1e-4, atol=1e-5)
    # A weight times a number is the same layer: along the weight the gradient is zero.
    np.testing.assert_allclose((expected * kernel).sum(0), np.zeros(4), atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        nnx.jit(lambda layer, x: layer(x)),
        nnx.remat(lambda layer, x: layer(x)),
        nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0)),
        lambda layer, x: nnx.merge(*nnx.split(layer))(x),
    ],
    ids=["jit", "remat", "vmap", "split and merge"],
)
def test_it_works_under_transforms(call: Any) -> None:
    layer = _wrapped(use_scale=False)
    np.testing.assert_allclose(call(nnx.clone(layer), X), layer(X), rtol=1e-5)


def test_a_class_or_a_function_is_no_layer_to_wrap() -> None:
    with pytest.raises(TypeError, match=r"WeightNorm: got the class Linear as layer_instance, expected a"):
        nnx.WeightNorm(nnx.Linear, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"SpectralNorm: got a function as layer_instance"):
        nnx.SpectralNorm(lambda x: x, rngs=nnx.Rngs(0))


def test_weights_must_have_the_feature_axes() -> None:
    with pytest.raises(
        ValueError,
        match=r"WeightNorm: got feature_axes=2 for the weight 'kernel' of shape \(3, 4\), expected",
    ):
        _wrapped(feature_axes=2)


def test_the_weights_may_not_become_others_after_wrapping() -> None:
    model = nnx.Dict(
        body=nnx.WeightNorm(nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0))), rngs=nnx.Rngs(0))
    )
    model.body.layer_instance.layers.append(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError,
        match=r"WeightNorm 'body': got a layer with the weight 'layers\.1\.kernel', expected the weights "
        r"that it had when it was wrapped: 'layers\.0\.kernel'\. Wrap",
    ):
        model.body(X)
