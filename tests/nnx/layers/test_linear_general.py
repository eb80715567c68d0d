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
from easyflax.nnx.layers.linear_general import linear_general

NORMAL = jax.nn.initializers.normal()


@pytest.mark.parametrize(
    ("args", "options", "shape", "equation"),
    [
        ((3, 4), {}, (2, 3), "ni,io->no"),
        ((3, (4, 5)), {}, (2, 7, 3), "nti,iop->ntop"),
        (((2, 3), 4), {"axis": (-2, -1)}, (5, 2, 3), "nij,ijo->no"),
        (((2, 3), (4, 5)), {"axis": (1, -1)}, (6, 2, 7, 3), "nitj,ijop->ntop"),
        (((2, 3), 4), {"axis": (-1, 1)}, (6, 2, 3), "nij,ijo->no"),  # the order of axis does not matter
        ((3, 4), {"axis": 0}, (3, 5), "in,io->no"),
        ((3, 4), {"batch_axis": {0: 6}}, (6, 5, 3), "bni,bio->bno"),
        (((3, 2), (4, 5)), {"batch_axis": {1: 7, 0: 6}, "axis": (2, -1)}, (6, 7, 3, 5, 2),
         "bcinj,bcijop->bcnop"),
        (((), 4), {"axis": ()}, (2, 3), "nt,o->nto"),
    ],
)  # fmt: skip
def test_it_is_the_sum_over_the_axes_plus_bias(args: Any, options: Any, shape: Any, equation: str) -> None:
    layer = nnx.LinearGeneral(*args, **options, bias_init=NORMAL, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = np.einsum(equation, x, np.asarray(layer.kernel[...]))
    bias = np.asarray(layer.bias[...])
    batch = len(layer.batch_axis)
    bias = bias.reshape(*bias.shape[:batch], *(1,) * (y.ndim - bias.ndim), *bias.shape[batch:])
    np.testing.assert_allclose(layer(x), y + bias, rtol=1e-4, atol=1e-5)


def test_each_member_of_a_batch_has_a_map_of_its_own() -> None:
    layer = nnx.LinearGeneral(3, (2, 2), batch_axis={0: 4}, bias_init=NORMAL, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (4, 5, 3))
    each = [linear_general(x[i], layer.kernel[i], layer.bias[i], axis=(1,)) for i in range(4)]
    np.testing.assert_allclose(layer(x), jnp.stack(each), rtol=1e-5, atol=1e-6)


def test_it_is_initialized_as_the_matrix_of_all_inputs_by_all_outputs() -> None:
    init = jax.nn.initializers.orthogonal()
    layer = nnx.LinearGeneral((2, 3), (2, 3), axis=(-2, -1), kernel_init=init, rngs=nnx.Rngs(0))
    matrix = np.asarray(layer.kernel[...]).reshape(6, 6)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=1e-5)


def test_dtypes_are_those_it_is_given() -> None:
    layer = nnx.LinearGeneral(3, (4, 2), dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    assert (layer.kernel.dtype, layer.bias.dtype) == (jnp.float16, jnp.float16)
    assert layer(jnp.ones((2, 3))).dtype == jnp.bfloat16
    np.testing.assert_array_equal(layer(jnp.arange(3)), layer(jnp.arange(3.0)))


@pytest.mark.parametrize("argument", ["dot_general", "dot_general_cls"])
def test_the_product_it_is_given_is_used(argument: str) -> None:
    seen: list[Any] = []

    def dot_general(x: Any, kernel: Any, dimensions: Any, **options: Any) -> Any:
        seen.append(options)
        return 2 * lax.dot_general(x, kernel, dimensions)

    given = dot_general if argument == "dot_general" else lambda: dot_general
    options: dict[str, Any] = {"precision": "highest", "preferred_element_type": jnp.float32, argument: given}
    layer = nnx.LinearGeneral(3, 4, rngs=nnx.Rngs(0), **options)
    plain = nnx.LinearGeneral(3, 4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(jnp.ones((2, 3))), 2 * plain(jnp.ones((2, 3))), rtol=1e-6)
    assert seen == [{"precision": "highest", "preferred_element_type": jnp.float32}]


def test_layers_can_be_made_and_called_by_transforms() -> None:
    abstract = nnx.eval_shape(lambda: nnx.LinearGeneral(3, (4, 2), batch_axis={0: 2}, rngs=nnx.Rngs(0)))
    assert abstract.kernel.shape == (2, 3, 4, 2)

    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key: jax.Array) -> nnx.LinearGeneral:
        return nnx.LinearGeneral(3, (1, 3), batch_axis={0: 2}, rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 5))
    assert layers.kernel.shape == (5, 2, 3, 1, 3)

    @nnx.jit
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def apply(layer: nnx.LinearGeneral, x: jax.Array) -> jax.Array:
        return nnx.remat(lambda layer, x: layer(x)[..., 0, :])(layer, x)

    expected = x = jnp.ones((2, 4, 3))
    for index in range(5):
        one = linear_general(expected, layers.kernel[index], layers.bias[index], axis=(2,), batch_axes=1)
        expected = one[..., 0, :]
    np.testing.assert_allclose(apply(layers, x), expected, rtol=1e-5, atol=1e-6)


def test_the_structures_of_equal_layers_are_equal() -> None:
    def structure(**options: Any) -> Any:
        return nnx.graphdef(nnx.LinearGeneral(3, 4, rngs=nnx.Rngs(0), **options))

    assert structure() == structure(batch_axis={}, axis=(-1,))
    assert structure(batch_axis={0: 2}) == structure(batch_axis={0: 2}, kernel_init=NORMAL)
    assert structure(batch_axis={0: 2}) != structure()
    merged = nnx.merge(*nnx.split(nnx.LinearGeneral(3, 4, batch_axis={0: 2}, rngs=nnx.Rngs(0))))
    assert merged(jnp.ones((2, 3))).shape == (2, 4)


def test_the_output_is_laid_out_as_asked_on_a_mesh_with_explicit_axes() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    layer = nnx.LinearGeneral(4, (2, 3), rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = layer(x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", None)))
        y = layer(sharded, out_sharding=P("data", None, None))
    assert y.sharding.spec == P("data", None, None)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


# -- errors


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((0, 4), {}, ValueError, r"got in_features=0, expected a positive integer"),
        ((3, (4, 2.5)), {}, TypeError, r"got out_features\[1\]=2\.5 of type float, expected a positive"),
        ((3, ()), {}, ValueError, r"got no out_features, expected at least one size\. Pass"),
        (((2, 3), 4), {}, ValueError, r"got in_features=\(2, 3\) and axis=\(-1,\), expected one size"),
        ((3, 4), {"batch_axis": {1: 5}}, ValueError, r"got the batch axes \[1\], expected the first ones"),
        ((3, 4), {"batch_axis": {-3: 5}}, ValueError, r"got the batch axes \[-3\].* to the front"),
        ((3, 4), {"batch_axis": {0: -1}}, ValueError, r"got batch_axis\[0\]=-1, expected a positive"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(args: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match="LinearGeneral: " + message):
        nnx.LinearGeneral(*args, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("args", "options", "shape", "message"),
    [
        ((3, 4), {}, (2, 5), r"shape \(2, 5\), expected features of sizes \(3,\) along axis \(-1,\)"),
        ((3, 4), {}, (), r"shape \(\), expected features"),
        (((2, 3), 4), {"axis": (-2, -1)}, (3, 2), r"sizes \(2, 3\) along axis \(-2, -1\).*\nPass inputs"),
        (((2, 3), 4), {"axis": (-2, -1)}, (3,), r"shape \(3,\)"),
        (((3, 3), 4), {"axis": (1, -1)}, (2, 3), r"along axis \(1, -1\)"),  # the same axis twice
        ((3, 4), {"axis": 2}, (2, 3), r"along axis \(2,\)"),
        ((3, 4), {"batch_axis": {0: 2}}, (5, 3), r"and a batch of sizes \(2,\) along other axes, \(0,\)"),
        ((3, 4), {"batch_axis": {0: 3}}, (3,), r"and a batch of sizes \(3,\) along other axes"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_told_with_the_sizes(
    args: Any, options: Any, shape: Any, message: str
) -> None:
    model = nnx.Sequential(nnx.LinearGeneral(*args, **options, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"LinearGeneral 'layers\.0': got an input of .*" + message):
        model(jnp.ones(shape))
