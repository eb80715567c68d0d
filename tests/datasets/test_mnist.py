import gzip
import hashlib
import struct

import numpy as np
import pytest

from easyflax.datasets import load_fashion_mnist, load_mnist, mnist
from easyflax.datasets.download import RemoteFile


def idx(array: np.ndarray) -> bytes:
    """The gzipped IDX form of an array of unsigned bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


@pytest.mark.parametrize(
    ("load", "constant"), [(load_mnist, "_MNIST"), (load_fashion_mnist, "_FASHION_MNIST")]
)
def test_the_four_files_become_images_and_labels_for_training_and_testing(site, monkeypatch, load, constant):
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (7, 28, 28)),
        rng.integers(0, 10, 7),
        rng.integers(0, 256, (3, 28, 28)),
        rng.integers(0, 10, 3),
    ]
    files = []
    for name, array in zip(mnist._NAMES, arrays):
        content = site.files[name] = idx(array)
        files.append(RemoteFile((site.url + name,), hashlib.sha256(content).hexdigest(), len(content)))
    monkeypatch.setattr(mnist, constant, tuple(files))

    (x_train, y_train), (x_test, y_test) = load()

    for got, expected in zip([x_train, y_train, x_test, y_test], arrays):
        np.testing.assert_array_equal(got, expected)
    assert x_train.dtype == x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int32


def test_mnist_and_fashion_mnist_are_kept_apart_in_the_cache(site, monkeypatch, home):
    for constant, value in [("_MNIST", 1), ("_FASHION_MNIST", 2)]:
        files = []
        for name in mnist._NAMES:
            shape = (2, 28, 28) if "images" in name else (2,)
            content = site.files[f"{value}/{name}"] = idx(np.full(shape, value))
            url = f"{site.url}{value}/{name}"
            files.append(RemoteFile((url,), hashlib.sha256(content).hexdigest(), len(content)))
        monkeypatch.setattr(mnist, constant, tuple(files))
    assert load_mnist()[0][0].max() == 1
    assert load_fashion_mnist()[0][0].max() == 2
    assert sorted(path.name for path in (home / "datasets").iterdir()) == ["fashion_mnist", "mnist"]
