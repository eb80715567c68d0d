"""`nnx.grad` and `nnx.value_and_grad`: against `jax.grad` of pure functions, closed forms, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.outer = [nnx.Linear(4, 2, rngs=rngs)]

    def __call__(self, x):
        return self.outer[0](jnp.tanh(self.norm(self.inner(x))))


X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def loss(model, x):
    return (model(x) ** 2).mean()


def pure_dict(state):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(state))


def assert_close(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, expected)


# -- values


def test_gradients_are_those_of_the_pure_function():
    model = Model(nnx.Rngs(0))
    graphdef, params, rest = nnx.split(nnx.clone(model), nnx.Param, ...)

    def pure(params, rest):
        merged = nnx.merge(graphdef, params, rest, copy=True)
        return loss(merged, X), nnx.state(merged, nnx.BatchStat)

    (value, stats), grads = jax.value_and_grad(pure, has_aux=True)(params, rest)
    ours, our_grads = nnx.value_and_grad(loss)(model, X)
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    assert_close(pure_dict(our_grads), pure_dict(grads))
    assert_close(pure_dict(nnx.state(model, nnx.BatchStat)), pure_dict(stats))
    assert nnx.to_flat_state(our_grads).paths == nnx.to_flat_state(nnx.state(model, nnx.Param)).paths
    assert all(type(leaf) is nnx.Param for leaf in nnx.to_flat_state(our_grads).leaves)


def test_grad_is_value_and_grad_without_the_value():
    model = Model(nnx.Rngs(0))
    _, expected = nnx.value_and_grad(loss)(nnx.clone(model), X)
    assert_close(pure_dict(nnx.grad(loss)(model, X)), pure_dict(expected))
    for decorated in (nnx.grad()(loss), nnx.grad(argnums=0)(loss)):
        assert_close(pure_dict(decorated(Model(nnx.Rngs(0)), X)), pure_dict(expected))


def test_gradients_keep_kind_metadata_and_dtype():
    class Half(nnx.Param):
        pass

    model = nnx.Dict(w=Half(jnp.ones(2, jnp.bfloat16), note="a"))
    grads = nnx.grad(lambda m: (m.w * 3).sum())(model)
    assert (type(grads.w), grads.w.note, grads.w.dtype) == (Half, "a", jnp.bfloat16)
    assert grads.w is not model.w


def test_aux_is_returned_with_modules_in_it():
    model = Model(nnx.Rngs(0))

    def f(model, x):
        return loss(model, x), {"x": x, "model": model, "new": nnx.Param(x)}

    (value, aux), grads = nnx.value_and_grad(f, has_aux=True)(model, X)
    assert aux["model"] is model
    assert aux["new"].value.shape == (5, 3)
    assert value.shape == ()
    only_grads, aux = nnx.grad(f, has_aux=True)(model, X)
    assert aux["model"] is model
    assert jax.tree.structure(only_grads) == jax.tree.structure(grads)


# -- what is differentiated


def quadratic(a, b):
    return (a.w**2).sum() * b.sum()


def test_argnums_select_arguments():
    a, b = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0]))), jnp.array([3.0, 4.0])
    by_a, by_b = [14, 28], [5, 5]
    assert nnx.grad(quadratic)(a, b).w.value.tolist() == by_a
    assert nnx.grad(quadratic, argnums=1)(a, b).tolist() == by_b
    assert nnx.grad(quadratic, argnums=-1)(a, b).tolist() == by_b
    both = nnx.grad(quadratic, argnums=(0, 1))(a, b)
    assert (both[0].w.value.tolist(), both[1].tolist()) == (by_a, by_b)
    both = nnx.grad(quadratic, argnums=[1, 0])(a, b)
    assert (both[0].tolist(), both[1].w.value.tolist()) == (by_b, by_a)
    assert isinstance(nnx.grad(quadratic, argnums=(0,))(a, b), tuple)


def test_arguments_can_be_given_by_name():
    a, b = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0]))), jnp.array([3.0, 4.0])
    assert nnx.grad(quadratic)(a=a, b=b).w.value.tolist() == [14, 28]
    assert nnx.grad(quadratic)(a, b=b).w.value.tolist() == [14, 28]
    assert nnx.grad(lambda a, *, scale: a.w.sum() * scale)(a, scale=2.0).w.value.tolist() == [2, 2]


def test_filters_select_variables():
    model = nnx.Dict(
        w=nnx.Param(jnp.array(2.0)), b=nnx.Param(jnp.array(3.0)), s=nnx.BatchStat(jnp.array(5.0))
    )
    model.array = jnp.array(7.0)

    def f(model):
        return model.w * model.b * model.s * model.array

    def differentiated(**options):
        return nnx.to_pure_dict(nnx.grad(f, **options)(model))

    assert differentiated() == {"w": 105, "b": 70}
    assert differentiated(argnums=nnx.DiffState(0, nnx.PathContains("b"))) == {"b": 70}
    assert differentiated(argnums=nnx.DiffState(0, (nnx.BatchStat, nnx.PathContains("w")))) == {
        "w": 105,
        "s": 42,
    }
    assert differentiated(argnums=nnx.DiffState(0, ...)) == {"w": 105, "b": 70, "s": 42, "array": 30}
    assert differentiated(wrt=nnx.BatchStat) == {"s": 42}


def test_states_variables_and_containers_are_differentiated():
    v = nnx.Param(jnp.array(3.0))
    grad = nnx.grad(lambda v: v**2)(v)
    assert (type(grad), float(grad.value)) == (nnx.Param, 6)
    state = nnx.State({"a": v, "b": nnx.BatchStat(jnp.array(2.0))})
    # A state holds what was selected already: all of it is differentiated, unless a filter says otherwise.
    assert nnx.to_pure_dict(nnx.grad(lambda s: s.a**2 * s.b)(state)) == {"a": 12, "b": 9}
    params_only = nnx.DiffState(0, nnx.Param)
    assert nnx.to_pure_dict(nnx.grad(lambda s: s.a**2 * s.b, argnums=params_only)(state)) == {"a": 12}
    assert float(nnx.grad(lambda v: v**2)(state.b).value) == 4
    tree = {"m": nnx.Dict(w=v), "x": jnp.array(5.0), "pair": (nnx.Param(jnp.array(7.0)), 1)}
    grads = nnx.grad(lambda t: t["m"].w * t["x"] * t["pair"][0] * 1.0, allow_int=True)(tree)
    assert (float(grads["m"].w.value), float(grads["x"]), float(grads["pair"][0].value)) == (35, 21, 15)


def test_complex_and_integer_inputs():
    model = nnx.Dict(w=nnx.Param(jnp.array(1.0 + 2.0j)))
    grads = nnx.grad(lambda m: m.w**2, holomorphic=True)(model)
    np.testing.assert_allclose(grads.w.value, 2 * (1 + 2j))
    model = nnx.Dict(w=nnx.Param(jnp.array(3)), v=nnx.Param(jnp.array(2.0)))
    grads = nnx.grad(lambda m: m.w * m.v, allow_int=True)(model)
    assert grads.w.dtype == jax.dtypes.float0
    assert float(grads.v.value) == 3
    with pytest.raises(TypeError, match="real- or complex-valued inputs"):
        nnx.grad(lambda m: m.w * m.v)(model)


# -- changes made inside


def test_changes_made_by_the_function_are_kept():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)), n=0)

    def f(model, rngs):
        model.n += 1
        model.hidden = nnx.Intermediate(model.w * 2)
        rngs()
        return model.hidden**2

    rngs = nnx.Rngs(0)
    grads = nnx.grad(f)(model, rngs)
    assert nnx.to_pure_dict(grads) == {"w": 16}
    assert (model.n, float(model.hidden.value), int(rngs.default.count.value)) == (1, 4, 1)
    assert not isinstance(model.hidden.value, jax.core.Tracer)


def test_a_parameter_can_be_assigned_inside():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))

    def f(model):
        value = model.w**2
        model.w.value = jnp.array(7.0)
        return value

    assert nnx.to_pure_dict(nnx.grad(f)(model)) == {"w": 4}
    assert float(model.w.value) == 7


# -- together with other transforms


def test_gradients_compose_with_jit_vmap_and_themselves():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    cube = nnx.grad(lambda m: m.w**3)
    assert float(nnx.jit(cube)(model).w.value) == 12
    second = nnx.grad(lambda m: cube(m).w.value)
    assert float(second(model).w.value) == 12
    stack = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0, 3.0])))
    assert nnx.vmap(cube)(stack).w.value.tolist() == [3, 12, 27]


def test_a_bound_method_is_differentiated_by_its_arguments():
    class Scale(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.array(3.0))
            self.calls = nnx.Variable(jnp.array(0))

        def __call__(self, x):
            self.calls += 1
            return self.w * x**2

    model = Scale()
    assert nnx.grad(model.__call__)(2.0) == 12
    assert int(model.calls.value) == 1
    assert float(nnx.grad(Scale.__call__)(model, 2.0).w.value) == 4


# -- sharing


def test_a_shared_variable_gets_the_whole_gradient_once():
    w = nnx.Param(jnp.array(2.0))
    model = nnx.Dict(a=nnx.Dict(w=w), b=nnx.Dict(w=w))
    grads = nnx.grad(lambda m: m.a.w * m.b.w)(model)
    assert nnx.to_pure_dict(grads) == {"a": {"w": 4}}
    first, second = nnx.grad(lambda pair: pair[0].w * pair[1].w)((model.a, model.b))
    assert (nnx.to_pure_dict(first), nnx.to_pure_dict(second)) == ({"w": 4}, {})
    first, second = nnx.grad(lambda a, b: a.w * b.w, argnums=(0, 1))(model.a, model.b)
    assert (nnx.to_pure_dict(first), nnx.to_pure_dict(second)) == ({"w": 4}, {})
    grads = nnx.grad(lambda t: t["a"] * t["b"])({"a": w, "b": w})
    assert float(grads["a"].value) == 4
    assert len(jax.tree.leaves(grads)) == 1


def test_gradients_of_a_list_of_modules_that_share_fit_the_optimizer():
    w = nnx.Param(jnp.array(2.0))
    models = [nnx.Dict(w=w), nnx.Dict(w=w, v=nnx.Param(jnp.array(3.0)))]
    optimizer = nnx.Optimizer(models, optax.sgd(1.0), wrt=nnx.Param)
    grads = nnx.grad(lambda ms: ms[0].w * ms[1].w * ms[1].v)(models)
    optimizer.update(models, grads)
    assert (float(w.value), float(models[1].v.value)) == (2 - 2 * 2 * 3, 3 - 4)


@pytest.mark.parametrize("second", ["the same", "a part", "in a container"])
def test_sharing_with_an_argument_that_is_not_differentiated_is_an_error(second):
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    other = {"the same": model, "a part": model.w, "in a container": [{"x": model}]}[second]
    with pytest.raises(
        ValueError,
        match=r"Inconsistent aliasing: the same Param is reached from argument 0 at 'w', .* argument 1",
    ):
        nnx.grad(lambda a, b: a.w**2)(model, other)


def test_sharing_what_is_not_differentiated_is_no_error():
    shared = nnx.BatchStat(jnp.array(3.0))
    a, b = nnx.Dict(w=nnx.Param(jnp.array(2.0)), s=shared), nnx.Dict(s=shared)

    def f(a, b):
        b.s += 1
        return a.w * a.s

    assert nnx.to_pure_dict(nnx.grad(f)(a, b)) == {"w": 4}
    assert float(shared.value) == 4


# -- errors


def test_argnums_must_name_positional_arguments():
    with pytest.raises(TypeError, match="argnums names argument 2, but the function was called with 1 "):
        nnx.grad(lambda x: x, argnums=2)(1.0)
    with pytest.raises(TypeError, match="argnums got a Dict, expected the position of an argument"):
        nnx.grad(lambda m: 1.0, argnums=nnx.Dict(w=nnx.Param(1.0)))


def test_the_function_must_return_a_scalar():
    with pytest.raises(TypeError, match="scalar-output"):
        nnx.grad(lambda x: x)(jnp.ones(2))


def test_a_model_that_was_not_passed_cannot_be_changed():
    model = nnx.Dict(s=nnx.BatchStat(jnp.array(1.0)))

    def f(x):
        model.s.value = x
        return x

    with pytest.raises(nnx.TraceContextError, match="Cannot change a BatchStat"):
        nnx.grad(f)(2.0)


# -- arguments


def test_arguments_left_to_their_defaults_can_be_differentiated():
    def f(model, scale=3.0, *, shift=1.0):
        return model.w * scale + shift

    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    by_model, by_scale = nnx.grad(f, argnums=(0, 1))(model)
    assert (float(by_model.w.value), float(by_scale)) == (3, 2)
    assert float(nnx.grad(f, argnums=1)(scale=5.0, model=model)) == 2
    assert float(nnx.grad(f)(model, shift=7.0).w.value) == 3


def test_parameters_and_inputs_are_differentiated_at_once():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)), b=nnx.Param(jnp.array(1.0)))
    wanted = (nnx.DiffState(0, nnx.PathContains("b")), 1)
    value, (grads, by_x) = nnx.value_and_grad(lambda m, x: (m.w + m.b) * x["a"], argnums=wanted)(
        model, {"a": jnp.array(5.0)}
    )
    assert (float(value), nnx.to_pure_dict(grads), float(by_x["a"])) == (15, {"b": 5}, 3)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("learned", {"w"}),
        ([nnx.BatchStat, "learned"], {"w", "s"}),
        (nnx.All(nnx.Param, nnx.Not("learned")), {"b"}),
        (nnx.Any(nnx.PathContains("b"), nnx.BatchStat), {"b", "s"}),
        (nnx.PathIn(("w",)), {"w"}),
        (lambda path, value: value.ndim == 1, {"b"}),
        (True, {"w", "b", "s"}),
        (None, set()),
        (nnx.Cache, set()),
    ],
)
def test_every_kind_of_filter_selects_variables(filter, expected):
    model = nnx.Dict(
        w=nnx.Param(jnp.array(2.0), tag="learned"),
        b=nnx.Param(jnp.array([3.0])),
        s=nnx.BatchStat(jnp.array(5.0)),
    )
    for _ in range(2):
        grads = nnx.grad(lambda m: (m.w * m.b * m.s).sum(), argnums=nnx.DiffState(0, filter))(model)
        assert isinstance(grads, nnx.State)
        assert set(grads) == expected


def test_a_filter_may_look_at_values_that_change_between_calls():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    f = nnx.grad(lambda m: (m.w**2).sum(), argnums=nnx.DiffState(0, lambda path, value: value.ndim == 1))
    assert list(f(model)) == []
    model.w.value = jnp.ones(2)
    assert list(f(model)) == ["w"]


def test_the_loss_may_be_a_variable():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    value, grads = nnx.value_and_grad(lambda m: m.w)(model)
    assert isinstance(value, jax.Array)
    assert float(grads.w.value) == 1


def test_what_is_sown_inside_is_kept():
    class Model(nnx.Module):
        def __init__(self):
            self.inner = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            self.sow(nnx.Intermediate, "hidden", self.inner(x))
            self.last = nnx.Linear(2, 1, rngs=nnx.Rngs(1))
            return self.last(self.inner(x)).sum()

    for transform in (lambda f: f, nnx.jit):
        model = Model()
        grads = transform(nnx.grad(lambda model, x: model(x)))(model, X[:, :2])
        assert set(grads) == {"inner"}  # the gradient is that of the model before the call
        assert model.hidden.value[0].shape == (5, 2)
        assert isinstance(model.last, nnx.Linear)


def test_third_derivatives_inside_of_vmap_and_jit():
    def f(m, x):
        return m.w**4 * x

    for _ in range(3):
        f = nnx.grad(
            lambda m, x, f=f: jnp.sum(f(m, x)) if not isinstance(f(m, x), nnx.State) else f(m, x).w[...]
        )
    stack = nnx.Dict(w=nnx.Param(jnp.array([1.0, 2.0])))
    out = nnx.jit(nnx.vmap(f))(stack, jnp.array([1.0, 10.0]))
    assert out.w.value.tolist() == [24, 480]


def test_a_nested_gradient_keeps_changes():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)), n=nnx.Variable(jnp.array(0)))

    def f(m):
        m.n += 1
        return m.w**3

    @nnx.jit
    @nnx.grad
    def outer(m):
        return nnx.grad(f)(m).w.value

    assert float(outer(model).w.value) == 12
    assert int(model.n.value) == 1


# -- more errors


def test_an_argument_is_named_once():
    with pytest.raises(ValueError, match="argnum 0 is repeated in argnums"):
        nnx.grad(lambda m: 1.0, argnums=(0, nnx.DiffState(0, nnx.Param)))
    with pytest.raises(ValueError, match="argnums is empty"):
        nnx.grad(lambda m: 1.0, argnums=())


def test_integers_are_named():
    model = nnx.Dict(a=nnx.Dict(n=nnx.Param(jnp.array(3))))
    with pytest.raises(
        TypeError, match=r"argument 0 has a Param of dtype int32 at 'a/n', .*\n.*allow_int=True"
    ):
        nnx.grad(lambda m: m.a.n * 1.0)(model)


def test_has_aux_expects_a_pair():
    with pytest.raises(TypeError, match=r"has_aux=True, returned a \w+, expected a pair \(loss, aux\)"):
        nnx.grad(lambda x: x, has_aux=True)(1.0)
    with pytest.raises(TypeError, match=r"returned a tuple of length 3, expected a pair"):
        nnx.value_and_grad(lambda x: (x, 1, 2), has_aux=True)(1.0)


def test_a_module_is_no_loss():
    with pytest.raises(TypeError, match="returned a Dict, expected a scalar"):
        nnx.grad(lambda m: m)(nnx.Dict(w=nnx.Param(1.0)))


def test_reduce_axes_is_gone():
    assert nnx.grad(lambda x: x**2, reduce_axes=())(3.0) == 6
    with pytest.raises(NotImplementedError, match=r"reduce_axes got .*\n.*psum"):
        nnx.value_and_grad(lambda x: x**2, reduce_axes=("batch",))
