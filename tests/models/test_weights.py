import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax import checkpoint, metrics, optimizers
from easyflax.callbacks import ModelCheckpoint
from easyflax.errors import CheckpointError, NotCompiledError
from easyflax.layers import Dense, Input
from easyflax.models import Model, Sequential, weights
from easyflax.train.binding import Binding
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
    message = r"load_weights: 'layers\.linear\.bias' has shape \(5,\), expected \(6,\);.*; and 3 more"
    with pytest.raises(ValueError, match=message):
        _model(width=6).load_weights(tmp_path / "weights.safetensors")
    smaller = Sequential([nnx.Linear(4, 5, rngs=nnx.Rngs(0))])
    with pytest.raises(ValueError, match=r"load_weights: 'layers\.batch_norm\.\w+' is not in the model"):
        smaller.load_weights(tmp_path / "weights.safetensors")
    smaller.save_weights(tmp_path / "smaller.safetensors")
    with pytest.raises(ValueError, match=r"'layers\.batch_norm\.bias' is not in the file.*; and 2 more"):
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


# -- files: names, and models that differ


def _dense_model(names=("a", "b"), width=5, inner=None):
    layers = [Dense(width, name=names[0]), Dense(3, name=names[1])]
    return Sequential([Input((4,)), *(inner or layers)])


def _names_in(model):
    return [one.name for one in weights.named_weights(model.trained_module, Binding(model.trained_module))]


def test_names_in_files_are_equal_in_whichever_way_a_model_was_stated():
    x = Input((4,))
    functional = Model(x, Dense(3)(Dense(5)(x)))
    sequential = Sequential([Dense(5), Dense(3)])
    sequential.build((None, 4))
    expected = [f"layers.{layer}.{part}" for layer in ("dense", "dense_1") for part in ("bias", "kernel")]
    assert _names_in(functional) == _names_in(sequential) == expected


def test_wrappers_of_models_within_models_leave_no_trace_in_the_names():
    class Pair(Model):
        def __init__(self):
            super().__init__()
            self.encoder = _dense_model()
            self.blocks = nnx.List([nnx.Linear(3, 3, rngs=nnx.Rngs(0))])

        def call(self, inputs):
            return self.blocks[0](self.encoder(inputs))

    found = _names_in(Pair())
    assert found[:3] == ["blocks.0.bias", "blocks.0.kernel", "encoder.layers.a.bias"]
    wrapped = Model(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    assert _names_in(wrapped) == ["bias", "kernel"]


def test_files_that_name_the_layers_of_a_sequential_by_number_are_read(tmp_path):
    model = _dense_model()
    values = model.get_weights()
    arrays = {name: array + 1 for name, array in weights.by_path(Binding(model.trained_module)).items()}
    assert "layers.0.kernel" in arrays
    checkpoint.save_weights(tmp_path / "old", arrays)
    model.load_weights(tmp_path / "old")
    assert all(np.array_equal(new, old + 1) for new, old in zip(model.get_weights(), values, strict=True))


def test_by_name_finds_layers_wherever_they_are(tmp_path):
    old = _dense_model()
    old.save_weights(tmp_path / "w")
    body = _dense_model()
    head = Dense(2, name="head")
    new = Sequential([Input((4,)), body, head])
    kept = head.get_weights()
    new.load_weights(tmp_path / "w", by_name=True)
    assert _equal(body.get_weights(), old.get_weights())
    assert _equal(head.get_weights(), kept)
    with pytest.raises(ValueError, match=r"no weight of the file fits the model: .*'layers\.a\.bias'"):
        _dense_model(("c", "d")).load_weights(tmp_path / "w", by_name=True)


def test_by_name_gives_what_fits_by_its_whole_name_to_no_other_layer(tmp_path):
    body = Sequential([Input((4,)), Dense(5)], name="body")
    Sequential([body, Dense(1, name="head")]).save_weights(tmp_path / "w")
    kept = [array + 1 for array in body.get_weights()]
    x = Input((4,))
    other = Dense(2)
    model = Model(x, [body(x), other(x)])
    body.set_weights(kept)
    before = other.get_weights()
    model.load_weights(tmp_path / "w", by_name=True)
    assert _equal([array + 1 for array in body.get_weights()], kept)
    assert _equal(other.get_weights(), before)


def test_by_name_refuses_names_that_are_not_clear_and_shapes_that_differ(tmp_path):
    Sequential(
        [Input((4,)), Sequential([Dense(4, name="a")]), Sequential([Dense(4, name="a")])]
    ).save_weights(tmp_path / "two")
    message = r"'layers\.a\.bias' may be any of 'layers\.sequential\.layers\.a\.bias', .* in the file"
    with pytest.raises(ValueError, match=message):
        Sequential([Input((4,)), Dense(4, name="a")]).load_weights(tmp_path / "two", by_name=True)
    _dense_model().save_weights(tmp_path / "w")
    message = r"load_weights: 'layers\.a\.bias' has shape \(5,\), expected \(6,\);.*skip_mismatch=True"
    with pytest.raises(ValueError, match=message):
        _dense_model(
            ("a", "c"),
            width=6,
            inner=[Dense(6, name="a"), Dense(5, name="x"), Dense(3, name="b")],
        ).load_weights(tmp_path / "w", by_name=True)


def test_skip_mismatch_says_in_one_warning_what_was_left_as_it_was(tmp_path):
    old, new = _dense_model(), _dense_model()
    old.save_weights(tmp_path / "w")
    new = Sequential(
        [
            Input((4,)),
            Dense(5, name="a"),
            Dense(7, name="b"),
            Dense(2, name="c"),
        ]
    )
    kept = [layer.get_weights() for layer in new.layers]
    with pytest.raises(
        ValueError, match=r"'layers\.b\.bias' has shape \(3,\), expected \(7,\).*is not in the file\. Build"
    ):
        new.load_weights(tmp_path / "w")
    assert _equal(kept, [layer.get_weights() for layer in new.layers])
    message = (
        r"load_weights skipped 4 weights: 'layers\.b\.bias' has shape \(3,\), expected \(7,\); "
        r"'layers\.b\.kernel' has shape \(5, 3\), expected \(5, 7\); 'layers\.c\.bias' is not in the file"
    )
    with pytest.warns(UserWarning, match=message):
        new.load_weights(tmp_path / "w", skip_mismatch=True)
    assert _equal(new.layers[0].get_weights(), old.layers[0].get_weights())
    assert _equal(kept[1:], [layer.get_weights() for layer in new.layers[1:]])


def test_frozen_weights_are_saved_and_loaded_like_others(tmp_path):
    old, new = _dense_model(), _dense_model()
    old.layers[0].trainable = False
    old.save_weights(tmp_path / "w")
    new.load_weights(tmp_path / "w")
    assert _equal(old.get_weights(), new.get_weights())
    new.set_weights([np.zeros_like(array) for array in new.get_weights()])
    new.save_weights(tmp_path / "zeros")
    old.load_weights(tmp_path / "zeros")
    assert not any(array.any() for array in old.get_weights())
    assert not old.layers[0].trainable


def test_the_state_of_random_streams_is_in_no_file(tmp_path):
    _model().save_weights(tmp_path / "w")
    assert not [name for name in checkpoint.load_weights(tmp_path / "w") if "rngs" in name]


def test_a_file_is_only_replaced_where_that_is_wanted(tmp_path):
    model = _dense_model()
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(FileExistsError, match=r"model\.weights\.h5 exists, expected a new path"):
        model.save_weights(tmp_path / "model.weights.h5", overwrite=False)
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")


def test_a_file_of_keras_is_refused_with_advice(tmp_path):
    (tmp_path / "keras.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(
        CheckpointError, match=r"is an HDF5 file, as Keras writes it.*set_weights\(keras_model"
    ):
        _dense_model().load_weights(tmp_path / "keras.weights.h5")


@pytest.mark.parametrize("call", ["save_weights", "load_weights"])
def test_models_without_weights_yet_are_refused(call, tmp_path):
    with pytest.raises(ValueError, match=rf"{call}: Sequential 'sequential'.*has no weights yet"):
        getattr(Sequential([Dense(2)]), call)(tmp_path / "w")


def test_models_of_modules_with_weights_need_no_call_to_be_saved(tmp_path):
    class Net(Model):
        def __init__(self, seed):
            super().__init__()
            self.body = nnx.Linear(4, 3, rngs=nnx.Rngs(seed))

        def __call__(self, x):
            return self.body(x)

    Net(0).save_weights(tmp_path / "w")
    other = Net(1)
    other.load_weights(tmp_path / "w")
    assert other.count_params() == 15
    assert _equal(other.get_weights(), Net(0).get_weights())


def test_layers_give_and_take_their_weights():
    model = _dense_model()
    layer = model.get_layer("b")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel + 1, bias])
    assert [one.shape for one in layer.weights] == [(5, 3), (3,)]
    np.testing.assert_array_equal(model.get_weights()[2], kernel + 1)


def test_metrics_and_optimizers_that_a_model_has_are_neither_layers_nor_weights():
    class Trained(Model):
        def __init__(self):
            super().__init__()
            self.head = Dense(3)
            self.tracker = metrics.Mean(name="loss")
            self.others = [metrics.AUC(), metrics.F1Score()]
            self.optimizer_of_head = optimizers.SGD(0.1, momentum=0.9)

        def call(self, x):
            return self.head(x)

    model = Trained()
    model(X[:1])
    model.optimizer_of_head.build(model.trainable_variables)
    assert [weight.shape for weight in model.get_weights()] == [(4, 3), (3,)]
    assert model.layers == [model.head]
    assert model.count_params() == 15
    lines = []
    model.summary(print_fn=lines.append)
    assert "Dense" in "".join(lines)
    assert "AUC" not in "".join(lines)
    assert "SGD" not in "".join(lines)
