"""Training on data that are read one batch after the other."""

import functools
import itertools
import threading

import jax
import numpy as np
import pytest

import easyflax as ef

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)


@functools.cache
def _model():
    model = ef.Sequential([ef.Input((4,)), ef.layers.Dense(2)])
    loss = ef.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, distribution=ef.distribution.DataParallel(jax.devices()[:1]))
    return model


def _batches(count=None, read=None):
    for number in itertools.count() if count is None else range(count):
        if read is not None:
            read.append(number)
        yield X, Y


def _has_data_threads():
    return any(thread.name.startswith("easyflax-data") for thread in threading.enumerate())


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_no_batch_is_read_beyond_those_that_were_asked_for(call):
    read = []
    if call == "fit":
        _model().fit(_batches(read=read), steps_per_epoch=3, epochs=2, verbose=0)
    else:
        getattr(_model(), call)(_batches(read=read), steps=6, verbose=0)
    assert len(read) == 6
    assert not _has_data_threads()


def test_a_generator_that_ends_early_is_counted_and_stops_training():
    with pytest.warns(
        UserWarning, match=r"fit: the data ended after batch 1 of 3 in epoch 2/4, and training"
    ):
        history = _model().fit(_batches(4), steps_per_epoch=3, epochs=4, verbose=0)
    assert history.epoch == [0, 1]


def test_a_generator_without_steps_is_read_once():
    with pytest.warns(UserWarning, match=r"fit: the data ended after batch 3.* in epoch 1/2"):
        history = _model().fit(_batches(3), epochs=2, verbose=0)
    assert history.epoch == [0]


def test_validation_ends_where_its_generator_ends():
    with pytest.warns(UserWarning, match=r"validation_data was read to its end and cannot be read again"):
        history = _model().fit(X, Y, validation_data=_batches(2), epochs=2, verbose=0)
    assert [len(history.history[name]) for name in ("loss", "val_loss")] == [2, 1]


class Do(ef.callbacks.Callback):
    """Raises, or asks to stop, after the second batch."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1 and self.error:
            raise self.error
        self.model.stop_training = batch == 1


def test_stopping_leaves_no_thread():
    history = _model().fit(_batches(), steps_per_epoch=50, verbose=0, callbacks=[Do()])
    assert history.epoch == [0]
    assert not _has_data_threads()


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_exception_of_a_callback_leaves_no_thread(error):
    with pytest.raises(error):
        _model().fit(_batches(), steps_per_epoch=50, verbose=0, callbacks=[Do(error())])
    assert not _has_data_threads()


def test_an_exception_of_the_data_comes_out_of_fit_with_the_batch():
    def data():
        yield X, Y
        raise OSError("disk")

    with pytest.raises(OSError, match="disk") as caught:
        _model().fit(data, epochs=2, verbose=0)
    assert caught.value.__notes__[0] == "fit: raised by the data, for batch 2 of epoch 1."
    assert "data" in [entry.name for entry in caught.traceback]


def test_data_without_end_need_steps():
    with pytest.raises(
        ValueError, match=r"fit: x is of type itertools\.cycle without end and steps_per_epoch is"
    ):
        _model().fit(itertools.cycle([(X, Y)]), verbose=0)


def test_columns_may_be_named():
    table = [{"features": X, "label": Y}]
    whole = _model().evaluate(X, Y, verbose=0)
    assert _model().evaluate(iter(table), "label", verbose=0) == pytest.approx(whole)
    named = ef.data.columns(table, x="features", y="label")
    assert _model().evaluate(named, verbose=0) == pytest.approx(whole)
    assert _model().predict(named, verbose=0).shape == (8, 2)
