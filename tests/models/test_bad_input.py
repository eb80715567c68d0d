"""Every error of compile, fit, evaluate and predict, at the user's call and before any training."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax import layers
from easyflax.errors import NonFiniteLossError, NotCompiledError
from easyflax.layers import Input
from easyflax.models import Model, Sequential
from easyflax.train.callback import Callback

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)


def _model(loss="sparse_categorical_crossentropy", **options):
    model = Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    model.compile("sgd", loss, **options)
    return model


@pytest.mark.parametrize("module", [nnx.Linear, lambda x: x, 3])
def test_model_takes_modules_only(module):
    with pytest.raises(
        TypeError, match=r"Model: module is .*expected an instance of nnx\.Module\. (Call|Derive)"
    ):
        Model(module)


@pytest.mark.parametrize("layer", [nnx.Linear, 3])
def test_sequential_takes_what_can_be_called(layer):
    with pytest.raises(
        TypeError, match=r"layers\[1\] is .*expected a module or a function\. Pass an instance"
    ):
        Sequential([nnx.relu, layer])


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_nothing_trains_before_compile(call):
    model = Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(
        NotCompiledError, match=rf"{call}: the model is not compiled.*model\.compile\(optimizer="
    ):
        getattr(model, call)(X, Y)
    with pytest.raises(NotCompiledError, match="optimizer: the model is not compiled"):
        _ = model.optimizer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse", "steps_per_execution": 0}, r"compile: steps_per_execution is 0, expected an int"),
        ({"loss": "sparse_categorical_crossentrop"}, r"Did you mean 'sparse_categorical_crossentropy'"),
        ({"loss": "mse", "metrics": ["acuracy"]}, r"Did you mean 'accuracy'"),
        ({"loss": "mse", "optimizer": "adm"}, r"Did you mean 'adam'"),
        ({"loss": "mse", "seed": -1}, r"compile: seed is -1, expected an integer of at least 0"),
        ({"loss": "mse", "seed": 0.5}, r"compile: seed is 0\.5"),
    ],
)
def test_compile_knows_its_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0))).compile(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": Y[:5]}, r"x has 12 rows and y has 5, expected the same number"),
        ({"x": X[:0], "y": Y[:0]}, r"x has shape \(0, 4\), expected at least one row"),
        ({"y": None}, r"y is None, expected targets.*pass y=x"),
        ({"batch_size": 0}, r"batch_size is 0, expected an integer of at least 1"),
        ({"x": X.astype(str)}, r"x has dtype <U32, expected numbers"),
        ({"y": Y.astype(object)}, r"y has dtype object, expected numbers"),
        ({"y": Y + 2**40}, r"y has dtype int64 and values from .*int32"),
        ({"epochs": 0}, r"fit: epochs is 0, expected an integer of at least 1\. Pass for example epochs=1"),
        ({"epochs": 1.5}, r"fit: epochs is 1\.5"),
        ({"initial_epoch": -1}, r"fit: initial_epoch is -1, expected an integer of at least 0"),
        ({"steps_per_epoch": 0}, r"fit: steps_per_epoch is 0, expected"),
        ({"steps_per_epoch": 2.5}, r"fit: steps_per_epoch is 2\.5, expected"),
        ({"validation_split": 1.0}, r"validation_split is 1\.0, expected a number between 0 and 1"),
        ({"validation_data": X}, r"y is None, expected targets"),
        ({"validation_data": (X, Y, X, X)}, r"validation_data is a tuple of 4, expected one to three"),
        ({"validation_data": (X, Y[:3])}, r"validation_data\[0\] has 12 rows and validation_data\[1\] has 3"),
        ({"validation_data": (X, Y), "validation_freq": 0}, r"fit: validation_freq is 0"),
        ({"validation_data": (X, Y), "validation_batch_size": 0}, r"batch_size is 0"),
        ({"verbose": 3}, r"verbose is 3, expected 'auto', 0"),
        ({"verbose": "yes"}, r"verbose is 'yes'"),
        ({"y": Y + 1}, r"0 to|1 to.*3 classes|expected"),
        ({"y": Y + 0.5}, r"from 0\.5 to 2\.5, expected integer class indices .*3 classes"),
        ({"y": np.zeros((12, 2), np.int32)}, r"labels have shape \(n, 2\) and outputs \(n, 3\)"),
        ({"x": X[:, :3]}, r"Linear: got .* 3 features in its last axis, expected \(\.\.\., 4\)"),
    ],
)
def test_fit_refuses_what_it_cannot_train_on(arguments, message):
    model = _model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    assert all(map(np.array_equal, before, model.get_weights()))
    assert model.step == 0


def test_labels_of_validation_data_are_checked_as_well():
    with pytest.raises(ValueError, match="expected"):
        _model().fit(X, Y, validation_data=(X, Y + 5), verbose=0)


def test_targets_are_never_broadcast():
    with pytest.raises(ValueError, match=r"labels have shape \(n, 1\) and outputs \(n, 3\)"):
        _model("mse").fit(X, np.zeros((12, 1)), verbose=0)


def test_several_targets_do_not_go_with_one_output():
    with pytest.raises(ValueError, match=r"y is a dict with the keys \['a', 'b'\], expected a list of 1"):
        _model("mse").fit(X, {"a": X[:, :3], "b": X[:, :3]}, verbose=0)


def test_loss_weights_are_numbers():
    with pytest.raises(TypeError, match=r"compile: loss_weights is 'half', expected numbers"):
        _model("mse", loss_weights="half")


def test_there_is_something_to_train_for():
    model = Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    model.compile("sgd", metrics=["mae"])
    with pytest.raises(ValueError, match=r"loss is None, expected a name.*Pass for example loss="):
        model.fit(X, X[:, :3], verbose=0)
    assert model.evaluate(X, X[:, :3], verbose=0)[0] == 0


def test_metrics_of_one_name_are_numbered():
    history = _model("mse", metrics=["mae", "mae"]).fit(X, X[:, :3], verbose=0)
    assert list(history.history) == ["loss", "mae", "mae_1"]


@pytest.mark.parametrize(
    ("given", "advice"), [([Callback], "parentheses"), ([3], "Derive"), ([print], "LambdaCallback")]
)
def test_callbacks_must_be_callbacks(given, advice):
    with pytest.raises(TypeError, match=rf"callbacks holds .*expected instances of Callback\. .*{advice}"):
        _model().fit(X, Y, callbacks=given, verbose=0)


def test_predict_wants_a_row_for_each_row():
    class Total(nnx.Module):
        def __call__(self, x):
            return x.sum()

    with pytest.raises(
        ValueError, match=r"predict: the model returned shape \(\) for a batch of \d+ rows.*return one entry"
    ):
        Model(Total()).predict(X, verbose=0)


# -- a loss that is not finite


def _diverging():
    x = X.copy()
    x[7] = np.nan
    return x


def test_a_loss_that_is_not_finite_is_reported_with_its_step():
    model = _model()
    with pytest.raises(
        NonFiniteLossError, match=r"epoch 1/3, batch 4/6 \(the loss of the step before it was [\d.]+\)"
    ):
        model.fit(_diverging(), Y, batch_size=2, epochs=3, shuffle=False, verbose=0)
    assert model.step == 6


def test_a_first_loss_that_is_not_finite_is_reported_as_such():
    with pytest.raises(
        NonFiniteLossError, match=r"batch 1/1 \(it was the first step\), expected finite.*np\.isfinite"
    ):
        _model().fit(_diverging(), Y, verbose=0)


def test_a_diverging_run_is_reported_in_its_epoch():
    class Diverge(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.module.kernel.value = jnp.full((4, 3), jnp.inf)

    with pytest.raises(NonFiniteLossError, match=r"epoch 3/4, batch 1/3"):
        _model().fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=Diverge())


def test_no_callback_gets_to_save_what_is_not_finite():
    ended = []

    class Note(Callback):
        def on_epoch_end(self, epoch, logs=None):
            ended.append(epoch)

    with pytest.raises(NonFiniteLossError):
        _model().fit(_diverging(), Y, batch_size=2, verbose=0, callbacks=Note())
    assert not ended


def test_reading_the_logs_reports_it_at_once():
    seen = []

    class Read(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)
            float(logs["loss"])

    with pytest.raises(NonFiniteLossError, match="batch 4/6"):
        _model().fit(_diverging(), Y, batch_size=2, shuffle=False, verbose=0, callbacks=Read())
    assert seen == [0, 1, 2, 3]


def test_a_learning_rate_that_is_not_in_the_state_cannot_be_set():
    model = Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    model.compile(optax.sgd(0.1), "mse")
    with pytest.raises(ValueError, match="learning rate"):
        model.optimizer.learning_rate = 0.2


def test_layers_that_are_not_in_a_list_are_told_to_be():
    with pytest.raises(TypeError, match=r"not in a list, expected one list.*Sequential\(\[first, second\]\)"):
        Sequential(layers.Dense(1), layers.Dense(2))


def test_a_class_that_is_called_on_a_symbolic_value_says_to_make_the_layer_first():
    with pytest.raises(TypeError, match=r"Flatten: got <Symbolic.*layer first.*Flatten\(\.\.\.\)\(x\)"):
        layers.Flatten(Input((8,)))


def test_an_array_that_is_missing_is_named_before_the_layer_is_built():
    with pytest.raises(TypeError, match="MultiHeadAttention 'a': called without 'value', expected"):
        layers.MultiHeadAttention(2, 4, name="a")(np.ones((2, 3, 4), np.float32))


def test_a_layer_with_a_name_is_called_by_it_and_not_by_its_place():
    model = Sequential([Input((3,)), layers.Dense(4, name="head")])
    with pytest.raises(ValueError, match=r"Dense 'head': got an input of shape \(2, 5\)"):
        model(np.ones((2, 5), np.float32))


def test_a_single_row_is_no_batch():
    model = Sequential([Input((4,)), layers.Dense(3)])
    with pytest.raises(
        ValueError, match=r"x has shape \(4,\), expected \(rows, 4\).*For a single row pass x\[None\]"
    ):
        model.predict(X[0], verbose=0)
    with pytest.raises(ValueError, match=r"x is a dict of 1, expected one array, the input of a Sequential"):
        model.predict({"a": X}, verbose=0)


def test_models_are_no_data():
    with pytest.raises(TypeError, match=r"fit: x is a .*Model, expected data\. Pass arrays"):
        _model().fit(_model(), Y)


def test_messages_name_the_output_and_the_argument():
    inputs = Input((4,))
    model = Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(3, name="b")(inputs)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Output 'a': mse: labels have shape \(n, 2\) and outputs \(n, 1\)"):
        model.fit(X, [X[:, :2], X[:, :3]], verbose=0)
    with pytest.raises(ValueError, match=r"y has one value, expected what fits the outputs 'a', 'b'"):
        model.fit(X, X, verbose=0)
    with pytest.raises(ValueError, match=r"validation_data: y is None, expected targets"):
        model.fit(X, [X[:, :1], X[:, :3]], validation_data=X, verbose=0)


def test_losses_take_targets_and_outputs():
    with pytest.raises(
        TypeError, match=r"the loss <lambda> takes \(y\), expected a function \(y_true, y_pred"
    ):
        _model(lambda y: y)
