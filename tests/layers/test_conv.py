import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
import easyflax.layers as layers
import easyflax.nnx as nnx

RNG = np.random.default_rng(0)


def spread(shape, dtype=None):
    """Different entries in no time."""
    return np.random.default_rng(1).normal(size=shape).astype(dtype)


def test_each_output_is_the_product_of_the_kernel_with_the_inputs_under_it():
    layer = layers.Conv1D(1, 3, kernel_initializer=lambda shape, dtype: jnp.array([1.0, 2, 4]).reshape(shape))
    assert layer(jnp.array([[[1.0], [0.0], [0.0], [1.0], [1.0]]])).ravel().tolist() == [1.0, 4.0, 6.0]


def test_a_built_layer_is_an_nnx_conv_with_its_attributes():
    layer = layers.Conv2D(8, 3, padding="same", name="stem", kernel_initializer=spread)
    assert isinstance(layer, nnx.Conv)
    layer(jnp.ones((1, 5, 5, 2)))
    assert layer.in_features == 2
    assert layer.kernel.shape == (3, 3, 2, 8)
    assert layer.padding == "same"
    assert layer.count_params() == 3 * 3 * 2 * 8 + 8


@pytest.mark.parametrize("rate", [1, 2])
def test_with_causal_padding_no_output_depends_on_later_inputs(rate):
    layer = layers.Conv1D(2, 3, padding="causal", dilation_rate=rate, kernel_initializer=spread)
    x = jnp.asarray(RNG.normal(size=(1, 8, 2)), "float32")
    changed = x.at[0, 5].add(1.0)
    before, after = layer(x), layer(changed)
    assert before.shape == (1, 8, 2)
    assert (before[0, :5] == after[0, :5]).all()
    assert (before[0, 5] != after[0, 5]).all()


def test_groups_do_not_see_each_other():
    layer = layers.Conv1D(4, 1, groups=2, kernel_initializer=spread)
    x = jnp.ones((1, 3, 6))
    outputs = layer(x), layer(x.at[:, :, :3].add(1.0))
    assert layer.kernel.shape == (1, 3, 4)
    assert (outputs[0][..., 2:] == outputs[1][..., 2:]).all()
    assert (outputs[0][..., :2] != outputs[1][..., :2]).all()


def test_the_activation_comes_last_and_where_the_output_is_as_the_caller_sees_it():
    layer = layers.Conv1D(4, 3, activation="softmax", data_format="channels_first", kernel_initializer=spread)
    outputs = layer(jnp.asarray(RNG.normal(size=(2, 3, 6)), "float32"))
    assert outputs.shape == (2, 4, 4)
    np.testing.assert_allclose(outputs.sum(-1), 1.0, rtol=1e-6)


def test_regularizers_and_constraints_are_those_of_the_weights():
    layer = layers.Conv1D(
        2,
        1,
        kernel_regularizer="l2",
        bias_regularizer="l1",
        kernel_constraint="non_neg",
        kernel_initializer=spread,
    )
    layer(jnp.ones((1, 3, 2)))
    assert isinstance(layer.kernel.get_metadata()["regularizer"], ef.regularizers.L2)
    assert isinstance(layer.bias.get_metadata()["regularizer"], ef.regularizers.L1)
    assert isinstance(layer.kernel.get_metadata()["constraint"], ef.constraints.NonNeg)
    expected = 0.01 * jnp.sum(layer.kernel[...] ** 2)
    assert float(sum(layer.losses)) == pytest.approx(float(expected), rel=1e-6)


def test_integers_are_computed_with_in_the_dtype_of_the_layer():
    images = jnp.ones((1, 4, 4, 1), "uint8")
    ones = {"kernel_initializer": "ones"}
    assert layers.Conv2D(2, 3, **ones)(images).dtype == jnp.float32
    assert layers.Conv2D(2, 3, dtype="mixed_bfloat16", **ones)(images).dtype == jnp.bfloat16
    assert layers.Conv2DTranspose(2, 3, dtype="bfloat16", **ones)(images).dtype == jnp.bfloat16
    depthwise = layers.DepthwiseConv2D(3, dtype="bfloat16", depthwise_initializer="ones")
    assert depthwise(images).dtype == jnp.bfloat16


def test_a_layer_works_within_jit_grad_and_a_functional_model():
    x = ef.Input((None, 4))
    model = ef.Model(x, layers.GlobalMaxPooling1D()(layers.Conv1D(3, 2, kernel_initializer=spread)(x)))
    inputs = jnp.asarray(RNG.normal(size=(2, 5, 4)), "float32")
    assert model.output.shape == (None, 3)
    outputs = nnx.jit(lambda model, inputs: model(inputs))(model, inputs)
    np.testing.assert_allclose(outputs, model(inputs), rtol=1e-6)
    grads = nnx.grad(lambda model: model(inputs).sum())(model)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: layers.Conv2D(4, 3, groups=3), None, "got groups=3 with 4 filters, expected filters that"),
        (lambda: layers.Conv2D(4, 3, groups=2), (1, 4, 4, 3), "got groups=2 with 3 channels, expected"),
        (lambda: layers.Conv2D(0, 3), None, "Conv2D: got filters=0, expected a positive integer"),
        (
            lambda: layers.Conv1D(4, 3, strides=2, dilation_rate=2),
            None,
            r"got strides=\(2,\) and dilation_rate",
        ),
        (
            lambda: layers.Conv2D(4, 3, dilation_rate=2, name="head"),
            (1, 4, 6, 3),
            r"Conv2D 'head': got .* shape \(None, 4, 6, 3\) with size 4 of axis 1, expected at lea",
        ),
        (
            lambda: layers.Conv1D(4, 3),
            (1, 4),
            r"got an input of shape \(None, 4\), expected 3 axes, \(batch,",
        ),
    ],
    ids=["filters", "channels", "no filters", "strides", "size", "rank"],
)
def test_what_does_not_fit_is_refused_before_weights_are_made(make, shape, message):
    with pytest.raises(ValueError, match=message):
        make()(jnp.ones(shape))


def test_a_free_channel_axis_is_refused():
    with pytest.raises(ValueError, match=r"expected \(batch, steps, channels\) with a known number of chann"):
        layers.Conv1D(4, 3)(ef.Input((5, None)))


def test_other_channels_than_the_weights_were_made_for_are_refused():
    layer = layers.Conv2D(4, 1, data_format="channels_first", name="mix", kernel_initializer="ones")
    layer(jnp.ones((1, 3, 2, 2)))
    with pytest.raises(
        ValueError, match=r"Conv2D 'mix': .* with 5 channels, expected \(batch, channels, .* 3"
    ):
        layer(jnp.ones((1, 5, 2, 2)))
