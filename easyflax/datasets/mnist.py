"""MNIST and Fashion-MNIST, which share one file format and one set of file names."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from easyflax.datasets.download import RemoteFile, Split, fetch

_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _files(folders: tuple[str, ...], known: tuple[tuple[str, int], ...]) -> tuple[RemoteFile, ...]:
    """Returns the four files of a data set, given their SHA-256 and sizes in the order of `_NAMES`."""
    return tuple(
        RemoteFile(tuple(folder + name for folder in folders), sha256, size)
        for name, (sha256, size) in zip(_NAMES, known, strict=True)
    )


_MNIST = _files(
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    (
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
)
_FASHION_MNIST = _files(
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    ),
    (
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
)


def load_mnist() -> tuple[Split, Split]:
    """Returns `(x_train, y_train), (x_test, y_test)` of MNIST: 60,000 and 10,000 handwritten digits.

    The images are uint8 of shape `(n, 28, 28)` with values 0 to 255; the labels are int32 of shape
    `(n,)`, 0 to 9. The first call downloads 11 MB.

    Raises:
        DownloadError: the files are not in the cache and could not be downloaded.

    Source: Y. LeCun, C. Cortes and C. Burges, http://yann.lecun.com/exdb/mnist/. Licence: CC BY-SA 3.0.
    Downloaded from the copies that TensorFlow Datasets and torchvision use; the checksums are those of
    TensorFlow Datasets.
    """
    return _load(_MNIST, "mnist")


def load_fashion_mnist() -> tuple[Split, Split]:
    """Returns `(x_train, y_train), (x_test, y_test)` of Fashion-MNIST: 60,000 and 10,000 clothes.

    The images are uint8 of shape `(n, 28, 28)` with values 0 to 255; the labels are int32 of shape
    `(n,)`: 0 T-shirt or top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker,
    8 bag, 9 ankle boot. The first call downloads 30 MB.

    Raises:
        DownloadError: the files are not in the cache and could not be downloaded.

    Source: H. Xiao, K. Rasul and R. Vollgraf 2017, https://arxiv.org/abs/1708.07747. Licence: MIT
    (Zalando SE). Downloaded from Keras's copy or the authors'; the checksums are those of TensorFlow
    Datasets.
    """
    return _load(_FASHION_MNIST, "fashion_mnist")


def _load(files: tuple[RemoteFile, ...], dataset: str) -> tuple[Split, Split]:
    x_train, y_train, x_test, y_test = (_read_idx(fetch(file, dataset)) for file in files)
    return (x_train, y_train.astype(np.int32)), (x_test, y_test.astype(np.int32))


def _read_idx(path: Path) -> np.ndarray:
    """Returns the array in a gzipped IDX file of unsigned bytes.

    Such a file starts with two zero bytes, the type code 8 and the number of axes; then come the length
    of each axis (four bytes, big-endian) and the elements.
    """
    content = gzip.decompress(path.read_bytes())
    (rank,) = struct.unpack_from(">3xB", content)
    shape = struct.unpack_from(f">{rank}I", content, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
