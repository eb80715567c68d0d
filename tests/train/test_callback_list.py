import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.callback import Callback
from easyflax.train.callback_list import CallbackList, overrides
from easyflax.train.history import History
from easyflax.train.progress import Progress

HOOKS = {name for name in dir(Callback) if name.startswith("on_")}


class Plain(Callback):
    pass


class Batches(Callback):
    def on_batch_end(self, batch, logs=None):
        pass


class Assigned(Callback):
    def __init__(self):
        super().__init__()
        self.on_epoch_end = lambda epoch, logs=None: None


class WithoutSuper(Callback):
    """As many write it: `Callback.__init__` is not called."""

    def __init__(self, seen):
        self.seen = seen

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append((self.model, self.params, self.validates, epoch, logs))


@pytest.mark.parametrize(
    ("callback", "hooks"),
    [
        (Plain(), set()),
        (Batches(), {"on_batch_end", "on_train_batch_end"}),
        (Assigned(), {"on_epoch_end"}),
    ],
    ids=["plain", "batches", "assigned"],
)
def test_only_overridden_hooks_are_heard(callback, hooks):
    assert {name for name in HOOKS if overrides(callback, name)} == hooks
    assert {name for name in HOOKS if CallbackList(callback).listens_to(name)} == hooks


def test_callbacks_are_called_in_order_with_the_model_and_the_params():
    seen, model = [], SimpleNamespace()
    callbacks = CallbackList([WithoutSuper(seen), WithoutSuper(seen)], model=model, steps=3)
    callbacks.set_validates(True)
    callbacks.on_epoch_begin(5)
    assert seen == [(model, {"steps": 3}, True, 5, {})] * 2


def test_a_list_can_be_driven_by_hand_with_history_and_bar(capsys):
    model = SimpleNamespace(history=None)
    callbacks = CallbackList(add_history=True, add_progbar=True, model=model, verbose=2, epochs=1, steps=1)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.on_train_batch_begin(0)
    callbacks.on_train_batch_end(0, {"loss": jnp.float32(0.5)})
    callbacks.on_epoch_end(0, {"loss": jnp.float32(0.5)})
    callbacks.on_train_end()
    assert model.history is callbacks.history
    assert model.history.history == {"loss": [0.5]}
    assert capsys.readouterr().out.startswith("Epoch 1/1 1/1 - ")


def test_history_and_bar_are_not_added_twice():
    history, bar = History(), Progress()
    callbacks = CallbackList([history, bar], add_history=True, add_progbar=True)
    assert callbacks.callbacks == [history, bar]
    assert callbacks.history is history


def test_lists_in_lists_and_lists_of_callbacks_are_flattened():
    a, b, c = Plain(), Plain(), Plain()
    assert CallbackList([a, (b, [c])]).callbacks == [a, b, c]
    assert CallbackList([CallbackList([a, b]), c]).callbacks == [a, b, c]
    assert CallbackList().callbacks == CallbackList([]).callbacks == []


def test_an_appended_callback_gets_model_and_params_and_is_heard():
    seen, model = [], SimpleNamespace()
    callbacks = CallbackList(model=model, epochs=2)
    callbacks.on_epoch_begin(0)
    callbacks.append(WithoutSuper(seen))
    callbacks.on_epoch_begin(1)
    assert seen == [(model, {"epochs": 2}, False, 1, {})]


def test_hooks_share_a_sorted_copy_of_the_logs_in_python_floats():
    seen = []

    class Adds(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["added"] = 1

    class Notes(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(json.dumps(logs))

    given = {"val_a": np.float32(0.5), "loss": jnp.ones(()), "a": {"y": 2, "x": 1}}
    CallbackList([Adds(), Notes()]).on_epoch_end(0, given)
    assert seen == ['{"x": 1.0, "y": 2.0, "loss": 1.0, "val_a": 0.5, "added": 1}']
    assert "added" not in given


def test_hooks_of_batches_may_take_the_logs_as_a_keyword():
    seen = []

    class Keywords(Callback):
        def on_train_batch_end(self, batch, **kwargs):
            seen.append((batch, kwargs))

        def on_test_batch_begin(self, batch, *, logs):
            seen.append((batch, logs))

        def on_test_batch_end(self, number, *what):
            seen.append((number, *what))

    callbacks = CallbackList(Keywords())
    callbacks.on_train_batch_end(3, {"loss": 1})
    callbacks.on_test_batch_begin(4)
    callbacks.on_test_batch_end(4)
    assert seen == [(3, {"logs": {"loss": 1.0}}), (4, {}), (4, {})]


def test_what_on_exception_raises_becomes_a_note_and_the_others_are_told_too():
    told = []

    class Fails(Callback):
        def on_exception(self, exception):
            raise OSError("disk full")

    class Told(Callback):
        def on_exception(self, exception):
            told.append(exception)

    with (
        pytest.raises(ZeroDivisionError) as caught,
        CallbackList([Fails(), Told()]).told_of_exceptions(),
    ):
        1 / 0  # noqa: B018
    assert told == [caught.value]
    assert "disk full" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        (Plain, "Add the parentheses"),
        (print, r"Derive a class from .*, or pass LambdaCallback\(on_epoch_end="),
        (3, r"Derive it from easyflax\.callbacks\.Callback"),
        ("early_stopping", "Derive it"),
        (None, "Derive it"),
    ],
    ids=["class", "function", "number", "name", "none"],
)
def test_what_is_no_callback_is_refused(entry, advice):
    with pytest.raises(TypeError, match=rf"callbacks holds .*, expected instances of Callback. {advice}"):
        CallbackList([entry])
