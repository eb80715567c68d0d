"""The same programs under remat, cond, switch, while_loop, fori_loop and checkify, here and on flax.nnx."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.experimental import checkify as jax_checkify

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_state, assert_same_tree
from tests.parity.test_graph import assert_same_error, assert_same_outcome

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def make_model(lib: Any, remat: bool = False) -> Any:
    class Block(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.linear = lib.Linear(3, 3, rngs=rngs)
            self.norm = lib.BatchNorm(3, rngs=rngs)
            self.drop = lib.Dropout(0.5, rngs=rngs)
            self.calls = lib.Variable(jnp.array(0))

        def __call__(self, x: Any) -> Any:
            self.calls[...] = self.calls[...] + 1
            return self.drop(self.norm(jnp.tanh(self.linear(x))))

    if remat:
        Block.__call__ = lib.remat(Block.__call__)  # type: ignore[method-assign]
    return Block(lib.Rngs(0, dropout=7))


# -- results in numbers


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [None, "jit"], ids=["eager", "jit"])
def test_gradients_through_remat(wrap):
    results = []
    for lib in (nnx, flax_nnx):
        model = make_model(lib, remat=True)
        step = lib.value_and_grad(lambda model: (model(X) ** 2).sum())
        step = getattr(lib, wrap)(step) if wrap else step
        (_, first), (loss, grads) = step(model), step(model)
        results.append((model, loss, jax.tree.leaves((first, grads))))
    (model, loss, grads), (flax_model, flax_loss, flax_grads) = results
    assert_same_tree([loss, *grads], [flax_loss, *flax_grads], rtol=1e-5)
    assert_same_state(model, flax_model, rtol=1e-5)


def cond_trains(lib: Any, model: Any) -> Any:
    def train(model: Any, x: Any) -> Any:
        grads = lib.grad(lambda model: (model(x) ** 2).sum())(model)
        model.linear.bias[...] = model.linear.bias[...] - 0.1 * grads["linear"]["bias"][...]
        return x.sum()

    f = lib.jit(lambda model, x: lib.cond(x.sum() > 0, train, lambda model, x: 0.0, model, x))
    return f(model, np.abs(X)), f(model, -np.abs(X))


def switch_in_fori(lib: Any, model: Any) -> Any:
    branches = [lambda model, x: model(x), lambda model, x: x, lambda model, x: model.linear(x)]

    def body(i: Any, pair: Any) -> Any:
        model, x = pair
        return model, lib.switch(i % 3, branches, model, x)

    return lib.fori_loop(0, 7, body, (model, jnp.asarray(X)))[1]


def while_in_jit(lib: Any, model: Any) -> Any:
    def body(value: Any) -> Any:
        x, tree = value
        return tree["models"][0](x), tree

    @lib.jit
    def f(model: Any, x: Any) -> Any:
        return lib.while_loop(lambda v: v[1]["models"][0].calls[...] < 4, body, (x, {"models": [model]}))[0]

    return f(model, jnp.asarray(X))


def accumulates_gradients(lib: Any, model: Any) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, lib.state(model, lib.Param))

    def body(i: Any, pair: Any) -> Any:
        model, total = pair
        grads = lib.grad(lambda model: (model(jnp.asarray(X)) ** 2).sum())(model)
        return model, jax.tree.map(jnp.add, total, grads)

    _, total = lib.fori_loop(0, 3, body, (model, zeros))
    return jax.tree.leaves(total), jax.tree.leaves(zeros)


@pytest.mark.slow
@pytest.mark.parametrize("program", [cond_trains, switch_in_fori, while_in_jit, accumulates_gradients])
def test_numbers_and_final_states(program):
    models = make_model(nnx), make_model(flax_nnx)
    outputs = [program(lib, model) for lib, model in zip((nnx, flax_nnx), models, strict=True)]
    assert_same_tree(*outputs, rtol=1e-4)
    assert_same_state(*models, rtol=1e-4)


# -- exactly the same results


def branches_change_structure(lib: Any) -> Any:
    model = lib.Dict(a=lib.Param(jnp.array(1.0)), b=lib.BatchStat(jnp.array(2.0)))
    a = model.a

    def change(factor: float) -> Any:
        def f(model: Any) -> Any:
            model.new = lib.Param(model.a[...] * factor)
            model.b, model.kept = lib.Param(model.b[...]), model.b
            return model.a, lib.Dict(x=model.kept)

        return f

    out = lib.cond(True, change(3.0), change(5.0), model)
    return out, model, out[0] is a, out[1].x is model.kept


def branches_share_variables(lib: Any) -> Any:
    v = lib.Param(jnp.array(1.0))
    pair = lib.Dict(a=v), lib.Dict(b=v)

    def one(a: Any, b: Any) -> Any:
        a.a[...] = a.a[...] + 1
        return b.b[...] * 2

    def other(a: Any, b: Any) -> Any:
        b.b[...] = b.b[...] * 10
        return a.a[...]

    return [lib.switch(i, [one, other], *pair) for i in (0, 1, 5, -1)], v


def remat_changes_structure(lib: Any) -> Any:
    model = lib.Dict(a=lib.Param(jnp.array(1.0)), n=1)

    @lib.remat(static_argnums=(1,))
    def f(model: Any, mode: Any) -> Any:
        model.n, model.mode = model.n + 1, mode
        model.b = lib.Param(model.a[...] + 1)
        return model.b, model

    out = f(model, "x")
    return out[0], out[0] is model.b, out[1] is model, model, model.n, model.mode


def loops_keep_identity(lib: Any) -> Any:
    a, b = lib.Param(jnp.array(1.0)), lib.Dict(x=lib.Variable(jnp.array(2)))

    def body(pair: Any) -> Any:
        pair[0][...] = pair[0][...] * 2
        pair[1].x[...] = pair[1].x[...] + 1
        return pair

    out = lib.while_loop(lambda pair: pair[1].x[...] < 5, body, (a, b))
    again = lib.fori_loop(0, 2, lambda i, pair: body(pair), (a, b))
    return out[0] is a, out[1] is b, again[0] is a, again[1].x is b.x, a, b


def loop_over_a_state(lib: Any) -> Any:
    state = lib.state(lib.Dict(a=lib.Param(jnp.array(1.0)), b=lib.Dict(c=lib.BatchStat(jnp.array(2.0)))))
    out = lib.fori_loop(0, 3, lambda i, state: jax.tree.map(lambda x: x + i, state), state)
    return out, state, out is state


def scan_over_a_state(lib: Any) -> Any:
    state = lib.state(lib.Dict(a=lib.Param(jnp.array(1.0)), b=lib.Dict(c=lib.BatchStat(jnp.array(2.0)))))
    count = lib.Variable(jnp.array(0))

    def step(carry: Any, x: Any) -> Any:
        state, count = carry
        count[...] = count[...] + 1
        return (jax.tree.map(lambda y: y + x, state), count), count[...]

    (out, same), counts = lib.scan(step)((state, count), jnp.arange(3.0))
    return out, state, out is state, same is count, counts


def loop_that_swaps(lib: Any) -> Any:
    a, b = lib.Param(jnp.array(1.0)), lib.Param(jnp.array(2.0))
    out = lib.fori_loop(0, 3, lambda i, pair: (pair[1], pair[0]), (a, b))
    return out, a, b, out[0] is a


def loop_without_a_step(lib: Any) -> Any:
    a = lib.Param(jnp.array(1.0))

    def body(i: Any, a: Any) -> Any:
        a[...] = a[...] + 1
        return a

    return lib.fori_loop(3, 3, body, a) is a, a


def random_streams_in_loops(lib: Any) -> Any:
    rngs = lib.Rngs(0, noise=1)

    def body(i: Any, pair: Any) -> Any:
        rngs, keys = pair
        return rngs, keys.at[i].set(jax.random.key_data(rngs.noise()))

    out = lib.fori_loop(0, 3, body, (rngs, jnp.zeros((3, 2), "uint32")))[1]
    drawn = lib.cond(True, lambda rngs: rngs.noise(), lambda rngs: rngs(), rngs)
    return out, drawn, rngs


def checkify_keeps_changes(lib: Any) -> Any:
    model = lib.Dict(a=lib.Param(jnp.array(0.0)), n=lib.Variable(jnp.array(0)))

    @lib.jit
    def f(model: Any, *, x: Any) -> Any:
        model.n[...] = model.n[...] + 1
        model.new = lib.Param(x)
        return x / model.a[...], model

    error, out = lib.checkify(f, errors=jax_checkify.float_checks)(model, x=jnp.array(0.0))
    return error.get().split(".")[0], out[1] is model, model.n, model.new


PROGRAMS = [
    branches_change_structure,
    branches_share_variables,
    remat_changes_structure,
    loops_keep_identity,
    loop_over_a_state,
    scan_over_a_state,
    loop_that_swaps,
    loop_without_a_step,
    random_streams_in_loops,
    checkify_keeps_changes,
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_give_the_same_results(program):
    assert_same_outcome(program)


# -- errors


def vector(lib: Any) -> Any:
    return lib.Dict(w=lib.Param(jnp.ones(2)))


def set_new(lib: Any) -> Any:
    def f(model: Any) -> Any:
        model.new = lib.Param(jnp.ones(1))
        return model

    return f


def set_shape(model: Any) -> Any:
    model.w = type(model.w)(jnp.ones(3))
    return model


def change_outside(transform: str) -> Any:
    def program(lib: Any) -> Any:
        model = vector(lib)
        change = {
            "cond": lambda f: lib.cond(True, f, lambda: None),
            "fori_loop": lambda f: lib.fori_loop(0, 2, lambda i, x: f(), None),
            "remat": lambda f: lib.remat(f)(),
        }[transform]
        change(lambda: set_shape(model) and None)

    return program


ERRORS = {
    "a model from outside changed in cond": change_outside("cond"),
    "a model from outside changed in fori_loop": change_outside("fori_loop"),
    "a model from outside changed in remat": change_outside("remat"),
    "an attribute in one branch": lambda lib: lib.cond(True, set_new(lib), lambda m: m, vector(lib)),
    "a shape in one branch": lambda lib: lib.cond(True, set_shape, lambda m: m, vector(lib)),
    "different outputs": lambda lib: lib.cond(True, lambda m: (m,), lambda m: m, vector(lib)),
    "different modules": lambda lib: lib.cond(True, lambda a, b: a, lambda a, b: b, vector(lib), vector(lib)),
    "an attribute in a loop": lambda lib: lib.while_loop(lambda m: True, set_new(lib), vector(lib)),
    "another variable in a loop": lambda lib: lib.while_loop(lambda m: True, set_shape, vector(lib)),
    "no module from a loop": lambda lib: lib.while_loop(lambda m: True, lambda m: None, vector(lib)),
    "another dtype in a loop": lambda lib: lib.while_loop(lambda x: True, lambda x: x * 1.5, jnp.arange(2)),
    "a static argument that is traced": lambda lib: lib.remat(lambda x, flag: x if flag else -x)(1.0, True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_fails_on_flax_fails_alike(name):
    assert_same_error(ERRORS[name])
