"""The UCI handwritten digits, shipped inside the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from easyflax.datasets.download import Split

_FILE = Path(__file__).with_name("digits.npz")
_TEST_EVERY = 5


def load_digits() -> tuple[Split, Split]:
    """Returns `(x_train, y_train), (x_test, y_test)`: 1,797 real handwritten digits, without a download.

    The images are uint8 of shape `(n, 8, 8)` with values 0 to 16, the number of dark pixels in a 4 x 4
    block of the scan; the labels are int32 of shape `(n,)`, 0 to 9. The split is fixed: every fifth image
    of each digit, in the order of the original file, is a test image. That makes 1,442 for training and
    355 for testing. The digits are of 13 people, whom the split does not separate.

    Source: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49 (its test part, `optdigits.tes`). Licence: CC BY 4.0.

    Examples:
        >>> (x_train, y_train), (x_test, y_test) = load_digits()
        >>> x_train.shape, y_train.shape, x_test.shape
        ((1442, 8, 8), (1442,), (355, 8, 8))
        >>> int(x_train.max()), y_test[:3].tolist()
        (16, [5, 0, 9])
    """
    with np.load(_FILE, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"].astype(np.int32)
    is_test = _occurrence(labels) % _TEST_EVERY == _TEST_EVERY - 1
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def _occurrence(labels: np.ndarray) -> np.ndarray:
    """Returns, for each label, how many equal ones come before it."""
    occurrence = np.empty_like(labels)
    for label in np.unique(labels):
        occurrence[labels == label] = np.arange(np.count_nonzero(labels == label))
    return occurrence
