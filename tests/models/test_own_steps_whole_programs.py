"""What whole programs with steps of their own come across: variables, orders, options of compile."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import nnx
from easyflax.layers import Dense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype(np.float32)


def _linear():
    return nnx.Linear(3, 1, rngs=nnx.Rngs(0))


def _error(model):
    return jnp.mean(model(X) ** 2)


# -- variables that are attributes


def test_a_variable_that_is_not_trained_is_changed_by_steps():
    class Queue(ef.Model):
        def __init__(self):
            super().__init__()
            self.layer = Dense(1)
            self.seen = ef.Variable(np.zeros((4, 3), np.float32), trainable=False)

        def call(self, x, training=False):
            if training:
                self.seen.assign(jnp.concatenate([x, self.seen[:-2]]))
            return self.layer(x)

    model = Queue()
    model.compile("sgd", "mse")
    model.fit(X[:6], X[:6, :1], batch_size=2, shuffle=False, verbose=0)
    assert np.array_equal(model.seen.value, X[[4, 5, 2, 3]])


SHAPES = []


class SaysItIsBuilt(ef.Model):
    def __init__(self, early):
        super().__init__()
        self.built = early
        self.second = ef.Sequential([ef.Input((3,)), Dense(2)])
        self.first = ef.Sequential([ef.Input((2,)), Dense(1)])
        self.queue = ef.Variable(np.zeros(5), trainable=False)
        self.built = True

    def train_step(self, state, data):
        SHAPES.append([one.shape for one in state[0] + state[1]])
        return {"loss": jnp.sum(state[0][0])}, state


@pytest.mark.parametrize("early", [False, True], ids=["at_the_end", "at_the_beginning"])
def test_the_weights_of_a_model_that_says_it_is_built_come_in_the_order_of_its_attributes(early):
    model = SaysItIsBuilt(early)
    shapes = [(5,), (3, 2), (2,), (2, 1), (1,)]
    assert [one.shape for one in model.weights] == shapes
    model.compile("sgd")
    model.fit(X, verbose=0)
    assert SHAPES[-1] == [*shapes[1:], (5,)]


# -- options of compile


class OwnOptimizer(ef.Model):
    def compile(self, **options):
        super().compile(**options)
        self.own = ef.optimizers.SGD(0.1)

    def train_step(self, data):
        loss, grads = nnx.value_and_grad(_error)(self)
        self.own.update(self, grads)
        return {"loss": loss}


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm", "ema"])
def test_clipping_and_averaging_are_refused_where_no_step_uses_the_optimizer(option):
    model = OwnOptimizer(_linear())
    model.compile(**{option: 0.5})
    with pytest.raises(ValueError, match=rf"compile: got {option}=0.5, expected OwnOptimizer.train_step"):
        model.fit(X, verbose=0)


def test_whether_steps_are_compiled_can_be_set_after_compile():
    calls = []

    class Counts(OwnOptimizer):
        def train_step(self, data):
            calls.append(len(data))
            return super().train_step(data)

    model = Counts(_linear())
    model.compile()
    assert model.jit_compile
    model.jit_compile = False
    assert model.run_eagerly
    model.fit(X, batch_size=2, verbose=0)
    assert len(calls) >= 4
    model.jit_compile = "auto"
    assert model.jit_compile
    model.fit(X, batch_size=2, verbose=0)
    before = len(calls)
    model.fit(X, batch_size=2, verbose=0)
    assert len(calls) == before
    with pytest.raises(TypeError, match=r"jit_compile is 3, expected True, False or 'auto'"):
        model.jit_compile = 3


def test_a_loss_scale_optimizer_shows_its_scale_and_its_count():
    model = ef.Model(_linear())
    model.compile(ef.optimizers.LossScaleOptimizer(ef.optimizers.SGD(0.1), initial_scale=8.0), "mse")
    assert (float(model.optimizer.dynamic_scale), int(model.optimizer.step_counter)) == (8.0, 0)
    model.fit(X, X[:, :1], batch_size=4, verbose=0)
    assert (float(model.optimizer.dynamic_scale), int(model.optimizer.step_counter)) == (8.0, 2)


# -- losses and metrics


def test_a_loss_of_ones_own_gives_targets_to_that_of_compile_where_fit_has_none():
    class Autoencoder(ef.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return super().compute_loss(x, x, y_pred, sample_weight)

    def trained(cls, *data):
        model = cls(ef.Sequential([ef.Input((3,)), Dense(3, kernel_initializer="ones")]))
        model.compile("sgd", "mse")
        return model.fit(*data, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]

    assert trained(Autoencoder, X) == pytest.approx(trained(ef.Model, X, X), rel=1e-6)


@pytest.mark.parametrize("kind", ["metrics", "weighted_metrics"])
def test_steps_may_pass_sample_weights_to_all_metrics_of_compile(kind):
    class Passes(ef.Model):
        def train_step(self, data):
            x, y, weight = data
            y_pred = self(x, training=True)
            for metric in self.metrics[1:]:
                metric.update_state(y, y_pred, sample_weight=weight)
            return {metric.name: metric.result() for metric in self.metrics[1:]}

    model = Passes(_linear())
    model.compile("sgd", "mse", **{kind: ["mae"]})
    weight = np.array([1.0, 3.0] * 4)
    found = model.fit(X, X[:, :1], batch_size=4, sample_weight=weight, verbose=0).history["mae"]
    error = np.abs(X[:, :1] - model.predict(X, verbose=0))[:, 0]
    assert found == pytest.approx(
        [np.average(error, weights=None if kind == "metrics" else weight)], rel=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=["compiled", "eager"])
def test_metrics_of_nnx_that_are_attributes_begin_anew_each_epoch_and_for_validation(options):
    class Counts(ef.Model):
        def __init__(self, module):
            super().__init__(module)
            self.tracked = nnx.MultiMetric(first=nnx.metrics.Average("first"))

        def train_step(self, data):
            self.tracked.update(first=jnp.mean(data[:, 0]))
            return self.tracked.compute()

        def test_step(self, data):
            return self.train_step(data)

    model = Counts(_linear())
    model.compile(**options)
    history = model.fit(X, batch_size=4, epochs=2, verbose=0, validation_data=X[:4]).history
    assert history["first"] == pytest.approx([X[:, 0].mean()] * 2, rel=1e-5)
    assert history["val_first"] == pytest.approx([X[:4, 0].mean()] * 2, rel=1e-5)
    assert model.evaluate(X, batch_size=4, verbose=0) == pytest.approx(X[:, 0].mean(), rel=1e-5)
