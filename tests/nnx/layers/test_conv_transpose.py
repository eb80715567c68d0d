from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

NORMAL = jax.nn.initializers.normal()


def _by_hand(x: np.ndarray, kernel: np.ndarray, strides: Any, dilation: Any) -> np.ndarray:
    """Adds a kernel's worth of outputs for every input; `kernel` is `(*size, in, out)`, its taps in order."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation)]
    sizes = [(n - 1) * s + max(r, s) for n, s, r in zip(x.shape[1:-1], strides, reach)]
    out = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for place in itertools.product(*map(range, x.shape[1:-1])):
        for tap in itertools.product(*map(range, kernel.shape[:-2])):
            target = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilation))
            out[(slice(None), *target)] += x[(slice(None), *place)] @ kernel[tap]
    return out


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize(
    ("kernel_size", "spatial", "strides", "dilation"),
    [(3, (5,), 1, 1), ((2,), (4,), 3, 1), ((3, 2), (4, 3), (2, 1), (1, 3)), ((2, 1, 2), (3, 2, 3), 2, 1)],
)
def test_each_input_adds_a_kernels_worth_of_outputs(
    kernel_size: Any, spatial: Any, strides: Any, dilation: Any, transpose_kernel: bool
) -> None:
    layer = nnx.ConvTranspose(
        2, 3, kernel_size, strides, padding="VALID", kernel_dilation=dilation, bias_init=NORMAL,
        transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(2, *spatial, 2)).astype(np.float32)
    rank = len(spatial)
    kernel = np.asarray(layer.kernel[...])
    taps = kernel.swapaxes(-1, -2) if transpose_kernel else np.flip(kernel, range(rank))
    expected = _by_hand(x, taps, np.broadcast_to(strides, rank), np.broadcast_to(dilation, rank))
    np.testing.assert_allclose(layer(x), expected + np.asarray(layer.bias[...]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("strides", "of_conv", "padding"),
    [
        (1, "SAME", "SAME"),
        (1, "VALID", "VALID"),
        (2, "VALID", "VALID"),
        (1, "CIRCULAR", "CIRCULAR"),
        (2, "CIRCULAR", "CIRCULAR"),
        (1, 1, 1),
        (1, (0, 2), (2, 0)),  # 2 - 0 and 2 - 2: what undoes a padding
    ],
)
def test_with_a_transposed_kernel_it_is_the_transpose_of_the_convolution(
    strides: int, of_conv: Any, padding: Any
) -> None:
    of_conv, padding = (p if isinstance(p, (str, int)) else [p] for p in (of_conv, padding))
    conv = nnx.Conv(2, 3, 3, strides, padding=of_conv, use_bias=False, rngs=nnx.Rngs(0))
    layer = nnx.ConvTranspose(
        3, 2, 3, strides, padding=padding, transpose_kernel=True, use_bias=False, rngs=nnx.Rngs(1)
    )
    layer.kernel[...] = conv.kernel[...]
    size = 7 if padding == "VALID" else 6
    y, transpose = jax.vjp(conv, jnp.zeros((1, size, 2)))
    dy = jax.random.normal(jax.random.key(0), y.shape)
    np.testing.assert_allclose(layer(dy), *transpose(dy), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("strides", "kernel_size"), [(2, (3, 3)), ((1, 3), (4, 2))])
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_the_output_is_longer_by_the_strides(padding: str, strides: Any, kernel_size: Any) -> None:
    layer = nnx.ConvTranspose(2, 3, kernel_size, strides, padding=padding, rngs=nnx.Rngs(0))
    height, width = np.broadcast_to(strides, 2)
    y = nnx.eval_shape(layer, jnp.ones((1, 5, 4, 2)))
    assert y.shape == (1, 5 * height, 4 * width, 3)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_circular_padding_commutes_with_rolling_the_input(transpose_kernel: bool) -> None:
    layer = nnx.ConvTranspose(
        2, 3, (9, 4), (1, 2), padding="CIRCULAR", transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 2))
    rolled = layer(jnp.roll(x, (2, 3), (1, 2)))
    np.testing.assert_allclose(jnp.roll(layer(x), (2, 6), (1, 2)), rolled, rtol=1e-4, atol=1e-5)


def test_batch_axes_may_be_none_or_several() -> None:
    layer = nnx.ConvTranspose(2, 3, (3, 3), 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4, 2))
    y = layer(x)
    assert y.shape == (2, 3, 10, 8, 3)
    np.testing.assert_allclose(layer(x[1, 2]), y[1, 2], rtol=1e-5, atol=1e-6)
    assert layer(x[:0]).shape == (0, 3, 10, 8, 3)


def test_a_mask_takes_weights_out_of_the_kernel() -> None:
    mask = np.zeros((3, 1, 1), np.float32)
    mask[1] = 1
    layer = nnx.ConvTranspose(1, 1, 3, mask=mask, rngs=nnx.Rngs(0))
    x = jnp.arange(5.0)[:, None]
    np.testing.assert_allclose(layer(x), layer.kernel[1, 0, 0] * x, rtol=1e-6)
    layer.mask = np.ones((3, 1), np.float32)
    with pytest.raises(ValueError, match=r"got a mask of shape \(3, 1\), expected \(3, 1, 1\), the shape of"):
        layer(x)


def test_dtypes_are_those_it_is_given() -> None:
    layer = nnx.ConvTranspose(
        2, 3, 3, dtype=jnp.bfloat16, param_dtype=jnp.float16, preferred_element_type=jnp.float32,
        use_bias=False, rngs=nnx.Rngs(0),
    )  # fmt: skip
    assert layer.bias is None
    assert layer.kernel.dtype == jnp.float16
    assert layer(jnp.ones((1, 4, 2))).dtype == jnp.float32


def test_layers_can_be_made_and_called_by_transforms() -> None:
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key: jax.Array) -> nnx.ConvTranspose:
        return nnx.ConvTranspose(2, 2, 3, mask=jnp.ones((3, 2, 2)), padding="CIRCULAR", rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 2))
    assert layers.kernel.shape == (2, 3, 2, 2)

    @nnx.jit
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def apply(layer: nnx.ConvTranspose, x: jax.Array) -> jax.Array:
        return nnx.remat(lambda layer, x: layer(x))(layer, x)

    x = jax.random.normal(jax.random.key(1), (3, 4, 2))
    one, two = (nnx.clone(jax.tree.map(lambda leaf, i=i: leaf[i], layers)) for i in range(2))
    np.testing.assert_allclose(apply(layers, x), two(one(x)), rtol=1e-5, atol=1e-6)


# -- errors


@pytest.mark.parametrize("padding", ["CAUSAL", "REFLECT", "SAME_LOWER", "valid", (1, 2, 3), 1.5, None])
def test_an_unknown_padding_is_told_with_the_known_ones(padding: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"ConvTranspose: got padding .* for 1 spatial axes, expected one of 'SAME', 'VALID', "
        r"'CIRCULAR', an integer, .*\. Pass one",
    ):
        nnx.ConvTranspose(2, 3, 3, padding=padding, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel_size": (3, 0)}, ValueError, r"got kernel_size\[1\]=0, expected a positive integer"),
        ({"kernel_size": 2.5}, TypeError, r"got kernel_size\[0\]=2\.5 of type float, expected a positive"),
        ({"strides": (1, 1)}, ValueError, r"got strides=\(1, 1\) for 1 spatial axes, expected an integer"),
        ({"kernel_dilation": 0}, ValueError, r"got kernel_dilation\[0\]=0, expected a positive integer"),
        ({"in_features": 0}, ValueError, r"got in_features=0, expected a positive integer"),
        ({"mask": np.ones((3, 2, 2))}, ValueError, r"got a mask of shape \(3, 2, 2\), expected \(3, 2, 4\)"),
        ({"mask": np.ones((3, 2, 4)), "transpose_kernel": True}, ValueError, r".* expected \(3, 4, 2\)"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: Any, error: Any, message: str) -> None:
    given = {"in_features": 2, "out_features": 4, "kernel_size": 3, **options}
    with pytest.raises(error, match="ConvTranspose: " + message):
        nnx.ConvTranspose(**given, rngs=nnx.Rngs(0))


def test_what_goes_around_must_not_be_empty() -> None:
    layer = nnx.ConvTranspose(2, 3, 3, padding="CIRCULAR", rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"ConvTranspose: got an input of shape \(1, 0, 2\) with padding='CIRC"
    ):
        layer(jnp.ones((1, 0, 2)))


def test_a_batch_may_be_empty_where_the_signal_goes_around() -> None:
    layer = nnx.ConvTranspose(2, 3, 3, strides=2, padding="CIRCULAR", rngs=nnx.Rngs(0))
    assert layer(jnp.ones((0, 4, 2))).shape == (0, 8, 3)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_inputs_that_do_not_fit_are_told_with_the_layout(transpose_kernel: bool) -> None:
    layer = nnx.ConvTranspose(2, 4, (3, 3), transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0))
    model = nnx.Sequential(layer)
    with pytest.raises(
        ValueError,
        match=r"ConvTranspose 'layers\.0': got an input of shape \(5, 2\), expected at least 3 axes",
    ):
        model(jnp.ones((5, 2)))
    with pytest.raises(
        ValueError, match=r"with 4 features in its last axis, expected \(\.\.\., size, size, 2\)"
    ):
        model(jnp.ones((1, 5, 5, 4)))
