"""Keras on JAX as the oracle: convolutions, pooling, padding, cropping and upsampling."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import inspect

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import easyflax.initializers as initializers
import easyflax.layers as layers
import tests.parity.keras_oracle as oracle

RNG = np.random.default_rng(0)
X = {
    "1D": RNG.normal(size=(2, 7, 4)).astype("float32"),
    "2D": RNG.normal(size=(2, 6, 5, 4)).astype("float32"),
    "3D": RNG.normal(size=(1, 4, 3, 5, 4)).astype("float32"),
}
FIRST = {"data_format": "channels_first"}

# name, keyword arguments
CASES = [
    ("Conv1D", {"filters": 6, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
    ("Conv1D", {"filters": 6, "kernel_size": 3, "padding": "same", "strides": 2, "groups": 2}),
    ("Conv1D", {"filters": 6, "kernel_size": 4, "padding": "causal", "activation": "softmax", **FIRST}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "strides": (1, 2), "padding": "same"}),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "use_bias": False, "activation": "relu", **FIRST}),
    ("Conv2D", {"filters": 2, "kernel_size": 1, "kernel_regularizer": "l2", "bias_constraint": "non_neg"}),
    ("Conv3D", {"filters": 2, "kernel_size": 2, "padding": "same", "dilation_rate": 2}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 4, "strides": 3, "padding": "same"}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 0}),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}),
    (
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": (3, 4), "strides": 2, "padding": "same", "output_padding": (1, 0)},
    ),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": (2, 1), "activation": "tanh", **FIRST}),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": 2, "use_bias": False}),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2, "dilation_rate": 2}),
    ("DepthwiseConv2D", {"kernel_size": 3, "strides": 2, "padding": "same", "depthwise_regularizer": "l2"}),
    ("DepthwiseConv2D", {"kernel_size": (2, 3), "depth_multiplier": 2, "activation": "relu", **FIRST}),
    ("SeparableConv1D", {"filters": 5, "kernel_size": 3, "padding": "same", "depth_multiplier": 2}),
    ("SeparableConv2D", {"filters": 5, "kernel_size": 3, "strides": 2, "activation": "relu"}),
    ("SeparableConv2D", {"filters": 5, "kernel_size": 3, "use_bias": False, **FIRST}),
    ("MaxPooling1D", {}),
    ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same", **FIRST}),
    ("MaxPooling2D", {"pool_size": (2, 3), "strides": (2, 1)}),
    ("MaxPooling3D", {"padding": "same"}),
    ("AveragePooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("AveragePooling2D", {"pool_size": 2, "strides": 1, "padding": "same", **FIRST}),
    ("AveragePooling3D", {"pool_size": 2}),
    ("GlobalMaxPooling1D", {}),
    ("GlobalMaxPooling2D", {"keepdims": True, **FIRST}),
    ("GlobalMaxPooling3D", {}),
    ("GlobalAveragePooling1D", {"keepdims": True}),
    ("GlobalAveragePooling2D", FIRST),
    ("GlobalAveragePooling3D", {}),
    ("AdaptiveMaxPooling1D", {"output_size": 3}),
    ("AdaptiveMaxPooling2D", {"output_size": (4, 2)}),
    ("AdaptiveMaxPooling3D", {"output_size": 2, **FIRST}),
    ("AdaptiveAveragePooling1D", {"output_size": 5}),
    ("AdaptiveAveragePooling2D", {"output_size": 3, **FIRST}),
    ("AdaptiveAveragePooling3D", {"output_size": (2, 3, 1)}),
    ("ZeroPadding1D", {"padding": (2, 1)}),
    ("ZeroPadding2D", {"padding": ((1, 0), (0, 2)), **FIRST}),
    ("ZeroPadding3D", {"padding": 2}),
    ("Cropping1D", {"cropping": (0, 2)}),
    ("Cropping2D", {"cropping": 1, **FIRST}),
    ("Cropping3D", {}),
    ("UpSampling1D", {"size": 3}),
    ("UpSampling2D", {"size": (2, 3), **FIRST}),
    ("UpSampling2D", {"interpolation": "bilinear"}),
    ("UpSampling2D", {"interpolation": "bicubic", **FIRST}),
    ("UpSampling3D", {"size": (1, 2, 3)}),
]
IDS_OF_CASES = [f"{name}-{number}" for number, (name, _) in enumerate(CASES)]
NAMES = sorted({name for name, _ in CASES})
ALIASES = {
    alias: getattr(keras.layers, alias).__name__
    for alias in layers.__all__
    if getattr(layers, alias).__name__ != alias and alias[-2:] in ("1D", "2D", "3D", "se")
}


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS_OF_CASES)
def test_a_layer_computes_what_keras_computes_with_the_same_weights(name, kwargs):
    x = X[name.removesuffix("Transpose")[-2:]]
    both = make_both(name, **kwargs)
    oracle.assert_same_layer(both, x)
    oracle.assert_same_config(both)
    ours, theirs = both
    paths = [weight.path.split("/")[-1] for weight in theirs.weights]
    assert [name_of(ours, weight) for weight in ours.weights] == paths
    assert ours.supports_masking == theirs.supports_masking
    axis = 1 if kwargs.get("data_format") == "channels_first" else -1
    free = [None] * x.ndim
    free[axis] = x.shape[axis]
    for shape in [(None, *x.shape[1:]), tuple(free)]:
        assert ours.compute_output_shape(shape) == tuple(theirs.compute_output_shape(shape))


def make_both(name, **kwargs):
    """With weights that begin as zeros, which are made in no time; they are set afterwards."""
    known = inspect.signature(getattr(layers, name).__init__).parameters
    initializers = {key: "zeros" for key in known if key.endswith("_initializer")}
    return oracle.make_both(name, **initializers, **kwargs)


def name_of(layer, weight):
    return next(name for name, value in vars(layer).items() if value is weight)


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_has_the_arguments_of_keras_and_defaults_of_the_same_meaning(name):
    def arguments(cls):
        found = inspect.signature(cls.__init__).parameters.values()
        return [(p.name, p.default is p.empty) for p in found if p.name not in oracle.KERAS_ONLY]

    ours, theirs = getattr(layers, name), getattr(keras.layers, name)
    assert arguments(ours) == arguments(theirs)
    # An integer stands for as many as there are axes: configurations compare what becomes of it.
    required = {
        name: 2 for name, is_required in arguments(theirs) if is_required and name not in ("self", "kwargs")
    }
    oracle.assert_same_config((ours(**required), theirs(**required)))


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_other_names_stand_for_the_same_layers_as_in_keras(alias):
    assert getattr(layers, alias) is getattr(layers, ALIASES[alias])


def test_all_names_that_keras_has_for_them_are_there():
    kinds = ("Conv", "Pool", "Padding", "Cropping", "UpSampling")
    theirs = {name for name in dir(keras.layers) if any(kind in name for kind in kinds)}
    assert theirs - set(dir(layers)) <= {name for name in theirs if "LSTM" in name}


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal"}),
        ("Conv1DTranspose", {"filters": 3, "kernel_size": 2}),
        ("SeparableConv1D", {"filters": 3, "kernel_size": 2}),
        ("AveragePooling1D", {"pool_size": 2, "padding": "same"}),
        ("GlobalAveragePooling1D", {}),
        ("AdaptiveAveragePooling1D", {"output_size": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dtype_policies_compute_and_store_as_in_keras(name, kwargs, policy):
    both = make_both(name, **kwargs, dtype=policy)
    oracle.assert_same_layer(both, X["1D"], rtol=1e-2)  # bfloat16 has 8 bits
    ours, theirs = both
    assert [w.dtype for w in ours.get_weights()] == [w.dtype for w in oracle.keras_weights(theirs)]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_masked_mean_is_that_of_keras(data_format):
    x = X["1D"] if data_format == "channels_last" else np.moveaxis(X["1D"], -1, 1)
    mask = jnp.asarray(np.arange(7) < np.array([[3], [7]]))
    both = oracle.make_both("GlobalAveragePooling1D", data_format=data_format)
    oracle.assert_same_layer(both, x, call={"mask": mask})


@pytest.mark.parametrize(
    ("name", "kwargs", "argument"),
    [
        ("Conv1D", {"filters": 3, "kernel_size": 2}, "kernel_initializer"),
        ("DepthwiseConv1D", {"kernel_size": 2, "depth_multiplier": 3}, "depthwise_initializer"),
    ],
    ids=["Conv1D", "DepthwiseConv1D"],
)
def test_seeded_kernels_are_those_of_keras(name, kwargs, argument):
    ours = getattr(layers, name)(**kwargs, **{argument: initializers.GlorotUniform(seed=3)})
    theirs = getattr(keras.layers, name)(**kwargs, **{argument: keras.initializers.GlorotUniform(seed=3)})
    shape = (None, 4, 5)
    ours.compute_output_shape(shape)
    theirs.build(shape)
    oracle.assert_close(ours.get_weights()[0], oracle.keras_weights(theirs)[0])
