"""A run that is resumed from a checkpoint has the rates of the uninterrupted one."""

import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax import optimizers
from easyflax.callbacks import (
    Callback,
    LearningRateFinder,
    LearningRateScheduler,
    ModelCheckpoint,
    OneCycle,
    ReduceLROnPlateau,
)
from easyflax.models import Model

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)

CALLBACKS = {
    "by_update": lambda: OneCycle(0.2),
    "plateau": lambda: ReduceLROnPlateau("loss", patience=1, min_delta=0.3, cooldown=1, factor=0.5),
    "scheduler": lambda: LearningRateScheduler(lambda epoch, rate: rate * 0.7),
    "finder": lambda: LearningRateFinder(1e-4, 1.0, num_training=20),
}


class Interrupt(Callback):
    """Ends the run after a batch of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise KeyboardInterrupt


def _fit(*callbacks, **arguments):
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    model.compile(optimizers.SGD(0.1, momentum=0.5), "mse")
    history = model.fit(X, Y, 4, 4, verbose=0, callbacks=list(callbacks), **arguments)
    return history.history, model.get_weights()[1], float(model.optimizer.learning_rate)


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("place", [(1, 3), (1, 1), (2, 0)], ids=["epoch", "within", "first_batch"])
@pytest.mark.parametrize("make", CALLBACKS.values(), ids=CALLBACKS)
def test_a_resumed_run_has_the_same_rates(make, place, tmp_path):
    expected = _fit(make())
    save_freq = "epoch" if place[1] == 3 else 1
    with pytest.raises(KeyboardInterrupt):
        _fit(make(), ModelCheckpoint(tmp_path, save_freq=save_freq), Interrupt(*place))
    history, weights, rate = _fit(make(), resume_from=tmp_path)
    assert history == expected[0]
    np.testing.assert_array_equal(weights, expected[1])
    assert rate == expected[2]
