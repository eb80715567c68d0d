import signal
import threading

import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.models import Model
from easyflax.train.callback import Callback
from easyflax.train.interrupts import between_steps

X = np.ones((40, 4), np.float32)


def _interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_waits_until_it_is_asked_for():
    with pytest.raises(KeyboardInterrupt), between_steps() as interrupts:  # noqa: PT012
        _interrupt()
        reached = True
        interrupts.check()
        reached = False
    assert reached


def test_an_interrupt_nobody_asked_for_comes_at_the_end():
    reached = False
    with pytest.raises(KeyboardInterrupt), between_steps():  # noqa: PT012
        _interrupt()
        reached = True
    assert reached


def test_a_second_interrupt_comes_at_once():
    reached = False
    with pytest.raises(KeyboardInterrupt), between_steps():  # noqa: PT012
        _interrupt()
        _interrupt()
        reached = True
    assert not reached


def test_the_handler_is_restored_and_foreign_ones_are_left_alone():
    with between_steps():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:
        with between_steps():
            _interrupt()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == ["mine"]


def test_other_threads_can_train():
    results = []

    def train():
        model = Model(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
        model.compile("sgd", "mse")
        results.append(model.fit(X, X, verbose=0))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert len(results) == 1


def test_an_interrupted_fit_leaves_the_weights_of_the_last_whole_step():
    model, reference = (Model(nnx.Linear(4, 4, rngs=nnx.Rngs(0))) for _ in range(2))
    for each in (model, reference):
        each.compile("sgd", "mse")

    class Interrupt(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                _interrupt()  # arrives before the step, is raised after it

    with pytest.raises(KeyboardInterrupt):
        model.fit(X, X, batch_size=4, verbose=0, callbacks=Interrupt())
    reference.fit(X, X, batch_size=4, steps_per_epoch=3, verbose=0)
    assert model.step == 3
    assert all(map(np.array_equal, model.get_weights(), reference.get_weights()))
