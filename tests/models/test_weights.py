import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.callbacks import ModelCheckpoint
from easyflax.errors import CheckpointError, NotCompiledError
from easyflax.layers import Dense, Input
from easyflax.models import Model, Sequential
from easyflax.train.callback import Callback

X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 24)


def _model(seed=0, width=5):
    rngs = nnx.Rngs(seed)
    layers = [nnx.Linear(4, width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)]
    model = Sequential([*layers, nnx.Linear(width, 3, rngs=rngs)])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _equal(first, second):
    return all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))


def test_weights_are_parameters_and_batch_statistics_in_path_order():
    model = _model()
    shapes = [array.shape for array in model.get_weights()]
    assert shapes == [(5,), (4, 5), (5,), (5,), (5,), (5,), (3,), (5, 3)]
    assert model.count_params() == 5 + 20 + 4 * 5 + 3 + 15
    assert all(isinstance(array, np.ndarray) for array in model.get_weights())


def test_weights_set_are_weights_got():
    model, other = _model(), _model(seed=1)
    other.set_weights(model.get_weights())
    assert _equal(other.get_weights(), model.get_weights())
    assert np.array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights[:-1],
            r"set_weights: got 7 arrays, expected 8, one for each of 'layers\.0\.bias'",
        ),
        (
            lambda weights: [weights[1], *weights[1:]],
            r"'layers\.0\.bias' has shape \(4, 5\), expected \(5,\)",
        ),
        (
            lambda weights: [weights[0] * 1j, *weights[1:]],
            r"'layers\.0\.bias' has dtype complex64, expected float32",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_changed(change, message):
    model = _model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.set_weights(change(model.get_weights()))
    assert _equal(before, model.get_weights())


def test_saved_weights_load_into_an_equal_model(tmp_path):
    model, other = _model(), _model(seed=1)
    model.fit(X, Y, verbose=0)
    model.save_weights(tmp_path / "weights.safetensors")
    other.load_weights(tmp_path / "weights.safetensors")
    assert _equal(model.get_weights(), other.get_weights())


def test_weights_of_another_model_are_refused(tmp_path):
    _model().save_weights(tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError, match=r"load_weights: 'layers\.0\.bias' has shape \(5,\), expected \(6,\)"
    ):
        _model(width=6).load_weights(tmp_path / "weights.safetensors")
    smaller = Sequential([nnx.Linear(4, 5, rngs=nnx.Rngs(0))])
    with pytest.raises(
        ValueError, match=r"load_weights: got 'layers\.1\.bias'.*expected variables of this model"
    ):
        smaller.load_weights(tmp_path / "weights.safetensors")
    smaller.save_weights(tmp_path / "smaller.safetensors")
    with pytest.raises(
        ValueError, match=r"load_weights: 'layers\.1\.bias'.* and 3 more missing, expected all"
    ):
        _model().load_weights(tmp_path / "smaller.safetensors")


def test_a_state_set_goes_on_as_the_one_it_was_taken_from():
    model, other = _model(), _model(seed=1)
    model.fit(X, Y, batch_size=8, verbose=0)
    other.set_state(model.get_state())
    assert other.step == model.step == 3
    for each in (model, other):
        each.fit(X, Y, batch_size=8, epochs=2, initial_epoch=1, verbose=0)
    assert _equal(model.get_weights(), other.get_weights())


def test_a_state_may_be_set_from_within_a_fit():
    kept = []

    class Rewind(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                kept.append(self.model.get_state())
            if batch == 2:
                self.model.set_state(kept[0])

    model, reference = _model(), _model()
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=Rewind())
    reference.fit(X, Y, batch_size=8, steps_per_epoch=1, verbose=0)
    assert model.step == 1
    assert _equal(model.get_weights(), reference.get_weights())
    assert _equal(model.get_state()["opt_state"], reference.get_state()["opt_state"])


def test_the_optimizer_state_of_another_optimizer_is_refused():
    model, other = _model(), _model()
    other.compile("sgd", "mse")
    message = (
        r"The optimizer state has \d+ arrays, expected 2 of the structure.*Compile and freeze the model as"
    )
    with pytest.raises(ValueError, match=message):
        other.set_state(model.get_state())


def test_weights_only_leaves_out_random_streams_and_the_optimizer():
    model = Model(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    assert model.get_state(weights_only=True) == {"params": {}, "other": {}}
    with pytest.raises(NotCompiledError, match="get_state: the model is not compiled"):
        model.get_state()
    model.compile("sgd", "mse")
    assert set(model.get_state()["other"]) == {"rngs.count", "rngs.key"}


def test_a_state_is_not_deleted_by_further_training():
    model = _model()
    state = model.get_state()
    model.fit(X, Y, epochs=2, verbose=0)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_a_checkpoint_is_restored_whole(tmp_path):
    model, other = _model(), _model(seed=1)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=ModelCheckpoint(tmp_path / "run", monitor="loss"))
    other.load_checkpoint(tmp_path / "run")
    for each in (model, other):
        each.fit(X, Y, batch_size=8, epochs=2, initial_epoch=1, verbose=0)
    assert _equal(model.get_weights(), other.get_weights())
    with pytest.raises(CheckpointError):
        other.load_checkpoint(tmp_path / "nothing")


def test_variables_that_are_not_float32_keep_their_dtype():
    module = nnx.Linear(4, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model = Model(module)
    model.set_weights([np.ones(3, np.float32), np.ones((4, 3), np.float32)])
    assert module.kernel.value.dtype == jnp.bfloat16


def test_weights_of_a_functional_model_come_in_the_order_of_its_layers_also_in_copies():
    x = Input((5,))
    h = Dense(4, name="z")(x)
    h = Dense(3, name="m")(h)
    inner = Model(x, Dense(2, name="a")(h), name="y")
    outer = Model(x, Dense(1, name="b")(inner(x)))
    kernels = [(5, 4), (4, 3), (3, 2), (2, 1)]
    for model in (outer, nnx.clone(outer)):
        shapes = [weight.shape for weight in model.get_weights()]
        assert shapes == [shape for kernel in kernels for shape in (kernel, kernel[1:])]
