from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from easyflax.nnx.layers.moments import moments, normalize

X = np.random.default_rng(0).normal(2.0, 3.0, size=(6, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("axes", [0, -1, (0, 1), (0, 2), (-1, -2), ()])
@pytest.mark.parametrize("fast", [True, False])
def test_they_are_mean_and_variance(axes: Any, fast: bool) -> None:
    mean, var = moments(jnp.asarray(X), axes, use_fast_variance=fast)
    np.testing.assert_allclose(mean, X.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(var, X.var(axes), rtol=1e-4, atol=1e-5)


def test_without_a_mean_the_variance_is_the_mean_square() -> None:
    mean, var = moments(jnp.asarray(X), 0, use_mean=False)
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_allclose(var, (X**2).mean(0), rtol=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_a_mask_is_the_same_as_leaving_entries_out(fast: bool) -> None:
    keep = np.array([True, False, True, True, False, True])
    mean, var = moments(jnp.asarray(X), (0, 1), mask=jnp.asarray(keep)[:, None, None], use_fast_variance=fast)
    np.testing.assert_allclose(mean, X[keep].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(var, X[keep].var((0, 1)), rtol=1e-4)


def test_the_slow_variance_does_not_cancel_where_the_fast_one_does() -> None:
    x = jnp.asarray(X[:, 0, 0] + 1e4)
    exact = np.asarray(x).astype(np.float64).var()
    assert float(moments(x, 0, use_fast_variance=False)[1]) == pytest.approx(exact, rel=1e-3)
    assert float(moments(x, 0)[1]) >= 0.0


def test_halves_are_computed_in_float32() -> None:
    x = jnp.full((5000,), 3.0, jnp.bfloat16)
    mean, var = moments(x, 0)
    assert (mean.dtype, float(mean), float(var)) == (jnp.float32, 3.0, 0.0)


def test_complex_numbers_have_a_real_variance() -> None:
    z = X[..., 0] + 1j * X[..., 1]
    mean, var = moments(jnp.asarray(z, jnp.complex64), 0)
    np.testing.assert_allclose(mean, z.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, z.var(0), rtol=1e-4)
    assert var.dtype == jnp.float32


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_statistics_over_devices_are_those_of_the_whole_batch(fast: bool, masked: bool) -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(1.0, 2.0, size=(24, 3)).astype(np.float32))
    mask = jnp.asarray(np.arange(24) % 5 > 0)[:, None] if masked else jnp.ones((24, 1), bool)
    mask = mask.at[:3].set(~jnp.asarray(masked))  # the first device has nothing that counts
    given = mask if masked else None

    def one_device(x: Any, mask: Any) -> Any:
        return moments(x, 0, axis_name="data", use_fast_variance=fast, mask=mask if masked else None)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over_devices = jax.shard_map(one_device, mesh=mesh, in_specs=P("data"), out_specs=P())
    for got, expected in zip(
        over_devices(x, mask), moments(x, 0, use_fast_variance=fast, mask=given), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_groups_of_devices_are_combined_apart() -> None:
    x = jnp.asarray(X[:, 0, :4]).reshape(4, 6)
    groups = [[0, 1], [2, 3]]

    def one(x: Any) -> Any:
        return moments(x, 0, axis_name="data", axis_index_groups=groups)

    mean, _ = jax.pmap(one, axis_name="data", devices=jax.devices()[:4])(x)
    halves = [float(x[:2].mean()), float(x[2:].mean())]
    np.testing.assert_allclose(mean, [halves[0], halves[0], halves[1], halves[1]], rtol=1e-5)


def test_normalizing_with_the_moments_gives_mean_zero_and_variance_one() -> None:
    x = jnp.asarray(X)
    mean, var = moments(x, (0, 2))
    y = normalize(x, mean, var, None, None, reduction_axes=(0, 2), feature_axes=1, epsilon=0.0)
    np.testing.assert_allclose(y.mean((0, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 2)), 1.0, rtol=1e-4)


def test_scale_and_bias_lie_along_the_feature_axes() -> None:
    x = jnp.asarray(X)
    mean, var = moments(x, -1)
    scale, bias = jnp.arange(4.0), jnp.arange(4.0) * 10
    plain = normalize(x, mean, var, None, None, reduction_axes=-1, feature_axes=1, epsilon=1e-6)
    y = normalize(x, mean, var, scale, bias, reduction_axes=-1, feature_axes=1, epsilon=1e-6)
    np.testing.assert_allclose(y, plain * scale[:, None] + bias[:, None], rtol=1e-5, atol=1e-5)
