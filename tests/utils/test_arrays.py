import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.utils as utils


def test_one_hot_rows_have_their_one_at_the_label():
    rows = utils.to_categorical(np.array([[2], [0]]), 4)
    assert rows.shape == (2, 4)
    assert rows.argmax(axis=1).tolist() == [2, 0]
    assert rows.sum() == 2
    on_device = utils.to_categorical(jnp.array([2, 0]), 4)
    np.testing.assert_array_equal(on_device, rows)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="labels from 0 to 5, expected them from 0 to 2"):
        utils.to_categorical([0, 5], 3)
    with pytest.raises(ValueError, match="labels from -1 to 2"):
        utils.to_categorical([-1, 2])
    with pytest.raises(ValueError, match="a jax array without num_classes"):
        utils.to_categorical(jnp.array([0]))


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_normalized_lines_have_norm_one_along_any_axis(xp):
    x = xp.asarray([[3.0, 0.0, 1.0], [4.0, 0.0, 1.0]])
    along = utils.normalize(x, axis=0)
    np.testing.assert_allclose(np.linalg.norm(along, axis=0), [1.0, 0.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(np.abs(utils.normalize(x, axis=1, order=1)).sum(axis=1), 1.0, rtol=1e-6)
