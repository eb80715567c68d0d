"""The same programs of derivatives here and on flax.nnx: values, gradients and final states."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_state, assert_same_tree

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def vjp(lib: Any) -> Any:
    """`vjp` in flax exists only in the mode that is the nearest to ours."""
    return lib.vjp if lib is nnx else functools.partial(lib.vjp, graph_updates=False)


def jvp(lib: Any) -> Any:
    return lib.jvp if lib is nnx else functools.partial(lib.jvp, graph_updates=False)


def make_model(lib: Any) -> Any:
    class Model(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = lib.Linear(3, 4, rngs=rngs)
            self.norm = lib.BatchNorm(4, rngs=rngs)
            self.last = lib.Linear(4, 1, rngs=rngs)
            self.scale = lib.Param(jnp.array(2.0))

        def __call__(self, x: Any) -> Any:
            return self.last(jnp.tanh(self.norm(self.first(x)))) * self.scale

    return Model(lib.Rngs(0))


def loss(model: Any, x: Any) -> Any:
    return (model(x) ** 2).mean()


def assert_same_result(program: Any, rtol: float = 1e-6) -> None:
    """Compares what `program(nnx)` returns: a list of states, modules and trees of arrays."""
    for ours, theirs in zip(program(nnx), program(flax_nnx), strict=True):
        if isinstance(ours, (nnx.State, nnx.Module)):
            assert_same_state(ours, theirs, rtol)
        else:
            assert_same_tree(ours, theirs, rtol)


# -- grad


@pytest.mark.parametrize(
    "options",
    [
        lambda lib: {},
        lambda lib: {"argnums": lib.DiffState(0, lib.PathContains("kernel"))},
        lambda lib: {"argnums": lib.DiffState(0, lib.BatchStat)},
        lambda lib: {"argnums": lib.DiffState(0, (lib.BatchStat, lib.PathContains("scale")))},
        lambda lib: {"argnums": lib.DiffState(0, lib.All(lib.Param, lib.Not(lib.PathContains("norm"))))},
        lambda lib: {"argnums": lib.DiffState(0, lambda path, value: path[-1] == "bias")},
        lambda lib: {"argnums": lib.DiffState(0, lib.Cache)},
        lambda lib: {"argnums": lib.DiffState(0, ...)},
    ],
)
def test_gradients_of_a_module(options: Any) -> None:
    def program(lib: Any) -> Any:
        model = make_model(lib)
        value, grads = lib.value_and_grad(loss, **options(lib))(model, X)
        return [value, grads, model]

    assert_same_result(program, 1e-5)


def test_gradients_of_modules_and_inputs_with_aux_and_defaults() -> None:
    def program(lib: Any) -> Any:
        def f(model: Any, pair: Any, scale: Any = 2.0) -> Any:
            model.seen = lib.Intermediate(pair[1] * 2)
            return loss(pair[0], pair[1]) * scale + model.scale[...], {"new": lib.Param(pair[1])}

        model, other = make_model(lib), make_model(lib)
        argnums = (lib.DiffState(1, lib.PathContains("bias")), 2, 0)
        (value, aux), grads = lib.value_and_grad(f, argnums=argnums, has_aux=True)(model, (other, X))
        return [value, aux["new"].get_value(), grads[0][0], grads[0][1], grads[1], grads[2], model, other]

    assert_same_result(program, 1e-5)


def test_gradients_with_shared_variables() -> None:
    def program(lib: Any) -> Any:
        w = lib.Param(jnp.array([2.0, 3.0]))
        tied = lib.Dict(a=lib.Dict(w=w), b=w, c=lib.Param(jnp.array(2.0)))
        first = lib.grad(lambda m: (m.a.w[...] * m.b[...] * m.c[...]).sum())(tied)
        second = lib.grad(lambda a, b: (a.w[...] * b.b[...]).sum(), argnums=(0, 1))(tied.a, tied)
        third = lib.grad(lambda d: d["x"][...].sum() * d["y"][...].sum())({"x": w, "y": tied.c})
        return [first, *second, third["x"].get_value(), third["y"].get_value()]

    assert_same_result(program)


def test_nested_gradients() -> None:
    def program(lib: Any) -> Any:
        model = lib.Dict(w=lib.Param(jnp.array([1.0, 2.0])))
        inner = lib.grad(lambda m, x: (m.w[...] ** 3 * x).sum())
        second = lib.jit(lib.grad(lambda m, x: inner(m, x).w[...].sum()))(model, 2.0)
        stack = lib.Dict(w=lib.Param(jnp.ones((3, 2))))
        mapped = lib.jit(lib.vmap(inner))(stack, jnp.arange(3.0))
        return [second, mapped]

    assert_same_result(program)


# -- vjp and jvp


def test_vjp() -> None:
    def program(lib: Any) -> Any:
        model = make_model(lib)
        y, vjp_fn = vjp(lib)(lambda model, x: model(x), model, X)
        model_grad, x_grad = vjp_fn(jnp.full_like(y, 0.5))
        value, _, aux = vjp(lib)(lambda m, x: (loss(m, x), {"x": x}), model, X, has_aux=True)
        return [y, model_grad, x_grad, value, aux, model]

    assert_same_result(program, 1e-5)


def test_jvp() -> None:
    def program(lib: Any) -> Any:
        model = make_model(lib)
        tangent = jax.tree.map(jnp.ones_like, model)
        y, y_dot = jvp(lib)(lambda model, x: model(x), (model, X), (tangent, jnp.ones_like(X)))
        decorated = jvp(lib)(has_aux=True)(lambda m, x: (loss(m, x), x))
        return [y, y_dot, *decorated((model, X), (tangent, jnp.zeros_like(X))), model]

    assert_same_result(program, 1e-5)


# -- custom_vjp


def make_foo(lib: Any) -> Any:
    class Foo(lib.Module):
        def __init__(self) -> None:
            self.x = lib.Param(jnp.array(1.0))
            self.y = lib.Param(jnp.array(2.0))
            self.count = lib.BatchStat(jnp.array(0))
            self.z = 0

    return Foo()


def filled_by_copy(lib: Any) -> Any:
    @lib.custom_vjp
    def f(m: Any) -> Any:
        m.count[...] += 1
        m.z += 1
        return jnp.sin(m.x[...]) * m.y[...]

    def bwd(residuals: Any, g: Any) -> Any:
        (updates,), out_g = g
        cos_x, sin_x, m = residuals
        m_g = jax.tree.map(lambda x: x, updates)
        m_g["x"][...] = cos_x * out_g * m.y[...]
        m_g["y"][...] = sin_x * out_g * 3
        return (m_g,)

    f.defvjp(lambda m: (f(m), (jnp.cos(m.x[...]), jnp.sin(m.x[...]), m)), bwd)
    m = make_foo(lib)
    grads = lib.grad(f)(m)
    again = lib.jit(lib.grad(f))(m)
    through = lib.grad(lib.jit(f), argnums=lib.DiffState(0, lib.Param))(m)
    return [grads, again, through, m, m.z]


def filtered(lib: Any) -> Any:
    x_only = lib.DiffState(1, lib.PathContains("x"))

    @lib.custom_vjp(nondiff_argnums=(0, x_only))
    def f(fun: Any, m: Any, s: Any) -> Any:
        return fun(m.x[...]) * m.y[...] * s

    def bwd(fun: Any, residuals: Any, g: Any) -> Any:
        (m_g, _), out_g = g
        m, s = residuals
        del m_g["y"], m_g["count"]
        m_g["x"][...] = 10 * out_g * m.y[...] * s
        return m_g, out_g

    f.defvjp(lambda fun, m, s: (f(fun, m, s), (m, s)), bwd)
    m = make_foo(lib)
    return lib.grad(lambda m, s: f(jnp.sin, m, s), argnums=(lib.DiffState(0, lib.PathContains("x")), 1))(
        m, 3.0
    )


def two_modules_one_returned(lib: Any) -> Any:
    @lib.custom_vjp
    def f(a: Any, b: Any) -> Any:
        a.count[...] += 1
        return a.x[...] * a.y[...], b

    def bwd(residuals: Any, g: Any) -> Any:
        (a_g, b_g), (y_g, _) = g
        a_g["x"][...] = residuals.y[...] * y_g
        a_g["y"][...] = residuals.x[...] * y_g
        return a_g, lib.State({"x": b_g["x"], "y": b_g["y"], "count": b_g["count"]})

    f.defvjp(lambda a, b: (f(a, b), a), bwd)

    def total(a: Any, b: Any) -> Any:
        y, same = f(a, b)
        return y + same.x[...] * same.y[...] ** 2

    a, b = make_foo(lib), make_foo(lib)
    return [*lib.grad(total, argnums=(0, 1))(a, b), a, b]


def changed_and_used(lib: Any) -> Any:
    @lib.custom_vjp
    def f(m: Any, x: Any) -> Any:
        m.x[...] = m.x[...] * x
        return x * 1.0

    def bwd(residuals: Any, g: Any) -> Any:
        (m_g, _), out_g = g
        m_g["x"][...] = m_g["x"][...] * residuals
        return m_g, out_g

    f.defvjp(lambda m, x: (f(m, x), x), bwd)
    m = make_foo(lib)
    grads = lib.jit(lib.grad(lambda m, x: f(m, x) + 5 * m.x[...], argnums=(0, 1)))(m, 3.0)
    return [*grads, m]


@pytest.mark.parametrize("program", [filled_by_copy, filtered, two_modules_one_returned, changed_and_used])
def test_custom_vjp(program: Any) -> None:
    assert_same_result(program)


def test_a_layer_that_is_used_twice_gets_its_whole_gradient_only_here() -> None:
    """A rule that makes its cotangents anew loses in flax what later uses of the module contribute."""

    def program(lib: Any) -> Any:
        f = lib.custom_vjp(lambda m, x: m.x[...] * x)

        def bwd(residuals: Any, g: Any) -> Any:
            m, x = residuals
            (m_g, _), out_g = g
            made = {"x": lib.Param(out_g * x), "y": lib.Param(jnp.zeros(())), "count": m_g["count"]}
            return lib.State(made), out_g * m.x[...]

        f.defvjp(lambda m, x: (f(m, x), (m, x)), bwd)
        return float(lib.grad(lambda m, x: f(m, f(m, x)))(make_foo(lib), 3.0)["x"][...])

    assert program(nnx) == 6  # of 3 x**2 at 1
    assert program(flax_nnx) == 3
