import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
import easyflax.ops as ops

X = jax.random.normal(jax.random.key(0), (3, 4))


def test_variables_are_taken_as_arrays():
    variable = nnx.Param(X)
    np.testing.assert_array_equal(ops.sum(variable, axis=0), X.sum(axis=0))
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), X)
    assert jax.grad(lambda x: ops.sum(ops.stop_gradient(x) * x))(X).shape == X.shape


def test_loops_and_branches_work_under_jit():
    def collatz(n):
        return ops.while_loop(
            lambda n, steps: n > 1,
            lambda n, steps: (ops.cond(n % 2 == 0, lambda: n // 2, lambda: 3 * n + 1), steps + 1),
            (n, 0),
        )[1]

    assert int(jax.jit(collatz)(6)) == 8


def test_a_loop_ends_after_the_most_steps_it_may_take():
    assert int(ops.while_loop(lambda i: True, lambda i: i + 1, 0, maximum_iterations=4)) == 4


def test_blocks_of_pixels_come_back_from_channels():
    image = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    np.testing.assert_array_equal(ops.depth_to_space(ops.space_to_depth(image, 2), 2), image)
    first = image.transpose(0, 3, 1, 2)
    deep = ops.space_to_depth(first, 2, "channels_first")
    np.testing.assert_array_equal(ops.depth_to_space(deep, 2, "channels_first"), first)


def test_solutions_solve_their_equations():
    a = X[:, :3] @ X[:, :3].T + jnp.eye(3)
    for b in (X, X[:, 0]):
        np.testing.assert_allclose(a @ ops.solve(a, b), b, rtol=1e-4, atol=1e-4)
        lower = jnp.tril(a)
        np.testing.assert_allclose(
            lower @ ops.solve_triangular(lower, b, lower=True), b, rtol=1e-4, atol=1e-4
        )


def test_colours_come_back_from_hue_and_saturation():
    image = jax.random.uniform(jax.random.key(1), (4, 4, 3))
    np.testing.assert_allclose(ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(image)), image, atol=1e-6)


def test_casts_that_saturate_clip():
    assert ops.saturate_cast(jnp.array([-3.0, 300.0]), "uint8").tolist() == [0, 255]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.segment_sum(X, jnp.array([0, 1, 1])), "segment_sum was given no num_segments"),
        (lambda: ops.multi_hot(jnp.array([1])), "multi_hot was given no num_classes"),
        (lambda: ops.unstack(X, num=2), r"unstack was given num=2 for an array of shape \(3, 4\)"),
        (lambda: ops.scatter_update(X, [[0, 0]], [1.0], "div"), "scatter_update was given reduction='div'"),
        (
            lambda: ops.pad(X, 1, mode="reflect", constant_values=1.0),
            "pad was given constant_values=1.0 with mode=",
        ),
        (lambda: ops.unique(X, sorted=False), "unique was given sorted=False"),
        (lambda: ops.fft(X), r"expected the pair \(real, imaginary\)"),
        (
            lambda: ops.conv(jnp.ones((1, 5, 3)), jnp.ones((2, 2, 4))),
            "inputs with 3 channels and a kernel for 2",
        ),
        (lambda: ops.max_pool(jnp.ones((1, 5, 3)), 2, data_format="last"), "data_format was given as 'last'"),
        (
            lambda: ops.binary_crossentropy(X, X[:2]),
            r"targets of shape \(3, 4\) .* outputs of shape \(2, 4\)",
        ),
        (lambda: ops.image.resize(X[None], (2, 2), "cubic"), "resize was given interpolation='cubic'"),
        (lambda: ops.image.resize(X, (2, 2)), r"An image was given with shape \(3, 4\)"),
        (lambda: ops.image.pad_images(X[..., None], 1, 1), "expected exactly two of the three"),
    ],
    ids=lambda value: "" if callable(value) else value[:12],
)
def test_what_cannot_be_done_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
