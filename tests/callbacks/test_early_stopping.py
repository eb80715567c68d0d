"""Keras's EarlyStopping as the oracle on random logs, and what is ours: errors, and weights on the device."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import EarlyStopping
from easyflax.metrics import BinaryAccuracy, Mean
from easyflax.models import Model

RNG = np.random.default_rng(0)


class OurModel:
    """What EarlyStopping uses of a model; its weights are the number of the epoch."""

    metrics = (BinaryAccuracy("accuracy"), Mean("entropy"))

    def __init__(self):
        self.stop_training, self.weights, self.restored = False, None, None

    def get_state(self, *, weights_only):
        assert weights_only
        return {"params": self.weights}

    def set_state(self, state):
        self.restored = state["params"]


class KerasModel(OurModel):
    metrics = ()

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.restored = weights


def _run(callback, model, values, monitor="val_loss"):
    callback.set_model(model)
    callback.on_train_begin({})
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch, {})
        model.weights = epoch
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end({})
    best = None if callback.best is None else float(callback.best)
    return {
        "epochs": epoch + 1,
        "stopped_epoch": callback.stopped_epoch,
        "best": "nan" if best is not None and np.isnan(best) else best,
        "best_epoch": callback.best_epoch,
        "wait": callback.wait,
        "restored": model.restored,
    }


def _random_arguments():
    return {
        "min_delta": RNG.choice([0, 0.125, 0.5, -0.25]),
        "patience": int(RNG.integers(0, 5)),
        "mode": RNG.choice(["min", "max", "auto"]),
        "baseline": RNG.choice([None, 0.5, 1.0]),
        "restore_best_weights": bool(RNG.integers(2)),
        "start_from_epoch": int(RNG.choice([0, 0, 1, 3])),
    }


@pytest.mark.parametrize("arguments", [_random_arguments() for _ in range(40)])
def test_decisions_are_kerass_on_random_logs(arguments):
    for _ in range(5):
        # Multiples of 1/8 make ties, in float32 (Keras) as in float64 (here).
        values = RNG.integers(0, 16, size=RNG.integers(1, 14)) / 8
        if RNG.integers(4) == 0:
            values[RNG.integers(len(values))] = RNG.choice([np.nan, np.inf])
        ours = _run(EarlyStopping(**arguments), OurModel(), values.tolist())
        theirs = _run(keras.callbacks.EarlyStopping(**arguments), KerasModel(), values.tolist())
        assert ours == theirs, values


def test_one_object_starts_anew_in_each_fit():
    callback = EarlyStopping(patience=1, restore_best_weights=True)
    first = _run(callback, OurModel(), [1.0, 2.0, 3.0])
    assert (first["epochs"], first["restored"]) == (2, 0)
    assert _run(callback, OurModel(), [5.0, 4.0, 3.0])["epochs"] == 3


def test_weights_are_restored_also_when_something_else_ended_the_run():
    callback, model = EarlyStopping(patience=9, restore_best_weights=True), OurModel()
    assert _run(callback, model, [3.0, 1.0, 2.0])["restored"] == 1


def test_auto_asks_the_metrics_for_their_direction():
    rising = [0.1, 0.2, 0.3, 0.4]
    assert _run(EarlyStopping("val_accuracy"), OurModel(), rising, "val_accuracy")["epochs"] == 4
    assert _run(EarlyStopping("loss"), OurModel(), rising, "loss")["epochs"] == 2


@pytest.mark.parametrize("name", ["entropy", "learning_rate"])
def test_auto_without_a_direction_is_refused(name):
    with pytest.raises(
        ValueError, match=f"EarlyStopping: mode='auto' cannot tell whether '{name}' should.*mode='min'"
    ):
        _run(EarlyStopping(name), OurModel(), [1.0, 2.0], name)


def test_an_unknown_mode_is_refused():
    with pytest.raises(
        ValueError, match=r"EarlyStopping: Unknown mode 'maximum': expected one of 'auto', 'max', 'min'"
    ):
        EarlyStopping(mode="maximum")


def test_an_unknown_monitor_is_an_error_at_the_first_epoch_end_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"Unknown monitor 'val_los': .* 'val_loss'\. Did you mean 'val_loss'\? Names"
    ):
        _run(EarlyStopping("val_los", start_from_epoch=5), OurModel(), [1.0])


def test_a_monitor_of_validation_without_validation_says_what_fit_needs():
    with pytest.raises(ValueError, match="Names with val_ need validation_data or validation_split in fit"):
        _run(EarlyStopping("val_loss"), OurModel(), [1.0], "loss")


def test_epochs_without_validation_are_passed_over_when_others_have_some():
    callback, model = EarlyStopping(patience=1), OurModel()
    callback.validates = True
    callback.set_model(model)
    callback.on_train_begin({})
    for epoch, logs in enumerate([{"loss": 1.0}, {"loss": 1.0, "val_loss": 2.0}, {"loss": 1.0}]):
        callback.on_epoch_end(epoch, logs)
    assert (callback.wait, callback.best, model.stop_training) == (0, 2.0, False)
    with pytest.raises(ValueError, match="Unknown monitor 'val_loss'"):
        callback.on_epoch_end(3, {"loss": 1.0, "val_accuracy": 1.0})


def test_verbose_says_when_it_stopped_and_what_it_restored(capsys):
    _run(EarlyStopping(verbose=1, restore_best_weights=True), OurModel(), [1.0, 2.0])
    assert (
        capsys.readouterr().out == "Epoch 2: early stopping\nRestoring the weights of epoch 1, the best one\n"
    )


def test_a_fit_ends_early_with_the_weights_of_its_best_epoch():
    x = RNG.normal(size=(32, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    module = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    model = Model(module)
    model.compile(optimizer="sgd", loss="mse")
    seen = []

    class Spoil(EarlyStopping):
        """Keeps a copy of the weights, and from the third epoch on pretends that the loss rises."""

        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.asarray(module.kernel[...]))
            super().on_epoch_end(epoch, logs if epoch < 2 else logs | {"loss": 100.0 + epoch})

    history = model.fit(
        x, y, epochs=20, verbose=0, callbacks=[Spoil("loss", patience=2, restore_best_weights=True)]
    )
    assert history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(module.kernel[...], seen[1])
    assert np.any(seen[1] != seen[3])


def test_a_sum_that_float32_cannot_tell_from_the_best_is_no_improvement_as_in_keras():
    for values in ([0.8, 0.7], [float(np.float32(0.8)), float(np.float32(0.7))]):  # no better by 0.1
        arguments = {"min_delta": 0.1, "patience": 1}
        ours = _run(EarlyStopping(**arguments), OurModel(), values)
        assert ours == _run(keras.callbacks.EarlyStopping(**arguments), KerasModel(), values)
        assert ours["best"] == values[0]


def test_a_run_that_is_resumed_after_its_end_ends_at_once():
    callback, model = EarlyStopping(), OurModel()
    _run(callback, model, [1.0, 2.0])
    again, later = EarlyStopping(), OurModel()
    again.set_model(later)
    again.on_train_begin({})
    again.load_state_dict(callback.state_dict())
    assert later.stop_training
    assert again.stopped_epoch == 1


# -- what Keras does not have


@pytest.mark.parametrize(
    ("arguments", "values", "epochs", "reason"),
    [
        ({"check_finite": True}, [1.0, np.nan, 0.5], 2, "loss is nan, which is not finite"),
        ({"check_finite": True}, [-np.inf], 1, "loss is -inf, which is not finite"),
        ({"stopping_threshold": 0.5}, [0.6, 0.5, 0.4, 0.3], 3, "0.4, past the stopping threshold of 0.5"),
        ({"divergence_threshold": 2}, [1.5, 2.0, 2.5, 1.0], 3, "2.5, past the divergence threshold of 2"),
        ({"stopping_threshold": 0.5, "mode": "max"}, [0.5, 0.6], 2, "0.6, past the stopping threshold"),
        ({"divergence_threshold": 0.5, "mode": "max"}, [0.5, 0.4, 0.6], 2, "0.4, past the divergence"),
        ({"stopping_threshold": 0.5, "start_from_epoch": 2}, [0.4, 0.4, 0.4, 0.4], 3, "past the stopping"),
    ],
)
def test_limits_end_the_run_at_once(arguments, values, epochs, reason, capsys):
    callback = EarlyStopping("loss", patience=9, verbose=1, **arguments)
    assert _run(callback, OurModel(), values, "loss")["epochs"] == epochs
    said = capsys.readouterr().out
    assert said.startswith(f"Epoch {epochs}: early stopping: loss is ")
    assert reason in said


def test_without_check_finite_nan_is_an_epoch_without_improvement():
    assert _run(EarlyStopping(patience=2), OurModel(), [1.0, np.nan, np.nan, 0.5])["epochs"] == 3


def test_the_best_weights_are_those_of_the_value_past_the_stopping_threshold():
    callback = EarlyStopping(patience=9, stopping_threshold=0.5, restore_best_weights=True)
    assert _run(callback, OurModel(), [1.0, 0.4])["restored"] == 1


def test_logs_without_the_monitor_are_passed_over_where_it_is_not_strict():
    callback = EarlyStopping("val_los", strict=False)
    assert _run(callback, OurModel(), [1.0, 2.0, 3.0])["epochs"] == 3
    assert callback.best is None


@pytest.mark.parametrize("cut", range(5))
def test_a_resumed_run_decides_as_the_uninterrupted_one(cut):
    values = [3.0, 1.0, 2.0, 1.5, 2.5, 0.5]
    expected = _run(EarlyStopping(patience=3, restore_best_weights=True), OurModel(), values)
    first, second = (EarlyStopping(patience=3, restore_best_weights=True) for _ in range(2))
    model = OurModel()
    for callback, epochs in ((first, range(cut)), (second, range(cut, len(values)))):
        callback.set_model(model)
        callback.on_train_begin({})
        if callback is second:
            callback.load_state_dict(first.state_dict())
        for epoch in epochs:
            model.weights = epoch
            callback.on_epoch_end(epoch, {"val_loss": values[epoch]})
            if model.stop_training:
                break
    second.on_train_end({})
    resumed = (second.stopped_epoch, second.best, second.best_epoch, second.wait, model.restored)
    assert resumed == tuple(
        expected[name] for name in ("stopped_epoch", "best", "best_epoch", "wait", "restored")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": -1}, "EarlyStopping: patience is -1, expected a finite number of at least 0"),
        ({"start_from_epoch": -2}, "start_from_epoch is -2, expected"),
        ({"min_delta": float("nan")}, r"min_delta is nan, expected a finite number\. Pass for example 0"),
        ({"baseline": float("inf")}, "baseline is inf, expected"),
        ({"stopping_threshold": float("nan")}, "stopping_threshold is nan, expected"),
    ],
)
def test_bad_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**arguments)


def test_text_in_place_of_a_number_is_a_type_error():
    with pytest.raises(TypeError, match="baseline is '1', expected a finite number"):
        EarlyStopping(baseline="1")
