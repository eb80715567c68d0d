from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = np.random.default_rng(0).normal(2.0, 3.0, size=(8, 5, 3)).astype(np.float32)


def _by_hand(x: np.ndarray, mean: np.ndarray, var: np.ndarray, layer: nnx.BatchNorm) -> np.ndarray:
    return (x - mean) / np.sqrt(var + layer.epsilon) * np.asarray(layer.scale[...]) + np.asarray(
        layer.bias[...]
    )


def _layer(**options: Any) -> nnx.BatchNorm:
    normal = jax.nn.initializers.normal(1.0)
    return nnx.BatchNorm(3, scale_init=normal, bias_init=normal, rngs=nnx.Rngs(0), **options)


def test_training_normalises_with_the_batch_and_moves_the_running_averages() -> None:
    layer = _layer(momentum=0.9)
    np.testing.assert_allclose(
        layer(X), _by_hand(X, X.mean((0, 1)), X.var((0, 1)), layer), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(layer.mean[...], 0.1 * X.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * X.var((0, 1)), rtol=1e-4)


def test_inference_uses_the_running_averages_and_leaves_them_alone() -> None:
    layer = _layer()
    layer(X)
    mean, var = np.asarray(layer.mean[...]), np.asarray(layer.var[...])
    layer.eval()
    np.testing.assert_allclose(layer(2 * X), _by_hand(2 * X, mean, var, layer), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.mean[...], mean)
    layer.train()
    layer(X)
    assert bool((layer.mean[...] != mean).all())


def test_the_argument_of_the_call_goes_before_the_attribute() -> None:
    layer = _layer(use_running_average=True)
    layer(X, use_running_average=False)
    assert bool((layer.mean[...] != 0).all())


def test_padding_under_a_mask_changes_nothing() -> None:
    padded = np.concatenate([X, np.full((3, 5, 3), 1e6, np.float32)])
    mask = (np.arange(11) < 8)[:, None, None]
    plain, masked = _layer(), _layer()
    np.testing.assert_allclose(masked(padded, mask=mask)[:8], plain(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked.mean[...], plain.mean[...], rtol=1e-5)
    np.testing.assert_allclose(masked.var[...], plain.var[...], rtol=1e-5)


def test_features_may_lie_along_another_axis() -> None:
    layer, moved = _layer(), _layer(axis=1)
    np.testing.assert_allclose(
        moved(np.moveaxis(X, -1, 1)), np.moveaxis(layer(X), -1, 1), rtol=1e-5, atol=1e-5
    )


def test_running_averages_move_under_jit_and_grad() -> None:
    eager, jitted = _layer(), _layer()

    @nnx.jit
    def step(layer: nnx.BatchNorm, x: Any) -> Any:
        return nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)

    step(jitted, X)
    eager(X)
    np.testing.assert_allclose(jitted.mean[...], eager.mean[...], rtol=1e-5)
    np.testing.assert_allclose(jitted.var[...], eager.var[...], rtol=1e-5)


def test_a_batch_split_over_a_named_axis_gives_the_statistics_of_the_whole() -> None:
    whole, split = _layer(), _layer(axis_name="batch")
    expected = whole(X)
    graphdef, state = nnx.split(split)

    def one(x: Any) -> Any:
        layer = nnx.merge(graphdef, state, copy=True)
        return layer(x), layer.mean[...]

    y, mean = jax.vmap(one, axis_name="batch")(X.reshape(4, 2, 5, 3))
    np.testing.assert_allclose(y.reshape(X.shape), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, np.tile(whole.mean[...], (4, 1)), rtol=1e-5)


def test_without_scale_and_bias_there_are_no_parameters() -> None:
    layer = nnx.BatchNorm(3, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
    assert list(nnx.to_flat_state(nnx.state(layer, nnx.Param))) == []
    np.testing.assert_allclose(layer(X).mean((0, 1)), 0.0, atol=1e-5)


def test_statistics_are_float32_and_the_output_of_the_dtype_asked_for() -> None:
    layer = nnx.BatchNorm(3, dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    assert layer(X).dtype == jnp.bfloat16
    assert (layer.mean.dtype, layer.var.dtype, layer.scale.dtype) == (jnp.float32, jnp.float32, jnp.float16)


def test_the_mode_must_be_given_somewhere() -> None:
    layer = _layer(use_running_average=None)
    with pytest.raises(
        ValueError, match=r"BatchNorm: got no use_running_average, expected True .* call model.train\(\)"
    ):
        layer(X)
    layer.eval()
    assert layer(X).shape == X.shape


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (
            -1,
            (8, 4),
            r"got an input of shape \(8, 4\) with 4 features in its last axis, expected \(\.\.\., 3\)",
        ),
        (
            1,
            (8, 4, 5),
            r"got an input of shape \(8, 4, 5\) with 4 features in axis 1, expected with 3 along axis 1",
        ),
        (1, (8,), r"got an input of shape \(8,\), expected at least 2 axes"),
        (-1, (), r"got an input of shape \(\), expected at least 1 axes"),
    ],
)
def test_another_number_of_features_is_told(axis: int, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match="BatchNorm: " + message):
        nnx.BatchNorm(3, axis=axis, rngs=nnx.Rngs(0))(jnp.ones(shape))


def test_a_mask_that_does_not_broadcast_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"BatchNorm: got a mask of shape \(8,\) for an input of shape \(8, 5, 3\)"
    ):
        _layer()(X, mask=np.ones(8, bool))


def test_the_axis_must_be_an_integer() -> None:
    with pytest.raises(TypeError, match=r"BatchNorm: got axis=\(1, 2\) of type tuple, expected an integer"):
        nnx.BatchNorm(3, axis=(1, 2), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def test_running_averages_stay_real_where_inputs_are_complex() -> None:
    layer = nnx.BatchNorm(1, momentum=0.0, rngs=nnx.Rngs(0))
    layer(jnp.array([[1.0 + 2.0j], [3.0 + 2.0j]]))  # warnings are errors
    assert (layer.mean.dtype, layer.mean[...].tolist(), layer.var[...].tolist()) == ("float32", [2.0], [1.0])
