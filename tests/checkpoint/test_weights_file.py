"""One file of weights: what goes in comes out bit for bit, and a changed file never loads other values."""

import json
import os
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from easyflax.checkpoint import load_weights, save_weights
from easyflax.checkpoint.strict_json import canonical, sha256
from easyflax.errors import CheckpointError

RNG = np.random.default_rng(0)
DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
DTYPES += [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


def _bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def small(path):
    save_weights(
        path, {"layers/0/kernel": np.arange(6, dtype="f4").reshape(2, 3), "layers/0/bias": np.ones(3, "f2")}
    )
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(path, dtype):
    arrays = {
        "matrix": RNG.uniform(-3, 3, size=(3, 4)).astype(dtype),
        "scalar": np.ones((), dtype),
        "empty": np.zeros((0, 2), dtype),
    }
    save_weights(path, arrays)
    loaded = load_weights(path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(_bits(loaded[name]), _bits(array))


def test_jax_arrays_transposed_and_big_endian_arrays_keep_their_values(path):
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    arrays = {
        "bf16": jnp.linspace(0, 1, 5, dtype=jnp.bfloat16),
        "sharded": jax.device_put(jnp.arange(16.0), rows),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "big": np.arange(3, dtype=">i4"),
    }
    save_weights(path, arrays)
    for name, array in load_weights(path).items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_prng_keys_come_back_as_keys_that_draw_the_same_numbers(path, impl):
    keys = jax.random.split(jax.random.key(7, impl=impl), 3)
    save_weights(path, {"keys": keys})
    loaded = load_weights(path)["keys"]
    assert loaded.dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.uniform(loaded[1], (4,)), jax.random.uniform(keys[1], (4,)))


def test_the_safetensors_library_reads_the_file(path):
    library = pytest.importorskip("safetensors.flax")
    arrays = {
        "b": jnp.ones(3, jnp.bfloat16),
        "w": jnp.arange(6.0).reshape(2, 3),
        "i": jnp.arange(5, dtype=jnp.int8),
    }
    save_weights(path, arrays)
    theirs = library.load_file(path)
    assert theirs.keys() == arrays.keys()
    for name, array in arrays.items():
        assert theirs[name].dtype == array.dtype
        np.testing.assert_array_equal(theirs[name], array)


def test_a_file_of_the_safetensors_library_is_refused_because_nothing_vouches_for_it(path):
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"w": np.ones(3, "f4")}, path)
    with pytest.raises(
        CheckpointError, match=r"holds no SHA-256 sums; expected a file as save_weights wrote it"
    ):
        load_weights(path)


def _load_or_none(path):
    try:
        return load_weights(path)
    except CheckpointError:
        return None


def _equal(loaded, original):
    return loaded.keys() == original.keys() and all(
        loaded[name].dtype == array.dtype and np.array_equal(loaded[name], array)
        for name, array in original.items()
    )


def test_a_file_with_any_one_byte_changed_is_refused_or_loads_the_same(small):
    content, original = small.read_bytes(), load_weights(small)
    refused = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= int(RNG.integers(1, 256))
        small.write_bytes(changed)
        loaded = _load_or_none(small)
        refused += loaded is None
        assert loaded is None or _equal(loaded, original), position
    assert refused > 0.95 * len(content)


def test_files_cut_extended_and_shuffled_are_refused_or_load_the_same(small):
    content, original = small.read_bytes(), load_weights(small)
    for _ in range(300):
        cut, other = sorted(RNG.integers(0, len(content), size=2))
        for changed in (
            content[:cut],
            content + bytes(int(cut)),
            content[:cut] + content[other:],
            content[:cut] + content[other:] + content[cut:other],
            content[:other] + content[cut:],
        ):
            small.write_bytes(changed)
            loaded = _load_or_none(small)
            assert loaded is None or _equal(loaded, original)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": [2**40, 2**40]}, "is said to lie at"),
        ({"shape": [-1]}, "has shape"),
        ({"shape": [True]}, "has shape"),
        ({"shape": [1.0]}, "has shape"),
        ({"shape": [1] * 40}, "has 40 axes"),
        ({"shape": [0, 2**47, 2**47], "data_offsets": [0, 0]}, "the arrays take 0 bytes"),
        ({"data_offsets": [4, 8]}, "is said to lie at 4 to 8"),
        ({"data_offsets": [0, 4, 8]}, "offsets"),
        ({"dtype": "F128"}, "dtype 'F128'"),
        ({"dtype": ["F32"]}, "unhashable"),
        ({"more": 1}, "is not described by"),
    ],
)
def test_a_header_that_lies_with_correct_sums_is_refused_before_anything_is_allocated(path, fields, message):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | fields
    facts = {"format": "easyflax-1", "prng": {}, "sums": {"w": sha256(bytes(4))}}
    header = {"w": entry, "__metadata__": {"easyflax": canonical(facts).decode()}}
    header["__metadata__"]["sha256"] = sha256(canonical(header))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[" * 100_000, "nested too deeply|Expecting|recursion"),
        (b'{"a":1,"a":2}', "a key twice"),
        (b'{"a":NaN}', "holds NaN"),
        (b"[1, 2]", "holds a list"),
        (b"\xff\xfe", "decode"),
    ],
)
def test_a_header_that_is_no_sound_json_is_refused(path, header, message):
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=message):
        load_weights(path)


def test_a_header_longer_than_the_file_is_refused_without_reading_it(path):
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=f"the header would take {2**62} of 10 bytes"):
        load_weights(path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is no regular file, expected one that save_weights wrote"):
        load_weights(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "nothing")


def test_a_save_that_fails_leaves_the_older_file_and_nothing_else(small, monkeypatch):
    before = small.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(small, {"other": np.zeros(3)})
    assert small.read_bytes() == before
    assert list(small.parent.iterdir()) == [small]


def test_a_dtype_without_a_place_in_the_format_is_refused(path):
    with pytest.raises(TypeError, match=r"'c' has dtype complex128, expected one of float64.*Cast it first"):
        save_weights(path, {"c": np.ones(2, complex)})
    assert not path.exists()


def test_the_name_that_the_format_keeps_is_refused(path):
    with pytest.raises(ValueError, match="An array is named '__metadata__', expected another name"):
        save_weights(path, {"__metadata__": np.ones(2)})
