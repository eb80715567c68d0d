from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers.spectral_norm import spectral_norm

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def _wrapped(**options: Any) -> nnx.SpectralNorm:
    rngs = nnx.Rngs(0)
    return nnx.SpectralNorm(nnx.Linear(3, 4, rngs=rngs), **options, rngs=rngs)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 1)])
def test_power_iteration_finds_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    weight = jax.random.normal(jax.random.key(0), shape)
    normal, u, sigma = spectral_norm(weight, jnp.ones((1, shape[-1])), n_steps=50)
    matrix = np.asarray(weight).reshape(-1, shape[-1])
    np.testing.assert_allclose(sigma, np.linalg.norm(matrix, ord=2), rtol=1e-4)
    np.testing.assert_allclose(normal, weight / sigma, rtol=1e-6)
    np.testing.assert_allclose(np.abs(u[0]), np.abs(np.linalg.svd(matrix)[2][0]), atol=1e-2)


def test_weights_of_zero_stay_zero() -> None:
    normal, _, sigma = spectral_norm(jnp.zeros((2, 3)), jnp.ones((1, 3)))
    assert (normal.any(), sigma) == (False, 0.0)


def test_the_layer_computes_with_normalised_weights_and_holds_them_after_the_call() -> None:
    layer = _wrapped(n_steps=50)
    kernel = np.asarray(layer.layer_instance.kernel[...])
    expected = kernel / np.linalg.norm(kernel, ord=2)
    np.testing.assert_allclose(layer(X), X @ expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.layer_instance.kernel[...], expected, rtol=1e-4)


def test_only_parameters_with_two_axes_or_more_are_normalised() -> None:
    rngs = nnx.Rngs(0)
    layer = nnx.SpectralNorm(nnx.Conv(3, 4, 2, rngs=rngs), rngs=rngs)
    assert sorted(layer.batch_stats) == [("kernel", "sigma"), ("kernel", "u")]
    assert layer.batch_stats["kernel", "u"].shape == (1, 4)
    assert layer.batch_stats["kernel", "sigma"].shape == ()


def test_statistics_move_in_training_and_stay_in_inference() -> None:
    layer = _wrapped()
    before = np.asarray(layer.batch_stats["kernel", "u"][...])
    layer.eval()
    layer(X)
    np.testing.assert_array_equal(layer.batch_stats["kernel", "u"][...], before)
    layer(X, update_stats=True)
    assert not np.array_equal(layer.batch_stats["kernel", "u"][...], before)
    layer.train()
    after = np.asarray(layer.batch_stats["kernel", "u"][...])
    layer(X, update_stats=False)
    np.testing.assert_array_equal(layer.batch_stats["kernel", "u"][...], after)


def test_statistics_and_weights_keep_their_dtypes() -> None:
    rngs = nnx.Rngs(0)
    inner = nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=rngs)
    for options in ({"param_dtype": jnp.bfloat16}, {}, {"dtype": jnp.float16}):
        layer = nnx.SpectralNorm(inner, **options, rngs=rngs)
        dtypes = jax.tree.map(lambda leaf: leaf.dtype, nnx.state(layer))
        layer(X)  # warnings are errors: nothing is cast unsaid
        assert jax.tree.map(lambda leaf: leaf.dtype, nnx.state(layer)) == dtypes


def test_the_gradient_is_that_of_the_function_by_the_weights_before_the_call() -> None:
    layer = _wrapped()
    kernel, u = layer.layer_instance.kernel[...], layer.batch_stats["kernel", "u"][...]
    grads = nnx.grad(lambda layer, x: (layer(x) ** 2).sum())(layer, X)
    expected = jax.grad(lambda kernel: ((X @ spectral_norm(kernel, u)[0]) ** 2).sum())(kernel)
    np.testing.assert_allclose(grads["layer_instance"]["kernel"][...], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        nnx.jit(lambda layer, x: layer(x)),
        nnx.remat(lambda layer, x: layer(x)),
        lambda layer, x: nnx.merge(*nnx.split(layer))(x),
    ],
    ids=["jit", "remat", "split and merge"],
)
def test_it_works_under_transforms(call: Any) -> None:
    ours, other = _wrapped(), _wrapped()
    np.testing.assert_allclose(call(ours, X), other(X), rtol=1e-5)


def test_a_weight_with_more_than_two_axes_is_an_error_on_request() -> None:
    rngs = nnx.Rngs(0)
    with pytest.raises(
        ValueError,
        match=r"SpectralNorm: got the weight 'kernel' of shape \(2, 3, 4\), expected two axes, since",
    ):
        nnx.SpectralNorm(nnx.Conv(3, 4, 2, rngs=rngs), error_on_non_matrix=True, rngs=rngs)


def test_the_weights_may_not_become_others_after_wrapping() -> None:
    model = nnx.Dict(
        body=nnx.SpectralNorm(nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0))), rngs=nnx.Rngs(0))
    )
    model.body.layer_instance.layers.append(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match=r"SpectralNorm 'body': got a layer with the weight 'layers\.1\.kernel', expected"
    ):
        model.body(X)
