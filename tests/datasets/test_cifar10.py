import hashlib
import io
import tarfile

import numpy as np

from easyflax.datasets import cifar10, load_cifar10
from easyflax.datasets.download import RemoteFile


def archive_of(batches: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_the_binary_batches_become_channels_last_images_in_order(site, monkeypatch, home):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, 12).astype(np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    batches = {}
    for i, name in enumerate(names):  # two records a batch
        rows = range(2 * i, 2 * i + 2)
        batches[name] = b"".join(bytes([labels[r]]) + images[r].transpose(2, 0, 1).tobytes() for r in rows)
    content = site.files["cifar.tar.gz"] = archive_of(batches)
    file = RemoteFile((site.url + "cifar.tar.gz",), hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(cifar10, "_ARCHIVE", file)

    (x_train, y_train), (x_test, y_test) = load_cifar10()

    np.testing.assert_array_equal(x_train, images[:10])
    np.testing.assert_array_equal(y_train, labels[:10])
    np.testing.assert_array_equal(x_test, images[10:])
    np.testing.assert_array_equal(y_test, labels[10:])
    assert x_train.dtype == np.uint8
    assert y_train.dtype == np.int32
    assert [path.name for path in home.rglob("*") if path.is_file()] == ["cifar.tar.gz"]
