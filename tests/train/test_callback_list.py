import pytest

from easyflax.train.callback import Callback
from easyflax.train.callback_list import CallbackList, overrides


class Plain(Callback):
    pass


class Batches(Callback):
    def on_batch_end(self, batch, logs=None):
        pass


class Assigned(Callback):
    def __init__(self):
        super().__init__()
        self.on_epoch_end = lambda epoch, logs=None: None


@pytest.mark.parametrize(
    ("callback", "hooks"),
    [
        (Plain(), set()),
        (Batches(), {"on_batch_end", "on_train_batch_end"}),
        (Assigned(), {"on_epoch_end"}),
    ],
)
def test_only_overridden_hooks_are_heard(callback, hooks):
    names = {name for name in dir(Callback) if name.startswith("on_")}
    assert {name for name in names if overrides(callback, name)} == hooks
    listed = CallbackList(callback, model=None, params={})
    assert {name for name in names if listed.listens_to(name)} == hooks


def test_callbacks_are_called_in_order_with_the_model_and_the_params():
    seen = []

    class Note(Callback):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def on_epoch_begin(self, epoch, logs=None):
            seen.append((self.name, self.model, self.params["steps"], epoch))

    CallbackList([Note("a"), Note("b")], model="model", params={"steps": 3}).call("on_epoch_begin", 5, {})
    assert seen == [("a", "model", 3, 5), ("b", "model", 3, 5)]
