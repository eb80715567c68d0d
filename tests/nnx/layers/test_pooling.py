from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from easyflax import nnx

X = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)


def _by_hand(x: np.ndarray, reduce: Any, window: Any, strides: Any) -> np.ndarray:
    sizes = [(n - w) // s + 1 for n, w, s in zip(x.shape[1:-1], window, strides)]
    out = np.empty((x.shape[0], *sizes, x.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        part = tuple(slice(p * s, p * s + w) for p, s, w in zip(place, strides, window))
        out[(slice(None), *place)] = reduce(x[(slice(None), *part)], axis=tuple(range(1, x.ndim - 1)))
    return out


@pytest.mark.parametrize(("window", "strides"), [((2, 2), None), ((3, 2), (2, 1)), ([1, 5], [1, 1])])
@pytest.mark.parametrize(
    ("name", "reduce"), [("avg_pool", np.mean), ("max_pool", np.max), ("min_pool", np.min)]
)
def test_they_reduce_each_window(name: str, reduce: Any, window: Any, strides: Any) -> None:
    expected = _by_hand(X, reduce, window, strides or (1, 1))
    np.testing.assert_allclose(getattr(nnx, name)(X, window, strides), expected, rtol=1e-5, atol=1e-6)


def test_padding_never_wins_a_maximum_or_a_minimum() -> None:
    largest = nnx.max_pool(X - 100, (6, 5), padding=((1, 0), (1, 0)))[:, 0, 0]
    np.testing.assert_array_equal(largest, (X - 100)[:, :5, :4].max((1, 2)))
    smallest = nnx.min_pool(X + 100, (6, 5), padding=((1, 0), (1, 0)))[:, 0, 0]
    np.testing.assert_array_equal(smallest, (X + 100)[:, :5, :4].min((1, 2)))


def test_averages_count_the_padding_or_not() -> None:
    ones = jnp.ones((1, 3, 1))
    assert nnx.avg_pool(ones, (3,), padding="SAME")[0, :, 0].tolist() == pytest.approx([2 / 3, 1.0, 2 / 3])
    assert nnx.avg_pool(ones, (3,), padding="SAME", count_include_pad=False)[0, :, 0].tolist() == [
        1.0,
        1.0,
        1.0,
    ]


def test_batch_axes_may_be_none_or_several() -> None:
    y = nnx.avg_pool(X[None], (2, 2), padding=((1, 0), (0, 1)), count_include_pad=False)
    assert y.shape == (1, 2, 6, 5, 3)
    np.testing.assert_allclose(
        nnx.avg_pool(X[1], (2, 2), padding=((1, 0), (0, 1)), count_include_pad=False), y[0, 1]
    )


def test_integers_have_maxima_and_minima() -> None:
    x = jnp.array([-5, -3, -4])[:, None]
    assert nnx.max_pool(x, (2,), padding="SAME")[:, 0].tolist() == [-3, -3, -4]
    assert nnx.min_pool(-x, (2,), padding="SAME")[:, 0].tolist() == [3, 3, 4]


def test_the_gradient_of_a_maximum_goes_to_where_it_is() -> None:
    x = jnp.array([1.0, 3.0, 2.0, 0.0])[:, None]
    assert jax.grad(lambda x: nnx.max_pool(x, (2,), (2,)).sum())(x)[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0]


def test_any_reduction_can_be_pooled() -> None:
    np.testing.assert_allclose(
        nnx.pool(X, 1.0, lax.mul, (2, 2), None, "VALID"), _by_hand(X, np.prod, (2, 2), (1, 1)), rtol=1e-5
    )


def test_too_few_axes_are_told() -> None:
    with pytest.raises(
        ValueError,
        match=r"Pooling: got an input of shape \(6, 5\) and window_shape=\(2, 2\), expected at least 3",
    ):
        nnx.max_pool(X[0, :, :, 0], (2, 2))


def test_strides_must_be_as_many_as_the_window() -> None:
    with pytest.raises(
        ValueError, match=r"Pooling: got strides=\(2,\) and window_shape=\(2, 2\), expected one stride"
    ):
        nnx.avg_pool(X, (2, 2), strides=(2,))


@pytest.mark.parametrize("padding", ["FULL", ((1, 1),), ((1, 1, 1), (0, 0)), (1, 1), 1])
def test_an_unknown_padding_is_told(padding: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Pooling: got padding=.* and window_shape=\(2, 2\), expected 'SAME'"
    ):
        nnx.min_pool(X, (2, 2), padding=padding)


def test_booleans_have_no_mean() -> None:
    with pytest.raises(TypeError, match="Pooling: got inputs of dtype bool, expected numbers"):
        nnx.avg_pool(jnp.ones((4, 1), bool), (2,))


@pytest.mark.parametrize("name", ["window_shape", "strides"])
def test_windows_and_strides_are_sequences_of_positive_integers(name: str) -> None:
    options = {"window_shape": (2,), "strides": (1,)}
    with pytest.raises(TypeError, match=rf"Pooling: got {name}=2, expected a sequence with one integer"):
        nnx.max_pool(jnp.ones((4, 1)), **{**options, name: 2})
    with pytest.raises(ValueError, match=rf"Pooling: got {name}=\(0,\), expected integers of at least 1"):
        nnx.max_pool(jnp.ones((4, 1)), **{**options, name: (0,)})
