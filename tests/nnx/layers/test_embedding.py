from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int16"])
def test_it_looks_up_rows(dtype: str) -> None:
    layer = nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    ids = np.array([[0, 6], [3, 3]], dtype)
    np.testing.assert_array_equal(layer(ids), np.asarray(layer.embedding[...])[ids])


def test_ids_out_of_range_give_nan_and_negative_ones_count_from_the_end() -> None:
    layer = nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    assert bool(jnp.isnan(layer(jnp.array([7]))).all())
    np.testing.assert_array_equal(layer(jnp.array([-1])), layer(jnp.array([6])))


def test_one_row_serves_all_ids() -> None:
    layer = nnx.Embed(1, 4, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(jnp.array([[0, 5]])), np.tile(layer.embedding[...], (1, 2, 1)))
    np.testing.assert_array_equal(layer(3), layer.embedding[0])


def test_attend_is_the_product_with_every_row() -> None:
    layer = nnx.Embed(7, 4, rngs=nnx.Rngs(0))
    query = jax.random.normal(jax.random.key(0), (2, 3, 4))
    expected = np.asarray(query) @ np.asarray(layer.embedding[...]).T
    np.testing.assert_allclose(layer.attend(query), expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_only_the_rows_looked_up() -> None:
    layer = nnx.Embed(5, 2, rngs=nnx.Rngs(0))
    grads = nnx.grad(lambda layer: layer(jnp.array([1, 1, 4])).sum())(layer)
    np.testing.assert_array_equal(grads.embedding[...], [[0, 0], [2, 2], [0, 0], [0, 0], [1, 1]])


def test_dtype_is_that_of_the_table_unless_told() -> None:
    assert nnx.Embed(3, 2, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(jnp.array([1])).dtype == jnp.bfloat16
    assert nnx.Embed(3, 2, dtype=jnp.float16, rngs=nnx.Rngs(0))(jnp.array([1])).dtype == jnp.float16


@pytest.mark.parametrize("rows", [1, 7])
def test_the_output_is_laid_out_as_asked_on_a_mesh_with_explicit_axes(rows: int) -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    layer = nnx.Embed(rows, 4, rngs=nnx.Rngs(0))
    ids = np.arange(16) % rows
    expected, logits = layer(ids), layer.attend(layer(ids))
    with jax.set_mesh(mesh):
        y = layer(jax.device_put(ids, NamedSharding(mesh, P("data"))), out_sharding=P("data", None))
        z = layer.attend(y, out_sharding=P("data", None))
    assert y.sharding.spec == z.sharding.spec == P("data", None)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(z, logits, rtol=1e-6)


@pytest.mark.parametrize("ids", [jnp.array([1.0]), np.array([True])])
def test_ids_must_be_integers(ids: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Embed: got inputs of dtype (float32|bool), expected integers.*astype\(int\)"
    ):
        nnx.Embed(3, 2, rngs=nnx.Rngs(0))(ids)


def test_a_query_must_have_the_features_of_the_table() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)Embed: got an input of shape \(5, 3\) with 3 features.*features=3"
    ):
        nnx.Embed(3, 2, rngs=nnx.Rngs(0)).attend(jnp.ones((5, 3)))
