from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from easyflax import nnx

X = np.random.default_rng(0).normal(2.0, 3.0, size=(2, 4, 6)).astype(np.float32)
NORMAL = jax.nn.initializers.normal(1.0)


@pytest.mark.parametrize("options", [{"num_groups": 3}, {"num_groups": None, "group_size": 2}])
def test_group_norm_normalises_each_group_of_features(options: Any) -> None:
    layer = nnx.GroupNorm(6, **options, scale_init=NORMAL, bias_init=NORMAL, rngs=nnx.Rngs(0))
    assert (layer.num_groups, layer.group_size) == (3, 2)
    grouped = X.reshape(2, 4, 3, 2)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    groups = (centred / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)).reshape(X.shape)
    expected = groups * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-4)


def test_group_norm_with_one_group_is_layer_norm_over_all_but_the_batch() -> None:
    group = nnx.GroupNorm(6, num_groups=1, rngs=nnx.Rngs(0))
    layer = nnx.LayerNorm(6, reduction_axes=(1, 2), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(group(X), layer(X), rtol=1e-5, atol=1e-5)


def test_group_norm_takes_chosen_axes_with_several_batch_axes_and_none() -> None:
    layer = nnx.GroupNorm(6, num_groups=2, reduction_axes=(2, -1), rngs=nnx.Rngs(0))
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 6)).astype(np.float32)
    whole = nnx.GroupNorm(6, num_groups=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(x)[1], whole(x[1]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(whole(x[0, 0, 0]), whole(x[0, 0, :1])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_groups", "group_size"), [(None, None), (2, 3)])
def test_exactly_one_way_to_say_the_groups(num_groups: Any, group_size: Any) -> None:
    with pytest.raises(
        ValueError, match=r"GroupNorm: got num_groups=.* and group_size=.*, expected exactly one of them"
    ):
        nnx.GroupNorm(6, num_groups, group_size, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("num_groups", "group_size"), [(4, None), (0, None), (1.5, None), (None, 4), (None, -1)]
)
def test_features_must_divide_into_the_groups(num_groups: Any, group_size: Any) -> None:
    with pytest.raises(
        ValueError, match=r"GroupNorm: got (num_groups|group_size)=.* and num_features=6, expected a positive"
    ):
        nnx.GroupNorm(6, num_groups, group_size, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("axes", [(0, 1), (1, 5), ()])
def test_group_norm_reduces_the_last_axis(axes: Any) -> None:
    layer = nnx.GroupNorm(6, num_groups=2, reduction_axes=axes, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"GroupNorm: got reduction_axes=.* for an input with 3 axes, expected the last axis"
    ):
        layer(X)
