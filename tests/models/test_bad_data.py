"""What is wrong with data, losses, metrics and names is said at the call, before training where it can be."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
from easyflax import metrics
from easyflax.data import Batch
from easyflax.errors import NonFiniteLossError
from easyflax.models import Model
from easyflax.train.additions import StepShape
from easyflax.train.batch_shapes import BatchShapes

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)
NUMBERS = np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32)


class TwoHeads(nnx.Module):
    def __init__(self):
        self.a, self.b = (nnx.Linear(4, size, rngs=nnx.Rngs(0)) for size in (2, 3))

    def __call__(self, x):
        return {"a": self.a(x), "b": self.b(x)}


class Mean(nnx.Module):
    """Takes rows of any length."""

    def __init__(self):
        self.out = nnx.Linear(1, 1, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.out(x.mean(axis=1, keepdims=True))


def _model(loss="mse", module=None, **options):
    model = Model(module or nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    model.compile(options.pop("optimizer", "sgd"), loss, **options)
    return model


def _assert_untouched(model, message, *args, error=ValueError, **options):
    """Asserts that fit refuses, and that nothing was trained before."""
    before = jax.tree.map(jnp.copy, nnx.state(model.module))
    with pytest.raises(error, match=message):
        model.fit(*args, verbose=0, **options)
    assert model.step == 0
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(model.module)))


# -- data that end, raise, or never end


def _batches(number):
    for _ in range(number):
        yield X[:4], NUMBERS[:4]


@pytest.mark.parametrize(
    ("given", "message"), [(5, r"batch 2 of 3 in epoch 2/4"), (6, r"batch 3 of 3 in epoch 2/4")]
)
def test_a_generator_that_ends_early_stops_training_with_the_counts(given, message):
    model = _model()
    with pytest.warns(UserWarning, match=rf"fit: the data ended after {message}.*steps_per_epoch \* epochs"):
        history = model.fit(_batches(given), steps_per_epoch=3, epochs=4, verbose=0)
    assert model.step == given
    assert len(history.epoch) == 2


def test_a_generator_of_exactly_as_many_batches_as_asked_ends_without_a_word():
    model = _model()
    model.fit(_batches(6), steps_per_epoch=3, epochs=2, verbose=0)
    assert model.step == 6


def test_data_that_raise_keep_their_traceback_and_are_noted_with_the_batch():
    def broken():
        yield from _batches(3)
        raise OSError("the disk is gone")

    model = _model()
    with pytest.raises(OSError, match=r"^the disk is gone") as caught:
        model.fit(broken(), steps_per_epoch=2, epochs=3, verbose=0)
    assert "broken" in [entry.name for entry in caught.traceback]
    assert any("for batch 2 of epoch 2" in note for note in caught.value.__notes__)
    assert model.step == 3  # what came before was trained on, and the model is whole
    assert np.isfinite(model.predict(X, verbose=0)).all()


def test_data_without_end_need_the_number_of_steps():
    _assert_untouched(_model(), r"steps_per_epoch", itertools.repeat((X, NUMBERS)))


# -- data that are no numbers, or too few


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X.astype(object), NUMBERS, r"x has dtype object, expected numbers"),
        (X, np.full((12, 3), "a"), r"y has dtype <U1, expected numbers"),
        (X, NUMBERS[:7], r"x has 12 rows and y has 7"),
        (X[:0], NUMBERS[:0], r"expected at least one row"),
        (X, NUMBERS[:, :2], r"labels have shape \(n, 2\) and outputs \(n, 3\)"),
        (X, Y[:, None], r"labels have shape \(n, 1\).*sparse_categorical_crossentropy"),
    ],
    ids=["objects", "text", "lengths", "empty", "shape", "classes"],
)
def test_arrays_that_do_not_fit_are_named(x, y, message):
    _assert_untouched(_model(), message, x, y)


def test_ragged_lists_are_named():
    _assert_untouched(_model(), r"\bx\b", [[1.0, 2.0], [1.0]], [1.0, 2.0], error=(ValueError, TypeError))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(Y - 1, r"-1 to 1|from -1"), (Y + 1, r"1 to 3|to 3"), (Y + 0.5, r"integer")],
    ids=["negative", "too_large", "float"],
)
def test_labels_out_of_range_are_told_with_the_number_of_classes(labels, message):
    model = _model("sparse_categorical_crossentropy")
    _assert_untouched(model, message, X, labels)
    _assert_untouched(model, r"3 classes|classes", X, labels)


def test_numbers_that_are_not_finite_are_told_with_their_step():
    x = X.copy()
    x[7] = np.inf
    with pytest.raises(NonFiniteLossError, match=r"epoch 1/1, batch 4/6"):
        _model().fit(x, NUMBERS, batch_size=2, shuffle=False, verbose=0)


# -- batches of many shapes, and of too many rows


def _lengths(lengths):
    for length in lengths:
        yield np.ones((2, length), np.float32), np.ones((2, 1), np.float32)


@pytest.mark.slow
def test_batches_of_many_shapes_are_told_once_with_the_shapes():
    model = _model(module=Mean())
    with pytest.warns(UserWarning, match="compiled") as told:
        model.fit(_lengths(range(1, 9)), verbose=0)
    (warning,) = told
    message = str(warning.message)
    assert "fit: batches have come in 6 shapes" in message
    assert all(f"(2, {length})" in message for length in range(1, 7))
    assert "Pad the batches" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(_lengths([1, 2, 3, 4, 5] * 2), verbose=0)


def test_training_and_evaluation_count_their_shapes_apart():
    shapes = BatchShapes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in ("fit", "evaluate"):
            for batch, _ in zip(_lengths(range(1, 6)), range(5), strict=True):
                shapes.note(step, Batch(*batch))


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_a_batch_that_does_not_fit_in_memory_is_told_with_what_would_help(call, monkeypatch):
    model = _model()
    model.fit(X, NUMBERS, batch_size=8, verbose=0)

    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    steps = model._compiled.steps
    (dispatch,) = steps.training(StepShape())._dispatches.values()
    monkeypatch.setattr(dispatch, "many", fail)
    monkeypatch.setattr(steps.evaluate, "many", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED") as caught:
        getattr(model, call)(X, NUMBERS, batch_size=8, verbose=0)
    (note,) = caught.value.__notes__
    assert "a batch of 8 rows" in note
    assert "batch_size=4" in note
    assert ("gradient_accumulation_steps=2" in note) == (call == "fit")


def test_other_errors_of_the_device_get_no_advice():
    shapes = BatchShapes()
    shapes.note("fit", Batch(X, NUMBERS))
    with pytest.raises(jax.errors.JaxRuntimeError) as caught, shapes.advising_on_memory("fit"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
    assert not getattr(caught.value, "__notes__", [])


# -- names, and losses and metrics of one's own


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ({"loss": {"a": "mean_squared_eror"}}, "mean_squared_error"),
        ({"loss": ["mse", "huberr"]}, "huber"),
        ({"loss": "mse", "metrics": {"a": ["acuracy"]}}, "accuracy"),
        ({"loss": "mse", "weighted_metrics": [["mse"], ["pecision"]]}, "precision"),
        ({"loss": "mse", "optimizer": "adamm"}, "adam"),
    ],
    ids=["dict", "list", "metrics", "weighted", "optimizer"],
)
def test_unknown_names_are_told_at_compile_with_the_nearest(arguments, nearest):
    with pytest.raises(ValueError, match=f"Did you mean .*'{nearest}'"):
        _model(module=TwoHeads(), **arguments)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda y, p: "nothing", r"returned a str|str"),
        (lambda y, p: None, r"returned None|None"),
    ],
    ids=["text", "nothing"],
)
def test_a_loss_that_returns_the_wrong_thing_is_told(loss, message):
    _assert_untouched(_model(loss), message, X, NUMBERS, error=(ValueError, TypeError))


def test_a_metric_that_returns_the_wrong_shape_is_told():
    def half(y_true, y_pred):
        return (y_true - y_pred)[:5]

    message = r"Metric 'half' returned shape \(5, 3\) for a batch of 12"
    _assert_untouched(_model(metrics=[half]), message, X, NUMBERS)


def test_a_learning_rate_that_cannot_be_set_is_told_with_what_can():
    model = _model(optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"learning rate.*inject_hyperparams|learning rate"):
        model.optimizer.learning_rate = 0.2


# -- several outputs

HEADS = {"a": NUMBERS[:, :2], "b": NUMBERS}


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"loss": {"a": "mse", "c": "mse"}}, HEADS, r"loss: .*output.*'c'.*'a', 'b'"),
        ({"metrics": {"c": ["mae"]}}, HEADS, r"metrics: .*output.*'c'.*'a', 'b'"),
        ({"metrics": [["mae"]]}, HEADS, r"metrics has 1 entries, expected what fits the outputs 'a', 'b'"),
        ({"loss": ["mse", "mse", "mse"]}, HEADS, r"loss has 3 entries, expected .*'a', 'b'"),
        ({"loss_weights": [1.0, 2.0, 3.0]}, HEADS, r"loss_weights has 3 entries, expected .*'a', 'b'"),
        ({"loss_weights": {"c": 1.0}}, HEADS, r"loss_weights: .*'c'"),
        ({}, [NUMBERS], r"y has .*, expected what fits the outputs 'a', 'b'"),
        ({}, [NUMBERS] * 3, r"y has 3 entries, expected .*'a', 'b'"),
        ({}, NUMBERS, r"y has .*expected .*'a', 'b'"),
        ({}, {"a": NUMBERS[:, :2], "d": NUMBERS}, r"y: .*output.*'d'.*'a', 'b'"),
        ({}, {"a": NUMBERS, "b": NUMBERS}, r"labels have shape \(n, 3\) and outputs \(n, 2\)"),
    ],
    ids=[
        "loss",
        "metric",
        "metrics",
        "losses",
        "weights",
        "weight",
        "one",
        "three",
        "array",
        "name",
        "shape",
    ],
)
def test_what_does_not_fit_the_outputs_is_named(options, y, message):
    _assert_untouched(_model(**{"module": TwoHeads(), **options}), message, X, y)


def test_targets_of_one_output_are_missing():
    model = _model(module=TwoHeads())
    _assert_untouched(
        model, r"y has nothing for the output 'b', expected targets for", X, {"a": NUMBERS[:, :2]}
    )


def test_a_metric_object_is_not_shared_silently_between_outputs():
    model = _model(module=TwoHeads(), metrics=metrics.MeanAbsoluteError())
    _assert_untouched(model, r"one metric for the outputs 'a', 'b', expected to be told which", X, HEADS)


def test_a_loss_of_another_number_of_rows_cannot_be_weighed_by_row():
    def some(y_true, y_pred):
        return jnp.sum((y_true - y_pred) ** 2, axis=-1)[:5]

    weights = np.ones(12, np.float32)
    _assert_untouched(_model(some), r"\(12,\)|12", X, NUMBERS, sample_weight=weights)
