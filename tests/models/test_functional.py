import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Embedding, Input, Layer, Masking
from easyflax.layers.symbolic import apply
from easyflax.models import Model, Sequential
from easyflax.optimizers import SGD

RNG = np.random.default_rng(0)


def rows(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def two_inputs():
    a, b = Input((4,), name="a"), Input((3,), name="b")
    hidden = Dense(5, name="left")(a) + 2 * Dense(5, name="right")(b)
    return Model([a, b], Dense(2, name="head")(nnx.Sequential(nnx.relu)(hidden)))


def by_hand(model, a, b):
    left, right, head = (model.get_layer(name) for name in ("left", "right", "head"))
    return head(nnx.relu(left(a) + 2 * right(b)))


def test_the_outputs_are_those_of_the_layers_called_by_hand():
    model, a, b = two_inputs(), rows(6, 4), rows(6, 3)
    assert (model.input_names, model.output_names) == (["a", "b"], ["head"])
    assert np.allclose(model([a, b]), by_hand(model, a, b), atol=1e-6)
    assert np.allclose(model.predict([a, b], batch_size=4, verbose=0), by_hand(model, a, b), atol=1e-6)


@pytest.mark.parametrize("feed", ["list", "tuple", "dict", "more"])
def test_inputs_are_fed_by_place_or_by_name(feed):
    model, a, b = two_inputs(), rows(2, 4), rows(2, 3)
    feeds = {"list": [a, b], "tuple": (a, b), "dict": {"b": b, "a": a}, "more": {"a": a, "b": b, "c": a}}
    assert np.array_equal(model(feeds[feed]), model([a, b]))


def test_nestings_of_inputs_and_outputs_are_kept():
    inputs = {"one": Input((2,)), "two": Input((2,))}
    total = inputs["one"] + inputs["two"]
    model = Model(inputs, {"total": total, "parts": (inputs["one"] * 1, [total - 1])})
    outputs = model({"two": jnp.ones((1, 2)), "one": jnp.zeros((1, 2))})
    assert outputs["total"].tolist() == [[1, 1]]
    assert [part.tolist() for part in (outputs["parts"][0], outputs["parts"][1][0])] == [[[0, 0]], [[0, 0]]]
    assert model.output_shape == {"total": (None, 2), "parts": ((None, 2), [(None, 2)])}
    assert sorted(model.input_shape) == ["one", "two"]


def test_a_shared_layer_is_one_module_and_gets_the_gradient_of_both_calls():
    shared, x = Dense(1, use_bias=False, kernel_initializer="ones"), Input((1,))
    model = Model(x, shared(shared(x)))
    assert model.count_params() == 1
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.5
    model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
    # loss = w**4, gradient 4 at w = 1
    assert np.allclose(model.get_weights()[0], 1 - 0.5 * 4)


def test_layers_are_listed_by_depth_as_in_keras_and_numbered_in_the_order_they_were_made():
    a, b = Input((4,), name="a"), Input((3,), name="b")
    first = Dense(5)(a)
    second = Dense(5)(b)
    model = Model([a, b], Dense(2)(apply(jnp.concatenate, [first + second * 2, first], axis=-1)))
    assert [layer.name for layer in model.layers] == ["b", "a", "dense_1", "dense", "dense_2"]
    assert model.get_layer("dense").output is first
    assert model.get_layer(index=4) is model.get_layer("dense_2")


def test_names_do_not_depend_on_other_models():
    assert [[layer.name for layer in model.layers] for model in (twins(), twins())] == [
        ["dense", "dense_1"]
    ] * 2


def twins():
    return Sequential([Dense(2), Dense(2)])


def test_weights_come_in_the_order_of_the_layers_and_copies_keep_it():
    model = two_inputs()
    names = [layer.name for layer in model.layers if isinstance(layer, Dense)]
    expected = [weight for name in names for weight in model.get_layer(name).weights]
    assert all(one is other for one, other in zip(model.weights, expected, strict=True))
    copy = nnx.clone(model)
    assert all(map(np.array_equal, copy.get_weights(), model.get_weights()))
    copy.set_weights([0 * weight for weight in model.get_weights()])
    assert np.array_equal(copy([rows(1, 4), rows(1, 3)]), np.zeros((1, 2)))
    assert np.any(model([rows(9, 4), rows(9, 3)]))


def test_inner_values_make_a_model_that_shares_its_weights():
    model, a, b = two_inputs(), rows(3, 4), rows(3, 3)
    inner = Model(model.inputs, model.get_layer("head").input)
    left = Model(model.input, model.get_layer("left").output)
    assert np.allclose(inner([a, b]), nnx.relu(model.get_layer("left")(a) + 2 * model.get_layer("right")(b)))
    assert np.array_equal(left([a, b]), model.get_layer("left")(a))
    model.get_layer("left").kernel.value = jnp.zeros((4, 5))
    assert np.array_equal(left([a, b]), np.zeros((3, 5)))


def test_a_model_can_begin_at_an_inner_value():
    model, a, b = two_inputs(), rows(3, 4), rows(3, 3)
    head = Model(model.get_layer("head").input, model.output)
    hidden = Model(model.inputs, model.get_layer("head").input)([a, b])
    assert np.array_equal(head(hidden), model([a, b]))


def test_models_are_layers_of_models():
    inner = Sequential([Input((4,)), Dense(3), nnx.tanh], name="encoder")
    x = Input((4,))
    twice = Model(x, inner(x) + inner(2 * x))
    data = rows(2, 4)
    assert np.allclose(twice(data), inner(data) + inner(2 * data), atol=1e-6)
    assert twice.count_params() == inner.count_params() == 15
    assert twice.get_layer("encoder") is inner
    chained = Sequential([twice, Dense(1)])
    assert chained(data).shape == (2, 1)


def test_arrays_and_variables_between_layers_are_part_of_the_model():
    scale, x = nnx.Param(jnp.ones(3)), Input((3,))
    model = Model(x, x * scale + np.arange(3.0, dtype=np.float32))
    assert model(jnp.ones((1, 3))).tolist() == [[1, 2, 3]]
    assert [weight is scale for weight in model.trainable_weights] == [True]
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 3)), verbose=0)
    assert not np.array_equal(scale.value, np.ones(3))


def test_inputs_are_brought_to_the_stated_dtype_and_number_of_axes():
    x = Input((1,))
    model = Model(x, x * 2)
    assert model(np.array([1, 2], np.uint8)).tolist() == [[2.0], [4.0]]
    wide = Input((1,), dtype="int64")
    assert Model(wide, wide * 2)(np.ones((2, 1), np.int64)).dtype == jnp.asarray(np.int64(1)).dtype
    flat = Input((3,))
    assert Model(flat, flat + 1)(np.zeros((2, 3, 1))).shape == (2, 3)


def test_masks_go_from_layer_to_layer_and_through_models():
    class MaskSum(Layer):
        def call(self, inputs, mask=None):
            return jnp.sum(inputs[..., 0] * (-1 if mask is None else mask), axis=-1)

    tokens = Input((None,), dtype="int32")
    embedded = Embedding(5, 2, mask_zero=True, embeddings_initializer="ones")(tokens)
    inner = Sequential([Dense(2, use_bias=False, kernel_initializer="identity")])
    model = Model(tokens, MaskSum()(inner(embedded)))
    assert model(np.array([[1, 2, 0], [3, 0, 0]])).tolist() == [2, 1]
    chain = Sequential([Masking(), inner, MaskSum()])
    assert chain(np.array([[[1.0, 1], [0, 0]]])).tolist() == [1]


def test_a_model_trains_on_several_outputs_each_with_its_loss():
    x = Input((3,))
    model = Model(x, [Dense(1)(x), Dense(2)(x)])
    losses = [lambda y, out: jnp.mean((y - out) ** 2), "mae"]
    model.compile(SGD(0.001), losses, loss_weights=[1.0, 0.5])  # less, whatever the weights begin with
    history = model.fit(rows(8, 3), [rows(8, 1), rows(8, 2)], epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_training_mode_reaches_layers_and_plain_modules():
    x = Input((50,))
    model = Model(x, nnx.Dropout(0.5, rngs=nnx.Rngs(0))(x))
    data = np.ones((1, 50), np.float32)
    model.eval()
    assert np.array_equal(model(data), data)
    assert not np.array_equal(model(data, training=True), data)
    assert np.array_equal(model(data, training=False), data)


def refused():
    a, b = Input((4,), name="a"), Input((3,), name="b")
    hidden = Dense(5, name="hidden")(a)
    return a, b, hidden


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b, h: Model(b, h), r"depend on the input 'a' of shape \(None, 4\), expected it among"),
        (lambda a, b, h: Model([a, b], h), r"Nothing is called on the input 'b' of shape \(None, 3\)"),
        (lambda a, b, h: Model([a, a], h), "got 2 inputs, expected at least one, and none twice"),
        (lambda a, b, h: Model([], h), "got 0 inputs"),
        (lambda a, b, h: Model([a, 3], h), "got int among the inputs"),
        (lambda a, b, h: Model(a, [h, None]), "got NoneType among the outputs"),
        (lambda a, b, h: Model(a, []), "got no outputs"),
        (lambda a, b, h: Model(a), "symbolic inputs without outputs"),
        (lambda a, b, h: Model(), "neither a module nor inputs and outputs"),
        (lambda a, b, h: Model(a, Dense(2, name="hidden")(h)), "2 layers are named 'hidden' .Dense, Dense."),
        (lambda a, b, h: Model(a, h).get_layer("hiden"), "Unknown layer 'hiden'.*Did you mean 'hidden'"),
        (lambda a, b, h: Model(a, h).get_layer(index=2), "got index 2, expected one from 0 to 1"),
        (lambda a, b, h: Model(a, h).get_layer(), "got name=None and index=None"),
        (lambda a, b, h: Model(a, h)(np.ones((2, 5))), r"\(2, 5\) for the input 'a', expected"),
        (lambda a, b, h: Model([a, b], h + Dense(5)(b))({"a": 1}), "'b' is missing"),
        (lambda a, b, h: Model([a, b], h + Dense(5)(b))([a]), "on 1 arrays, expected 2"),
    ],
    ids=["missing", "unused", "twice", "empty", "no input", "no output", "none", "half", "nothing", "names",
         "layer", "index", "no name", "shape", "key", "number"],
)  # fmt: skip
def test_graphs_and_inputs_that_do_not_fit_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(*refused())


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_single_output_in_a_list_is_returned_by_itself(kind):
    inputs = Input((3,))
    layer = Dense(2)
    model = Model([inputs], kind([layer(inputs)]))
    x = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(model(x), layer(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), layer(x))
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))
    assert isinstance(model(inputs), kind)  # between symbolic values the nesting stays, as in Keras
    outer = Model(inputs, Dense(1)(model(inputs)[0]))
    assert outer(x).shape == (4, 1)
    model.compile("sgd", loss=["mse"], metrics=[["mae"]])
    assert list(model.fit(x, [x[:, :2]], verbose=0).history) == ["loss", "mae"]
