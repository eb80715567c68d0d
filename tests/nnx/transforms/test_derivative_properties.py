"""For random graphs and programs: derivatives agree with `nnx.grad`, and all changes are carried out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from easyflax import nnx
from tests.nnx.random_graphs import graphs, programs, run
from tests.nnx.test_properties import check, total, tried


def loss(program: Any) -> Any:
    def f(root: Any, x: Any) -> Any:
        out = run(program, root, x)
        return total(out[1]), out

    return f


def gradient(program: Any, root: Any, x: Any) -> nnx.State:
    return nnx.grad(loss(program), has_aux=True)(nnx.clone(root), x)[0]


def assert_close(ours: Any, expected: nnx.State) -> None:
    ours, expected = dict(nnx.to_flat_state(ours)), dict(nnx.to_flat_state(expected))
    assert list(ours) == list(expected)
    for path, leaf in expected.items():
        np.testing.assert_allclose(ours[path].get_raw_value(), leaf.get_raw_value(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@tried(20)
@given(graphs(), programs())
def test_vjp_does_what_the_program_does(root, program):
    def transformed(root: Any, x: Any) -> Any:
        expected = gradient(program, root, x)
        structure = nnx.graphdef(root)
        value, vjp_fn, out = nnx.vjp(loss(program), root, x, has_aux=True)
        cotangent, _ = vjp_fn(jnp.ones_like(value))
        assert nnx.graphdef(cotangent) == structure
        assert_close(nnx.state(cotangent, nnx.Param), expected)
        return out

    check(transformed, program, root)


@pytest.mark.slow
@tried(20)
@given(graphs(), programs())
def test_jvp_does_what_the_program_does(root, program):
    def transformed(root: Any, x: Any) -> Any:
        grads = gradient(program, root, x)
        direction = jax.tree.map(lambda leaf: jnp.cos(leaf) + 2, nnx.clone(nnx.state(root, nnx.Param)))
        _, tangent, out = nnx.jvp(loss(program), (root, x), (direction, None), has_aux=True)
        parts = jax.tree.map(lambda a, b: jnp.sum(a * b), grads, direction)
        np.testing.assert_allclose(tangent, sum(jax.tree.leaves(parts), 0.0), rtol=1e-4, atol=1e-3)
        return out

    check(transformed, program, root)


def with_true_vjp(program: Any) -> Any:
    """The program with a rule that gives its derivative."""
    f = nnx.custom_vjp(loss(program))

    def fwd(root: Any, x: Any) -> Any:
        _, vjp_fn, _ = nnx.vjp(loss(program), nnx.clone(root), x, has_aux=True)
        return f(root, x), vjp_fn

    def bwd(vjp_fn: Any, g: Any) -> Any:
        _, (value_g, _) = g
        return vjp_fn(value_g)

    f.defvjp(fwd, bwd)
    return f


def with_true_jvp(program: Any) -> Any:
    f = nnx.custom_jvp(loss(program))

    def rule(primals: Any, tangents: Any) -> Any:
        root, x = primals
        _, tangent, _ = nnx.jvp(loss(program), (nnx.clone(root), x), tangents, has_aux=True)
        return f(root, x), (tangent, None)

    f.defjvp(rule)
    return f


def check_custom(f: Any, program: Any, root: Any) -> None:
    def checked(transform: Any) -> Any:
        def transformed(root: Any, x: Any) -> Any:
            expected = gradient(program, root, x)
            grads, out = transform(nnx.grad(f, has_aux=True))(root, x)
            assert_close(grads, expected)
            return out

        return transformed

    check(lambda root, x: f(root, x)[1], program, root, calls=1)
    check(checked(lambda f: f), program, root)
    check(checked(nnx.jit), program, root, calls=1)


@pytest.mark.slow
@tried(15)
@given(graphs(numbers=False), programs())
def test_a_function_with_a_custom_vjp_does_what_the_program_does(root, program):
    check_custom(with_true_vjp(program), program, root)


@pytest.mark.slow
@tried(15)
@given(graphs(numbers=False), programs())
def test_a_function_with_a_custom_jvp_does_what_the_program_does(root, program):
    check_custom(with_true_jvp(program), program, root)
