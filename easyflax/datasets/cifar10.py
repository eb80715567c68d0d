"""CIFAR-10, read from its binary version: the pickled one would run code from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from easyflax.datasets.download import RemoteFile, Split, fetch

if TYPE_CHECKING:
    import tarfile

_ARCHIVE = RemoteFile(
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    size=170_052_171,
)
_TRAIN_MEMBERS = tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6))
_TEST_MEMBERS = ("cifar-10-batches-bin/test_batch.bin",)
_IMAGE_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32  # the label, then the image, channel by channel


def load_cifar10() -> tuple[Split, Split]:
    """Returns `(x_train, y_train), (x_test, y_test)` of CIFAR-10: 50,000 and 10,000 small colour photographs.

    The images are uint8 of shape `(n, 32, 32, 3)` with values 0 to 255; the labels are int32 of shape
    `(n,)` (Keras has `(n, 1)`): 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse,
    8 ship, 9 truck. The first call downloads 170 MB.

    Raises:
        DownloadError: the archive is not in the cache and could not be downloaded.

    Source: A. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html (no licence is stated there).
    The checksum is that of TensorFlow Datasets.
    """
    import tarfile  # slow to load

    with tarfile.open(fetch(_ARCHIVE, "cifar10")) as archive:
        return _read(archive, _TRAIN_MEMBERS), _read(archive, _TEST_MEMBERS)


def _read(archive: tarfile.TarFile, members: tuple[str, ...]) -> Split:
    """Returns the images and labels of the named files, read in memory and never unpacked to disk."""
    content = b"".join(_member_bytes(archive, member) for member in members)
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD_BYTES)
    images = records[:, 1:].reshape(-1, *_IMAGE_SHAPE).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)


def _member_bytes(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, f"{member} is a folder in a file whose checksum is right"
    return file.read()
