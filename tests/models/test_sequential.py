import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Input, InputLayer
from easyflax.models import Model, Sequential


def test_layers_are_called_in_order_and_can_be_looked_at():
    dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    model = Sequential([lambda x: x + 1, dense, nnx.relu])
    x = jnp.arange(6.0).reshape(2, 3)
    assert np.array_equal(model(x), nnx.relu(dense(x + 1)))
    assert model.layers[1] is dense
    assert len(model.layers) == 3


def test_calling_the_model_is_calling_the_module_as_it_is():
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    model = Sequential([drop])
    assert not np.array_equal(model(jnp.ones(64)), np.ones(64))
    model.module.eval()
    assert np.array_equal(model(jnp.ones(64)), np.ones(64))


@pytest.mark.parametrize(
    "first",
    [lambda: [Input((3,)), Dense(4)], lambda: [InputLayer((3,)), Dense(4)], lambda: [Dense(4,
    input_shape=(3,))],
     lambda: [Dense(4, input_dim=3)]],
    ids=["Input", "InputLayer", "input_shape", "input_dim"],
)  # fmt: skip
def test_with_a_known_input_each_layer_is_built_when_it_is_added(first):
    model = Sequential(first())
    model.add(Dense(2))
    assert model.built
    assert model.count_params() == 3 * 4 + 4 + 4 * 2 + 2
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))
    assert [layer.output.shape for layer in model.layers] == [(None, 4), (None, 2)]


@pytest.mark.parametrize(
    "build",
    [
        lambda model: model(np.ones((2, 3))),
        lambda model: model.build((None, 3)),
        lambda model: model.predict(np.ones((2, 3)), verbose=0),
        lambda model: (model.compile("sgd", "mse"), model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)),
        lambda model: (
            model.compile("sgd", "mse"),
            model.evaluate(np.ones((2, 3)), np.ones((2, 2)), verbose=0),
        ),
    ],
    ids=["call", "build", "predict", "fit", "evaluate"],
)
def test_without_one_the_first_data_build_it(build):
    model = Sequential([Dense(4), nnx.relu, Sequential([Dense(2)])])
    assert not model.built
    with pytest.raises(AttributeError, match=r"has no outputs.*Begin the Sequential with ef.Input"):
        _ = model.outputs
    build(model)
    assert model.built
    assert model.output_shape == (None, 2)
    assert [weight.shape for weight in model.get_weights()] == [(3, 4), (4,), (4, 2), (2,)]


def test_builders_modules_models_and_functions_mix():
    rngs = nnx.Rngs(0)
    inner = Model(nnx.Linear(4, 4, rngs=rngs))
    model = Sequential(
        [Dense(4, activation="relu"), nnx.LayerNorm(4, rngs=rngs), inner, jnp.sin, Sequential([Dense(1)])]
    )
    assert model(np.ones((2, 3), np.float32)).shape == (2, 1)
    assert model.count_params() == 16 + 8 + 20 + 5
    assert model.layers[0].name == "dense"


def test_pop_takes_the_last_layer_out():
    model = Sequential([Input((3,)), Dense(4), Dense(2)])
    last = model.pop()
    assert last.units == 2
    assert model.output_shape == (None, 4)
    assert model(np.ones((1, 3))).shape == (1, 4)
    model.add(Dense(7))
    assert model.output_shape == (None, 7)
    with pytest.raises(TypeError, match="pop: the model has no layers"):
        Sequential().pop()


def test_a_shape_error_appears_where_the_layer_is_added():
    model = Sequential([Input((3,)), Dense(4, name="first")])
    with pytest.raises(
        ValueError, match=r"Linear 'linear' cannot be called on the output of Dense 'first' \(None, 4\)"
    ):
        model.add(nnx.Linear(5, 2, rngs=nnx.Rngs(0)))
    assert len(model.layers) == 1
    assert model.output_shape == (None, 4)


def test_an_inner_layer_names_itself_by_its_path():
    model = Sequential([Dense(4), Sequential([Dense(2)])])
    model.build((None, 3))
    with pytest.raises(ValueError, match=r"Dense 'layers.0': got an input of shape \(1, 5\)"):
        model(np.ones((1, 5)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential([Dense]), r"layers\[0\] is <class .*Dense'>, expected a module or a function"),
        (lambda: Sequential([Dense(1), 3]), r"layers\[1\] is 3, expected a module or a function"),
        (lambda: Sequential([Dense(1, name="x"), Dense(1, name="x")]), "2 layers are named 'x'"),
        (lambda: Sequential([Dense(1), Input((2,))]), "got an Input as layer 1, expected it before"),
        (
            lambda: Sequential([Input((2,)), Input((2,))]),
            "got an Input as layer 0, expected it before .* once",
        ),
        (lambda: cycle(), r"layers\[1\] is or contains the model itself, expected no cycle"),
        (
            lambda: Sequential([Dense(2)]).get_weights() or Sequential([Dense(2)]).set_weights([]),
            "has no weights yet",
        ),
    ],
    ids=["class", "number", "names", "late input", "two inputs", "cycle", "unbuilt"],
)
def test_what_cannot_be_a_layer_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def cycle():
    model = Sequential([Dense(1)])
    model.add(Sequential([model]))
