from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Input, Layer
from easyflax.layers.symbolic import Symbolic, apply
from easyflax.models import Model


def linear(features, units):
    return nnx.Linear(features, units, rngs=nnx.Rngs(0))


def test_shapes_and_dtypes_are_known_and_the_batch_is_free():
    x = Input((28, 28, 1), dtype="uint8")
    assert (x.shape, x.dtype, x.ndim) == ((None, 28, 28, 1), np.uint8, 4)
    assert Input((3,), batch_size=5).shape == (5, 3)
    assert Input(batch_shape=(None, None, 3)).shape == (None, None, 3)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x + 1, (None, None, 4)),
        (lambda x: 2 / x, (None, None, 4)),
        (lambda x: -x @ jnp.ones((4, 2)), (None, None, 2)),
        (lambda x: x[:, 0], (None, 4)),
        (lambda x: x[..., 1:], (None, None, 3)),
        (lambda x: x[:, ::2], (None, None, 4)),
        (lambda x: abs(x) > 0, (None, None, 4)),
        (lambda x: np.ones(4) * x, (None, None, 4)),
        (lambda x: jnp.ones(4) * x, (None, None, 4)),
        (lambda x: np.exp(x), (None, None, 4)),
        (lambda x: x.reshape(-1, 2), (None, 2)),
        (lambda x: x.astype("int32"), (None, None, 4)),
        (lambda x: x * nnx.Param(jnp.ones((3, 1, 4))), None),
        (lambda x: apply(jnp.sum, x), ()),
        (lambda x: apply(jnp.mean, x, axis=0), (None, 4)),
        (lambda x: apply(jnp.concatenate, [x, x], axis=-1), (None, None, 8)),
        (lambda x: apply(jnp.concatenate, [x, x], axis=1), (None, None, 4)),
        (lambda x: linear(4, 3)(x), (None, None, 3)),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_the_result_has_the_shape_that_any_size_of_the_free_axes_gives(function, shape):
    x = Input((None, 4))
    if shape is None:  # what fits one size of the batch only is no function of a free batch
        with pytest.raises(TypeError, match="incompatible shapes for broadcasting"):
            function(x)
        return
    y = function(x)
    assert y.shape == shape
    model, data = Model(x, y), np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    outputs = model(data)
    assert outputs.ndim == len(shape)
    assert all(size in (None, got) for size, got in zip(shape, outputs.shape, strict=True))
    if not isinstance(y.step.function, nnx.Module) and "apply" not in function.__code__.co_names:
        assert np.allclose(outputs, function(jnp.asarray(data)), equal_nan=True)


def test_a_module_with_a_method_of_its_own_is_one_step():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.one, self.two = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x):
            return x + self.two(nnx.relu(self.one(x)))

    block, x = Block(nnx.Rngs(0)), Input((3,))
    y = block(x)
    assert y.step.function is block
    data = jnp.ones((2, 3))
    assert np.array_equal(Model(x, y)(data), block(data))


def test_a_module_whose_call_is_compiled_takes_symbolic_values():
    class Jitted(nnx.Module):
        def __init__(self):
            self.linear = linear(3, 2)

        @nnx.jit
        def __call__(self, x):
            return self.linear(x)

    assert Jitted()(Input((3,))).shape == (None, 2)


def test_classes_made_after_the_first_input_take_symbolic_values_too():
    Input((1,))

    class Late(nnx.Module):
        def __call__(self, x, scale=1):
            return {"scaled": x * scale, "pair": [x, (x,)]}

    x = Input((2,))
    outputs = Late()(x, scale=2)
    assert jax.tree.map(lambda value: value.shape, outputs, is_leaf=lambda v: isinstance(v, Symbolic)) == {
        "scaled": (None, 2),
        "pair": [(None, 2), ((None, 2),)],
    }
    assert np.array_equal(Model(x, outputs)(jnp.ones((1, 2)))["scaled"], [[2, 2]])


def test_modules_are_called_as_before_on_arrays():
    Input((1,))
    layer, x = linear(3, 2), jnp.ones((1, 3))
    assert np.array_equal(layer(x), x @ layer.kernel.value + layer.bias.value)
    assert layer(inputs=x).shape == (1, 2)


def test_a_symbolic_call_leaves_the_state_of_the_module_as_it_is():
    layer = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    drop(layer(Input((3,))))
    assert isinstance(layer.mean.get_raw_value(), jax.Array)
    assert layer.mean.value.tolist() == [0, 0, 0]
    assert drop.rngs.count.value == 0


def test_a_layer_remembers_what_it_was_called_on_first():
    x, layer = Input((3,)), Dense(2)
    y, _ = layer(x), layer(Input((3,)))
    assert layer.input is x
    assert layer.output is y


def test_without_symbolic_arguments_apply_calls_the_function():
    assert apply(jnp.add, 1, 2) == 3


def test_errors_name_both_ends_of_the_edge():
    x = Dense(5, name="hidden")(Input((3,), name="features"))
    with pytest.raises(
        ValueError,
        match=r"Linear 'linear' cannot be called on the output of Dense 'hidden' \(None, 5\).*expected",
    ):
        linear(4, 2)(x)
    with pytest.raises(
        TypeError,
        match=r"add cannot be called on the output of Dense 'hidden' \(None, 5\) and InputLayer 'other'",
    ):
        x + Input((4,), name="other")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (jnp.sin, "class Symbolic, see ef.Input: functions are called on it by ef.apply"),
        (nnx.relu, "class Symbolic, see ef.Input: functions are called on it by ef.apply"),
        (
            lambda x: jnp.concatenate([x, x]),
            "class Symbolic, see ef.Input: functions are called on it by ef.apply",
        ),
        (bool, "was used as a condition"),
        (len, "it is free"),
        (lambda x: apply(Dense, x), "expected a function or a module"),
        (lambda x: Input(784), r"got the shape 784, expected a tuple.*\(784,\)"),
        (lambda x: Input(), "got shape=None and batch_shape=None, expected one of them"),
    ],
    ids=["jitted", "activation", "list", "bool", "len", "class", "int", "nothing"],
)
def test_what_does_not_work_on_symbolic_values_says_what_does(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(Input((3,), name="x"))


def test_a_layer_that_needs_a_known_size_says_so():
    with pytest.raises(ValueError, match=r"Dense 'head'.*known size of axis -1"):
        Dense(2, name="head")(Input((3, None)))


def test_a_layer_is_built_with_the_free_axes_of_its_input():
    class Shapes(Layer):
        def build(self, input_shape):
            self.shape = input_shape

        def call(self, inputs):
            return inputs

    layer = Shapes()
    layer(Input((None, 7)))
    assert layer.shape == (None, None, 7)


def test_numbers_that_are_equal_but_of_different_types_give_different_dtypes():
    x = Input((3,), dtype="int32")
    assert [(x * factor).dtype for factor in (2, 2.0, 2)] == [np.int32, np.float32, np.int32]


def test_calls_with_derivatives_of_their_own_can_be_given_them_after_the_first_input():
    Input((3,))

    class Fivefold(nnx.Module):
        @nnx.custom_jvp
        def __call__(self, x):
            return x

    call: Any = Fivefold.__call__
    call.defjvp(lambda primals, tangents: (primals[1], 5 * tangents[1]))
    assert float(nnx.grad(lambda x: Fivefold()(x))(3.0)) == 5
