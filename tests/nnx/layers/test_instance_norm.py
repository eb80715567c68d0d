from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from easyflax import nnx

X = np.random.default_rng(0).normal(2.0, 3.0, size=(2, 4, 6)).astype(np.float32)
NORMAL = jax.nn.initializers.normal(1.0)


@pytest.mark.parametrize(("features", "size", "axes"), [(-1, 6, 1), (1, 4, 2), ((1, 2), 24, ())])
def test_each_feature_of_each_example_is_normalised(features: Any, size: int, axes: Any) -> None:
    layer = nnx.InstanceNorm(
        size, feature_axes=features, scale_init=NORMAL, bias_init=NORMAL, rngs=nnx.Rngs(0)
    )
    shape = [X.shape[axis] if axis in np.atleast_1d(features) % 3 else 1 for axis in range(3)]
    centred = (X - X.mean(axes, keepdims=True)) / np.sqrt(X.var(axes, keepdims=True) + 1e-6)
    expected = centred * layer.scale[...].reshape(shape) + layer.bias[...].reshape(shape)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)


def test_it_is_group_norm_with_one_feature_a_group() -> None:
    instance = nnx.InstanceNorm(6, rngs=nnx.Rngs(0))
    group = nnx.GroupNorm(6, num_groups=6, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(instance(X), group(X), rtol=1e-5, atol=1e-5)


def test_masked_entries_do_not_count() -> None:
    layer = nnx.InstanceNorm(6, rngs=nnx.Rngs(0))
    padded = np.concatenate([X, np.full((2, 3, 6), 7.0, np.float32)], axis=1)
    mask = np.arange(7)[:, None] < 4
    np.testing.assert_allclose(layer(padded, mask=mask)[:, :4], layer(X), rtol=1e-5, atol=1e-5)


def test_the_batch_axis_holds_no_features() -> None:
    layer = nnx.InstanceNorm(6, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"InstanceNorm: got feature_axes=-1 for an input with 1 axes, expected axes without"
    ):
        layer(X[0, 0])


@pytest.mark.parametrize(
    ("shape", "message"), [((2, 4, 5), "5 features in its last axis"), ((), "at least 1")]
)
def test_inputs_of_the_wrong_size_are_refused(shape: Any, message: str) -> None:
    model = nnx.Dict(norm=nnx.InstanceNorm(6, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=rf"InstanceNorm 'norm': got an input of shape .*{message}"):
        model.norm(np.ones(shape, np.float32))


def test_a_mask_must_broadcast() -> None:
    layer = nnx.InstanceNorm(6, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"InstanceNorm.*: got a mask of shape \(4,\) for an input of shape"):
        layer(X, mask=np.ones(4, bool))
