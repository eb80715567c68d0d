"""Modules of flax.nnx as they are: their mirrors, and models of them."""

import copy
import pickle
import subprocess
import sys
import weakref

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

import easyflax.nnx as nnx
from easyflax import interop
from easyflax.callbacks import Callback, EarlyStopping, ModelCheckpoint
from easyflax.distribution import DataParallel
from easyflax.interop.flax_nnx import FlaxModule, adapt, adapt_if_flax, from_flax
from easyflax.layers.symbolic import Input, apply
from easyflax.models import Model, Sequential

ROWS, FEATURES, CLASSES = 24, 4, 3


class Scale(flax_nnx.Variable):
    pass


class SpecialParam(flax_nnx.Param):
    pass


class Net(flax_nnx.Module):
    """Has what a module can have: lists, dicts, shared parts, kinds of variables, a plain array."""

    def __init__(self, rngs):
        self.blocks = flax_nnx.List([flax_nnx.Linear(FEATURES, FEATURES, rngs=rngs) for _ in range(2)])
        self.again = self.blocks[0]
        self.heads = flax_nnx.Dict(main=flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs))
        self.norm = flax_nnx.BatchNorm(FEATURES, rngs=rngs)
        self.drop = flax_nnx.Dropout(0.5, rngs=rngs)
        self.scale = Scale(jnp.ones(CLASSES))
        self.shift = SpecialParam(jnp.zeros(CLASSES))
        self.table = jnp.ones(CLASSES)

    def __call__(self, x):
        x = self.drop(self.norm(self.again(self.blocks[1](self.blocks[0](x)))))
        return self.heads["main"](x) * self.scale[...] * self.table + self.shift[...]


PARAMS = [
    "again.bias",
    "again.kernel",
    "blocks.1.bias",
    "blocks.1.kernel",
    "heads.main.bias",
    "heads.main.kernel",
]
PARAMS += ["norm.bias", "norm.scale", "shift"]


@pytest.fixture
def net():
    return Net(flax_nnx.Rngs(0))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(ROWS, FEATURES)).astype("f"), generator.integers(0, CLASSES, ROWS)


def _compiled(module, devices=1, **options):
    model = Model(module)
    layout = DataParallel(jax.devices()[:devices])
    model.compile(optax.adam(1e-2), "sparse_categorical_crossentropy", distribution=layout, **options)
    return model


def _paths(module):
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(module))}


# -- what is adapted


@pytest.mark.parametrize(
    "value", [None, 3, "a", jnp.ones, nnx.relu, flax_nnx.relu, flax_nnx.Linear, flax_nnx.Rngs(0)]
)
def test_anything_but_a_module_of_flax_is_left_alone(value):
    assert adapt_if_flax(value) is value


def test_modules_of_ours_are_left_alone():
    module = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert adapt_if_flax(module) is module


@pytest.mark.slow
def test_flax_is_not_imported_for_modules_of_ours():
    program = (
        "import sys; from easyflax import Model, nnx; from easyflax.interop.flax_nnx import adapt_if_flax; "
        "Model(nnx.Linear(2, 2, rngs=nnx.Rngs(0))); adapt_if_flax(nnx.relu); assert 'flax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_module_of_linen_is_refused():
    with pytest.raises(TypeError, match=r"Dense, a module of flax.linen, expected.*ToNNX\(module"):
        adapt_if_flax(flax.linen.Dense(3))


def test_a_module_of_linen_in_tonnx_is_trained(data):
    net = flax_nnx.bridge.ToNNX(flax.linen.Dense(CLASSES), rngs=flax_nnx.Rngs(0))
    flax_nnx.bridge.lazy_init(net, data[0][:1])
    before = np.asarray(net.kernel[...])
    _compiled(net).fit(*data, verbose=0)
    assert not np.array_equal(net.kernel[...], before)


def test_a_module_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"Got a List of flax.nnx, expected a module with __call__"):
        adapt_if_flax(flax_nnx.List([flax_nnx.Linear(2, 2, rngs=flax_nnx.Rngs(0))]))


def test_variables_that_hold_references_are_refused():
    class Counter(flax_nnx.Module):
        def __init__(self):
            self.count = flax_nnx.Variable(jnp.zeros(()), ref=True)

        def __call__(self, x):
            return x

    with pytest.raises(TypeError, match=r"Variable of flax.nnx that holds a jax.Ref, expected"):
        adapt(Counter())


# -- the mirror


def test_the_mirror_has_variables_under_the_paths_of_flax(net):
    found = _paths(adapt(net))
    kinds = {name: type(leaf) for name, leaf in found.items() if isinstance(leaf, nnx.Variable)}
    assert [name for name, kind in kinds.items() if kind is nnx.Param] == PARAMS
    assert kinds.keys() - PARAMS == {"drop.rngs.count", "drop.rngs.key", "norm.mean", "norm.var", "scale"}
    assert kinds["scale"] is nnx.Variable
    assert kinds["norm.mean"] is nnx.BatchStat
    assert kinds["drop.rngs.count"] is nnx.RngCount
    assert found["drop.rngs.key"].tag == "default"
    assert isinstance(found["table"], jax.Array)


def test_the_mirror_has_the_modules_of_flax(net):
    ours = {path: type(module).__name__ for path, module in nnx.iter_modules(adapt(net))}
    theirs = {path: type(module).__name__ for path, module in flax_nnx.iter_modules(net)}
    assert ours == theirs


def test_a_module_has_one_mirror_as_long_as_it_is_in_use(net):
    mirror = adapt(net)
    assert adapt(net) is mirror
    assert mirror.module is net


def test_modules_that_share_a_variable_have_mirrors_that_share_it(net):
    whole, part = adapt(net), adapt(net.heads["main"])
    assert part.kernel is whole.heads.main.kernel


def test_calling_the_mirror_is_calling_the_module(net, data):
    expected = flax_nnx.clone(net)(data[0])
    assert np.array_equal(adapt(net)(data[0]), expected)
    assert net.drop.rngs.count[...] == 1
    assert adapt(net).norm.mean.value.tolist() == net.norm.mean[...].tolist()


def test_values_set_in_flax_arrive_in_the_mirror(net):
    mirror = adapt(net)
    net.shift[...] = jnp.full(CLASSES, 2.0)
    net.table = jnp.full(CLASSES, 3.0)
    mirror.sync()
    assert mirror.shift.value.tolist() == [2.0] * CLASSES
    assert mirror.table.tolist() == [3.0] * CLASSES


def test_values_set_in_the_mirror_arrive_in_flax(net):
    mirror = adapt(net)
    mirror.shift.value = jnp.full(CLASSES, 2.0)
    mirror.table = jnp.full(CLASSES, 3.0)
    mirror.sync()
    assert net.shift[...].tolist() == [2.0] * CLASSES
    assert net.table.tolist() == [3.0] * CLASSES


def test_modes_and_freezing_go_both_ways(net):
    mirror = adapt(net)
    net.norm.use_running_average = True
    net.blocks[1].trainable = False
    mirror.refresh()
    assert mirror.norm.use_running_average is True
    assert mirror.blocks[1].trainable is False
    mirror.train()
    del mirror.blocks[1].trainable
    mirror.sync()
    assert net.norm.use_running_average is False
    assert net.drop.deterministic is False
    assert not hasattr(net.blocks[1], "trainable")


def test_metadata_that_our_trainer_reads_is_taken_over(net):
    mirror = adapt(net)
    assert mirror.shift.get_metadata() == {}
    net.shift.set_metadata(regularizer="l2")
    mirror.refresh()
    assert mirror.shift.regularizer == "l2"


def test_changes_of_structure_are_taken_over(net):
    mirror = adapt(net)
    kept = mirror.again
    net.blocks.append(flax_nnx.Linear(2, 2, rngs=flax_nnx.Rngs(1)))
    net.shift = flax_nnx.Param(jnp.ones(2))
    del net.table
    mirror.refresh()
    assert mirror.again is kept
    assert mirror.blocks[2].kernel.shape == (2, 2)
    assert mirror.shift.value.tolist() == [1.0, 1.0]
    assert "table" not in vars(mirror)


def test_what_the_module_sows_is_dropped(data):
    class Sows(flax_nnx.Module):
        def __init__(self):
            self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(0))

        def __call__(self, x):
            x = self.dense(x)
            self.sow(flax_nnx.Intermediate, "logits", x)
            return x

    net = Sows()
    mirror = adapt(net)
    graphdef = nnx.graphdef(mirror)
    with pytest.warns(DeprecationWarning, match="sow"):
        net(data[0])
    mirror.refresh()
    assert nnx.graphdef(mirror) == graphdef
    assert list(_paths(mirror)) == ["dense.bias", "dense.kernel"]
    with pytest.warns(DeprecationWarning, match="sow"):
        nnx.clone(mirror)(data[0])
    assert len(net.logits.get_value()) == 1


def test_what_is_shared_in_flax_is_shared_in_the_mirror(net):
    mirror = adapt(net)
    assert mirror.blocks[0] is mirror.again
    assert nnx.find_duplicates(mirror) == [[("again",), ("blocks", 0)]]


def test_copies_stand_for_themselves(net, data):
    mirror = adapt(net)
    clone = nnx.clone(mirror)
    clone.shift.value = jnp.full(CLASSES, 9.0)
    assert np.allclose(clone(data[0]) - 9.0, mirror(data[0]), atol=1e-6)
    assert net.shift[...].tolist() == [0.0] * CLASSES
    assert clone.module is not net
    assert clone.module.shift[...].tolist() == [9.0] * CLASSES


def test_transforms_of_ours_change_the_module(net, data):
    @nnx.jit
    def step(model, x):
        grads = nnx.grad(lambda model: (model(x) ** 2).mean())(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), grads))

    mirror, bias = adapt(net), np.asarray(net.heads["main"].bias[...])
    step(mirror, data[0])
    mirror.sync()
    assert not np.array_equal(net.heads["main"].bias[...], bias)
    assert net.drop.rngs.count[...] == 1


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copying_and_pickling_copy_the_module(duplicate, data):
    net = flax_nnx.Sequential(flax_nnx.Linear(FEATURES, 2, rngs=flax_nnx.Rngs(0)))
    mirror = adapt(net)
    again = duplicate(mirror)
    assert isinstance(again, FlaxModule)
    assert again.module is not net
    assert np.array_equal(again(data[0]), net(data[0]))


# -- arguments of __call__


class TakesTraining(flax_nnx.Module):
    def __call__(self, x, training):
        return training


class TakesTrain(flax_nnx.Module):
    def __call__(self, x, *, train=None):
        return train


class TakesDeterministic(flax_nnx.Module):
    def __call__(self, x, deterministic):
        return not deterministic


@pytest.mark.parametrize("cls", [TakesTraining, TakesTrain, TakesDeterministic])
def test_the_mode_is_passed_to_modules_that_take_it(cls):
    mirror = adapt(cls())
    assert mirror(0) is (None if cls is TakesTrain else False)
    mirror.train()
    assert mirror(0) is True
    mirror.eval()
    assert mirror(0) is False
    assert mirror(0, **{cls.__name__.removeprefix("Takes").lower(): 7}) in (7, False)


class TakesRngs(flax_nnx.Module):
    def __init__(self):
        self.drop = flax_nnx.Dropout(0.5)

    def __call__(self, x, rngs, deterministic=True):
        return self.drop(x, deterministic=deterministic, rngs=rngs)


def test_random_streams_of_ours_give_flax_the_keys_that_they_give_here():
    x, rngs, same = jnp.ones((4, 8)), nnx.Rngs(params=0, dropout=1), flax_nnx.Rngs(params=0, dropout=1)
    module, mirror = TakesRngs(), adapt(TakesRngs())
    for _ in range(2):
        assert np.array_equal(mirror(x, rngs=rngs, deterministic=False), module(x, same, deterministic=False))
    assert rngs.dropout.count.value == 2


def test_random_streams_are_passed_where_they_are_needed_and_nobody_gives_any():
    mirror = adapt(TakesRngs())
    mirror.train()
    first, second = mirror(jnp.ones((4, 8))), mirror(jnp.ones((4, 8)))
    assert 0 < (first == 0).mean() < 1
    assert not np.array_equal(first, second)


def test_layers_with_random_streams_of_their_own_use_those():
    mirror, same = (flax_nnx.Dropout(0.5, rngs=flax_nnx.Rngs(3)) for _ in range(2))
    assert np.array_equal(adapt(mirror)(jnp.ones(9)), same(jnp.ones(9)))


def test_a_variable_made_by_the_call_is_an_error(data):
    class Late(flax_nnx.Module):
        def __call__(self, x):
            self.scale = flax_nnx.Param(jnp.ones(FEATURES))
            return x * self.scale

    with pytest.raises(
        ValueError, match=r"Late, a module of flax.nnx, made the variable 'scale' \(Param\), expected"
    ):
        Model(Late()).predict(data[0], verbose=0)


# -- models


@pytest.mark.parametrize("devices", [1, 8])
def test_the_module_is_trained_in_place(net, data, devices):
    model = _compiled(net, devices)
    assert model.module is net
    before = np.asarray(net.shift[...])
    model.fit(*data, batch_size=8, verbose=0)
    assert not np.array_equal(net.shift[...], before)
    assert net.drop.rngs.count[...] == 3
    net.eval()
    assert np.allclose(net(data[0]), model.predict(data[0], verbose=0), atol=1e-6)
    assert net.shift[...].devices() == {jax.devices()[0]}


def test_weights_that_were_set_in_the_module_meanwhile_are_used(net, data):
    model = _compiled(net)
    model.fit(*data, verbose=0)
    net.shift[...] = jnp.full(CLASSES, 50.0)
    assert model.predict(data[0], verbose=0).mean() > 40
    assert model.evaluate(*data, verbose=0) < 50
    assert len(model.get_weights()) == len([*PARAMS, "norm.mean", "norm.var", "scale"])
    assert any((array == 50).all() for array in model.get_weights())
    model.fit(*data, verbose=0)
    assert net.shift[...].min() > 40


def test_a_second_fit_compiles_nothing(data):
    traces = []

    class Counted(flax_nnx.Module):
        def __init__(self):
            self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(0))

        def __call__(self, x):
            traces.append(x.shape)
            return self.dense(x)

    net = Counted()
    model = _compiled(net)
    model.fit(*data, verbose=0)
    number = len(traces)
    model.fit(*data, verbose=0)
    assert len(traces) == number
    net.dense.bias[...] = jnp.ones(CLASSES)
    model.fit(*data, verbose=0)
    assert len(traces) == number


def test_the_structure_may_change_between_two_fits(data):
    net = flax_nnx.Sequential(flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(0)))
    model = _compiled(net)
    model.fit(*data, verbose=0)
    net.layers.append(flax_nnx.Linear(CLASSES, CLASSES, rngs=flax_nnx.Rngs(1)))
    before = np.asarray(net.layers[1].kernel[...])
    with pytest.warns(UserWarning, match="other names or shapes than in the last fit"):
        model.fit(*data, verbose=0)
    assert not np.array_equal(net.layers[1].kernel[...], before)


def test_a_parameter_that_is_replaced_during_a_fit_is_an_error(net, data):
    class Replaces(Callback):
        def on_epoch_end(self, epoch, logs=None):
            net.shift = flax_nnx.Param(jnp.ones(CLASSES))

    with pytest.raises(ValueError, match=r"During fit 'shift' is another variable"):
        _compiled(net).fit(*data, epochs=2, verbose=0, callbacks=Replaces())


class Looks(Callback):
    """Compares what the module holds with what the model says, after batches or epochs."""

    def __init__(self, net, hook):
        super().__init__()
        self.net, self.seen = net, []
        setattr(self, hook, self.look)

    def look(self, number, logs=None):
        module = self.net or self.model.module
        self.seen.append(module.shift[...])
        state = self.model.get_state(weights_only=True)
        assert np.array_equal(self.seen[-1], state["params"]["shift"])


@pytest.mark.parametrize("devices", [1, 8])
def test_callbacks_see_the_newest_values_in_the_module_of_the_model(net, data, devices):
    looks = Looks(None, "on_train_batch_end")
    _compiled(net, devices).fit(*data, batch_size=8, epochs=2, verbose=0, callbacks=looks)
    assert len({array.tolist()[0] for array in looks.seen}) == 6  # each can still be read


def test_the_module_itself_is_up_to_date_after_each_epoch(net, data):
    looks = Looks(net, "on_epoch_end")
    _compiled(net).fit(*data, epochs=3, verbose=0, validation_split=0.5, callbacks=looks)
    assert len({array.tolist()[0] for array in looks.seen}) == 3


def test_values_that_a_callback_sets_in_the_module_are_used_from_the_next_step(net, data):
    class Sets(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                net.shift[...] = jnp.full(CLASSES, 50.0)

    _compiled(net).fit(*data, batch_size=8, verbose=0, callbacks=Sets())
    assert np.allclose(net.shift[...], 50.0, atol=0.1)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError])
def test_the_module_has_the_newest_values_after_an_exception(net, data, exception):
    class Raises(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise exception

    with pytest.raises(exception):
        _compiled(net).fit(*data, batch_size=8, verbose=0, callbacks=Raises())
    assert net.drop.rngs.count[...] == 2
    assert np.isfinite(net(data[0])).all()


def test_early_stopping_restores_the_best_weights_of_the_module(net, data):
    class Spoils(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.best = np.asarray(net.shift[...]) if epoch == 1 else self.best if epoch else None
            if epoch:
                net.shift[...] = jnp.array([100.0, 0.0, 0.0])

    spoils = Spoils()
    stops = EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
    _compiled(net).fit(*data, epochs=5, verbose=0, callbacks=[spoils, stops])
    assert stops.stopped_epoch == 1
    assert np.array_equal(net.shift[...], spoils.best)


@pytest.mark.slow
def test_checkpoints_are_of_the_module(net, data, tmp_path):
    model = _compiled(net)
    model.fit(*data, verbose=0, callbacks=ModelCheckpoint(tmp_path / "saved"))
    expected = np.asarray(net.shift[...])
    other = Net(flax_nnx.Rngs(1))
    restored = _compiled(other)
    restored.load_checkpoint(tmp_path / "saved")
    assert np.array_equal(other.shift[...], expected)
    assert other.drop.rngs.count[...] == 1
    assert restored.evaluate(*data, verbose=0) == model.evaluate(*data, verbose=0)


def test_weights_are_saved_and_loaded(net, data, tmp_path):
    net.shift[...] = jnp.arange(3.0)
    Model(net).save_weights(tmp_path / "net.weights.h5")
    other = Net(flax_nnx.Rngs(1))
    model = Model(other)
    model.load_weights(tmp_path / "net.weights.h5")
    assert other.shift[...].tolist() == [0.0, 1.0, 2.0]
    assert np.array_equal(model.predict(data[0], verbose=0), Model(net).predict(data[0], verbose=0))
    model.set_weights([array + 1 for array in model.get_weights()])
    assert other.shift[...].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("as_it_is", [True, False])
def test_files_of_other_programs_are_written_and_read(net, tmp_path, as_it_is):
    net.shift[...] = jnp.arange(3.0)
    interop.save_weights(net, tmp_path / "net.npz")
    other = Net(flax_nnx.Rngs(1))
    interop.load_weights(other if as_it_is else Model(other), tmp_path / "net.npz")
    assert other.shift[...].tolist() == [0.0, 1.0, 2.0]
    assert np.array_equal(other.heads["main"].kernel[...], net.heads["main"].kernel[...])
    assert {*PARAMS, "norm.mean"} < set(np.load(tmp_path / "net.npz"))


@pytest.mark.slow
def test_modules_of_flax_and_ours_mix_in_a_sequential(data):
    theirs = flax_nnx.Linear(FEATURES, 8, rngs=flax_nnx.Rngs(0))
    dropout = TakesRngs()
    ours = nnx.Linear(8, CLASSES, rngs=nnx.Rngs(1))
    model = Sequential([theirs, flax_nnx.relu, dropout, ours])
    kernels = np.asarray(theirs.kernel[...]), np.asarray(ours.kernel.value)
    model.compile("adam", "sparse_categorical_crossentropy")
    first = model.evaluate(*data, verbose=0)
    model.fit(*data, epochs=5, verbose=0)
    assert model.evaluate(*data, verbose=0) < first
    assert not np.array_equal(theirs.kernel[...], kernels[0])
    assert not np.array_equal(ours.kernel.value, kernels[1])
    hidden = dropout(flax_nnx.relu(theirs(data[0])), None)
    assert np.allclose(ours(hidden), model.predict(data[0], verbose=0), atol=1e-6)


@pytest.mark.slow
def test_modules_of_flax_are_called_on_symbolic_values(data):
    dense, norm = (
        flax_nnx.Linear(FEATURES, 8, rngs=flax_nnx.Rngs(0)),
        flax_nnx.BatchNorm(8, rngs=flax_nnx.Rngs(0)),
    )
    inputs = Input((FEATURES,))
    hidden = apply(norm, apply(dense, inputs))
    assert hidden.shape == (None, 8)
    model = Model(inputs, nnx.Linear(8, CLASSES, rngs=nnx.Rngs(0))(hidden + apply(dense, inputs)))
    assert model.count_params() == dense.kernel.size + 8 + 4 * 8 + 8 * CLASSES + CLASSES
    before = np.asarray(dense.kernel[...])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data, verbose=0)
    assert norm.mean[...].any()
    assert not np.array_equal(dense.kernel[...], before)


@pytest.mark.slow
def test_modules_of_flax_are_attributes_of_models(data):
    class Mixed(Model):
        def __init__(self):
            super().__init__()
            self.dense = flax_nnx.Linear(FEATURES, 8, rngs=flax_nnx.Rngs(0))
            self.blocks = [flax_nnx.Linear(8, 8, rngs=flax_nnx.Rngs(1)), nnx.relu]
            self.heads = {"main": flax_nnx.Linear(8, CLASSES, rngs=flax_nnx.Rngs(2))}

        def call(self, x):
            return self.heads["main"](self.blocks[1](self.blocks[0](self.dense(x))))

    model = Mixed()
    kernels = [module.module.kernel for module in (model.dense, model.blocks[0], model.heads["main"])]
    before = [np.asarray(kernel[...]) for kernel in kernels]
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data, verbose=0)
    assert not any(np.array_equal(kernel[...], old) for kernel, old in zip(kernels, before, strict=True))


def test_a_module_of_ours_holds_one_of_flax_through_from_flax(data):
    class Mixed(nnx.Module):
        def __init__(self, dense):
            self.dense = dense

        def __call__(self, x):
            return self.dense(x)

    dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"'dense' in Mixed is a Linear of flax.nnx.*from_flax\(net\)"):
        _compiled(Mixed(dense)).fit(*data, verbose=0)
    before = np.asarray(dense.kernel[...])
    _compiled(Mixed(from_flax(dense))).fit(*data, verbose=0)
    assert not np.array_equal(dense.kernel[...], before)
    with pytest.raises(TypeError, match=r"from_flax: got 3, expected a module of flax.nnx"):
        from_flax(3)


def test_a_call_of_the_model_in_training_mode_changes_the_module(net, data):
    model = Model(net)
    net.drop.rate = 0.0
    expected = flax_nnx.clone(net)
    assert np.allclose(model(data[0], training=True), expected(data[0]), atol=1e-6)
    assert np.allclose(net.norm.mean[...], expected.norm.mean[...], atol=1e-6)
    model(data[0], training=False)
    assert np.allclose(net.norm.mean[...], expected.norm.mean[...], atol=1e-6)
    assert net.norm.use_running_average is False


@pytest.mark.slow
def test_plain_containers_hold_modules_and_variables(data):
    class Contains(flax_nnx.Module):
        def __init__(self):
            rngs = flax_nnx.Rngs(0)
            self.layers = flax_nnx.data([flax_nnx.Linear(FEATURES, 8, rngs=rngs), flax_nnx.relu])
            self.pair = flax_nnx.data((flax_nnx.Linear(8, 8, rngs=rngs), jnp.ones(8)))
            self.heads = flax_nnx.data({"main": flax_nnx.Linear(8, CLASSES, rngs=rngs)})
            self.affine = flax_nnx.Param({"scale": jnp.ones(CLASSES), "shift": jnp.zeros(CLASSES)})
            self.calls = flax_nnx.Variable(jnp.zeros((), "int32"))
            self.tables = flax_nnx.List([jnp.ones(CLASSES), np.ones(CLASSES, "float32")])

        def __call__(self, x):
            self.calls[...] += 1
            x = self.pair[0](self.layers[1](self.layers[0](x))) * self.pair[1]
            x = self.heads["main"](x) * self.tables[0] * self.tables[1]
            return x * self.affine["scale"] + self.affine["shift"]

    net = Contains()
    model = _compiled(net, 8)
    model.fit(*data, batch_size=8, epochs=2, verbose=0)
    assert net.calls[...] == 6
    assert net.affine["shift"].any()
    assert np.allclose(net(data[0]), model.predict(data[0], verbose=0), atol=1e-6)
    again = copy.deepcopy(model)
    assert again.module is not net
    assert np.array_equal(again.predict(data[0], verbose=0), model.predict(data[0], verbose=0))


@pytest.mark.slow
def test_modules_may_use_the_transforms_of_flax(data):
    class Block(flax_nnx.Module):
        def __init__(self, rngs):
            self.dense = flax_nnx.Linear(FEATURES, FEATURES, rngs=rngs)
            self.drop = flax_nnx.Dropout(0.1, rngs=rngs)

        def __call__(self, x):
            return self.drop(flax_nnx.relu(self.dense(x)))

    class Stacked(flax_nnx.Module):
        def __init__(self, rngs):
            @flax_nnx.split_rngs(splits=3)
            @flax_nnx.vmap
            def make(rngs):
                return Block(rngs)

            self.blocks = make(rngs)
            self.out = flax_nnx.Linear(FEATURES, CLASSES, rngs=rngs)

        @flax_nnx.jit
        def __call__(self, x):
            @flax_nnx.scan(in_axes=(0, flax_nnx.Carry), out_axes=flax_nnx.Carry)
            def forward(block, x):
                return flax_nnx.remat(lambda block, x: block(x))(block, x)

            return self.out(forward(self.blocks, x))

    net = Stacked(flax_nnx.Rngs(0))
    model = _compiled(net, 8)
    before = np.asarray(net.blocks.dense.kernel[...])
    model.fit(*data, verbose=0)
    assert before.shape == (3, FEATURES, FEATURES)
    assert not np.array_equal(net.blocks.dense.kernel[...], before)
    net.eval()
    assert np.allclose(net(data[0]), model.predict(data[0], verbose=0), atol=1e-6)
    model.summary()


def test_a_module_and_its_mirror_are_freed_together(net):
    mirror, variable = weakref.ref(adapt(net)), weakref.ref(adapt(net).shift)
    assert mirror() is None
    assert variable() is None


def test_a_module_may_take_its_mode_and_random_streams_as_arguments(data):
    class Classifier(flax_nnx.Module):
        def __init__(self):
            self.dense = flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(0))
            self.drop = flax_nnx.Dropout(0.5)

        def __call__(self, x, deterministic, rngs):
            return self.dense(self.drop(x, deterministic=deterministic, rngs=rngs))

    net = Classifier()
    model = _compiled(net)
    model.fit(*data, batch_size=8, verbose=0)
    expected = net(data[0], True, None)
    assert np.allclose(model.predict(data[0], verbose=0), expected, atol=1e-6)


def test_the_summary_is_that_of_the_same_module_of_ours(capsys):
    def make(lib):
        rngs = lib.Rngs(0)
        layers = [
            lib.Linear(FEATURES, 8, rngs=rngs),
            lib.BatchNorm(8, rngs=rngs),
            lib.Dropout(0.5, rngs=rngs),
        ]
        return lib.Sequential(*layers, lib.Linear(8, CLASSES, rngs=rngs))

    Model(make(nnx)).summary((FEATURES,))
    expected = capsys.readouterr().out
    Model(make(flax_nnx)).summary((FEATURES,))
    assert capsys.readouterr().out == expected
    assert "(None, 8)" in expected


def _changed_by_fit(net, data):
    def values():
        flat = flax_nnx.to_flat_state(flax_nnx.state(net, (flax_nnx.Param, flax_nnx.BatchStat)))
        return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}

    before = values()
    _compiled(net).fit(*data, verbose=0)
    return {name for name, value in values().items() if not np.array_equal(value, before[name])}


@pytest.mark.slow
def test_what_is_frozen_is_not_trained(net, data):
    trained = {*PARAMS, "norm.mean", "norm.var"}
    net.heads.trainable = False
    net.norm.trainable = False
    assert _changed_by_fit(net, data) == {
        name for name in trained if name.split(".")[0] not in ("heads", "norm")
    }
    net.trainable = False
    net.heads["main"].trainable = True
    assert _changed_by_fit(net, data) == {"heads.main.bias", "heads.main.kernel"}
    net.blocks.trainable = True  # holds what is frozen as `again`
    assert "again.kernel" in _changed_by_fit(net, data)


def test_a_frozen_batch_normalization_ignores_the_mode_it_is_passed(data):
    class Passes(flax_nnx.Module):
        def __init__(self):
            self.norm = flax_nnx.BatchNorm(FEATURES, rngs=flax_nnx.Rngs(0))
            self.out = flax_nnx.Linear(FEATURES, CLASSES, rngs=flax_nnx.Rngs(1))

        def __call__(self, x, train):
            return self.out(self.norm(x, use_running_average=not train))

    net = Passes()
    net.norm.trainable = False
    assert _changed_by_fit(net, data) == {"out.bias", "out.kernel"}
    net.norm.trainable = True
    assert "norm.mean" in _changed_by_fit(net, data)
