"""Keras on JAX as the oracle: every function of `easyflax.ops` on random inputs, and its arguments."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.layers as layers
import easyflax.ops as ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype("float32")
Y = RNG.normal(size=(4, 6)).astype("float32")
WITH_NAN = np.where(X > 1, np.nan, X).astype("float32")
WHOLE, OTHER = RNG.integers(0, 20, size=(2, 4, 6))
SQUARE = RNG.normal(size=(3, 4, 4)).astype("float32")
POSITIVE = SQUARE @ SQUARE.swapaxes(1, 2) + 4 * np.eye(4, dtype="float32")
IMAGE = RNG.uniform(size=(2, 8, 6, 3)).astype("float32")
SHARES = RNG.dirichlet(np.ones(6), size=4).astype("float32")
CUBE = RNG.normal(size=(2, 3, 4)).astype("float32")

# Arguments that Keras has for sparse tensors, devices and attention kernels that are not offered here.
KERAS_ONLY = {"sparse", "ragged", "synchronized", "flash_attention", "attn_logits_soft_cap", "kwargs"}
HOMES = {name: home for home in ("image",) for name in ops.image.NAMES}
MODULES = {"core", "image", "linalg", "math", "nn", "numpy"}

BITS = ["bitwise_invert", "bitwise_not"]  # of integers
WINDOWS = ["bartlett", "blackman", "hamming", "hanning"]
OTHER_UNARY = {"convert_to_numpy", "custom_gradient", "is_tensor", "dtype", "shape", "size", "ndim", "copy"}
OTHER_UNARY |= {
    "cholesky",
    "det",
    "eig",
    "eigh",
    "inv",
    "logdet",
    "slogdet",
    "lu_factor",
    "fft",
    "fft2",
    "ifft2",
}
OTHER_UNARY |= {"view_as_complex", "view_as_real", *BITS, *WINDOWS}
REDUCTIONS = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]
NAN_REDUCTIONS = [
    f"nan{name}" for name in ["argmax", "argmin", "max", "mean", "median", "min", "prod", "std", "sum", "var"]
]
BINARY_OF_INTEGERS = [
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "left_shift",
]
BINARY_OF_INTEGERS += ["right_shift", "gcd", "lcm", "ldexp", "isin"]


def keras_signature(name):
    return inspect.signature(getattr(keras.ops, name))


def is_unary(name):
    return name not in OTHER_UNARY | {"nonzero", "sparsemax"} and list(keras_signature(name).parameters) == [
        "x"
    ]


def is_binary(name):
    return (
        list(keras_signature(name).parameters) in (["x1", "x2"], ["x", "y"])
        and name not in BINARY_OF_INTEGERS
    )


NAMES = sorted(set(ops.__all__) - MODULES)
UNARY = [name for name in NAMES if is_unary(name)]
BINARY = [name for name in NAMES if is_binary(name) and name not in ("matmul", "dot", "vdot", "cdist")]

# Functions of the same arguments are compiled together. Where jax refuses integers, Keras does.
FLOATS_ONLY = {"erf", "erfc", "erfinv", "log_sigmoid", "rsqrt", "sigmoid", "silu", "swish"}
GROUPS = {
    "of one array": (UNARY, (X,), {}),
    "of integers": ([name for name in UNARY if name not in FLOATS_ONLY], (WHOLE,), {}),
    "of bits": (BITS, (WHOLE,), {}),
    "of two arrays": (BINARY, (X, Y), {}),
    "of two arrays of integers": (BINARY_OF_INTEGERS, (WHOLE, OTHER % 4 + 1), {}),
    "of all entries": (REDUCTIONS, (X,), {}),
    "along an axis": (REDUCTIONS, (X,), {"axis": -1, "keepdims": True}),
    "along an axis with NaN": (NAN_REDUCTIONS, (WITH_NAN,), {"axis": 0}),
}
CASES = [
    *[(name, (7,), {}) for name in WINDOWS],
    ("add", ([1.0, 2.0], 3), {}),
    ("allclose", (X, X + 1e-9), {}),
    ("append", (X, Y), {"axis": 1}),
    ("arange", (5,), {}),
    ("arange", (1.0, 3.0, 0.5), {}),
    ("argpartition", (X, 2), {}),
    ("argsort", (X,), {"axis": 0}),
    ("array", ([[1, 2]],), {}),
    ("array_split", (X, 4), {"axis": 1}),
    ("associative_scan", (jnp.add, X), {}),
    ("average", (X,), {"axis": 1, "weights": np.arange(6.0, dtype="float32")}),
    ("average_pool", (IMAGE, 2), {"strides": 1}),
    ("average_pool", (IMAGE, (3, 2)), {"strides": 2, "padding": "same"}),
    ("batch_normalization", (X, X.mean(0), X.var(0), 1, Y[0], Y[1]), {}),
    ("binary_crossentropy", (SHARES, SHARES[::-1]), {}),
    ("binary_crossentropy", (SHARES, X), {"from_logits": True}),
    ("bincount", (WHOLE[0],), {"minlength": 30}),
    ("bincount", (WHOLE,), {"weights": X, "minlength": 20}),
    ("broadcast_to", (X[0], (4, 6)), {}),
    ("cast", (X, "int32"), {}),
    ("categorical_crossentropy", (SHARES, SHARES[::-1]), {}),
    ("categorical_crossentropy", (SHARES, X), {"from_logits": True, "axis": 0}),
    ("cdist", (X, Y[:2]), {}),
    ("celu", (X,), {"alpha": 0.3}),
    ("cholesky", (POSITIVE,), {}),
    ("cholesky", (POSITIVE,), {"upper": True}),
    ("clip", (X, -0.5, 0.5), {}),
    ("concatenate", ([X, Y],), {"axis": -1}),
    ("cond", (True, lambda: X, lambda: Y), {}),
    ("conv", (IMAGE, RNG.normal(size=(3, 2, 3, 5)).astype("float32")), {"strides": 2, "padding": "same"}),
    (
        "conv",
        (IMAGE.transpose(0, 3, 1, 2), np.ones((3, 3, 1, 6), "float32")),
        {"data_format": "channels_first"},
    ),
    ("conv", (CUBE, np.ones((2, 4, 3), "float32")), {"dilation_rate": 2}),
    ("convert_to_tensor", ([[1.0]], "float16"), {}),
    ("copy", (X,), {}),
    ("corrcoef", (X,), {}),
    ("correlate", (X[0], Y[0]), {"mode": "same"}),
    ("count_nonzero", (WHOLE % 3,), {"axis": 0}),
    ("cross", (X[:, :3], Y[:, :3]), {}),
    ("cumprod", (X,), {"axis": 1}),
    ("cumsum", (X,), {"axis": 1}),
    ("depth_to_space", (RNG.normal(size=(2, 3, 4, 8)).astype("float32"), 2), {}),
    ("depth_to_space", (RNG.normal(size=(2, 8, 3, 4)).astype("float32"), 2, "channels_first"), {}),
    ("depthwise_conv", (IMAGE, RNG.normal(size=(3, 2, 3, 2)).astype("float32")), {"padding": "same"}),
    ("det", (SQUARE,), {}),
    ("diag", (X[0],), {"k": 1}),
    ("diagflat", (X[0],), {}),
    ("diagonal", (CUBE,), {"axis1": 1, "axis2": 2}),
    ("diff", (X,), {"n": 2}),
    ("digitize", (X, np.array([-1.0, 0.0, 1.0], "float32")), {}),
    ("divide_no_nan", (X, np.where(Y > 0, Y, 0)), {}),
    ("dot", (X, Y.T), {}),
    ("dot_product_attention", tuple(RNG.normal(size=(3, 2, 5, 4, 8)).astype("float32")), {"is_causal": True}),
    (
        "dot_product_attention",
        tuple(RNG.normal(size=(3, 2, 5, 4, 8)).astype("float32")),
        {"mask": np.tri(5, dtype=bool)[None, None], "scale": 0.3},
    ),
    ("dsplit", (CUBE, 2), {}),
    ("dstack", ([X, Y],), {}),
    ("einsum", ("ij,kj->ik", X, Y), {}),
    ("elu", (X,), {"alpha": 0.3}),
    ("empty", ((2, 3),), {}),
    ("empty_like", (X,), {}),
    ("expand_dims", (X, (0, -1)), {}),
    ("extract_sequences", (X, 3, 2), {}),
    ("eye", (3, 4), {"k": 1}),
    ("fft", ((X, Y),), {}),
    ("fft2", ((X, Y),), {}),
    ("ifft2", ((X, Y),), {}),
    ("flip", (X,), {"axis": 1}),
    ("fori_loop", (0, 3, lambda i, x: x + i, X), {}),
    ("full", ((2, 3), 4), {}),
    ("full_like", (X, 4), {}),
    ("gelu", (X,), {}),
    ("gelu", (X,), {"approximate": False}),
    ("geomspace", (1.0, 100.0), {"num": 5}),
    ("get_item", (X, (slice(0, 2), -1)), {}),
    ("glu", (X,), {}),
    ("hard_shrink", (X,), {"threshold": 0.3}),
    ("histogram", (X[0],), {"bins": 4}),
    ("hsplit", (X, 3), {}),
    ("hstack", ([X, Y],), {}),
    ("identity", (3,), {}),
    ("in_top_k", (np.array([0, 1, 2, 3]), X, 3), {}),
    ("inv", (POSITIVE,), {}),
    ("irfft", (((X, Y)),), {}),
    ("isclose", (X, X + 1e-9), {}),
    ("kaiser", (7, 8.0), {}),
    ("layer_normalization", (X, Y[0], Y[1]), {}),
    ("layer_normalization", (CUBE, CUBE[0], CUBE[1]), {"axis": (1, 2), "epsilon": 0.1}),
    ("leaky_relu", (X,), {"negative_slope": 0.3}),
    ("linspace", (0, 1), {"num": 5}),
    ("linspace", (X, Y), {"num": 3, "endpoint": False, "axis": -1}),
    ("log_softmax", (X,), {"axis": 0}),
    ("logdet", (POSITIVE,), {}),
    ("logspace", (0.0, 2.0), {"num": 5}),
    ("lstsq", (X[:, :3], Y[:, 0]), {}),
    ("lu_factor", (SQUARE[0],), {}),
    ("map", (lambda row: row * 2, X), {}),
    ("matmul", (CUBE, CUBE.swapaxes(1, 2)), {}),
    ("max", (X,), {"initial": 0.5}),
    ("max_pool", (IMAGE, 2), {"strides": 2}),
    (
        "max_pool",
        (IMAGE.transpose(0, 3, 1, 2), 3),
        {"strides": 1, "padding": "same", "data_format": "channels_first"},
    ),
    ("meshgrid", (X[0], Y[1]), {"indexing": "ij"}),
    ("min", (X,), {"axis": 0, "initial": 0.5}),
    ("moments", (CUBE, (0, 1)), {"keepdims": True}),
    ("moveaxis", (CUBE, 0, -1), {}),
    ("multi_hot", (WHOLE % 5, 5), {}),
    ("nan_to_num", (WITH_NAN,), {"nan": 2.0}),
    ("nancumprod", (WITH_NAN,), {"axis": 0}),
    ("nancumsum", (WITH_NAN,), {"axis": 0}),
    ("nanpercentile", (WITH_NAN, 30.0), {"axis": 0}),
    ("nanquantile", (WITH_NAN, 0.3), {}),
    ("ndim", (X,), {}),
    ("nonzero", (WHOLE % 3,), {}),
    ("norm", (X,), {}),
    ("norm", (X,), {"ord": 1, "axis": 1, "keepdims": True}),
    ("normalize", (X,), {}),
    ("normalize", (X,), {"axis": 0, "order": 1}),
    ("one_hot", (WHOLE % 7, 6), {}),
    ("one_hot", (WHOLE - 1, 6), {"axis": 1, "dtype": "int32"}),
    ("ones", ((2, 3),), {}),
    ("ones_like", (WHOLE,), {"dtype": "float32"}),
    ("pad", (X, ((1, 2), (0, 1))), {}),
    ("pad", (X, 1), {"constant_values": 2.0}),
    ("pad", (X, ((1, 2), (0, 1))), {"mode": "reflect"}),
    ("percentile", (X, 30.0), {"axis": 0}),
    ("pinv", (X,), {}),
    ("polar", (X, Y), {}),
    ("psnr", (X, Y, 1.0), {}),
    ("qr", (SQUARE,), {}),
    ("quantile", (X, np.array([0.1, 0.5], "float32")), {"axis": 1, "keepdims": True}),
    ("repeat", (X, 2), {"axis": 1}),
    ("reshape", (X, (2, -1)), {}),
    ("reshape", (X, -1), {}),
    ("rfft", (X,), {}),
    ("rms_normalization", (X, Y[0]), {}),
    ("roll", (X, (1, 2)), {"axis": (0, 1)}),
    ("rot90", (X,), {"k": 2}),
    ("round", (X,), {"decimals": 1}),
    ("saturate_cast", (300 * X, "uint8"), {}),
    ("scan", (lambda total, x: (total + x, total), X[0], X), {}),
    ("scatter", (np.array([[0, 1], [2, 0], [0, 1]]), np.array([1.0, 2.0, 3.0], "float32"), (3, 2)), {}),
    *[
        (
            "scatter_update",
            (X, np.array([[0, 1], [2, 0]]), np.array([1.0, 2.0], "float32")),
            {"reduction": way},
        )
        for way in (None, "add", "max", "min", "mul")
    ],
    ("searchsorted", (np.sort(X[0]), Y[0]), {"side": "right"}),
    *[(f"segment_{way}", (X, np.array([0, 0, 2, 1]), 4), {}) for way in ("max", "min", "prod", "sum")],
    ("select", ([X > 0, Y > 0], [X, Y]), {"default": 7.0}),
    (
        "separable_conv",
        (IMAGE, np.ones((2, 2, 3, 2), "float32"), np.ones((1, 1, 6, 4), "float32")),
        {"strides": 2},
    ),
    ("shape", (X,), {}),
    ("size", (X,), {}),
    ("slice", (X, (1, 2), (2, -1)), {}),
    ("slice_update", (X, (1, 2), Y[:2, :2]), {}),
    ("slogdet", (SQUARE,), {}),
    ("soft_shrink", (X,), {"threshold": 0.3}),
    ("softmax", (X,), {}),
    ("softmax", (CUBE,), {"axis": (0, 2)}),
    ("solve", (POSITIVE, CUBE[:1, :, :].repeat(3, 0).swapaxes(1, 2)), {}),
    ("solve_triangular", (np.tril(POSITIVE), SQUARE), {"lower": True}),
    ("sort", (X,), {"axis": 0}),
    ("space_to_depth", (IMAGE, 2), {}),
    ("space_to_depth", (IMAGE.transpose(0, 3, 1, 2), 2, "channels_first"), {}),
    ("sparse_categorical_crossentropy", (WHOLE[:, 0] % 6, SHARES), {}),
    ("sparse_categorical_crossentropy", (WHOLE[:, :1] % 6, X), {"from_logits": True}),
    ("split", (X, 3), {"axis": 1}),
    ("split", (X, (1, 4)), {"axis": 1}),
    ("squareplus", (X,), {"b": 2}),
    ("squeeze", (X[None, :, :, None],), {"axis": 0}),
    ("stack", ([X, Y],), {"axis": 1}),
    ("stop_gradient", (X,), {}),
    ("svd", (X,), {"full_matrices": False, "compute_uv": False}),
    ("swapaxes", (CUBE, 0, 2), {}),
    ("switch", (1, [jnp.sin, jnp.cos], X), {}),
    ("take", (X, np.array([2, 0, -1])), {"axis": 1}),
    ("take_along_axis", (X, np.argsort(X, 1)), {"axis": 1}),
    ("tensordot", (X, Y.T), {"axes": 1}),
    ("tensordot", (X, Y), {"axes": ((0, 1), (0, 1))}),
    ("threshold", (X, 0.3, 7.0), {}),
    ("tile", (X, (2, 1)), {}),
    ("top_k", (X, 3), {}),
    ("trace", (CUBE,), {"offset": 1}),
    ("transpose", (CUBE,), {}),
    ("transpose", (CUBE,), {"axes": (1, 0, 2)}),
    ("trapezoid", (X,), {"dx": 0.5}),
    ("tri", (3,), {"k": -1}),
    ("tril", (CUBE,), {"k": -1}),
    ("triu", (CUBE,), {"k": 1}),
    ("unique", (WHOLE,), {}),
    ("unique", (WHOLE,), {"return_counts": True, "return_inverse": True}),
    ("unravel_index", (np.array([3, 5]), (2, 3)), {}),
    ("unstack", (X,), {"axis": 1}),
    ("vander", (X[0],), {"N": 3}),
    ("vdot", (X, Y), {}),
    ("vectorized_map", (lambda row: row.sum(), X), {}),
    ("view", (X, "int32"), {}),
    ("view_as_complex", (X.reshape(4, 3, 2),), {}),
    ("view_as_real", ((X + 1j * Y).astype("complex64"),), {}),
    ("vsplit", (X, 2), {}),
    ("vstack", ([X, Y],), {}),
    ("where", (X > 0, X, 0.0), {}),
    ("where", (X > 0,), {}),
    ("while_loop", (lambda i, x: i < 5, lambda i, x: (i + 1, x * 2), (0, X)), {"maximum_iterations": 3}),
    ("while_loop", (lambda x: x.sum() < 50, lambda x: x + 1, X), {}),
    ("zeros", ((2, 3),), {}),
    ("zeros_like", (WHOLE,), {}),
    ("crop_images", (IMAGE, 1, 2), {"target_height": 4, "right_cropping": 1}),
    ("extract_patches", (IMAGE, (3, 2)), {}),
    ("extract_patches", (IMAGE[0], 2), {"strides": 1, "padding": "same"}),
    ("hsv_to_rgb", (IMAGE,), {}),
    ("map_coordinates", (X, np.array([[0.5, 1.2], [2.0, 3.7]], "float32"), 1), {"fill_mode": "nearest"}),
    ("pad_images", (IMAGE, 1, 2), {"target_height": 10, "right_padding": 1}),
    ("resize", (IMAGE, (5, 9)), {}),
    ("resize", (IMAGE, (4, 4)), {"interpolation": "bicubic", "antialias": True}),
    ("resize", (IMAGE, (5, 5)), {"interpolation": "nearest", "crop_to_aspect_ratio": True}),
    ("resize", (IMAGE[0], (5, 9)), {"pad_to_aspect_ratio": True, "fill_value": 0.5}),
    ("resize", (IMAGE.transpose(0, 3, 1, 2), (5, 9)), {"data_format": "channels_first"}),
    ("rgb_to_grayscale", (IMAGE,), {}),
    ("rgb_to_hsv", (IMAGE,), {}),
]


def of(home, name):
    return getattr(home.image, name) if name in HOMES else getattr(home, name)


def assert_same(ours, theirs):
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=2e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_functions_of_the_same_arguments_return_what_keras_returns(group):
    names, args, kwargs = GROUPS[group]

    def results(home):
        return jax.jit(lambda *args: {name: getattr(home, name)(*args, **kwargs) for name in names})(*args)

    ours, theirs = results(ops), results(keras.ops)
    for name in names:
        assert_same(ours[name], theirs[name])


@pytest.mark.parametrize(("name", "args", "kwargs"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_a_function_returns_what_keras_returns(name, args, kwargs):
    assert_same(of(ops, name)(*args, **kwargs), of(keras.ops, name)(*args, **kwargs))


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.default) for p in found if p.name not in KERAS_ONLY]


def test_arguments_and_defaults_are_those_of_keras():
    for name in [*NAMES, *HOMES]:
        assert parameters(of(ops, name)) == parameters(of(keras.ops, name)), name


def test_symbolic_shapes_are_those_of_keras():
    ours, theirs = layers.Input((8, 6, 3)), keras.Input((8, 6, 3))
    for name, args, kwargs in [
        ("mean", (), {"axis": (1, 2)}),
        ("reshape", ((-1, 48, 3),), {}),
        ("transpose", (), {"axes": (0, 3, 1, 2)}),
        ("expand_dims", (0,), {}),
        ("max_pool", (2, 2), {}),
        ("squeeze", (), {"axis": ()}),
        ("argmax", (), {"axis": -1}),
    ]:
        one, other = (
            getattr(ops, name)(ours, *args, **kwargs),
            getattr(keras.ops, name)(theirs, *args, **kwargs),
        )
        assert (one.shape, str(one.dtype)) == (other.shape, other.dtype), name
    assert (
        ops.concatenate([ours, ours], axis=-1).shape == keras.ops.concatenate([theirs, theirs], axis=-1).shape
    )
    assert ops.shape(ours) == keras.ops.shape(theirs) == (None, 8, 6, 3)
    assert ops.einsum("bhwc,cd->bhwd", ours, np.ones((3, 2), "float32")).shape == (None, 8, 6, 2)
