from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from easyflax.nnx.layers.linear import linear


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_it_is_the_matrix_product_plus_bias(shape: tuple[int, ...], use_bias: bool) -> None:
    layer = nnx.Linear(3, 4, use_bias=use_bias, bias_init=jax.nn.initializers.normal(), rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = x @ np.asarray(layer.kernel[...]) + (np.asarray(layer.bias[...]) if use_bias else 0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert (layer.bias is None) == (not use_bias)


def test_integers_are_taken_as_floats() -> None:
    layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(jnp.arange(3)), layer(jnp.arange(3.0)))


def test_dtype_is_computed_in_and_param_dtype_stored() -> None:
    layer = nnx.Linear(3, 4, dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    assert (layer.kernel.dtype, layer.bias.dtype) == (jnp.float16, jnp.float16)
    assert layer(jnp.ones((2, 3))).dtype == jnp.bfloat16


def test_the_functions_it_is_given_are_used() -> None:
    seen: dict[str, Any] = {}

    def dot_general(x: Any, kernel: Any, dimensions: Any, **options: Any) -> Any:
        seen.update(options, dimensions=dimensions)
        return 2 * lax.dot_general(x, kernel, dimensions)

    def promote(args: Any, *, dtype: Any) -> Any:
        seen["dtype"] = dtype
        return args

    layer = nnx.Linear(
        3, 4, rngs=nnx.Rngs(0), dot_general=dot_general, promote_dtype=promote, precision="highest",
        preferred_element_type=jnp.float32, dtype=jnp.float16,
    )  # fmt: skip
    x = jnp.ones((2, 3))
    np.testing.assert_allclose(layer(x), 2 * nnx.Linear(3, 4, rngs=nnx.Rngs(0))(x), rtol=1e-6)
    assert seen == {
        "dimensions": (((1,), (0,)), ((), ())),
        "precision": "highest",
        "preferred_element_type": jnp.float32,
        "dtype": jnp.float16,
    }


def test_a_kernel_put_in_its_place_decides_the_size() -> None:
    layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    layer.kernel = nnx.Param(jnp.ones((5, 4)))
    assert layer(jnp.ones((2, 5))).shape == (2, 4)
    with pytest.raises(ValueError, match=r"with 3 features in its last axis, expected \(\.\.\., 5\)"):
        layer(jnp.ones((2, 3)))


@pytest.mark.parametrize("shape", [(2,), (7, 4), ()])
def test_a_wrong_last_axis_is_told_with_both_sizes(shape: tuple[int, ...]) -> None:
    layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"Linear: got an input of shape .*, expected .*\(\.\.\., 3\)"):
        layer(jnp.ones(shape))


def test_the_advice_names_the_argument_to_change() -> None:
    with pytest.raises(ValueError, match=r"rebuild the layer with in_features=4"):
        nnx.Linear(3, 4, rngs=nnx.Rngs(0))(jnp.ones((7, 4)))


def test_a_layer_can_be_made_under_eval_shape_and_vmap() -> None:
    abstract = nnx.eval_shape(lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    assert abstract.kernel.shape == (3, 4)
    assert isinstance(abstract.kernel.get_raw_value(), jax.ShapeDtypeStruct)

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key: jax.Array) -> nnx.Linear:
        return nnx.Linear(3, 4, rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 5))
    assert layers.kernel.shape == (5, 3, 4)
    y = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, jnp.ones((2, 3)))
    assert y.shape == (5, 2, 4)


def test_the_output_is_laid_out_as_asked_on_a_mesh_with_explicit_axes() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    layer = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = layer(x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", None)))
        y = layer(sharded, out_sharding=P("data", None))
    assert y.sharding.spec == P("data", None)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_the_function_agrees_with_the_layer() -> None:
    layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(linear(x, layer.kernel[...], layer.bias[...]), layer(x))
    np.testing.assert_array_equal(linear(x, layer.kernel[...]), x @ layer.kernel[...])
