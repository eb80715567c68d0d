"""`trainable` on modules, as fit honours it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.nnx as nnx
import easyflax.optimizers
from easyflax.callbacks import ModelCheckpoint
from easyflax.distribution import DataParallel
from easyflax.models import Model
from easyflax.train.callback import Callback

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 5)).astype(np.float32), RNG.normal(size=(24, 2)).astype(np.float32)


class Body(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(5, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(jnp.tanh(self.dense(x))))


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.body, self.head = Body(rngs), nnx.Linear(4, 2, rngs=rngs)
        self.body.norm.mean.value = jnp.full(4, 0.3)

    def __call__(self, x):
        return self.head(self.body(x))


def _model(optimizer="sgd", devices=1):
    model = Model(Net())
    model.compile(optimizer, "mse", distribution=DataParallel(jax.devices()[:devices]))
    return model


def _fit(model, epochs=2, **options):
    return model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, **options).history["loss"]


def _arrays(module):
    return {
        path: np.asarray(leaf.value)
        for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.RngState)))
    }


@pytest.mark.parametrize("devices", [1, 8])
def test_a_frozen_body_is_left_bit_for_bit_as_it_is_and_dropout_in_it_stays_on(devices):
    model = _model(devices=devices)
    net = model.module
    net.body.trainable = False
    before = _arrays(net)
    counts = int(net.body.drop.rngs.count.value)
    _fit(model)
    after = _arrays(net)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {("head", "kernel"), ("head", "bias")}
    assert int(net.body.drop.rngs.count.value) == counts + 6


@pytest.mark.parametrize("devices", [1, 8])
def test_the_head_on_a_frozen_body_is_trained_as_by_hand(devices):
    model = _model(optax.adam(0.1), devices)
    net = Net()
    model.module.body.trainable = False
    losses = _fit(model, epochs=1, shuffle=False)

    tx, head = optax.adam(0.1), nnx.state(net.head)
    state, expected = tx.init(head), []
    for start in range(0, 24, 8):
        net.body.norm.use_running_average, net.body.drop.deterministic = True, False
        features = net.body(X[start : start + 8])

        def loss_of(head, features=features, y=Y[start : start + 8]):
            return jnp.mean((features @ head["kernel"].value + head["bias"].value - y) ** 2)

        loss, grads = jax.value_and_grad(loss_of)(head)
        updates, state = tx.update(grads, state)
        head = optax.apply_updates(head, updates)
        expected.append(float(loss))
    assert losses[0] == pytest.approx(np.mean(expected), rel=1e-5)
    np.testing.assert_allclose(model.module.head.kernel.value, head["kernel"].value, rtol=1e-4, atol=1e-6)


def test_the_optimizer_keeps_nothing_for_what_is_frozen():
    model = _model(optax.adam(0.1))
    model.module.body.trainable = False
    _fit(model)
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(model.get_state()["opt_state"]))
    assert sizes == [1, 2, 2, 8, 8]  # the count, and both moments of bias and kernel of the head


def test_unfreezing_trains_everything_and_the_learning_rate_that_was_set_stays():
    model = _model("adam")
    model.module.body.trainable = False
    _fit(model)
    model.optimizer.learning_rate = 0.02
    model.module.body.trainable = True
    before = _arrays(model.module)
    _fit(model)
    assert model.optimizer.learning_rate == pytest.approx(0.02)
    assert not any(np.array_equal(before[path], after) for path, after in _arrays(model.module).items())
    assert model.step == 12


def test_freezing_in_between_equals_an_optimizer_that_never_knew_of_the_rest():
    # Adam on the head alone: moments and count of the first fit go on in the second.
    thawed, frozen = _model(optax.adam(0.05)), _model(optax.adam(0.05))
    _fit(thawed, epochs=1)
    thawed.module.body.trainable = False
    state = thawed.get_state()
    moments = jax.tree.leaves(state["opt_state"])
    assert [int(leaf) for leaf in moments if leaf.ndim == 0] == [3]
    frozen.module.body.trainable = False
    frozen.set_state(state)
    assert _fit(thawed) == _fit(frozen)
    np.testing.assert_array_equal(thawed.module.head.kernel.value, frozen.module.head.kernel.value)


def test_compiled_steps_are_found_again_when_it_is_frozen_again():
    traces = []

    class Counted(Net):
        def __call__(self, x):
            traces.append(1)
            return super().__call__(x)

    model = Model(Counted())
    model.compile("sgd", "mse")
    numbers = []
    for trainable in (True, False, True, False):
        model.module.body.trainable = trainable
        _fit(model)
        numbers.append(len(traces))
    assert numbers[1] == numbers[2] == numbers[3]


def test_freezing_by_hand_of_the_optimizer_agrees():
    # optax's own way, on a model that is not told: the same head, where no batch statistics come in.
    class Plain(nnx.Module):
        def __init__(self):
            self.a = nnx.Linear(5, 4, rngs=nnx.Rngs(0))
            self.b = nnx.Linear(4, 2, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.b(jnp.tanh(self.a(x)))

    labels = {"a": "frozen", "b": "trained"}
    masked = optax.multi_transform(
        {"trained": optax.adam(0.1), "frozen": optax.set_to_zero()},
        lambda params: jax.tree_util.tree_map_with_path(lambda path, _: labels[path[0].key], params),
    )
    ours, theirs = Model(Plain()), Model(Plain())
    ours.compile(optax.adam(0.1), "mse")
    theirs.compile(masked, "mse")
    ours.module.a.trainable = False
    assert _fit(ours) == pytest.approx(_fit(theirs), rel=1e-6)


def test_a_checkpoint_of_weights_does_not_depend_on_what_is_frozen(tmp_path):
    frozen, thawed = _model("adam"), _model("adam")
    frozen.module.body.trainable = False
    _fit(frozen, callbacks=[ModelCheckpoint(tmp_path, save_weights_only=True)])
    thawed.load_checkpoint(tmp_path)
    assert all(map(np.array_equal, frozen.get_weights(), thawed.get_weights()))
    with pytest.raises(ValueError, match="Compile and freeze the model as it was when the state was taken"):
        thawed.set_state(frozen.get_state())


def test_everything_frozen_or_nothing_there_is_nothing_to_train():
    model = _model()
    model.module.trainable = False
    with pytest.raises(ValueError, match=r"nothing to train, the model has 6 parameters, all frozen, exp"):
        _fit(model)
    assert model.evaluate(X, Y, verbose=0) > 0
    model.module.head.trainable = True
    _fit(model)
    empty = Model(nnx.Sequential(nnx.relu))
    empty.compile("sgd", "mse")
    with pytest.raises(ValueError, match="nothing to train, the model has no parameters"):
        empty.fit(X, X, verbose=0)


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
def test_a_change_within_fit_is_an_error_and_not_ignored(hook):
    model = _model()

    class Freeze(Callback):
        pass

    def freeze(self, *args):
        self.model.module.body.trainable = False

    setattr(Freeze, hook, freeze)
    message = r"During fit 'body.dense.bias' was frozen, expected.*Set trainable between two calls of fit"
    with pytest.raises(ValueError, match=message):
        _fit(model, callbacks=[Freeze()])
    if hook in ("on_train_begin", "on_epoch_begin"):
        model.module.body.trainable = True
        with pytest.raises(ValueError, match=message):
            _fit(model, epochs=1, callbacks=[Freeze()])


def test_a_change_after_the_last_epoch_holds_for_the_next_fit():
    class Unfreeze(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.module.body.trainable = True

    model = _model(easyflax.optimizers.Adam(0.01))
    model.module.body.trainable = False
    kernel = np.asarray(model.module.body.dense.kernel.value)
    _fit(model, epochs=1, callbacks=[Unfreeze()])
    assert np.array_equal(kernel, model.module.body.dense.kernel.value)
    _fit(model, epochs=1)
    assert not np.array_equal(kernel, model.module.body.dense.kernel.value)
