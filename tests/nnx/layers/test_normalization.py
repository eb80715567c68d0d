from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = np.random.default_rng(0).normal(2.0, 3.0, size=(2, 4, 6)).astype(np.float32)
NORMAL = jax.nn.initializers.normal(1.0)


def _centred(x: np.ndarray, axes: Any, epsilon: float = 1e-6) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_layer_norm_normalises_each_example() -> None:
    layer = nnx.LayerNorm(6, scale_init=NORMAL, bias_init=NORMAL, rngs=nnx.Rngs(0))
    expected = _centred(X, -1) * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_over_several_axes_with_features_on_one() -> None:
    layer = nnx.LayerNorm(4, reduction_axes=(1, 2), feature_axes=1, bias_init=NORMAL, rngs=nnx.Rngs(0))
    expected = _centred(X, (1, 2)) + np.asarray(layer.bias[...])[:, None]
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_does_not_see_scale_and_shift_of_its_input() -> None:
    layer = nnx.LayerNorm(6, use_scale=False, use_bias=False, epsilon=0.0, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(5 * X + 7), layer(X), rtol=1e-3, atol=1e-3)
    assert list(nnx.to_flat_state(nnx.state(layer))) == []


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    layer = nnx.RMSNorm(6, scale_init=NORMAL, rngs=nnx.Rngs(0))
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-6) * np.asarray(layer.scale[...])
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nnx.LayerNorm(6, reduction_axes=(1, 2), rngs=nnx.Rngs(0)),
        nnx.RMSNorm(6, reduction_axes=(1, 2), rngs=nnx.Rngs(0)),
        nnx.GroupNorm(6, num_groups=2, rngs=nnx.Rngs(0)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_padding_under_a_mask_changes_nothing(layer: Any) -> None:
    padded = np.concatenate([X, np.full((2, 3, 6), 1e5, np.float32)], axis=1)
    mask = (np.arange(7) < 4)[None, :, None]
    np.testing.assert_allclose(layer(padded, mask=mask)[:, :4], layer(X), rtol=1e-5, atol=1e-5)


def test_an_example_split_over_a_named_axis_gives_the_statistics_of_the_whole() -> None:
    for make in (nnx.LayerNorm, nnx.RMSNorm):
        whole = make(6, reduction_axes=(1, 2), rngs=nnx.Rngs(0))
        split = make(6, reduction_axes=(1, 2), axis_name="time", rngs=nnx.Rngs(0))
        y = jax.vmap(split, in_axes=1, out_axes=1, axis_name="time")(X.reshape(2, 2, 2, 6))
        np.testing.assert_allclose(y.reshape(X.shape), whole(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make", [nnx.LayerNorm, nnx.RMSNorm, lambda n, **o: nnx.GroupNorm(n, num_groups=2, **o)]
)
def test_dtypes(make: Any) -> None:
    layer = make(6, dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    assert layer(X).dtype == jnp.bfloat16
    assert layer.scale.dtype == jnp.float16


# -- errors


@pytest.mark.parametrize(
    "make", [nnx.LayerNorm, nnx.RMSNorm, lambda n, **o: nnx.GroupNorm(n, num_groups=2, **o)]
)
def test_another_number_of_features_is_told(make: Any) -> None:
    layer = make(4, rngs=nnx.Rngs(0))
    message = r"(?s)Norm: got an input of shape \(2, 4, 6\) with 6 features.*expected \(\.\.\., 4\).*=6\."
    with pytest.raises(ValueError, match=message):
        layer(X)
    with pytest.raises(ValueError, match=r"Norm: got an input of shape \(\), expected at least 1 axes"):
        layer(1.0)


def test_another_number_of_features_is_told_without_parameters_too() -> None:
    layer = nnx.LayerNorm(4, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"LayerNorm: got an input of shape \(2, 4, 6\) with 6 features"):
        layer(X)


def test_features_along_several_axes_are_counted_together() -> None:
    layer = nnx.LayerNorm(20, feature_axes=(-2, -1), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"with 24 entries along feature_axes=\(-2, -1\), expected 20\. .*num_features=24"
    ):
        layer(X)


def test_axes_that_the_input_does_not_have_are_told() -> None:
    layer = nnx.LayerNorm(6, reduction_axes=(2, 3), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"LayerNorm: got an input of shape \(2, 4, 6\), which has no axis 3, expected"
    ):
        layer(X)
