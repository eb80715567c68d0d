import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.layers as layers

X = jnp.array([[-2.0, 0.5, 3.0]])


def test_prelu_learns_one_slope_for_each_entry_or_a_shared_one():
    each, shared = layers.PReLU(), layers.PReLU(shared_axes=1)
    image = jnp.ones((2, 4, 3))
    each(image), shared(image)
    assert each.alpha.shape == (4, 3)
    assert shared.alpha.shape == (1, 3)
    each.set_weights([np.full((4, 3), 0.25)])
    np.testing.assert_allclose(each(-image), -0.25 * image)


def test_prelu_refuses_free_sizes_and_other_shapes():
    with pytest.raises(ValueError, match=r"expected known sizes.*share axis 1 with shared_axes"):
        layers.PReLU()(layers.Input((None, 3)))
    layer = layers.PReLU()
    layer(X)
    with pytest.raises(
        ValueError, match=r"got an input of shape \(1, 2\), expected one that the slopes of shape \(3,\)"
    ):
        layer(X[:, :2])


def test_a_masked_softmax_sums_to_one_over_what_is_left():
    mask = jnp.array([[True, False, True]])
    out = layers.Softmax()(X, mask=mask)
    np.testing.assert_allclose(out.sum(), 1.0, rtol=1e-6)
    assert out[0, 1] == 0
    with pytest.raises(ValueError, match="expected a shape that broadcasts to the input's"):
        layers.Softmax()(X, mask=jnp.ones((1, 2), bool))


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("ReLU", {"max_value": -1.0}), ("ReLU", {"threshold": -1.0}), ("LeakyReLU", {"negative_slope": None})],
    ids=["max_value", "threshold", "slope"],
)
def test_negative_arguments_are_refused(name, kwargs):
    with pytest.raises(ValueError, match=f"{name}: got {next(iter(kwargs))}=.*not negative"):
        getattr(layers, name)(**kwargs)


def test_the_older_name_of_the_slope_is_taken():
    assert layers.LeakyReLU(alpha=0.5)(X).tolist() == [[-1.0, 0.5, 3.0]]
