"""Counting elements and bytes."""

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx
from easyflax.nnx.core.sizes import Size, counted_kind, format_bytes, size_of


def test_counting_takes_all_arrays_of_a_tree():
    tree = {"a": jnp.ones((2, 3)), "b": jnp.ones(4, jnp.bfloat16), "c": "text", "d": 3}
    assert size_of(tree) == Size(10, 32)
    assert size_of(jax.eval_shape(lambda: jnp.ones((1000, 1000)))) == Size(1_000_000, 4_000_000)
    assert not size_of(None)


def test_sizes_add_up_and_are_written_with_separators():
    assert str(Size(1_499_999, 5_999_996) + Size(1, 4)) == "1,500,000 (6.0 MB)"


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (23_160, "23.2 KB"),
        (2 * 10**9, "2.0 GB"),
        (10**16, "10,000.0 TB"),
    ],
)
def test_bytes_are_written_in_decimal_units(num_bytes, text):
    assert format_bytes(num_bytes) == text


def test_keys_and_counters_of_random_streams_are_counted_as_one_kind():
    stream = nnx.Rngs(0).default
    assert counted_kind(stream.key) is counted_kind(stream.count) is nnx.RngState
    assert counted_kind(nnx.Param(1)) is nnx.Param
