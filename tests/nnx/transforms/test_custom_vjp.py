"""`nnx.custom_vjp`: what the rules get and give, changes carried out, nesting, and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Foo(nnx.Module):
    def __init__(self, x=1.0, y=2.0):
        self.x = nnx.Param(jnp.array(x))
        self.y = nnx.Param(jnp.array(y))
        self.calls = nnx.BatchStat(jnp.array(0))
        self.z = 0


def make_sine(**options):
    """`sin(x) * y`, counting its calls, with a rule that gives 10 times the derivative."""

    @nnx.custom_vjp(**options)
    def sine(m):
        m.calls += 1
        m.z += 1
        return jnp.sin(m.x) * m.y

    def fwd(m):
        return sine(m), (jnp.cos(m.x), m)

    def bwd(residuals, g):
        (m_g,), out_g = g
        cos_x, m = residuals
        assert isinstance(m, Foo)
        assert isinstance(m_g, nnx.State)
        m_g.x[...] = 10 * cos_x * out_g * m.y
        m_g["y"][...] = 10 * jnp.sin(m.x) * out_g
        return (m_g,)

    sine.defvjp(fwd, bwd)
    return sine


def assert_sine(grads, times=10.0):
    np.testing.assert_allclose(grads.x.value, times * np.cos(1.0) * 2, rtol=1e-6)
    np.testing.assert_allclose(grads.y.value, times * np.sin(1.0), rtol=1e-6)


# -- derivatives


def test_the_rule_takes_the_place_of_the_derivative():
    sine, m = make_sine(), Foo()
    assert sine.__name__ == "sine"
    np.testing.assert_allclose(sine(m), np.sin(1.0) * 2, rtol=1e-6)
    grads = nnx.grad(sine)(m)
    assert set(grads) == {"x", "y"}
    assert_sine(grads)
    assert (int(m.calls.value), m.z) == (2, 2)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda f: nnx.jit(nnx.grad(f)),
        lambda f: nnx.grad(nnx.jit(f)),
        lambda f: nnx.grad(lambda m: f(m)),
        lambda f: nnx.jit(nnx.grad(nnx.jit(f))),
        lambda f: lambda m: nnx.vjp(f, m)[1](1.0)[0],
        lambda f: lambda m: nnx.value_and_grad(f, has_aux=False)(m)[1],
    ],
)
def test_it_works_inside_of_other_transforms(wrapped):
    m = Foo()
    assert_sine(wrapped(make_sine())(m))
    assert (int(m.calls.value), m.z) == (1, 1)


def test_it_works_under_vmap_and_scan():
    sine = make_sine()
    stack = nnx.vmap(lambda x: Foo(x))(jnp.ones(3))
    stack.y.value = jnp.full(3, 2.0)
    grads = nnx.jit(nnx.vmap(nnx.grad(sine)))(stack)
    assert grads.x.shape == (3,)
    np.testing.assert_allclose(grads.x.value, [10 * np.cos(1.0) * 2] * 3, rtol=1e-6)
    assert stack.calls.value.tolist() == [1, 1, 1]

    @nnx.custom_vjp
    def double(m, x):
        m.calls += 1
        return m.y * x

    def bwd(residuals, g):
        m, x = residuals
        (m_g, _), out_g = g
        m_g.y[...] = out_g * x
        return m_g, 5 * out_g * m.y

    double.defvjp(lambda m, x: (double(m, x), (m, x)), bwd)

    def repeated(m, x):
        step = nnx.scan(lambda m, x: (m, double(m, x)), in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        return step(m, x)[1].sum()

    m = Foo()
    grads, x_grad = nnx.grad(repeated, argnums=(0, 1))(m, jnp.arange(3.0))
    assert (float(grads.y.value), int(m.calls.value)) == (3, 3)
    assert x_grad.tolist() == [10, 10, 10]


def test_a_module_that_is_used_again_gets_all_of_its_gradient():
    sine = make_sine()
    grads = nnx.grad(lambda m: sine(m) + 3 * m.y)(Foo())
    np.testing.assert_allclose(grads.y.value, 10 * np.sin(1.0) + 3, rtol=1e-6)
    grads = nnx.grad(lambda m: sine(m) + sine(m))(Foo())
    assert_sine(grads, 20)


def test_cotangents_of_changed_variables_reach_the_rule():
    @nnx.custom_vjp
    def f(m, x):
        m.x.value = m.x * x
        m.new = nnx.Intermediate(x**2)
        return m.y * x

    seen = {}

    def bwd(residuals, g):
        (m_g, x_g), out_g = g
        seen.update({"paths": set(m_g), "x": m_g.x.value, "y": m_g.y.value, "new": m_g.new.value, "x_g": x_g})
        _, x = residuals
        m_g.x[...] = m_g.x * x
        m_g.y[...] = out_g * x
        del m_g["new"]
        return m_g, jnp.zeros(())

    f.defvjp(lambda m, x: (f(m, x), (nnx.clone(m), x)), bwd)
    m = Foo()
    grads, x_grad = nnx.grad(lambda m, x: f(m, x) + 7 * m.x + 5 * m.new.value, argnums=(0, 1))(m, 3.0)
    assert seen["paths"] == {"x", "y", "calls", "new"}
    assert (float(seen["x"]), float(seen["y"]), float(seen["new"]), seen["x_g"]) == (7, 0, 5, None)
    assert (float(grads.x.value), float(grads.y.value), float(x_grad)) == (21, 3, 0)
    assert (float(m.x.value), float(m.new.value)) == (3, 9)


def test_modules_in_containers_outputs_and_states_without_variables():
    @nnx.custom_vjp
    def f(tree, scale=2.0):
        return {"y": tree["m"].x * scale, "new": nnx.Dict(h=nnx.Param(tree["m"].y * tree["w"]))}, tree["m"]

    def bwd(residuals, g):
        tree, scale = residuals
        (tree_g, scale_g), (out_g, m_g) = g
        assert scale_g is None
        assert tree_g["w"] is None
        assert m_g == nnx.State({})  # the argument has it already
        new_g = out_g["new"].h[...]
        return {
            "m": nnx.State({"x": out_g["y"] * scale, "y": new_g * tree["w"]}),
            "w": new_g * tree["m"].y.value,
        }, None

    f.defvjp(lambda tree, scale: (f(tree, scale), (tree, scale)), bwd)
    m = Foo()

    def loss(tree):
        out, same = f(tree)
        return out["y"] + 3 * out["new"].h + same.x

    grads = nnx.grad(loss)({"m": m, "w": jnp.array(4.0)})
    assert nnx.to_pure_dict(grads["m"]) == {"x": 3, "y": 12}
    assert float(grads["w"]) == 6
    assert f({"m": m, "w": 1.0})[1] is m


def test_variables_and_shared_variables():
    @nnx.custom_vjp
    def f(v, tied):
        return v * tied.a * tied.b

    def bwd(residuals, g):
        (v_g, tied_g), out_g = g
        assert isinstance(v_g, nnx.Param)
        assert set(tied_g) == {"a"}  # v is `tied.b`, and differentiated as the first argument
        return jnp.array(5.0) * out_g, nnx.State({"a": out_g})

    f.defvjp(lambda v, tied: (f(v, tied), None), bwd)
    v = nnx.Param(jnp.array(2.0))
    tied = nnx.Dict(a=nnx.Param(jnp.array(3.0)), b=v)
    v_grad, tied_grad = nnx.grad(f, argnums=(0, 1))(v, tied)
    assert float(v_grad.value) == 5
    assert nnx.to_pure_dict(tied_grad) == {"a": 1}


def test_a_module_can_be_returned_as_the_cotangent_and_none_is_zero():
    f = nnx.custom_vjp(lambda m, x: m.x * x)

    def bwd(residuals, out_g):
        m_g = nnx.clone(residuals)
        m_g.x[...], m_g.y[...] = 3.0, 4.0
        return [m_g, None]

    f.defvjp(lambda m, x: (f(m, x), m), bwd)
    grads, x_grad = nnx.grad(f, argnums=(0, 1))(Foo(), 2.0)
    assert (nnx.to_pure_dict(grads), float(x_grad)) == ({"x": 3, "y": 4}, 0)
    f = nnx.custom_vjp(lambda tree: tree["pair"][0].x * tree["x"])
    f.defvjp(lambda tree: (f(tree), None), lambda _, g: ({"pair": None, "x": g[1]},))
    grads = nnx.grad(f)({"pair": (Foo(), 1.0), "x": 3.0})
    assert (nnx.to_pure_dict(grads["pair"][0]), grads["pair"][1], grads["x"]) == ({"x": 0, "y": 0}, 0, 1)


def test_it_works_in_a_sharded_map():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spec = jax.sharding.PartitionSpec("data")
    f = nnx.custom_vjp(lambda m, x: (m.w * x).sum())

    def bwd(residuals, g):
        (m_g, _), out_g = g
        m, x = residuals
        m_g.w[...] = out_g * x
        return m_g, out_g * m.w

    f.defvjp(lambda m, x: (f(m, x), (m, x)), bwd)
    graphdef, state = nnx.split(nnx.Dict(w=nnx.Param(jnp.ones(4)), unused=nnx.Param(jnp.ones(2))))

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=spec, out_specs=spec)
    def grads(state, x):
        return nnx.grad(f)(nnx.merge(graphdef, state), x)

    result = grads(state, jnp.arange(4.0))
    assert (result.w.value.tolist(), result.unused.value.tolist()) == ([0, 1, 2, 3], [0, 0])


def test_it_works_with_remat_and_control_flow():
    @nnx.custom_vjp
    @nnx.remat
    def f(m, x):
        m.calls += 1
        return m.x * x

    def bwd(residuals, g):
        m, x = residuals
        (m_g, _), out_g = g
        m_g.x[...] = 10 * out_g * x
        return m_g, out_g * m.x

    f.defvjp(lambda m, x: (f(m, x), (m, x)), bwd)
    m = Foo()
    assert float(nnx.grad(nnx.remat(f))(m, 3.0).x.value) == 30
    assert int(m.calls.value) == 1
    branch = nnx.jit(nnx.grad(lambda m, x: nnx.cond(x > 0, f, lambda m, x: m.y * x, m, x)))
    assert nnx.to_pure_dict(branch(m, 3.0)) == {"x": 30, "y": 0}
    assert nnx.to_pure_dict(branch(m, -3.0)) == {"x": 0, "y": -3}
    assert int(m.calls.value) == 2
    loop = nnx.jit(lambda m: nnx.fori_loop(0, 3, lambda i, carry: (carry[0], f(*carry)), (m, 1.0))[1])
    m.x.value = jnp.array(2.0)
    assert (float(loop(m)), int(m.calls.value)) == (8, 5)


# -- what is not differentiated


def make_partial():
    x_only = nnx.DiffState(0, nnx.PathContains("x"))

    @nnx.custom_vjp(nondiff_argnums=(x_only,))
    def f(m):
        return m.x * m.y

    def bwd(m, g):
        (m_g,), out_g = g
        assert set(m_g) == {"x", "y", "calls"}
        return (nnx.State({"x": out_g * m.y * 10}),)

    f.defvjp(lambda m: (f(m), m), bwd)
    return f, x_only


def test_a_filter_selects_what_is_differentiated():
    f, x_only = make_partial()
    for transform in (lambda f: f, nnx.jit):
        assert nnx.to_pure_dict(transform(nnx.grad(f, argnums=x_only))(Foo())) == {"x": 20}


@pytest.mark.parametrize("transform", [lambda f: f, nnx.jit])
def test_what_is_not_differentiated_has_no_gradient(transform):
    f, _ = make_partial()
    with pytest.raises(
        ValueError, match=r"gradient with respect to 'y' of an argument of f .*\n.*nnx.DiffState"
    ):
        nnx.grad(transform(f))(Foo())


def test_arguments_that_are_not_differentiated_come_first():
    @nnx.custom_vjp(nondiff_argnums=(0, 2, 3))
    def f(fun, m, counter, array):
        counter.n += 1
        return fun(m.x) * array.sum()

    def fwd(fun, m, counter, array):
        return f(fun, m, counter, array), m

    def bwd(fun, counter, array, m, g):
        (m_g,), out_g = g
        assert fun is jnp.sin
        m_g.x[...] = out_g * (counter.n.value + array.sum())
        return (m_g,)

    f.defvjp(fwd, bwd)
    for transform in (lambda f: f, nnx.jit):
        counter = nnx.Dict(n=nnx.Variable(jnp.array(4.0)))
        grad = transform(nnx.grad(lambda m, counter, array: f(jnp.sin, m, counter, array)))
        assert float(grad(Foo(), counter, jnp.ones(3)).x.value) == 8
        assert float(counter.n.value) == 5
    with pytest.raises(ValueError, match="gradient with respect to argument 3 of f"):
        nnx.grad(lambda m, counter, array: f(jnp.sin, m, counter, array), argnums=2)(
            Foo(), counter, jnp.ones(3)
        )


def test_symbolic_zeros_are_passed_on():
    f = nnx.custom_vjp(lambda m, x: m.x * x)

    def fwd(m, x):
        assert m.x.get_raw_value().perturbed
        assert not x.perturbed
        return m.x.get_raw_value().value * x.value, x.value

    f.defvjp(fwd, lambda x, g: (nnx.State({"x": g[1] * x, "y": jnp.zeros(())}), None), symbolic_zeros=True)
    assert float(nnx.grad(f)(Foo(), 5.0).x.value) == 5


# -- methods


class Layer(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.array(2.0))
        self.calls = nnx.Variable(jnp.array(0))

    @nnx.custom_vjp
    def __call__(self, x):
        self.calls += 1
        return self.w * x

    def plain(self, x):
        return self.w * x

    def fwd(self, x):
        return self.w * x, (self, x)


def layer_bwd(residuals, g):
    layer, x = residuals
    (layer_g, _), out_g = g
    layer_g.w[...] = 100 * out_g * x
    return layer_g, out_g * layer.w


Layer.__call__.defvjp(lambda layer, x: (Layer.__call__(layer, x), (layer, x)), layer_bwd)


def test_methods_can_have_rules():
    layer = Layer()
    grads, x_grad = nnx.jit(nnx.grad(lambda layer, x: layer(layer(x)), argnums=(0, 1)))(layer, 3.0)
    assert (float(grads.w.value), float(x_grad), int(layer.calls.value)) == (1200, 4, 2)


def test_a_bound_method_takes_its_module_as_first_argument_of_the_rules():
    layer = Layer()
    f = nnx.custom_vjp(layer.plain)
    f.defvjp(layer.fwd, layer_bwd)
    assert float(nnx.grad(f)(3.0)) == 2


# -- rules that do not do the same as the function


def test_a_rule_need_not_repeat_changes_of_values():
    f = nnx.custom_vjp(lambda m: setattr(m.calls, "value", m.calls + 1) or m.x * 1)
    f.defvjp(lambda m: (m.x * 1, None), lambda _, g: (nnx.State({"x": g[1], "y": 0.0}),))
    m = Foo()
    assert float(nnx.grad(nnx.jit(f))(m).x.value) == 1


def test_a_rule_must_not_change_more_than_the_function():
    def fwd(m):
        m.calls += 1
        return m.x * 1, None

    f = nnx.custom_vjp(lambda m: m.x * 1)
    f.defvjp(fwd, lambda _, g: (None,))
    with pytest.raises(ValueError, match=r"A rule of <lambda> .* the rule also changes \['calls'\]"):
        nnx.grad(nnx.jit(f))(Foo())


def test_a_rule_must_not_add_other_attributes_than_the_function():
    def fwd(m):
        m.new = nnx.Intermediate(m.x * 1)
        return m.x * 1, None

    f = nnx.custom_vjp(lambda m: m.x * 1)
    f.defvjp(fwd, lambda _, g: (None,))
    with pytest.raises(ValueError, match=r"A rule of <lambda> .*'object 0/new'"):
        nnx.grad(nnx.jit(f))(Foo())


# -- errors


def given(cotangent, **options):
    f = nnx.custom_vjp(lambda m, x: m.x * x, **options)
    f.defvjp(lambda m, x: (f(m, x), None), lambda *_: cotangent)
    return nnx.grad(f, argnums=(0, 1))(Foo(), jnp.ones(()))


@pytest.mark.parametrize(
    ("cotangent", "error", "message"),
    [
        (
            (None,),
            TypeError,
            "returned a tuple of length 1, expected a tuple with a cotangent for each of the 2",
        ),
        (nnx.State({}), TypeError, "returned a State, expected a tuple"),
        (
            (nnx.State({"x": 1.0}), None),
            ValueError,
            r"cotangent of argument 0 that the bwd rule of <lambda> returned, 'y', is missing in the State",
        ),
        (
            (nnx.State({"x": 1.0, "y": 1.0, "k": 1.0}), None),
            ValueError,
            r"has something at \['k'\], expected only .*\['calls', 'x', 'y'\]",
        ),
        (
            (nnx.State({"x": jnp.ones(2), "y": 1.0}), None),
            ValueError,
            r"'x', has shape \(2,\), expected shape \(\)",
        ),
        ((nnx.State({"x": 1, "y": 1.0}), None), TypeError, r"'x', has dtype int32, expected .* float32"),
        (((1.0, 2.0), None), TypeError, r"argument 0 .* is a tuple, expected an nnx.State"),
        ((None, (1.0, 2.0)), ValueError, r"argument 1 .* is a tuple with the structure"),
    ],
)
def test_bad_cotangents_are_named(cotangent, error, message):
    with pytest.raises(error, match=message):
        given(cotangent)


def test_rules_are_needed():
    f = nnx.custom_vjp(lambda m: m.x)
    with pytest.raises(ValueError, match=r"has no rules, expected <lambda>.defvjp\(fwd, bwd\)"):
        f(Foo())
    with pytest.raises(TypeError, match="defvjp got a NoneType as a rule"):
        f.defvjp(None, None)
    with pytest.raises(TypeError, match=r"nnx.custom_vjp got a int, expected a function"):
        nnx.custom_vjp(3)
    f.defvjp(lambda m: m.x, lambda *_: None)
    with pytest.raises(TypeError, match=r"The fwd rule of <lambda> returned a Param, expected a pair"):
        nnx.grad(f)(Foo())


def test_bad_arguments_are_named():
    def f(m, *, k):
        return m.x

    f = nnx.custom_vjp(f)
    f.defvjp(f, f)
    with pytest.raises(TypeError, match=r"f got the keyword-only arguments \['k'\]"):
        f(Foo(), k=1)
    g = nnx.custom_vjp(lambda m: m.x, nondiff_argnums=(1,))
    g.defvjp(g, g)
    with pytest.raises(ValueError, match="names argument 1, but <lambda> was called with 1 arguments"):
        g(Foo())
    with pytest.raises(ValueError, match="argnum 0 is repeated in nondiff_argnums"):
        nnx.custom_vjp(lambda m: m.x, nondiff_argnums=(0, nnx.DiffState(0, ...)))
    with pytest.raises(TypeError, match=r"nondiff_argnums of nnx.custom_vjp got a str"):
        nnx.custom_vjp(lambda m: m.x, nondiff_argnums="0")


def test_sharing_with_an_argument_that_is_not_differentiated_is_an_error():
    f = nnx.custom_vjp(lambda a, b: a.x, nondiff_argnums=(1,))
    f.defvjp(f, f)
    m = Foo()
    with pytest.raises(
        ValueError, match=r"Inconsistent aliasing: the same \w+ is reached from argument 0 at 'calls'"
    ):
        f(m, m)


def test_a_jax_array_attribute_has_a_cotangent():
    model = nnx.Dict(w=nnx.Param(jnp.array(2.0)))
    model.a = jnp.array(3.0)
    f = nnx.custom_vjp(lambda m: m.w * m.a)
    f.defvjp(lambda m: (f(m), m), lambda m, g: (nnx.State({"w": g[1] * m.a, "a": g[1] * m.w}),))
    grads = nnx.grad(f, argnums=nnx.DiffState(0, ...))(model)
    assert (float(grads.w.value), float(grads.a)) == (3, 2)
    assert isinstance(grads.a, jax.Array)
