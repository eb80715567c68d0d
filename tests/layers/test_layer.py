import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.errors import TraceContextError
from easyflax.layers import Dense, Layer, TimeDistributed
from easyflax.models import Sequential


class Scale(Layer):
    def build(self, input_shape):
        self.seen_shape = input_shape
        self.offset = self.add_weight(shape=input_shape[-1:], initializer="zeros", trainable=False)
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones")

    def call(self, inputs):
        return inputs * self.scale + self.offset


class Mode(Layer):
    def call(self, inputs, training=None):
        return inputs + 1 if training else inputs


class Outer(Layer):
    """Has a layer from the beginning, and makes another one when it is built."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = Dense(3)

    def build(self, input_shape):
        self.second = Dense(input_shape[-1])

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_weights_are_made_by_the_first_call_with_the_batch_axis_left_free():
    layer = Scale()
    assert not layer.built
    assert layer.weights == []
    assert layer(jnp.ones((2, 5, 3))).shape == (2, 5, 3)
    assert layer.built
    assert layer.seen_shape == (None, 5, 3)


def test_weights_come_in_the_order_of_creation_the_trained_ones_first():
    layer = Scale()
    layer(jnp.ones((1, 3)))
    assert [weight is layer.scale for weight in layer.weights] == [True, False]
    assert layer.trainable_weights == [layer.scale]
    assert layer.non_trainable_weights == [layer.offset]
    assert [array.tolist() for array in layer.get_weights()] == [[1, 1, 1], [0, 0, 0]]
    layer.set_weights([[1, 2, 3], [4, 5, 6]])
    assert layer(jnp.ones((1, 3))).tolist() == [[5, 7, 9]]


def test_a_copy_keeps_the_order_of_weights():
    layer = Outer()
    layer(jnp.ones((1, 2)))
    shapes = [array.shape for array in layer.get_weights()]
    assert shapes == [(2, 3), (3,), (3, 2), (2,)]
    assert [array.shape for array in nnx.clone(layer).get_weights()] == shapes


def test_layers_made_in_build_are_built_by_a_call_on_shapes_alone():
    layer = Outer()
    assert layer.compute_output_shape((None, 4)) == (None, 4)
    assert [array.shape for array in layer.get_weights()] == [(4, 3), (3,), (3, 4), (4,)]
    assert all(isinstance(weight.get_raw_value(), jax.Array) for weight in layer.weights)


def test_weights_made_for_shapes_alone_are_those_that_a_call_makes():
    from easyflax import random

    def weights(build):
        random.set_random_seed(3)
        layer = Outer()
        build(layer)
        return layer.get_weights()

    by_call = weights(lambda layer: layer(jnp.ones((2, 4))))
    by_shape = weights(lambda layer: layer.compute_output_shape((None, 4)))
    assert all(map(np.array_equal, by_call, by_shape))


def test_a_direct_call_is_inference_until_train_is_called():
    layer = Mode()
    assert layer(jnp.zeros(1)) == 0
    assert layer(jnp.zeros(1), training=True) == 1
    layer.train()
    assert layer(jnp.zeros(1)) == 1
    assert layer(jnp.zeros(1), training=False) == 0
    layer.eval()
    assert layer(jnp.zeros(1)) == 0


def test_training_reaches_layers_inside_that_are_not_told():
    class Around(Layer):
        def __init__(self):
            super().__init__()
            self.inner = Mode()

        def call(self, inputs):
            return self.inner(inputs)

    layer = Around()
    assert layer(jnp.zeros(1), training=True) == 1
    assert layer(jnp.zeros(1)) == 0
    model = Sequential([Around(), nnx.Dropout(1.0, rngs=nnx.Rngs(0))])
    model.eval()
    assert model(jnp.ones(4)).tolist() == [1] * 4
    assert model(jnp.ones(4), training=True).tolist() == [0] * 4
    assert model.layers[1].deterministic


def test_each_loss_of_a_call_is_listed_and_the_next_call_begins_anew():
    class Penalty(Layer):
        def call(self, inputs):
            self.add_loss(jnp.sum(inputs))
            return inputs

    class Twice(Layer):
        def __init__(self):
            super().__init__()
            self.penalty = Penalty()

        def call(self, inputs):
            return self.penalty(self.penalty(inputs))

    layer = Twice()
    for _ in range(2):
        layer(jnp.ones(3))
        assert [float(loss) for loss in layer.losses] == [3, 3]


def test_regularizers_of_trained_weights_are_among_the_losses():
    layer = Dense(2, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l1")
    layer(jnp.ones((4, 3)))
    # activity: |3| for 4 x 2 outputs, times 0.01, over 4 rows; kernel: 0.01 * 6
    assert [round(float(loss), 6) for loss in layer.losses] == [0.06, 0.06]
    layer.trainable = False
    assert len(layer.losses) == 1


def test_a_call_as_a_pure_function_gives_outputs_and_changed_variables():
    class Counting(Layer):
        def build(self, input_shape):
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            self.count.value = self.count.value + 1
            return inputs * self.scale

    layer = Counting()
    layer(jnp.ones(2))

    @jax.jit
    def loss(trained, others, x):
        outputs, others = layer.stateless_call(trained, others, x)
        return jnp.sum(outputs), others

    (gradient,), others = jax.grad(loss, has_aux=True)([jnp.array(2.0)], [jnp.array(5.0)], jnp.arange(3.0))
    assert gradient == 3
    assert others == [6]
    assert layer.count.value == 1


def test_a_layer_without_weights_says_so_when_a_transform_was_not_given_it():
    layer = Dense(2, name="head")
    with pytest.raises(TraceContextError, match=r"Dense 'head' has no weights yet.*Call it once before"):
        jax.jit(lambda x: layer(x))(jnp.ones((1, 2)))
    assert not layer.built


def test_a_transform_that_is_given_a_layer_builds_it():
    layer = Dense(2)
    outputs = nnx.jit(lambda layer, x: layer(x))(layer, jnp.ones((1, 3)))
    assert layer.kernel.shape == (3, 2)
    assert np.allclose(outputs, layer(jnp.ones((1, 3))))


def test_the_configuration_is_read_from_attributes_of_the_names_of_arguments():
    class Power(Layer):
        def __init__(self, exponent, *, bias=0.5, **kwargs):
            super().__init__(**kwargs)
            self.exponent = exponent
            self.bias = bias

        def call(self, inputs):
            return inputs**self.exponent + self.bias

    config = Power(2, name="square", trainable=False, dtype="mixed_bfloat16").get_config()
    expected = {"name": "square", "trainable": False, "dtype": "mixed_bfloat16", "exponent": 2, "bias": 0.5}
    assert config == expected
    again = Power.from_config(config)
    assert again.get_config() == config
    assert again(jnp.array([3.0])).dtype == jnp.bfloat16


def test_inputs_are_cast_to_the_dtype_of_the_computation():
    layer = Dense(2, dtype="mixed_bfloat16")
    assert layer(np.ones((1, 3), np.float32)).dtype == jnp.bfloat16
    assert layer.kernel.dtype == jnp.float32
    assert Dense(2, dtype="bfloat16")(jnp.ones((1, 3))).dtype == jnp.bfloat16
    assert Dense(2)(jnp.ones((1, 3), jnp.bfloat16)).dtype == jnp.float32


def test_build_is_given_the_shapes_of_several_arguments_by_name():
    class Pair(Layer):
        def build(self, query_shape, value_shape):
            self.shapes = query_shape, value_shape

        def call(self, query, value=None):
            return query if value is None else query + value

    layer = Pair()
    layer(jnp.ones((2, 3)), value=jnp.ones((2, 1)))
    assert layer.shapes == ((None, 3), (None, 1))
    single = Pair()
    single(jnp.ones((2, 3)))
    assert single.shapes == ((None, 3), None)


def test_build_is_given_the_nesting_of_the_inputs():
    class Join(Layer):
        def build(self, input_shape):
            self.shapes = input_shape

        def call(self, inputs):
            return inputs["a"] + inputs["b"][0]

    layer = Join()
    layer({"a": jnp.ones((2, 3)), "b": [jnp.ones((2, 1))]})
    assert layer.shapes == {"a": (None, 3), "b": [(None, 1)]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(2, unit=3), r"Dense: got the unknown argument 'unit', expected one of .*'units'"),
        (lambda: Dense(2, dtype="float33"), "dtype is 'float33', expected a dtype such as 'float32'"),
        (lambda: Dense(2, name=""), "name is '', expected a string"),
        (lambda: Layer()(jnp.ones(1)), r"Layer has no method call, expected .* Define"),
        (lambda: Dense(2, name="head")(None), "Dense 'head': got no array to be called on"),
        (lambda: Dense(2).count_params(), r"count_params: Dense 'dense' has no weights yet.*Call it on data"),
        (lambda: Dense(2).output, "Dense 'dense' has no symbolic output"),
        (lambda: Scale().set_weights([]), "set_weights: Scale 'scale' has no weights yet"),
        (lambda: setattr(Dense(2), "trainable", 1), "trainable was set to 1, expected True or False"),
    ],
    ids=["argument", "dtype", "name", "no call", "no array", "count", "output", "set_weights", "trainable"],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises((TypeError, ValueError, AttributeError, NotImplementedError), match=message):
        make()


def test_other_feature_sizes_than_a_layer_was_built_for_are_refused():
    layer = Dense(2, name="head")
    layer(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"Dense 'head': got an input of shape \(1, 4\).*expected"):
        layer(jnp.ones((1, 4)))


def test_build_can_be_called_by_hand():
    layer = Scale()
    layer.build((None, 3))
    assert layer.built
    assert layer.count_params() == 6
    assert layer.weights[0] is layer.scale


def test_weights_have_the_names_of_their_attributes_or_their_own():
    class Named(Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(1,), name="omega")
            self.b = self.add_weight(shape=(1,))

        def call(self, inputs):
            return inputs * self.w + self.b

    layer, dense = Named(), Dense(2)
    layer(jnp.ones(1)), dense(jnp.ones((1, 1)))
    assert [weight.name for weight in layer.weights + dense.weights] == ["omega", "b", "kernel", "bias"]


def test_the_configuration_of_a_layer_in_a_layer_is_the_same_once_it_is_built():
    layer = TimeDistributed(Dense(2))
    before = layer.get_config()
    layer(jnp.ones((1, 3, 4)))
    assert layer.get_config() == before
    assert TimeDistributed.from_config(before).layer.units == 2
