from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from easyflax.nnx.layers.einsum import einsum

NORMAL = jax.nn.initializers.normal()


@pytest.mark.parametrize(
    ("equation", "kernel_shape", "bias_shape", "shape", "bias_in_place"),
    [
        ("nta,hab->nthb", (3, 2, 4), (3, 4), (5, 6, 2), (1, 1, 3, 4)),
        ("nta,hab->bnth", (3, 2, 4), (4, 3), (5, 6, 2), (4, 1, 1, 3)),
        ("ab,bc->ac", (3, 4), (4,), (5, 3), (1, 4)),
        ("ab,bc->ac", (3, 4), 4, (5, 3), (1, 4)),
        ("gia,gab->gib", (2, 3, 4), (2, 4), (2, 5, 3), (2, 1, 4)),
        ("...a,ab->b...", (3, 4), (4,), (2, 5, 3), (4, 1, 1)),
        ("d...ab,bc...->ad...c", (4, 2, 5, 3), (5, 3, 2), (6, 5, 3, 2, 4), (1, 1, 5, 3, 2)),
        ("a...,...b->ab...", (4, 2), (2, 4), (3, 5, 4), (1, 2, 1, 4)),  # '...' is aligned at its end
        ("abz,bc->ac", (3, 4), None, (5, 3, 2), None),
        ("aab,bc->ac", (3, 4), None, (2, 2, 3), None),
        ("aab,bb->ab", (3, 3), (3,), (2, 2, 3), (1, 3)),
    ],
)
def test_it_is_the_sum_of_products_plus_bias(
    equation: str, kernel_shape: Any, bias_shape: Any, shape: Any, bias_in_place: Any
) -> None:
    layer = nnx.Einsum(equation, kernel_shape, bias_shape, bias_init=NORMAL, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.einsum(equation, x, np.asarray(layer.kernel[...]))
    if bias_shape is not None:
        expected = expected + np.asarray(layer.bias[...]).reshape(bias_in_place)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_letters_may_be_of_any_alphabet() -> None:
    layer = nnx.Einsum("\u03b1b,bc->\u03b1c", (3, 4), (4,), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(jnp.ones((2, 3))), layer(jnp.ones((2, 3)), "ab,bc->ac"))


def test_the_equation_of_a_call_goes_before_that_of_the_layer() -> None:
    layer = nnx.Einsum("ab,bc->ac", (3, 4), (4,), bias_init=NORMAL, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 3))
    np.testing.assert_allclose(layer(x, "ab, bc -> ca"), layer(x).T, rtol=1e-6)
    later = nnx.Einsum(None, (3, 4), (4,), bias_init=NORMAL, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(later(x, "ab,bc->ac"), layer(x))
    assert nnx.Einsum("ab, bc -> ac", (3, 4), rngs=nnx.Rngs(0)).einsum_str == "ab,bc->ac"


def test_dtypes_are_those_it_is_given() -> None:
    layer = nnx.Einsum("ab,bc->ac", (3, 4), (4,), dtype=jnp.bfloat16, param_dtype="float16", rngs=nnx.Rngs(0))
    assert (layer.kernel.dtype, layer.bias.dtype) == (jnp.float16, jnp.float16)
    assert layer(jnp.ones((2, 3))).dtype == jnp.bfloat16
    np.testing.assert_array_equal(layer(jnp.ones((2, 3), int)), layer(jnp.ones((2, 3))))


def test_the_sum_it_is_given_is_used() -> None:
    seen: dict[str, Any] = {}

    def einsum_op(equation: str, *operands: Any, **options: Any) -> Any:
        seen.update(options, equation=equation)
        return 2 * jnp.einsum(equation, *operands)[None]

    layer = nnx.Einsum(
        "ab, bc->ac", (3, 4), (4,), einsum_op=einsum_op, precision="highest",
        preferred_element_type=jnp.float32, rngs=nnx.Rngs(0),
    )  # fmt: skip
    np.testing.assert_allclose(
        layer(jnp.ones((2, 3)))[0], 2 * jnp.ones((2, 3)) @ layer.kernel[...], rtol=1e-5
    )
    assert seen == {
        "equation": "ab,bc->ac",
        "precision": "highest",
        "preferred_element_type": jnp.float32,
    }


def test_one_product_is_traced_to_one_operation() -> None:
    kernel = jnp.ones((3, 2, 4))
    program = jax.jit(lambda x: einsum("nta,hab->nthb", x, kernel)).lower(jnp.ones((5, 6, 2))).as_text()
    assert program.count("stablehlo.dot_general") == 1
    assert "stablehlo.transpose" not in program


def test_layers_can_be_made_and_called_by_transforms() -> None:
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key: jax.Array) -> nnx.Einsum:
        return nnx.Einsum("ab,bc->ac", (3, 3), (3,), rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 2))
    assert layers.kernel.shape == (2, 3, 3)

    @nnx.jit
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def apply(layer: nnx.Einsum, x: jax.Array) -> jax.Array:
        return nnx.remat(lambda layer, x: layer(x))(layer, x)

    x = jnp.ones((2, 3))
    np.testing.assert_allclose(apply(layers, x), x @ layers.kernel[0] @ layers.kernel[1], rtol=1e-5)


def test_the_output_is_laid_out_as_asked_on_a_mesh_with_explicit_axes() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    layer = nnx.Einsum("ab,bcd->cad", (4, 2, 3), rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = layer(x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", None)))
        y = layer(sharded, out_sharding=P(None, "data", None))
    assert y.sharding.spec == P(None, "data", None)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


# -- errors


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ab,bc", r"'ab,bc' with 0 times '->', expected it once"),
        ("ab->", r"with 1 operands, expected two, the input and the kernel\. Pass an equation"),
        ("ab,bc,cd->ad", r"with 3 operands, expected two"),
        ("ab,b1->a", r"with other characters, expected a letter for each axis"),
        ("a..b,b->a", r"with other characters"),
        ("...a...,a->a", r"'\.\.\.' at most once in each part"),
        ("ab,bc->ad", r"with \['d'\] after '->', expected each of them once there, and before it"),
        ("ab,bc->aac", r"with \['a'\] after '->'"),
    ],
)
def test_equations_of_another_form_are_refused(equation: str, message: str) -> None:
    with pytest.raises(ValueError, match="Einsum: got einsum_str .*" + message):
        nnx.Einsum(equation, (3, 4), rngs=nnx.Rngs(0))
    model = nnx.Sequential(nnx.Einsum("ab,bc->ac", (3, 4), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"Einsum 'layers\.0': got einsum_str .*" + message):
        model(jnp.ones((2, 3)), einsum_str=equation)


def test_a_layer_without_an_equation_needs_one_in_the_call() -> None:
    layer = nnx.Einsum(None, (3, 4), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"Einsum: got einsum_str=None, expected an equation such as .*Pass one"
    ):
        layer(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("equation", "shape", "message"),
    [
        ("nta,hab->nthb", (5, 2), r"shape \(5, 2\) for the operand 'nta' of 'nta,hab->nthb', expected 3 "
         r"axes\. Pass an input of that many axes"),
        ("n...ta,hab->nthb", (5, 2), r"operand 'n\.\.\.ta' of .*, expected 3 axes or more"),
        ("nta,hb->nthb", (5, 6, 2), r"shape \(3, 2, 4\) for the operand 'hb' of .*Rebuild the layer"),
        ("nta,hab->nthb", (5, 6, 7), r"input of shape \(5, 6, 7\) and a kernel of shape \(3, 2, 4\) for .*, "
         r"expected equal sizes where 'a' stands, not 7 and 2\. Pass an input that fits"),
        ("t...,...->t...", (6, 5, 4), r"expected equal sizes under '\.\.\.', not 5 and 2"),
        ("na,hab->nb", (5, 2), r"a bias of shape \(3, 4\) for 'na,hab->nb', expected \(4,\), the sizes of "
         r"those axes of the kernel that are left\. Rebuild the layer with bias_shape=\(4,\)"),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_told_with_the_equation(equation: str, shape: Any, message: str) -> None:
    model = nnx.Sequential(nnx.Einsum(None, (3, 2, 4), (3, 4), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"Einsum 'layers\.0': got .*" + message):
        model(jnp.ones(shape), einsum_str=equation)


@pytest.mark.parametrize(
    ("shapes", "error", "message"),
    [
        (((3, 0),), ValueError, r"got kernel_shape\[1\]=0, expected a positive integer"),
        (((3, 4), (4.0,)), TypeError, r"got bias_shape\[0\]=4\.0 of type float, expected a positive integer"),
    ],
)
def test_shapes_are_positive_integers(shapes: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match="Einsum: " + message):
        nnx.Einsum("ab,bc->ac", *shapes, rngs=nnx.Rngs(0))
