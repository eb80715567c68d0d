"""`nnx.custom_jvp`: what the rule gets and gives, changes carried out, nesting, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Foo(nnx.Module):
    def __init__(self, x=1.0, y=2.0):
        self.x = nnx.Param(jnp.array(x))
        self.y = nnx.Param(jnp.array(y))
        self.hidden = nnx.BatchStat(jnp.array(0.0))
        self.calls = nnx.BatchStat(jnp.array(0))
        self.z = 0


def make_sine(**options):
    """`sin(x) * y * s`, storing `x * s`, with its true derivative as the rule."""

    @nnx.custom_jvp(**options)
    def sine(m, s):
        m.calls += 1
        m.z += 1
        m.hidden.value = m.x * s
        return jnp.sin(m.x) * m.y * s

    @sine.defjvp
    def rule(primals, tangents):
        (m, s), (m_t, s_t) = primals, tangents
        assert isinstance(m_t, nnx.State)
        out = sine(m, s)
        m_t.hidden[...] = m_t.x * s + m.x * s_t
        return out, (jnp.cos(m.x) * m.y * m_t.x + jnp.sin(m.x) * m_t.y) * s + jnp.sin(m.x) * m.y * s_t

    return sine


def pure(m, s):
    return jnp.sin(m.x) * m.y * s + 10 * m.x * s


def using(sine):
    return lambda m, s: sine(m, s) + 10 * m.hidden


def assert_close(ours, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, expected)


# -- derivatives


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda f: f,
        lambda f: nnx.jit(f),
        lambda f: lambda m, s: f(m, s),
        lambda f: lambda m, s: nnx.jit(f)(m, s) * 1.0,
    ],
)
def test_both_modes_use_the_rule_and_keep_changes(wrapped):
    m, expected = Foo(), Foo()
    f = wrapped(using(make_sine()))
    assert_close(nnx.grad(f, argnums=(0, 1))(m, 3.0), nnx.grad(pure, argnums=(0, 1))(expected, 3.0))
    assert (int(m.calls.value), m.z, float(m.hidden.value)) == (1, 1, 3)
    tangents = (nnx.State({"x": 1.0, "y": 2.0}), 3.0)
    assert_close(nnx.jvp(f, (m, 3.0), tangents), nnx.jvp(pure, (expected, 3.0), tangents))
    assert (int(m.calls.value), m.z) == (2, 2)
    assert_close(f(m, 3.0), pure(expected, 3.0))


def test_it_works_under_vmap_jit_and_scan():
    f = using(make_sine())
    stack = nnx.vmap(lambda i: Foo())(jnp.arange(3))
    grads = nnx.jit(nnx.vmap(nnx.grad(f)))(stack, jnp.arange(3.0))
    expected = [nnx.grad(pure)(Foo(), s).x.value for s in (0.0, 1.0, 2.0)]
    assert_close(grads.x.value, jnp.stack(expected))
    assert stack.calls.value.tolist() == [1, 1, 1]

    def total(m):
        def call(m, s):
            out = f(m, s)
            m.z = 0  # a carried module keeps its structure
            return m, out

        step = nnx.scan(call, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        return step(m, jnp.arange(3.0))[1].sum()

    m = Foo()
    assert_close(nnx.grad(total)(m).x.value, sum(expected))
    assert int(m.calls.value) == 3


def test_rules_are_differentiated_again():
    def second(f):
        return nnx.jit(nnx.grad(lambda m, s: nnx.grad(f)(m, s).x.value))(Foo(), 3.0)

    assert_close(second(using(make_sine())), second(pure))


def test_changes_are_constants_unless_their_tangent_is_set():
    @nnx.custom_jvp
    def f(m):
        m.hidden.value = m.x * 5
        return m.x * 2

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0].x * 2))
    assert float(nnx.grad(lambda m: f(m) + m.hidden)(Foo()).x.value) == 2


def test_a_variable_that_only_the_function_changes_keeps_its_tangent():
    @nnx.custom_jvp
    def f(m):
        m.hidden.value = m.hidden + 1
        return m.x * 2

    f.defjvp(lambda primals, tangents: (primals[0].x * 2, tangents[0].x * 2))

    @nnx.jit
    def loss(m):
        m.hidden.value = m.x * 3
        return f(m) + m.hidden

    assert float(nnx.grad(loss)(Foo()).x.value) == 5


def test_the_rule_is_what_counts():
    f = nnx.custom_jvp(lambda m: m.x * 2)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0].x * 100))
    assert float(nnx.grad(f)(Foo()).x.value) == 100
    grads = nnx.grad(lambda m: f(m) + 3 * m.x)(Foo())
    assert float(grads.x.value) == 103


def test_modules_in_containers_and_outputs():
    @nnx.custom_jvp
    def f(tree, n=2):
        tree["m"].new = nnx.Intermediate(tree["w"])
        return {"new": nnx.Dict(h=nnx.Param(tree["m"].x * tree["w"]))}, n

    @f.defjvp
    def rule(primals, tangents):
        (tree, n), (tree_t, n_t) = primals, tangents
        assert n_t.dtype == jax.dtypes.float0
        h_t = tree_t["m"].x * tree["w"] + tree["m"].x * tree_t["w"]
        return f(tree, n), ({"new": nnx.State({"h": 10 * h_t})}, n_t)

    m = Foo()
    grads = nnx.grad(lambda tree: f(tree)[0]["new"].h)({"m": m, "w": jnp.array(4.0)})
    assert nnx.to_pure_dict(grads["m"]) == {"x": 40, "y": 0}
    assert float(grads["w"]) == 10
    assert float(m.new.value) == 4


def test_variables_and_shared_variables():
    f = nnx.custom_jvp(lambda v, tied: v * tied.a * tied.b)

    @f.defjvp
    def rule(primals, tangents):
        v_t, tied_t = tangents
        assert isinstance(v_t, nnx.Param)
        assert set(tied_t) == {"a"}
        return f(*primals), v_t * 5 + tied_t.a

    v = nnx.Param(jnp.array(2.0))
    v_grad, tied_grad = nnx.grad(f, argnums=(0, 1))(v, nnx.Dict(a=nnx.Param(jnp.array(3.0)), b=v))
    assert (float(v_grad.value), nnx.to_pure_dict(tied_grad)) == (5, {"a": 1})


def test_rules_by_argument():
    f = nnx.custom_jvp(lambda m, s, t: m.x * s)
    f.defjvps(lambda m_t, out, m, s, t: 10 * m_t.x * s, lambda s_t, out, m, s, t: s_t * out, None)
    grads, by_s, by_t = nnx.grad(f, argnums=(0, 1, 2))(Foo(x=7.0), 3.0, 1.0)
    assert (float(grads.x.value), float(by_s), float(by_t)) == (30, 21, 0)
    f.defjvps(None, None, None)
    assert float(nnx.grad(f)(Foo(), 3.0, 1.0).x.value) == 0


def test_it_works_with_remat_and_control_flow():
    f = using(make_sine())
    m, expected = Foo(), nnx.grad(pure)(Foo(), 3.0)
    assert_close(nnx.grad(nnx.remat(f))(m, 3.0), expected)
    assert (int(m.calls.value), m.z) == (1, 1)

    @nnx.custom_jvp
    def triple(m, x):
        m.calls += 1
        return m.x * x * 3

    @triple.defjvp
    def rule(primals, tangents):
        (m, x), (m_t, x_t) = primals, tangents
        return triple(m, x), 3 * (m_t.x * x + m.x * x_t)

    def looped(m):
        return nnx.fori_loop(0, 2, lambda i, carry: (carry[0], triple(*carry)), (m, 1.0))[1]

    def chosen(m, x):
        return nnx.cond(x > 0, triple, lambda m, x: m.y * x, m, x)

    m = Foo(x=2.0)
    assert [float(y) for y in nnx.jvp(looped, (m,), (nnx.State({"x": 1.0}),))] == [36, 36]
    assert float(nnx.jit(nnx.grad(chosen))(m, 5.0).x.value) == 15
    assert int(m.calls.value) == 3


# -- what is not differentiated


def test_arguments_that_are_not_differentiated_come_first():
    @nnx.custom_jvp(nondiff_argnums=(0, nnx.DiffState(1, nnx.PathContains("x")), 2))
    def f(fun, m, counter):
        counter.n += 1
        return fun(m.x) * m.y * counter.n

    @f.defjvp
    def rule(fun, counter, primals, tangents):
        (m,), (m_t,) = primals, tangents
        assert fun is jnp.sin
        assert set(m_t) == {"x"}
        return f(fun, m, counter), 10 * m_t.x * counter.n

    x_only = nnx.DiffState(0, nnx.PathContains("x"))
    counter = nnx.Dict(n=nnx.Variable(jnp.array(4.0)))
    for i, transform in enumerate((lambda f: f, nnx.jit)):
        grads = transform(nnx.grad(lambda m, counter: f(jnp.sin, m, counter), argnums=x_only))(Foo(), counter)
        assert nnx.to_pure_dict(grads) == {"x": 50 + 10 * i}
    with pytest.raises(ValueError, match="gradient with respect to 'y' of an argument of f"):
        nnx.grad(lambda m, counter: f(jnp.sin, m, counter))(Foo(), counter)


def test_symbolic_zeros_are_passed_on():
    f = nnx.custom_jvp(lambda m, x: m.x * x)

    def rule(primals, tangents):
        assert isinstance(tangents[1], jax.custom_derivatives.SymbolicZero)
        return f(*primals), tangents[0].x * primals[1]

    f.defjvp(rule, symbolic_zeros=True)
    assert float(nnx.grad(f)(Foo(), 5.0).x.value) == 5


# -- methods


class Layer(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.array(2.0))
        self.calls = nnx.Variable(jnp.array(0))

    @nnx.custom_jvp
    def __call__(self, x):
        self.calls += 1
        return self.w * x

    def plain(self, x):
        return self.w * x


@Layer.__call__.defjvp
def layer_rule(primals, tangents):
    (layer, x), (layer_t, x_t) = primals, tangents
    return layer(x), 100 * layer_t.w * x + layer.w * x_t


def test_methods_can_have_rules():
    layer = Layer()
    grads, x_grad = nnx.jit(nnx.grad(lambda layer, x: layer(layer(x)), argnums=(0, 1)))(layer, 3.0)
    assert (float(grads.w.value), float(x_grad), int(layer.calls.value)) == (1200, 4, 2)


def test_a_bound_method_takes_its_module_as_first_argument_of_the_rule():
    layer = Layer()
    f = nnx.custom_jvp(layer.plain)
    f.defjvp(lambda primals, tangents: (primals[0].plain(primals[1]), 7 * tangents[1]))
    assert float(nnx.grad(f)(3.0)) == 7
    f.defjvps(None, lambda x_t, out, layer, x: 9 * x_t)
    assert float(nnx.grad(f)(3.0)) == 9


# -- errors


@pytest.mark.parametrize(
    ("tangent", "error", "message"),
    [
        (1.0, ValueError, r"The tangent of the output that the rule of f returned has the structure"),
        ((jnp.ones(2), None), ValueError, r"has shape \(2,\), expected shape \(\) and dtype float32"),
        ((1, None), TypeError, r"has dtype int32, expected shape \(\) and dtype float32"),
        ((1.0, nnx.State({})), ValueError, r"returned, 'h', is missing in the State"),
        ((1.0, nnx.State({"h": 1.0, "k": 1.0})), ValueError, r"has something at \['k'\]"),
    ],
)
def test_bad_tangents_are_named(tangent, error, message):
    @nnx.custom_jvp
    def f(m):
        return m.x * 1, nnx.Dict(h=nnx.Param(m.y * 1))

    f.defjvp(lambda primals, tangents: (f(*primals), tangent))
    with pytest.raises(error, match=message):
        nnx.grad(lambda m: f(m)[0])(Foo())


def test_a_tangent_that_the_rule_sets_is_checked():
    def rule(primals, tangents):
        out = f(*primals)
        tangents[0]["hidden"] = jnp.ones(3)
        return out, tangents[0].x * 1

    @nnx.custom_jvp
    def f(m):
        m.hidden += m.x
        return m.x * 1

    f.defjvp(rule)
    with pytest.raises(
        ValueError, match=r"The tangent of argument 0 that the rule of f set, 'hidden', has shape"
    ):
        nnx.grad(f)(Foo())


def test_rules_are_needed():
    f = nnx.custom_jvp(lambda m: m.x * 1)
    with pytest.raises(ValueError, match=r"has no rule, expected <lambda>.defjvp\(rule\)"):
        f(Foo())
    with pytest.raises(TypeError, match="defjvp got a NoneType as a rule"):
        f.defjvp(None)
    f.defjvp(lambda primals, tangents: 1.0)
    with pytest.raises(
        TypeError, match=r"The rule of <lambda> returned a float, expected a pair \(output, tangent"
    ):
        nnx.grad(f)(Foo())
    f.defjvps(None, None)
    with pytest.raises(TypeError, match=r"got 2 rules, expected one for each of the 1 arguments"):
        nnx.grad(f)(Foo())
    with pytest.raises(TypeError, match=r"nondiff_argnums names some"):
        nnx.custom_jvp(lambda a, b: a, nondiff_argnums=0).defjvps(None, None)


def test_a_rule_must_not_change_more_than_the_function():
    def rule(primals, tangents):
        (m,) = primals
        m.calls += 1
        return f(m), tangents[0].x * 1

    f = nnx.custom_jvp(lambda m: m.x * 1)
    f.defjvp(rule)
    with pytest.raises(ValueError, match=r"A rule of <lambda> .* the rule also changes \['calls'\]"):
        nnx.grad(nnx.jit(f))(Foo())
