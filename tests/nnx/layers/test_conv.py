from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from easyflax.nnx.layers.conv_options import canonical_padding


def _by_hand(
    x: np.ndarray, kernel: np.ndarray, strides: Any, dilation: Any, pads: Any, groups: int = 1
) -> np.ndarray:
    """Sums products window by window; `x` is `(batch, *spatial, features)`."""
    rank = kernel.ndim - 2
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape[:rank], dilation)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, strides)]
    out = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    per_group_in, per_group_out = kernel.shape[-2], kernel.shape[-1] // groups
    for place in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, kernel.shape[:rank])):
            position = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilation))
            for g in range(groups):
                inputs = x[(slice(None), *position, slice(g * per_group_in, (g + 1) * per_group_in))]
                outputs = slice(g * per_group_out, (g + 1) * per_group_out)
                out[(slice(None), *place, outputs)] += inputs @ kernel[(*tap, slice(None), outputs)]
    return out


@pytest.mark.parametrize(
    ("kernel_size", "spatial", "options", "pads"),
    [
        ((3,), (7,), {"padding": "VALID"}, [(0, 0)]),
        (3, (7,), {"padding": "CAUSAL", "kernel_dilation": 2}, [(4, 0)]),
        ((3, 2), (5, 6), {"padding": "SAME"}, [(1, 1), (0, 1)]),
        ((3, 2), (5, 6), {"padding": "same_lower"}, [(1, 1), (1, 0)]),
        ((3, 2), (5, 6), {"padding": (1, (0, 2)), "strides": (2, 1)}, [(1, 1), (0, 2)]),
        ((2, 3), (5, 6), {"padding": 2, "kernel_dilation": (2, 1), "strides": 2}, [(2, 2), (2, 2)]),
        ((2, 2, 2), (3, 4, 3), {"padding": "VALID"}, [(0, 0)] * 3),
        ((3, 3), (4, 4), {"feature_group_count": 2}, [(1, 1), (1, 1)]),
    ],
)
def test_it_is_the_sum_over_windows(kernel_size: Any, spatial: Any, options: Any, pads: Any) -> None:
    layer = nnx.Conv(4, 6, kernel_size, rngs=nnx.Rngs(0), bias_init=jax.nn.initializers.normal(), **options)
    x = np.random.default_rng(0).normal(size=(2, *spatial, 4)).astype(np.float32)
    rank = len(spatial)

    def each(value: Any) -> Any:
        return (value,) * rank if isinstance(value, int) else value

    strides, dilation = each(options.get("strides", 1)), each(options.get("kernel_dilation", 1))
    groups = options.get("feature_group_count", 1)
    expected = _by_hand(x, np.asarray(layer.kernel[...]), strides, dilation, pads, groups)
    np.testing.assert_allclose(layer(x), expected + np.asarray(layer.bias[...]), rtol=1e-4, atol=1e-5)


def test_circular_padding_commutes_with_rolling_the_input() -> None:
    layer = nnx.Conv(2, 3, (3, 4), padding="CIRCULAR", rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 6, 5, 2))
    np.testing.assert_allclose(
        jnp.roll(layer(x), (2, 3), (1, 2)), layer(jnp.roll(x, (2, 3), (1, 2))), rtol=1e-5
    )


def test_reflected_padding_is_that_of_numpy() -> None:
    layer = nnx.Conv(2, 3, (3,), padding="REFLECT", rngs=nnx.Rngs(0))
    valid = nnx.Conv(2, 3, (3,), padding="VALID", rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), valid(np.pad(x, [(0, 0), (1, 1), (0, 0)], mode="reflect")))


def test_causal_outputs_do_not_see_later_inputs() -> None:
    layer = nnx.Conv(1, 1, 3, padding="CAUSAL", rngs=nnx.Rngs(0))
    jacobian = jax.jacobian(lambda x: layer(x[:, None])[:, 0])(jnp.ones(6))
    np.testing.assert_array_equal(jnp.triu(jacobian, 1), 0.0)
    assert bool((jnp.diag(jacobian) != 0).all())


def test_a_dilated_input_is_the_input_with_zeros_between() -> None:
    layer = nnx.Conv(2, 3, (3,), padding="VALID", input_dilation=2, rngs=nnx.Rngs(0))
    plain = nnx.Conv(2, 3, (3,), padding="VALID", rngs=nnx.Rngs(0))
    x = jnp.arange(8.0).reshape(1, 4, 2)
    spread = jnp.zeros((1, 7, 2)).at[:, ::2].set(x)
    np.testing.assert_allclose(layer(x), plain(spread), rtol=1e-6)


def test_batch_axes_may_be_none_or_several() -> None:
    layer = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4, 2))
    y = layer(x)
    assert y.shape == (2, 3, 5, 4, 3)
    np.testing.assert_allclose(layer(x[1, 2]), y[1, 2], rtol=1e-5, atol=1e-6)
    assert layer(x[:0]).shape == (0, 3, 5, 4, 3)


def test_a_mask_takes_weights_out_of_the_kernel() -> None:
    mask = np.zeros((3, 1, 1), np.float32)
    mask[0] = 1
    layer = nnx.Conv(1, 1, 3, padding="CAUSAL", mask=mask, rngs=nnx.Rngs(0))
    x = jnp.arange(5.0)[:, None]
    np.testing.assert_allclose(layer(x)[2:, 0], layer.kernel[0, 0, 0] * x[:3, 0], rtol=1e-6)


def test_the_functions_and_dtypes_it_is_given_are_used() -> None:
    seen: dict[str, Any] = {}

    def convolve(*args: Any, **options: Any) -> Any:
        seen.update(precision=options["precision"], preferred=options["preferred_element_type"])
        return lax.conv_general_dilated(*args, **options)

    layer = nnx.Conv(
        2, 3, 3, conv_general_dilated=convolve, precision="highest", preferred_element_type=jnp.float32,
        dtype=jnp.bfloat16, param_dtype=jnp.float16, use_bias=False, rngs=nnx.Rngs(0),
    )  # fmt: skip
    assert layer.kernel.dtype == jnp.float16
    assert layer(jnp.ones((1, 4, 2))).dtype == jnp.float32
    assert seen == {"precision": "highest", "preferred": jnp.float32}
    assert layer.bias is None


def test_the_output_is_laid_out_as_asked_on_a_mesh_with_explicit_axes() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    layer = nnx.Conv(2, 3, (3,), rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype(np.float32)
    expected = layer(x)
    with jax.set_mesh(mesh):
        y = layer(jax.device_put(x, NamedSharding(mesh, P("data"))), out_sharding=P("data", None, None))
    assert y.sharding.spec[0] == "data"
    np.testing.assert_allclose(y, expected, rtol=1e-6)


# -- errors


@pytest.mark.parametrize("padding", ["FULL", "", (1,), (1, 2, 3), ((1, 2, 3), (1, 1)), 1.5, None])
def test_an_unknown_padding_is_told_with_the_known_ones(padding: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Conv: got padding .* for 2 spatial axes, expected one of 'SAME', .*Pass one"
    ):
        nnx.Conv(2, 3, (3, 3), padding=padding, rngs=nnx.Rngs(0))


def test_causal_padding_is_for_one_axis() -> None:
    with pytest.raises(
        ValueError, match=r"got padding 'CAUSAL' for 2 spatial axes, expected one spatial axis"
    ):
        nnx.Conv(2, 3, (3, 3), padding="CAUSAL", rngs=nnx.Rngs(0))
    assert canonical_padding("CAUSAL", 1, ["CAUSAL"], "Conv") == "CAUSAL"


def test_same_padding_of_a_dilated_input_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"got padding='SAME' with input_dilation=2, expected 'VALID' or explicit"
    ):
        nnx.Conv(2, 3, 3, input_dilation=2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("argument", ["strides", "input_dilation", "kernel_dilation"])
def test_options_must_have_one_entry_for_each_axis(argument: str) -> None:
    with pytest.raises(
        ValueError, match=rf"Conv: got {argument}=\(1, 1\) for 1 spatial axes, expected an integer or 1"
    ):
        nnx.Conv(2, 3, 3, padding="VALID", rngs=nnx.Rngs(0), **{argument: (1, 1)})
    with pytest.raises(ValueError, match=rf"Conv: got {argument}\[1\]=0, expected a positive integer"):
        nnx.Conv(2, 3, (3, 3), padding="VALID", rngs=nnx.Rngs(0), **{argument: (1, 0)})


@pytest.mark.parametrize(("sizes", "name"), [((3, 4), "in_features=3"), ((4, 3), "out_features=3")])
def test_features_must_divide_into_the_groups(sizes: Any, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"Conv: got {name} and feature_group_count=2, expected features that divide"
    ):
        nnx.Conv(*sizes, 3, feature_group_count=2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("padding", ["circular", "REFLECT"])
def test_what_goes_around_or_is_mirrored_must_not_be_empty(padding: str) -> None:
    model = nnx.Sequential(nnx.Conv(2, 3, 3, padding=padding, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError,
        match=r"Conv 'layers\.0': got an input of shape \(1, 0, 2\) with padding=.*, expected sizes of",
    ):
        model(jnp.ones((1, 0, 2)))


def test_a_mask_put_in_its_place_must_have_the_shape_of_the_kernel() -> None:
    model = nnx.Sequential(nnx.Conv(2, 3, 3, mask=jnp.ones((3, 2, 3)), rngs=nnx.Rngs(0)))
    model.layers[0].mask = jnp.ones((3, 2, 1))
    with pytest.raises(
        ValueError, match=r"Conv 'layers\.0': got a mask of shape \(3, 2, 1\), expected \(3, 2, 3\)"
    ):
        model(jnp.ones((1, 4, 2)))


def test_a_mask_must_have_the_shape_of_the_kernel() -> None:
    with pytest.raises(
        ValueError, match=r"got a mask of shape \(3, 2, 3\), expected \(3, 1, 4\), the shape of the kernel"
    ):
        nnx.Conv(2, 4, 3, feature_group_count=2, mask=jnp.ones((3, 2, 3)), rngs=nnx.Rngs(0))


def test_kernel_sizes_must_be_positive_integers() -> None:
    with pytest.raises(
        TypeError, match=r"Conv: got kernel_size\[1\]=2\.5 of type float, expected a positive integer"
    ):
        nnx.Conv(2, 4, (3, 2.5), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 28, 28), r"\(8, 28, 28\) with 28 features in its last axis, expected \(\.\.\., size, size, 1\)"),
        ((28, 28), r"got an input of shape \(28, 28\), expected at least 3 axes"),
    ],
)  # fmt: skip
def test_images_without_channels_are_told_about(shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))(jnp.ones(shape))


def test_groups_count_in_the_features_that_are_expected() -> None:
    layer = nnx.Conv(4, 4, 3, feature_group_count=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"with 2 features .* expected \(\.\.\., size, 4\)"):
        layer(jnp.ones((1, 5, 2)))
