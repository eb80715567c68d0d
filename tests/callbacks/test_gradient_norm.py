"""Norms of gradients against those that plain SGD leaves in the weights."""

import numpy as np
import pytest

from easyflax.callbacks import GradientNorm, LambdaCallback
from easyflax.layers import Dense, Input
from easyflax.models import Sequential
from easyflax.train.logs import BatchLogs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
RATE = 0.01


def a_model(**options):
    model = Sequential([Input((3,)), Dense(4, activation="tanh"), Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


class Steps(LambdaCallback):
    """Keeps the weights after each batch."""

    def __init__(self):
        self.weights = []
        super().__init__(on_train_batch_begin=self.keep, on_train_end=self.keep)

    def keep(self, *args):
        self.weights.append([np.asarray(weight) for weight in self.model.get_weights()])

    @property
    def grads(self):
        """The gradients of each update, by plain SGD's rule."""
        pairs = zip(self.weights, self.weights[1:])
        return [[(old - new) / RATE for old, new in zip(*pair)] for pair in pairs]


def norm(arrays):
    return float(np.sqrt(sum((array.astype("float64") ** 2).sum() for array in arrays)))


def test_logs_of_epochs_have_mean_and_maximum():
    steps = Steps()
    history = a_model().fit(
        X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[GradientNorm(per_parameter=True), steps]
    )
    norms = np.array([norm(grads) for grads in steps.grads]).reshape(2, 4)
    logged = history.history
    np.testing.assert_allclose(logged["gradient_norm"], norms.mean(1), rtol=1e-3)
    np.testing.assert_allclose(logged["gradient_norm_max"], norms.max(1), rtol=1e-3)
    for place, tag in enumerate(("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias")):
        each = np.array([norm([grads[place]]) for grads in steps.grads]).reshape(2, 4)
        np.testing.assert_allclose(logged[f"gradient_norm/{tag}"], each.mean(1), rtol=1e-3)


def test_logs_of_batches_have_the_newest_norm_and_are_not_read_for_it():
    steps, kept = Steps(), []
    keep = LambdaCallback(on_train_batch_end=lambda batch, logs: kept.append(logs))
    a_model().fit(X, Y, batch_size=4, verbose=0, callbacks=[GradientNorm(log_batches=True), steps, keep])
    assert all(isinstance(logs, BatchLogs) for logs in kept)
    assert kept[0]._values is None
    norms = [norm(grads) for grads in steps.grads]
    np.testing.assert_allclose([logs["gradient_norm"] for logs in kept], norms, rtol=1e-3)
    assert all(list(logs) == ["loss", "gradient_norm"] for logs in kept)


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 1e-3}], ids=["free", "clipped"])
def test_the_norm_is_that_before_clipping(clip):
    history = a_model(**clip).fit(X, Y, batch_size=16, verbose=0, callbacks=[GradientNorm()]).history
    assert history["gradient_norm"][0] > 1e-2


def test_accumulated_batches_are_one_update():
    from easyflax.callbacks import GradientAccumulation

    callbacks = [GradientNorm(), GradientAccumulation(4)]
    model = a_model()
    weights = model.get_weights()
    accumulated = model.fit(X, Y, batch_size=4, verbose=0, shuffle=False, callbacks=callbacks).history
    whole = a_model()
    whole.set_weights(weights)
    expected = whole.fit(X, Y, batch_size=16, verbose=0, callbacks=[GradientNorm()]).history
    assert accumulated["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)
    assert accumulated["gradient_norm"] == accumulated["gradient_norm_max"]


def test_without_batches_no_hook_of_batches_is_called():
    from easyflax.train.callback_list import overrides

    assert not overrides(GradientNorm(), "on_train_batch_end")
