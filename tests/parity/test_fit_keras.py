"""Keras as the oracle for fit, evaluate and predict: the same data, weights, optimizer and order.

Numbers agree to 1e-5 relative: both compute in float32, in other orders. Keys and hooks agree exactly.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
ROWS = 50
X, X_TWO = RNG.normal(size=(ROWS, 5)).astype("float32"), RNG.normal(size=(ROWS, 3)).astype("float32")
NUMBERS, PAIRS = RNG.normal(size=(ROWS, 1)).astype("float32"), RNG.normal(size=(ROWS, 2)).astype("float32")
LABELS = RNG.integers(0, 3, ROWS)
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
WEIGHTS = RNG.uniform(0.2, 2.0, ROWS).astype("float32")
CROSSENTROPY = "sparse_categorical_crossentropy"


def mlp(library, units=1, activation=None):
    """Ragged last batches and a regularizer go with all of it."""
    hidden = library.layers.Dense(4, activation="tanh", kernel_regularizer=library.regularizers.L2(0.01))
    return library.Sequential(
        [library.Input((5,)), hidden, library.layers.Dense(units, activation=activation)]
    )


def classifier(library):
    return mlp(library, 3, "softmax")


def two_towers(library):
    """Two named inputs and two named outputs."""
    one, two = library.Input((5,), name="one"), library.Input((3,), name="two")
    hidden = library.layers.Dense(4, activation="tanh")(library.layers.Concatenate()([one, two]))
    a = library.layers.Dense(2, name="a")(hidden)
    b = library.layers.Dense(3, activation="softmax", name="b")(hidden)
    return library.Model([one, two], [a, b])


def recorder(library):
    """Returns a callback that notes every hook with its index and logs."""

    class Recorder(library.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def note(self, hook, index, logs):
            self.seen.append((hook, index, dict(logs or {})))

        def on_train_batch_begin(self, batch, logs=None):
            self.note("train_batch_begin", batch, logs)

        def on_train_batch_end(self, batch, logs=None):
            self.note("train_batch_end", batch, logs)

        def on_test_batch_begin(self, batch, logs=None):
            self.note("test_batch_begin", batch, logs)

        def on_test_batch_end(self, batch, logs=None):
            self.note("test_batch_end", batch, logs)

        def on_predict_batch_begin(self, batch, logs=None):
            self.note("predict_batch_begin", batch, logs)

        def on_predict_batch_end(self, batch, logs=None):
            self.note("predict_batch_end", batch, {"outputs": np.asarray(logs["outputs"])})

        def on_epoch_end(self, epoch, logs=None):
            self.note("epoch_end", epoch, logs)

        def on_test_end(self, logs=None):
            self.note("test_end", None, logs)

        def on_train_end(self, logs=None):
            self.note("train_end", None, logs)

    return Recorder()


def random_weights(model):
    rng = np.random.default_rng(1)
    return [rng.uniform(-0.5, 0.5, weight.shape).astype("float32") for weight in model.weights]


def plain_weights(model):
    return [np.asarray(weight.value) for weight in model.weights]


def in_both(make, program):
    """Runs `program(library, model)` in both libraries from the same weights, and compares what it returns.

    Returns:
        what it returned here.
    """
    results = []
    for library in (easyflax, keras):
        model = make(library)
        model.set_weights(random_weights(model))
        results.append(program(library, model))
    assert_same(*results)
    return results[0]


def assert_same(ours, theirs, path="result"):
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), path
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{path}[{key!r}]")
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs), path
        assert len(ours) == len(theirs), path
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif theirs is None or isinstance(theirs, str):
        assert ours == theirs, path
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7, err_msg=path)


def trained(make, compiled, x=X, y=NUMBERS, evaluated=True, **fitted):
    """Compiles and fits in both libraries, and compares History, every hook, and the evaluation after it."""

    def program(library, model):
        arguments = compiled(library) if callable(compiled) else compiled
        model.compile(**{"optimizer": "sgd", **arguments})
        record = recorder(library)
        options = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0, **fitted}
        history = model.fit(x, y, callbacks=[record], **options)
        seen = [history.history, history.epoch, history.params, record.seen]
        if evaluated:
            weights = fitted.get("sample_weight")
            options = {"batch_size": options["batch_size"], "verbose": 0, "sample_weight": weights}
            seen.append(model.evaluate(x, y, **options))
            seen.append(model.evaluate(x, y, return_dict=True, **options))
        return seen

    return in_both(make, program)


# -- the loss curve

OPTIMIZERS = {
    "SGD": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    "Adam": {},
    "AdamW": {"weight_decay": 0.1},
    "RMSprop": {},
}


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_have_the_losses_that_they_have_in_keras(name):
    options, losses = OPTIMIZERS[name], []

    def program(library, model):
        cls = getattr(library.optimizers, "SGD" if "learning_rate" in options else name)
        model.compile(cls(**options), "mse")
        record = recorder(library)
        fitted = {"batch_size": 12, "epochs": 4, "shuffle": False, "verbose": 0}
        model.fit(X, NUMBERS, callbacks=[record], **fitted)
        means = [logs["loss"] for hook, _, logs in record.seen if hook == "train_batch_end"]
        losses.append(means)
        return [means, plain_weights(model), float(model.optimizer.learning_rate)]

    in_both(mlp, program)
    assert len(losses[0]) == 20


# -- one output


@pytest.mark.slow
def test_weights_of_rows_count_in_the_loss_and_in_weighted_metrics_alone():
    compiled = {"loss": "mse", "metrics": ["mae"], "weighted_metrics": ["mae", "mse"]}
    validation = (X[:20], NUMBERS[:20], WEIGHTS[:20])
    trained(mlp, compiled, sample_weight=WEIGHTS, validation_data=validation)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("labels", ["sparse", "column", "one_hot"])
def test_weights_of_classes_count_in_the_loss_of_training_alone(labels):
    y = {"sparse": LABELS, "column": LABELS[:, None], "one_hot": ONE_HOT}[labels]
    compiled = {
        "loss": "categorical_crossentropy" if labels == "one_hot" else CROSSENTROPY,
        "metrics": ["accuracy"],
        "weighted_metrics": ["acc"],
    }
    trained(classifier, compiled, y=y, class_weight={0: 1.0, 1: 2.5}, validation_split=0.3)


@pytest.mark.slow
def test_crossentropy_and_accuracy_go_by_the_labels():
    binary = (NUMBERS > 0).astype("float32")
    cases = [(classifier, LABELS), (classifier, ONE_HOT), (lambda lib: mlp(lib, 1, "sigmoid"), binary)]
    for make, y in cases:
        trained(make, {"loss": "crossentropy", "metrics": ["accuracy"]}, y=y, epochs=1, evaluated=False)


@pytest.mark.slow
def test_metrics_of_one_name_are_told_apart():
    def compiled(library):
        error = library.metrics.MeanAbsoluteError
        return {"loss": "mse", "metrics": ["mae", "mae", error(), error()], "weighted_metrics": ["mae"]}

    trained(mlp, compiled, sample_weight=WEIGHTS, epochs=1)


@pytest.mark.slow
def test_epochs_steps_and_validations_are_counted_as_in_keras():
    loss, validation = {"loss": "mse"}, (X, NUMBERS)
    trained(mlp, loss, initial_epoch=2, epochs=5, validation_data=validation, validation_freq=2)
    trained(mlp, loss, epochs=3, validation_data=validation, validation_freq=[1, 3], evaluated=False)
    trained(mlp, loss, epochs=3, steps_per_epoch=2, evaluated=False)  # goes on in the data
    options = {"validation_steps": 2, "validation_batch_size": 7, "batch_size": None}
    trained(mlp, loss, validation_data=validation, evaluated=False, **options)


@pytest.mark.slow
def test_several_steps_of_one_execution_are_one_call_of_the_hooks():
    compiled = {"loss": "mse", "steps_per_execution": 3}
    seen = trained(mlp, compiled, batch_size=6, validation_split=0.3)[
        3
    ]  # 6 and 3 steps, the last ones ragged
    batches = [(hook, index) for hook, index, _ in seen if hook.startswith("train_batch")]
    assert batches[:4] == [
        ("train_batch_begin", 0),
        ("train_batch_end", 2),
        ("train_batch_begin", 3),
        ("train_batch_end", 5),
    ]


@pytest.mark.slow
def test_predictions_of_one_execution_are_one_call_of_the_hooks():
    def program(library, model):
        model.compile("sgd", "mse", steps_per_execution=3)
        record = recorder(library)
        outputs = model.predict(X[:42], batch_size=7, verbose=0, callbacks=[record])
        return [outputs, record.seen]

    seen = in_both(mlp, program)[1]
    assert [index for _, index, _ in seen] == [0, 2, 3, 5]


@pytest.mark.slow
def test_training_step_by_step_in_python_gives_the_same():
    trained(mlp, {"loss": "mse", "metrics": ["mae"], "run_eagerly": True}, batch_size=25, epochs=1)


@pytest.mark.slow
def test_batches_by_hand_give_the_values_of_each_batch_alone():
    def program(library, model):
        model.compile("sgd", CROSSENTROPY, metrics=["accuracy"], weighted_metrics=["acc"])
        x, y, weights = X[:16], LABELS[:16], WEIGHTS[:16]
        seen = [model.evaluate(x, y, verbose=0)]
        for _ in range(2):
            seen.append(model.train_on_batch(x, y))
            seen.append(model.train_on_batch(x, y, sample_weight=weights, return_dict=True))
            seen.append(model.train_on_batch(x, y, class_weight={0: 2.0, 1: 0.5, 2: 1.0}))
            seen.append(model.test_on_batch(x, y))
            seen.append(model.test_on_batch(x, y, sample_weight=weights, return_dict=True))
            seen.append(model.predict_on_batch(x[:3]))
        return [np.asarray(one) if isinstance(one, list) else one for one in seen]

    in_both(classifier, program)


@pytest.mark.slow
def test_compiling_again_keeps_the_weights_and_starts_the_optimizer_afresh():
    def program(library, model):
        model.compile("adam", "mse")
        seen = [model.evaluate(X, NUMBERS, verbose=0)]
        seen.append(model.fit(X, NUMBERS, shuffle=False, verbose=0).history)
        seen.append(int(model.optimizer.iterations))
        model.compile(library.optimizers.Adam(0.01), "mse")
        seen.append(int(model.optimizer.iterations))
        seen.append(model.evaluate(X, NUMBERS, verbose=0))
        seen.append(model.fit(X, NUMBERS, epochs=2, shuffle=False, verbose=0).history)
        return seen

    in_both(mlp, program)


# -- several outputs

BY_NAME = {"loss": {"b": CROSSENTROPY, "a": "mse"}, "metrics": {"b": ["accuracy"], "a": "mae"}}


@pytest.mark.slow
def test_data_for_several_inputs_and_outputs_come_in_lists_tuples_and_dicts():
    x, y = {"two": X_TWO, "one": X}, {"b": LABELS, "a": PAIRS}
    compiled = BY_NAME | {"loss_weights": {"a": 0.3, "b": 2.0}}
    trained(two_towers, compiled, x=x, y=y, batch_size=20, validation_split=0.2)
    in_lists = {"loss": ["mse", CROSSENTROPY], "loss_weights": [0.3, 2.0], "metrics": [["mae"], ["accuracy"]]}
    trained(two_towers, in_lists, x=(X, X_TWO), y=(PAIRS, LABELS), batch_size=25, epochs=1)


@pytest.mark.slow
def test_one_loss_for_all_outputs_and_none_for_some():
    options = {"x": [X, X_TWO], "y": [PAIRS, ONE_HOT], "batch_size": 25, "epochs": 1}
    trained(two_towers, {"loss": "mse", "metrics": [["mae"], ["mse"]]}, **options)
    trained(two_towers, {"loss": ["mse", None], "metrics": [["mae"], None]}, **options)


@pytest.mark.slow
def test_each_output_has_its_own_weights_of_rows():
    compiled = {
        "loss": ["mse", CROSSENTROPY],
        "metrics": [["mae"], ["accuracy"]],
        "weighted_metrics": [["mae"], ["accuracy"]],
    }
    options = {"sample_weight": [WEIGHTS, WEIGHTS[::-1]], "batch_size": 25, "epochs": 1}
    trained(two_towers, compiled, x=[X, X_TWO], y=[PAIRS, LABELS], **options)


def subclass(library, nest):
    """A model of one's own that returns its outputs as `nest(a, b)`."""

    class Net(library.Model):
        def __init__(self):
            super().__init__()
            self.hidden = library.layers.Dense(4, activation="tanh")
            self.a = library.layers.Dense(2)
            self.b = library.layers.Dense(3, activation="softmax")

        def call(self, x):
            hidden = self.hidden(x)
            return nest(self.a(hidden), self.b(hidden))

    model = Net()
    model(X[:2])
    return model


NESTED = {
    "list": (lambda a, b: [a, b], {"loss": ["mse", CROSSENTROPY], "metrics": [["mae"], ["accuracy"]]}),
    "dict": (lambda a, b: {"a": a, "b": b}, BY_NAME),
    "both": (lambda a, b: {"u": [a], "v": b}, {"loss": {"u": ["mse"], "v": CROSSENTROPY}}),
}


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("kind", NESTED)
def test_a_model_of_ones_own_returns_any_nesting(kind):
    nest, compiled = NESTED[kind]
    trained(lambda library: subclass(library, nest), compiled, y=nest(PAIRS, LABELS), batch_size=25, epochs=1)


@pytest.mark.slow
def test_prediction_takes_named_inputs_in_any_order_and_keeps_the_nesting():
    def program(library, model):
        by_name = model.predict({"two": X_TWO, "one": X}, verbose=0, batch_size=7)
        return [by_name, model.predict([X, X_TWO], verbose=0)]

    in_both(two_towers, program)


# -- losses of layers, and models that share weights


@pytest.mark.slow
def test_added_losses_count_in_training_and_evaluation_with_or_without_a_loss():
    def make(library):
        class Distance(library.layers.Layer):
            def __init__(self):
                super().__init__()
                self.dense = library.layers.Dense(5)

            def call(self, x):
                self.add_loss(library.ops.mean(library.ops.square(x - self.dense(x))))
                return self.dense(x)

        model = library.Sequential([library.Input((5,)), Distance()])
        model(X[:2])
        return model

    trained(make, {}, y=None, batch_size=25, epochs=1)
    trained(make, {"loss": "mse", "metrics": ["mae"]}, y=X * 0.5, batch_size=25, epochs=1)


@pytest.mark.slow
def test_two_models_that_share_layers_are_trained_in_turns():
    def make(library):
        return library.Sequential([library.Input((5,)), library.layers.Dense(3)])

    def program(library, generator):
        discriminator = library.Sequential([library.Input((3,)), library.layers.Dense(1, "sigmoid")])
        discriminator.set_weights(random_weights(discriminator))
        discriminator.compile(library.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
        discriminator.trainable = False
        noise = library.Input((5,))
        both = library.Model(noise, discriminator(generator(noise)))
        both.compile(library.optimizers.Adam(0.01), "binary_crossentropy")
        real, fake, seen = np.ones((16, 1), "float32"), np.zeros((16, 1), "float32"), []
        for _ in range(3):
            discriminator.trainable = True
            seen.append(np.asarray(discriminator.train_on_batch(X_TWO[:16], real)))
            made = generator.predict(X[:16], verbose=0)
            seen.append(np.asarray(discriminator.train_on_batch(made, fake)))
            discriminator.trainable = False
            seen.append(both.train_on_batch(X[:16], real))
        return [*seen, plain_weights(generator), plain_weights(discriminator)]

    in_both(make, program)
