"""`nnx.vjp` and `nnx.jvp`: against jax on pure functions, closed forms, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Scale(nnx.Module):
    def __init__(self, w=(1.0, 2.0)):
        self.w = nnx.Param(jnp.array(w))
        self.calls = nnx.Variable(jnp.array(0))
        self.rngs = nnx.Rngs(0)
        self.offset = nnx.data(jnp.array(3.0))

    def __call__(self, x):
        self.calls += 1
        self.rngs()
        return (self.w * x).sum() * self.offset


X = jnp.array([3.0, 4.0])


def call(model, x):
    return model(x)


# -- vjp


def test_vjp_gives_modules_of_cotangents():
    model = Scale()
    y, vjp_fn = nnx.vjp(call, model, X)
    model_grad, x_grad = vjp_fn(2.0)
    assert float(y) == 33
    assert type(model_grad) is Scale
    assert model_grad.w.value.tolist() == [18, 24]
    assert float(model_grad.offset) == 22
    assert x_grad.tolist() == [6, 12]
    assert model_grad.calls.value.dtype == model_grad.rngs.default.key.value.dtype == jax.dtypes.float0
    assert model_grad.w is not model.w


def test_vjp_keeps_changes_and_leaves_values():
    model = Scale()
    nnx.vjp(call, model, X)
    assert (int(model.calls.value), int(model.rngs.default.count.value)) == (1, 1)
    assert not isinstance(model.w.value, jax.core.Tracer)


def test_cotangents_fit_the_model_as_pytrees():
    model = Scale()
    params = nnx.split(model, nnx.Param, ...)[1]
    _, vjp_fn = nnx.vjp(lambda params: (params.w * X).sum(), params)
    (grads,) = vjp_fn(1.0)
    assert type(grads) is nnx.State
    new = jax.tree.map(lambda p, g: p - g, params, grads)
    assert new.w.value.tolist() == [-2, -2]


def test_vjp_equals_jax_for_arrays_and_containers():
    def f(tree, x):
        return {"a": tree["u"] * x, "b": (tree["v"] ** 2).sum()}

    tree = {"u": jnp.array([1.0, 2.0]), "v": jnp.array([3.0])}
    cotangent = {"a": jnp.array([1.0, -1.0]), "b": jnp.array(2.0)}
    y, vjp_fn = nnx.vjp(f, tree, X)
    expected, jax_vjp_fn = jax.vjp(f, tree, X)
    jax.tree.map(np.testing.assert_array_equal, y, expected)
    jax.tree.map(np.testing.assert_array_equal, vjp_fn(cotangent), jax_vjp_fn(cotangent))


def test_vjp_with_aux_and_as_a_decorator():
    @nnx.vjp(has_aux=True)
    def f(model, x):
        return model(x), {"x": x, "model": model, "new": nnx.Param(x)}

    model = Scale()
    y, vjp_fn, aux = f(model, X)
    assert aux["model"] is model
    assert aux["new"].value.tolist() == [3, 4]
    assert vjp_fn(jnp.ones_like(y))[1].tolist() == [3, 6]
    assert nnx.vjp(call)(model, X)[1](1.0)[1].tolist() == [3, 6]


def test_vjp_through_modules_in_the_output():
    def f(model, x):
        hidden = nnx.Dict(h=nnx.Intermediate(model.w * x), fixed=nnx.Variable(jnp.array(1)))
        return hidden, model

    model = Scale()
    (hidden, same), vjp_fn = nnx.vjp(f, model, X)
    assert same is model
    assert hidden.h.value.tolist() == [3, 8]
    cotangent = jax.tree.map(jnp.ones_like, hidden)
    assert vjp_fn((cotangent, None))[0].w.value.tolist() == [3, 4]
    only = nnx.State({"w": jnp.array([10.0, 10.0])})  # what is left out is zero
    assert vjp_fn((cotangent, only))[0].w.value.tolist() == [13, 14]
    assert vjp_fn((None, only))[0].w.value.tolist() == [10, 10]


def test_shared_variables_get_the_whole_cotangent():
    model = Scale()
    pair, _ = nnx.vjp(lambda pair, x: pair[0](x) + pair[1].w.sum(), (model, nnx.Dict(w=model.w)), X)[1](1.0)
    assert pair[0].w is pair[1].w
    assert pair[0].w.value.tolist() == [10, 13]
    first, second = nnx.vjp(lambda a, b: (a.w * b.w).sum(), model, model)[1](1.0)
    assert first is second
    assert first.w.value.tolist() == [2, 4]


def test_the_function_returned_by_vjp_can_be_mapped_and_returned_from_jit():
    model = Scale()

    @nnx.jit
    def start(model, x):
        return nnx.vjp(lambda model, x: model.w * x, model, x)

    _, vjp_fn = start(model, X)
    model_grad, x_grad = jax.vmap(vjp_fn)(jnp.eye(2))
    assert model_grad.w.value.tolist() == [[3, 0], [0, 4]]
    assert x_grad.tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize("transform", [nnx.jit, nnx.grad, nnx.vmap], ids=["jit", "grad", "vmap"])
def test_vjp_inside_of_other_transforms(transform):
    def f(model, x):
        y, vjp_fn = nnx.vjp(lambda model, x: model.w**2 * x, model, x)
        return vjp_fn(jnp.ones_like(y))[0].w.value

    model = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0])))
    if transform is nnx.grad:
        total = transform(lambda model, x: f(model, x).sum())(model, X)
        assert total.w.value.tolist() == [6, 8]
    else:
        assert transform(f)(model, X).tolist() == [6, 16]


def test_derivatives_through_remat_and_loops():
    model = Scale()
    (grads, _) = nnx.vjp(nnx.remat(call), model, X)[1](1.0)
    assert grads.w.value.tolist() == [9, 12]
    assert int(model.calls.value) == 1

    def repeated(model, x):
        return nnx.fori_loop(0, 2, lambda i, carry: (carry[0], carry[0].w * carry[1]), (model, x))[1]

    y, y_dot = nnx.jit(lambda m, x: nnx.jvp(repeated, (m, x), (None, x)))(model, X)
    assert y.tolist() == y_dot.tolist() == [3, 16]

    @nnx.remat
    def inner(model, x):
        return nnx.vjp(call, model, x)[1](1.0)[1].sum()

    assert nnx.grad(inner)(model, X).w.value.tolist() == [3, 3]


def test_a_bound_method_is_differentiated_by_its_arguments():
    model = Scale()
    _, vjp_fn = nnx.vjp(model.__call__, X)
    assert [grad.tolist() for grad in vjp_fn(1.0)] == [[3, 6]]
    y, y_dot = nnx.jvp(model.__call__, (X,), (X,))
    assert (float(y), float(y_dot), int(model.calls.value)) == (33, 33, 2)


def test_bad_cotangents_are_named():
    model = Scale()
    _, vjp_fn = nnx.vjp(lambda m, x: (m.w * x, nnx.Dict(h=nnx.Param(x))), model, X)
    with pytest.raises(ValueError, match=r"The cotangent of the output has the structure .*, expected"):
        vjp_fn(1.0)
    with pytest.raises(ValueError, match=r"has shape \(3,\), expected shape \(2,\) and dtype float32"):
        vjp_fn((jnp.ones(3), None))
    with pytest.raises(TypeError, match=r"has dtype int32, expected .* float32.\nConvert"):
        vjp_fn((jnp.ones(2, int), None))
    with pytest.raises(ValueError, match=r"output has something at \['k'\], expected .*\['h'\]"):
        vjp_fn((X, nnx.State({"k": X})))
    with pytest.raises(ValueError, match=r"output, 'h', has shape \(\), expected shape \(2,\)"):
        vjp_fn((X, nnx.State({"h": 1.0})))
    with pytest.raises(TypeError, match=r"is a set, expected an nnx.State, or a module"):
        vjp_fn((X, {1}))
    with pytest.raises(TypeError, match=r"The cotangent of the output is a float, expected an nnx.State"):
        vjp_fn((X, 1.0))


def test_aux_is_expected():
    with pytest.raises(TypeError, match=r"returned a \w+, expected a pair \(output, aux\)"):
        nnx.vjp(lambda x: x, 1.0, has_aux=True)
    with pytest.raises(TypeError, match=r"returned a \w+, expected a pair \(output, aux\)"):
        nnx.jvp(lambda x: x, (1.0,), (1.0,), has_aux=True)
    with pytest.raises(NotImplementedError, match="reduce_axes"):
        nnx.vjp(lambda x: x, 1.0, reduce_axes=("a",))


# -- jvp


@pytest.mark.parametrize("kind", ["module", "state", "dict", "part of a state"])
def test_jvp_takes_tangents_of_every_form(kind):
    model = Scale()
    tangent = {
        "module": lambda: jax.tree.map(lambda x: x, model),
        "state": lambda: nnx.state(model),
        "dict": lambda: {"w": model.w.value, "offset": model.offset},
        "part of a state": lambda: nnx.state(model, nnx.Param),
    }[kind]()
    y, y_dot = nnx.jvp(call, (model, X), (tangent, jnp.zeros(2)))
    assert (float(y), int(model.calls.value)) == (33, 1)
    assert float(y_dot) == (33 if kind == "part of a state" else 66)


def test_jvp_equals_jax_for_arrays():
    def f(x, n):
        return jnp.sin(x) * n, n

    tangents = (jnp.array([1.0, 2.0]), np.zeros((), jax.dtypes.float0))
    ours, expected = nnx.jvp(f, (X, 2), tangents), jax.jvp(f, (X, 2), tangents)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    jax.tree.map(np.testing.assert_array_equal, nnx.jvp(f, (X, 2), (tangents[0], None)), expected)


def test_jvp_with_aux_modules_and_as_a_decorator():
    @nnx.jvp(has_aux=True)
    def f(model, x):
        model.last = nnx.Intermediate(x)
        return nnx.Dict(h=nnx.Param(model.w * x), n=nnx.Variable(jnp.array(1))), model

    model = Scale()
    out, tangent, aux = f((model, X), (None, X))
    assert aux is model
    assert model.last.value.tolist() == [3, 4]
    assert out.h.value.tolist() == tangent.h.value.tolist() == [3, 8]
    assert type(tangent) is nnx.Dict
    assert tangent.n.value.dtype == jax.dtypes.float0
    assert float(nnx.jvp(call)((model, X), (None, X))[1]) == 33


def test_jvp_of_a_gradient_is_a_hessian_vector_product():
    model = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0])))
    direction = nnx.State({"w": jnp.array([1.0, 10.0])})

    @nnx.jit
    def product(model, direction):
        return nnx.jvp(lambda m: nnx.grad(lambda m: (m.w**3).sum())(m), (model,), (direction,))[1]

    assert product(model, direction).w.value.tolist() == [6, 120]


def test_tangents_of_variables_and_shared_variables():
    v = nnx.Param(jnp.array(3.0))
    assert float(nnx.jvp(lambda v: v**2, (v,), (nnx.Param(jnp.array(1.0)),))[1]) == 6
    assert float(nnx.jvp(lambda v: v**2, (v,), (jnp.array(1.0),))[1]) == 6
    tied = nnx.Dict(a=v, b=v)
    assert float(nnx.jvp(lambda t: t.a * t.b, (tied,), (nnx.State({"a": 1.0}),))[1]) == 6
    with pytest.raises(ValueError, match=r"has something at \['b'\], .* each once: \['a'\]"):
        nnx.jvp(lambda t: t.a * t.b, (tied,), (nnx.State({"a": 1.0, "b": 1.0}),))


def test_variables_may_hold_containers_of_floats_and_integers():
    model = nnx.Dict(p=nnx.Param({"w": jnp.array(2.0), "n": jnp.array(3)}))
    tangent = nnx.Dict(p=nnx.Param({"w": jnp.array(1.0), "n": jnp.array(1)}))

    def f(m):
        return m.p.value["w"] ** 2 * m.p.value["n"]

    y, y_dot = nnx.jvp(f, (model,), (tangent,))
    assert (float(y), float(y_dot)) == (12, 12)
    (grads,) = nnx.vjp(f, model)[1](1.0)
    assert float(grads.p.value["w"]) == 12


def test_bad_tangents_are_named():
    model = Scale()
    with pytest.raises(
        ValueError, match=r"The tangent of argument 0, 'w', has shape \(3,\), expected shape \(2,\)"
    ):
        nnx.jvp(call, (model, X), (nnx.State({"w": jnp.ones(3)}), X))
    with pytest.raises(
        TypeError, match=r"The tangent of argument 0, 'w', has dtype bfloat16, expected .*float32"
    ):
        nnx.jvp(call, (model, X), (nnx.State({"w": jnp.ones(2, jnp.bfloat16)}), X))
    with pytest.raises(ValueError, match=r"The tangent of argument 0 has something at \['v'\]"):
        nnx.jvp(call, (model, X), (nnx.State({"v": jnp.ones(2)}), X))
    with pytest.raises(ValueError, match=r"The tangent of argument 1 has shape \(\), expected"):
        nnx.jvp(call, (model, X), (None, 1.0))
    with pytest.raises(TypeError, match="primals of type Scale, expected a tuple"):
        nnx.jvp(call, model, (model,))
    with pytest.raises(TypeError, match="2 primals and 1 tangents"):
        nnx.jvp(call, (model, X), (None,))


def test_the_tangent_of_a_module_that_is_itself_a_module_is_whole():
    model = Scale()
    with pytest.raises(ValueError, match=r"'offset', is missing in the Dict that was given"):
        nnx.jvp(call, (model, X), (nnx.Dict(w=nnx.Param(jnp.ones(2))), X))
