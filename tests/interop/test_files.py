import json
import os

import ml_dtypes
import numpy as np
import pytest

from easyflax.errors import CheckpointError
from easyflax.interop import files
from easyflax.interop.files import read_arrays, write_arrays

ARRAYS = {
    "half": np.array([[1.5, -2.0, 3.0]], ml_dtypes.bfloat16),
    "eighth": np.array([0.5, 448.0], ml_dtypes.float8_e4m3fn),
    "file": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.b/c": np.array(7, np.int64),
    "none": np.zeros((0, 4), np.float16),
}


# The library's NumPy front-end knows no float8.
SHARED = {name: array for name, array in ARRAYS.items() if name != "eighth"}


def assert_same_arrays(read, expected):
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_safetensors_files_keep_every_dtype(tmp_path):
    write_arrays(tmp_path / "new" / "a.safetensors", ARRAYS)
    assert_same_arrays(read_arrays(tmp_path / "new" / "a.safetensors"), ARRAYS)


def test_the_safetensors_library_reads_our_files(tmp_path):
    library = pytest.importorskip("safetensors")
    write_arrays(tmp_path / "a.safetensors", SHARED, {"format": "pt"})
    with library.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert_same_arrays({name: file.get_tensor(name) for name in file.keys()}, SHARED)  # noqa: SIM118


def test_files_of_the_safetensors_library_are_read(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    library.save_file(SHARED, tmp_path / "a.safetensors", {"any": "text"})
    assert_same_arrays(read_arrays(tmp_path / "a.safetensors"), SHARED)


def test_a_safetensors_file_without_content_is_read(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"none": np.zeros((0, 4), np.float16)})
    assert read_arrays(tmp_path / "a.safetensors")["none"].shape == (0, 4)


def test_npz_files_hold_narrow_floats_as_float32_and_others_as_they_are(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz") as numpys:
        assert sorted(numpys.files) == sorted(ARRAYS)
    read = read_arrays(tmp_path / "a.npz")
    assert {name: str(array.dtype) for name, array in read.items()} == {
        "half": "float32",
        "eighth": "float32",
        "file": "float32",
        "a.b/c": "int64",
        "none": "float16",
    }
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_bfloat16_that_numpy_wrote_by_itself_is_known(tmp_path):
    np.savez(tmp_path / "a.npz", half=ARRAYS["half"])
    read = read_arrays(tmp_path / "a.npz")["half"]
    assert read.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(read, ARRAYS["half"])


def test_an_older_file_stays_if_writing_fails(tmp_path):
    for name in ("a.npz", "a.safetensors"):
        write_arrays(tmp_path / name, {"x": np.ones(3)})
        with pytest.raises(TypeError, match="'x' has dtype"):
            write_arrays(tmp_path / name, {"x": np.array(["text"])})
        np.testing.assert_array_equal(read_arrays(tmp_path / name)["x"], np.ones(3))
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.safetensors"]


def split_file(folder, places):
    for name in sorted(set(places.values())):
        write_arrays(folder / name, {key: ARRAYS[key] for key in ARRAYS if places.get(key) == name})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def test_an_index_of_several_files_is_read(tmp_path):
    places = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(ARRAYS)}
    read = read_arrays(split_file(tmp_path, places))
    assert read.keys() == ARRAYS.keys()
    np.testing.assert_array_equal(read["half"], ARRAYS["half"])


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"half": "../a.safetensors"}, "'../a.safetensors' is no safetensors file beside the index"),
        ({"half": "a.npz"}, "'a.npz' is no safetensors file beside the index"),
        ({"half": 3}, "'weight_map' does not give a file for each name"),
        ({"half": "a.safetensors", "lost": "a.safetensors"}, "'lost' is not in 'a.safetensors'"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path, places, message):
    write_arrays(tmp_path / "a.safetensors", {"half": ARRAYS["half"]})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=message):
        read_arrays(index)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_damaged_files_are_refused(tmp_path, name):
    path = tmp_path / name
    write_arrays(path, {"x": np.arange(100.0)})
    whole = path.read_bytes()
    for damaged in (b"", b"\0" * 5, whole[:40], whole[:-60], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"expected a whole \..* file of named arrays"):
            read_arrays(path)["x"]


def test_objects_and_text_in_npz_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(CheckpointError, match="allow_pickle=False"):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=np.array(["text"]))
    with pytest.raises(CheckpointError, match="'x' has dtype <U4, which holds no numbers"):
        read_arrays(tmp_path / "a.npz")


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "a.npz")
    with pytest.raises(
        ValueError, match=r"Got the file 'a\.h5', expected a name that ends in one of '\.safe"
    ):
        read_arrays(tmp_path / "a.h5")
    with pytest.raises(
        ValueError, match=r"Got the file 'a\.pt', expected a name that ends in one of '\.safe"
    ):
        write_arrays(tmp_path / "a.pt", {})
    with pytest.raises(ValueError, match=r"Got metadata for 'a\.npz', expected none"):
        write_arrays(tmp_path / "a.npz", {}, {"format": "pt"})
    os.mkdir(tmp_path / "b.npz")
    with pytest.raises(CheckpointError, match="is no regular file, expected a file of weights"):
        read_arrays(tmp_path / "b.npz")


def test_of_a_folder_the_files_to_pass_are_named(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").touch()
    with pytest.raises(
        ValueError, match=r"Got the folder '.*model', .* file in it: none has the suffix of a"
    ):
        read_arrays(folder)
    for name in ("model-2-of-2.safetensors", "model-1-of-2.safetensors"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=r"file in it: 'model-1-of-2\.saf.*', 'model-2-of-2\.safetensors'\."):
        read_arrays(folder)
    (folder / "model.safetensors.index.json").touch()
    with pytest.raises(ValueError, match=r"file in it: 'model\.safetensors\.index\.json'\."):
        read_arrays(folder)


def test_without_torch_its_files_are_refused_with_the_way_to_install_it(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setattr(files, "import_module", missing)
    with pytest.raises(ImportError, match=r'PyTorch is not installed.*pip install "easyflax\[interop\]"'):
        read_arrays(tmp_path / "a.pt")
