import numpy as np
import pytest

from easyflax import datasets


def test_digits_have_the_documented_shapes_types_and_ranges():
    (x_train, y_train), (x_test, y_test) = datasets.load_digits()
    assert x_train.shape == (1442, 8, 8)
    assert x_test.shape == (355, 8, 8)
    for x, y in [(x_train, y_train), (x_test, y_test)]:
        assert x.dtype == np.uint8
        assert (x.min(), x.max()) == (0, 16)
        assert y.dtype == np.int32
        assert y.shape == (len(x),)
        assert set(y.tolist()) == set(range(10))


def test_digits_are_the_published_ones():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    original = sklearn_datasets.load_digits()
    (x_train, y_train), (x_test, y_test) = datasets.load_digits()
    ours = sorted(
        (int(label), image.tobytes())
        for image, label in zip(np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test]))
    )
    theirs = sorted(
        (int(label), image.astype(np.uint8).tobytes())
        for image, label in zip(original.images, original.target)
    )
    assert ours == theirs


def test_digits_have_the_class_counts_that_uci_publishes():
    (_, y_train), (_, y_test) = datasets.load_digits()
    counts = np.bincount(np.concatenate([y_train, y_test]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_test_digits_are_a_fifth_of_every_class_and_not_in_the_training_part():
    (x_train, y_train), (x_test, y_test) = datasets.load_digits()
    total = np.bincount(y_train) + np.bincount(y_test)
    assert np.bincount(y_test).tolist() == (total // 5).tolist()
    assert not {image.tobytes() for image in x_train} & {image.tobytes() for image in x_test}
