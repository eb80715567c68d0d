import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import easyflax.interop as interop
import easyflax.nnx as nnx
from easyflax.interop.files import read_arrays, write_arrays
from easyflax.models import Model
from easyflax.train.callback import Callback


class Net(nnx.Module):
    def __init__(self, seed, *, dtype=jnp.float32):
        rngs = nnx.Rngs(seed)
        self.layers = [nnx.Linear(3, 4, rngs=rngs, param_dtype=dtype), nnx.Dropout(0.5, rngs=rngs)]
        self.norm = nnx.BatchNorm(4, rngs=rngs, param_dtype=dtype)
        self.seen = nnx.Cache(jnp.zeros(2))

    def __call__(self, x):
        return self.norm(self.layers[1](self.layers[0](x)))


NAMES = {"layers.0.bias", "layers.0.kernel", "norm.bias", "norm.mean", "norm.scale", "norm.var"}


def values(model, *filters):
    return {
        ".".join(map(str, path)): np.asarray(leaf.get_raw_value())
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Any(*(filters or interop.weights.WEIGHTS))))
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float8_e5m2])
def test_weights_and_statistics_are_written_by_path_and_come_back(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    model, other = Net(0, dtype=dtype), Net(1, dtype=dtype)
    model.norm.mean.value += 2.5
    interop.save_weights(model, path)
    assert read_arrays(path).keys() == NAMES
    assert interop.load_weights(other, path) == ([], [], [])
    assert_same(values(other), values(model))


def test_names_and_filters_say_what_is_written_and_where_it_goes(tmp_path):
    path = tmp_path / "a.npz"
    model, other = Net(0), Net(1)
    names = {"layers": "net.blocks", "norm.scale": "gamma", "norm.bias": None}
    interop.save_weights(model, path, names, only=nnx.Param)
    assert read_arrays(path).keys() == {"net.blocks.0.bias", "net.blocks.0.kernel", "gamma"}
    other.norm.bias.value += 1
    other.norm.mean.value += 1
    interop.load_weights(other, path, names, only=nnx.Param)
    np.testing.assert_array_equal(other.layers[0].kernel.value, model.layers[0].kernel.value)
    assert other.norm.bias.value.tolist() == other.norm.mean.value.tolist() == [1.0] * 4


def test_variables_that_are_left_out_are_not_missed_nor_their_arrays_unexpected(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, values(Net(0)) | {"more.text": np.zeros(3)})
    model = Net(1)
    model.norm.scale.value += 1
    before = values(model)
    left = interop.load_weights(model, path, {"layers": None, "more": None}, only=nnx.Param)
    assert left == ([], [], [])
    assert_same(values(model), before | {"norm.scale": np.ones(4, np.float32)})


def test_names_may_be_a_function(tmp_path):
    path = tmp_path / "a.safetensors"
    interop.save_weights(Net(0), path, lambda name: name.replace("kernel", "weight").replace(".", "/"))
    assert "layers/0/weight" in read_arrays(path)


def test_other_kinds_of_variables_are_written_when_they_are_asked_for(tmp_path):
    model = Net(0)
    interop.save_weights(model, tmp_path / "a.npz", only=(nnx.Param, nnx.Cache))
    assert "seen" in read_arrays(tmp_path / "a.npz")
    with pytest.raises(
        TypeError, match=r"got a RngKey at 'layers\.1\.rngs\.key' with .*, expected one array of"
    ):
        interop.save_weights(model, tmp_path / "a.npz", only=...)


@pytest.mark.parametrize(
    ("stored", "variable", "expected"),
    [
        (np.array([1.0 + 2**-9, 3.0]), jnp.bfloat16, [1.0, 3.0]),
        (np.array([1.5, 3.0], ml_dtypes.bfloat16), jnp.float32, [1.5, 3.0]),
        (np.array([1.5, 3.0], ml_dtypes.float8_e4m3fn), jnp.float16, [1.5, 3.0]),
        (np.array([1, 3]), jnp.int32, [1, 3]),
        (np.array([True, False]), jnp.bool_, [True, False]),
    ],
)
def test_arrays_are_converted_to_the_dtype_of_the_variable(tmp_path, stored, variable, expected):
    write_arrays(tmp_path / "a.safetensors", {"x": stored})
    model = nnx.Dict(x=nnx.Param(jnp.zeros(2, variable)))
    interop.load_weights(model, tmp_path / "a.safetensors")
    assert model.x.value.dtype == variable
    assert model.x.value.tolist() == expected


@pytest.mark.parametrize(
    ("stored", "variable", "message"),
    [
        (np.array([1, 3]), jnp.float32, "'x' has dtype int64, expected float32 or one like it"),
        (np.array([1.0, 3.0]), jnp.int32, "'x' has dtype float64, expected int32 or one like it"),
        (np.array([1, 300]), jnp.int8, "'x' holds integers that int8 does not"),
        (np.array([1.0]), jnp.float32, r"'x' has shape \(1,\), expected \(2,\)"),
        (np.array([1.0, 1j]), jnp.float32, "'x' has dtype complex128, expected float32 or one like it"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, stored, variable, message):
    write_arrays(tmp_path / "a.npz", {"x": stored})
    model = nnx.Dict(x=nnx.Param(jnp.zeros(2, variable)))
    with pytest.raises(ValueError, match=message):
        interop.load_weights(model, tmp_path / "a.npz")


def wrong_file(tmp_path):
    arrays = values(Net(0))
    arrays["more"] = np.zeros(3)
    arrays["norm.scale"] = np.zeros(5)
    arrays["layers.0.kernel"] = np.zeros((3, 4), int)
    del arrays["layers.0.bias"], arrays["norm.var"]
    write_arrays(tmp_path / "a.npz", arrays)
    return tmp_path / "a.npz"


def test_all_that_does_not_fit_is_reported_at_once_and_nothing_is_changed(tmp_path):
    model = Net(1)
    before = values(model)
    with pytest.raises(ValueError, match="load_weights: the arrays do not fit the model") as caught:
        interop.load_weights(model, wrong_file(tmp_path))
    assert str(caught.value).splitlines() == [
        "load_weights: the arrays do not fit the model, and nothing was changed:",
        "  missing: 'layers.0.bias', 'norm.var'",
        "  unexpected: 'more'",
        "  'layers.0.kernel' has dtype int64, expected float32 or one like it",
        "  'norm.scale' has shape (5,), expected (4,)",
        "expected one array for each name that the model has, of its shape, and no others. Say with names= "
        "what they are called there (None leaves one out, in a mapping also one of theirs), or pass "
        "strict=False to load what fits.",
    ]
    assert_same(values(model), before)


def test_without_strict_all_that_fits_is_loaded_and_the_rest_returned(tmp_path):
    model, saved = Net(1), Net(0)
    saved.norm.mean.value += 1
    arrays = values(saved) | {"more": np.zeros(3), "norm.scale": np.zeros(5)}
    del arrays["norm.var"]
    write_arrays(tmp_path / "a.npz", arrays)
    left = interop.load_weights(model, tmp_path / "a.npz", strict=False)
    assert left.missing == ["norm.var"]
    assert left.unexpected == ["more"]
    assert left.misfits == ["'norm.scale' has shape (5,), expected (4,)"]
    assert_same(values(model), values(saved))


def test_plain_numbers_are_weights_too_and_other_values_are_refused(tmp_path):
    model = nnx.Dict(gain=nnx.Param(2.5))
    interop.save_weights(model, tmp_path / "a.npz")
    other = nnx.Dict(gain=nnx.Param(1.0))
    interop.load_weights(other, tmp_path / "a.npz")
    assert other.gain.value == 2.5
    with pytest.raises(
        TypeError, match="got a Param at 'pair' with a value of type tuple, expected one array"
    ):
        interop.save_weights(nnx.Dict(pair=nnx.Param((1.0, 2.0))), tmp_path / "b.npz")


def test_loading_does_not_depend_on_the_file_any_more(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.arange(1000.0, dtype=np.float32)})
    model = nnx.Dict(x=nnx.Param(jnp.zeros(1000)))
    interop.load_weights(model, path)
    with open(path, "r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    np.testing.assert_array_equal(model.x.value, np.arange(1000.0))


def test_weights_keep_their_sharding_and_free_ones_stay_free(tmp_path):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    model = nnx.Dict(
        split=nnx.Param(jax.device_put(jnp.zeros((4, 3)), sharding)),
        fixed=nnx.Param(jax.device_put(jnp.zeros(3), jax.devices()[1])),
        free=nnx.Param(jnp.zeros(3)),
    )
    arrays = {"split": np.arange(12.0).reshape(4, 3), "fixed": np.ones(3), "free": np.ones(3)}
    write_arrays(tmp_path / "a.npz", arrays)
    interop.load_weights(model, tmp_path / "a.npz")
    assert model.split.value.sharding == sharding
    assert model.fixed.value.devices() == {jax.devices()[1]}
    assert not model.free.value.committed
    for name, array in arrays.items():
        np.testing.assert_array_equal(model[name].value, array)
    interop.save_weights(model, tmp_path / "b.npz")
    np.testing.assert_array_equal(read_arrays(tmp_path / "b.npz")["split"], arrays["split"])


def test_an_abstract_model_gets_its_weights_from_the_file(tmp_path):
    model = Net(0)
    interop.save_weights(model, tmp_path / "a.safetensors")
    abstract = nnx.eval_shape(lambda: Net(1))
    interop.load_weights(abstract, tmp_path / "a.safetensors")
    assert isinstance(abstract.norm.mean.value, jax.Array)
    assert_same(values(abstract), values(model))


class Tied(nnx.Module):
    def __init__(self, seed):
        self.first = nnx.Linear(2, 2, rngs=nnx.Rngs(seed))
        self.second = self.first
        self.kernel = self.first.kernel
        self.me = self  # a cycle


def test_a_shared_variable_is_written_once_and_found_at_any_of_its_places(tmp_path):
    model = Tied(0)
    interop.save_weights(model, tmp_path / "a.npz")
    arrays = read_arrays(tmp_path / "a.npz")
    assert len(arrays) == 2
    kernel, bias = np.asarray(model.kernel.value), np.ones(2, np.float32)
    write_arrays(tmp_path / "b.npz", {"second.bias": bias, "first.kernel": kernel, "second.kernel": kernel})
    other = Tied(1)
    interop.load_weights(other, tmp_path / "b.npz")
    np.testing.assert_array_equal(other.kernel.value, kernel)
    np.testing.assert_array_equal(other.first.bias.value, bias)


def test_places_of_a_shared_variable_must_agree(tmp_path):
    arrays = {"first.bias": np.zeros(2), "first.kernel": np.zeros((2, 2)), "second.bias": np.ones(2)}
    write_arrays(tmp_path / "a.npz", arrays)
    with pytest.raises(ValueError, match=r"'first\.bias' and 'second\.bias' differ, and are one shared var"):
        interop.load_weights(Tied(0), tmp_path / "a.npz")


def test_one_name_for_two_variables_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"got the name 'x' for 'bias' and for 'kernel', expected a name for"
    ):
        interop.save_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), tmp_path / "a.npz", lambda name: "x")


def test_names_that_are_of_no_use_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"save_weights: got names=\{'layer': \.\.\.\}, expected beginnings of"
    ):
        interop.save_weights(Net(0), tmp_path / "a.npz", {"layer": "x"})


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="save_weights: got a model of type dict, expected an nnx"):
        interop.save_weights({}, tmp_path / "a.npz")


def test_a_model_of_the_trainer_may_load_in_the_middle_of_a_fit(tmp_path):
    path = tmp_path / "a.npz"
    model = Model(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    interop.save_weights(model, path)
    start = values(model.module)

    class Reset(Callback):
        def on_epoch_end(self, epoch, logs=None):
            interop.load_weights(self.model, path)

    model.compile("sgd", "mse")
    x = np.ones((8, 3), np.float32)
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[Reset()])
    assert_same(values(model.module), start)
    model.fit(x, x[:, :1], epochs=1, verbose=0)
    assert not np.array_equal(values(model.module)["kernel"], start["kernel"])
