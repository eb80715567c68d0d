"""Inputs of every dtype through every layer, against flax.nnx: what is computed with, and what is stored."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, make_both

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Linear", (2, 3), {}),
    ("Linear", (2, 3), {"dtype": jnp.float16}),
    ("LinearGeneral", (2, 3), {}),
    ("Conv", (2, 3, 2), {}),
    ("ConvTranspose", (2, 3, 2), {}),
    ("BatchNorm", (2,), {}),
    ("BatchNorm", (2,), {"use_running_average": True, "param_dtype": jnp.float16}),
    ("LayerNorm", (2,), {}),
    ("LayerNorm", (2,), {"use_fast_variance": False, "dtype": jnp.bfloat16}),
    ("RMSNorm", (2,), {}),
    ("InstanceNorm", (2,), {}),
    ("GroupNorm", (2, 1), {}),
]


@pytest.fixture
def sixty_four_bits() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _compare(name: str, args: tuple[Any, ...], options: dict[str, Any], dtype: str) -> None:
    x = jnp.asarray([[[1, 2], [3, 5], [0, 1]]]).astype(dtype)
    ours, theirs = make_both(lambda lib: getattr(lib, name)(*args, **options, rngs=lib.Rngs(0)))
    y = ours(x)  # warnings are errors here, and in Flax some of these are cast by storing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(y, theirs(x))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize(("name", "args", "options"), LAYERS)
@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_inputs_are_promoted_as_in_flax(name: str, args: Any, options: Any, dtype: str) -> None:
    _compare(name, args, options, dtype)


@pytest.mark.parametrize(("name", "args", "options"), [row for row in LAYERS if not row[2]])
def test_complex_inputs_are_computed_with_as_in_flax(name: str, args: Any, options: Any) -> None:
    _compare(name, args, options, "complex64")


@pytest.mark.parametrize(("name", "args", "options"), LAYERS)
def test_inputs_of_64_bits_are_promoted_as_in_flax(
    name: str, args: Any, options: Any, sixty_four_bits: None
) -> None:
    _compare(name, args, options, "float64")
    _compare(name, args, options, "int64")


@pytest.mark.parametrize("wrapper", ["WeightNorm", "SpectralNorm"])
def test_wrapped_weights_of_64_bits_are_those_of_flax(wrapper: str, sixty_four_bits: None) -> None:
    def make(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        layer = lib.Linear(2, 3, param_dtype=jnp.float64, rngs=rngs)
        return getattr(lib, wrapper)(layer, param_dtype=jnp.float64, rngs=rngs)

    ours, theirs = make_both(make)
    assert_same(ours(jnp.ones((4, 2))), theirs(jnp.ones((4, 2))))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("name", ["avg_pool", "max_pool", "min_pool"])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "complex64"])
@pytest.mark.parametrize("padding", ["SAME", ((1, 0),)], ids=str)
def test_windows_of_any_numbers_are_pooled_as_in_flax(name: str, dtype: str, padding: Any) -> None:
    x = jnp.asarray([[[1, 2], [3, 5], [0, 1]]]).astype(dtype)
    assert_same(*make_both(lambda lib: getattr(lib, name)(x, (2,), padding=padding)))


def test_means_of_integers_and_extremes_of_booleans_are_those_of_flax() -> None:
    x = jnp.arange(6).reshape(1, 3, 2)
    options: dict[str, Any] = {"padding": "SAME", "count_include_pad": False}
    assert_same(nnx.avg_pool(x, (2,), **options), flax_nnx.avg_pool(x, (2,), **options))
    assert_same(nnx.max_pool(x > 2, (2,)), flax_nnx.max_pool(x > 2, (2,)))
    assert_same(nnx.min_pool(x > 2, (2,)), flax_nnx.min_pool(x > 2, (2,)))
