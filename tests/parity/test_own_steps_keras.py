"""Steps of a model's own as Keras's guides write them for JAX, run by Keras and here."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest

import easyflax

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 4)).astype("float32"), RNG.normal(size=(20, 1)).astype("float32")
WEIGHTS = [RNG.uniform(0.1, 0.5, shape).astype("float32") for shape in ((4, 3), 3, 3, 3, 3, 3, (3, 1), 1)]


def _between(library):
    inputs = library.Input((4,))
    hidden = library.layers.Dense(3, activation="tanh")(inputs)
    return inputs, library.layers.Dense(1)(library.layers.BatchNormalization()(hidden))


def _guide(library):
    """The class of the guide "Customizing what happens in fit() with JAX"."""

    class CustomModel(library.Model):
        def compute_loss_and_updates(self, trainable, non_trainable, x, y, training=False):
            y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x, training=training)
            return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer, of_metrics = state
            x, y = data
            gradient = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
            (loss, (y_pred, non_trainable)), grads = gradient(trainable, non_trainable, x, y, training=True)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            logs, of_metrics = self._update(of_metrics, loss, y, y_pred)
            return logs, (trainable, non_trainable, optimizer, of_metrics)

        def test_step(self, state, data):
            trainable, non_trainable, of_metrics = state
            x, y = data
            loss, (y_pred, non_trainable) = self.compute_loss_and_updates(trainable, non_trainable, x, y)
            logs, of_metrics = self._update(of_metrics, loss, y, y_pred)
            return logs, (trainable, non_trainable, of_metrics)

        def _update(self, variables, loss, y, y_pred):
            updated, logs = [], {}
            for metric in self.metrics:
                own = variables[len(updated) : len(updated) + len(metric.variables)]
                given = (loss,) if metric.name == "loss" else (y, y_pred)
                own = metric.stateless_update_state(own, *given)
                logs[metric.name] = metric.stateless_result(own)
                updated += own
            return logs, updated

    return CustomModel(*_between(library))


def _own_loss(library):
    class OwnLoss(library.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return library.ops.mean(library.ops.abs(y - y_pred)) + library.ops.mean(x**2)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "largest": library.ops.max(y)}

    return OwnLoss(*_between(library))


def _with_terms(library):
    class Penalty(library.layers.Layer):
        def call(self, inputs):
            self.add_loss([0.1 * library.ops.mean(inputs), 0.2 * library.ops.mean(inputs**2)])
            return inputs

    model = library.Sequential([library.Input((4,)), *library.Model(*_between(library)).layers[1:]])
    model.add(Penalty())
    model.add(library.layers.ActivityRegularization(l2=0.01))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("make", [_guide, _own_loss, _with_terms])
def test_steps_and_losses_of_ones_own_give_kerass_numbers(make):
    found = []
    for library in (keras, easyflax):
        model = make(library)
        model.set_weights(WEIGHTS)
        model.compile(optimizer="adam", loss="mse", metrics=["mae"])
        history = model.fit(
            X, Y, batch_size=5, epochs=3, shuffle=False, verbose=0, validation_data=(X[:10], Y[:10])
        )
        evaluated = model.evaluate(X, Y, batch_size=10, verbose=0, return_dict=True)
        found.append((history.history, evaluated, [np.asarray(one.value) for one in model.weights]))
    (theirs, their_logs, their_weights), (ours, our_logs, our_weights) = found
    assert sorted(ours) == sorted(theirs)
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, rel=1e-4)
    assert our_logs == pytest.approx(their_logs, rel=1e-4)
    for one, other in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_loop_by_hand_over_stateless_calls_gives_kerass_numbers():
    found = []
    for library in (keras, easyflax):
        model = library.Model(*_between(library))
        model.set_weights(WEIGHTS)
        optimizer = library.optimizers.Adam(0.01)
        metric, loss_fn = library.metrics.MeanAbsoluteError(), library.losses.MeanSquaredError()
        optimizer.build(model.trainable_variables)

        def loss_of(trainable, non_trainable, of_metric, x, y, model=model, metric=metric, loss_fn=loss_fn):
            y_pred, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
            return loss_fn(y, y_pred), (non_trainable, metric.stateless_update_state(of_metric, y, y_pred))

        @jax.jit
        def step(
            trainable, non_trainable, of_optimizer, of_metric, x, y, optimizer=optimizer, loss_of=loss_of
        ):
            gradient = jax.value_and_grad(loss_of, has_aux=True)
            (loss, rest), grads = gradient(trainable, non_trainable, of_metric, x, y)
            trainable, of_optimizer = optimizer.stateless_apply(of_optimizer, grads, trainable)
            return loss, (trainable, rest[0], of_optimizer, rest[1])

        kinds = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
            metric.variables,
        )
        state, losses = tuple([one.value for one in kind] for kind in kinds), []
        for start in (0, 5, 10, 15):
            loss, state = step(*state, X[start : start + 5], Y[start : start + 5])
            losses.append(float(loss))
        for kind, values in zip(kinds, state, strict=True):
            for variable, value in zip(kind, values, strict=True):
                variable.assign(value)
        weights = [np.asarray(one.value) for one in model.weights]
        found.append((losses, float(metric.result()), int(optimizer.iterations), weights))
    (*theirs, their_weights), (*ours, our_weights) = found
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for one, other in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
