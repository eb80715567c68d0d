import numpy as np
import pytest

import easyflax.utils as utils


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, [[1, 2, 3], [0, 0, 4], [0, 0, 0]]),
        ({"padding": "post", "value": 9}, [[1, 2, 3], [4, 9, 9], [9, 9, 9]]),
        ({"maxlen": 2}, [[2, 3], [0, 4], [0, 0]]),
        ({"maxlen": 2, "truncating": "post"}, [[1, 2], [0, 4], [0, 0]]),
        ({"maxlen": 4}, [[0, 1, 2, 3], [0, 0, 0, 4], [0, 0, 0, 0]]),
    ],
    ids=["pre", "post", "cut", "cut-post", "longer"],
)
def test_sequences_are_padded_and_cut_at_the_side_that_is_asked_for(kwargs, expected):
    padded = utils.pad_sequences([[1, 2, 3], [4], []], **kwargs)
    assert padded.dtype == np.int32
    assert padded.tolist() == expected


def test_entries_may_have_axes_of_their_own():
    padded = utils.pad_sequences([np.ones((2, 3)), np.ones((1, 3))], dtype="float32")
    assert padded.shape == (2, 2, 3)
    assert padded[1].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_what_cannot_be_padded_is_refused():
    with pytest.raises(ValueError, match="padding='left', expected 'pre' or 'post'"):
        utils.pad_sequences([[1]], padding="left")
    with pytest.raises(ValueError, match=r"entries of the shapes \[\(2,\), \(3,\)\], expected one"):
        utils.pad_sequences([np.ones((1, 2)), np.ones((1, 3))])
