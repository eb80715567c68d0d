"""The same programs under jit, grad, vmap, scan and eval_shape, here and on flax.nnx."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_tree
from tests.parity.test_graph import assert_same_error, assert_same_outcome, described

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def make_model(lib: Any, seed: int = 0) -> Any:
    class Model(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = lib.Linear(3, 4, rngs=rngs)
            self.norm = lib.BatchNorm(4, rngs=rngs)
            self.drop = lib.Dropout(0.5, rngs=rngs)
            self.layers = lib.List([lib.Linear(4, 2, rngs=rngs)])
            self.calls = lib.Variable(jnp.array(0))

        def __call__(self, x: Any) -> Any:
            self.calls[...] = self.calls[...] + 1
            return self.layers[0](self.drop(self.norm(jnp.tanh(self.first(x)))))

    return Model(lib.Rngs(seed, dropout=7))


def mse(model: Any, x: Any = X, y: Any = Y) -> Any:
    return jnp.mean((model(x) - y) ** 2)


# -- jit


def jit_changes_values(lib: Any) -> Any:
    model, unchanged = make_model(lib), make_model(lib)
    call = lib.jit(lambda model, other, x: model(x) + other.calls[...])
    return [call(model, unchanged, X) for _ in range(2)], model, unchanged


def jit_changes_structure(lib: Any) -> Any:
    model = make_model(lib)
    first = model.first

    @lib.jit
    def change(model: Any, x: Any) -> None:
        model.kept, model.first = model.first, lib.Linear(3, 4, rngs=lib.Rngs(5))
        model.layers.append(lib.Param(x))
        model.drop.rate = 0.25
        model.table = lib.Dict(a=model.norm)
        model.norm = lib.BatchStat(model.calls[...])
        del model.calls

    change(model, jnp.ones(2))
    return model, model.kept is first, model.drop.rate, len(model.layers), hasattr(model, "calls")


def jit_swaps(lib: Any) -> Any:
    model = lib.Dict(a=lib.Param(jnp.zeros(1)), b=lib.BatchStat(jnp.ones(1)))
    a, b = model.a, model.b

    @lib.jit
    def swap(model: Any) -> None:
        model.a, model.b = model.b, model.a

    swap(model)
    once = model.a is b, model.b is a
    swap(model)
    return once, model.a is a, model


def jit_keeps_identity(lib: Any) -> Any:
    model = make_model(lib)

    @lib.jit
    def f(pair: Any, again: Any) -> Any:
        made = lib.Dict(w=lib.Param(jnp.ones(1)))
        return pair[0], {"x": again.first, "y": made}, made, pair[1]

    out = f((model, 3.0), model)
    same = [out[0] is model, out[1]["x"] is model.first, out[1]["y"] is out[2]]
    return same, out[2], out[3]


def jit_of_static_and_variables(lib: Any) -> Any:
    v, n = lib.Param(jnp.ones(2)), lib.Param(3)

    def f(v: Any, n: Any, mode: str) -> Any:
        v[...] = v[...] + 1
        n[...] = n[...] * 2
        return mode == "a"

    traced = lib.jit(f, static_argnames="mode"), lib.jit(f, static_argnums=2)
    return traced[0](v, n, mode="a"), traced[1](v, n, "b"), v, n


def jit_shares_variables_between_arguments(lib: Any) -> Any:
    shared = lib.Param(jnp.ones(1))
    a, b = lib.Dict(w=shared), lib.Dict(w=shared, n=1)

    @lib.jit
    def f(a: Any, b: Any) -> Any:
        a.w[...] = a.w[...] + 1
        b.w[...] = b.w[...] * 2
        b.new = a.w
        return a.w is b.w

    return bool(f(a, b)), a, b, b.new is shared


def jit_of_cycles(lib: Any) -> Any:
    model = lib.Dict(a=lib.Dict(w=lib.Param(jnp.ones(1))))
    model.a.up, model.me = model, model

    @lib.jit
    def f(model: Any) -> None:
        model.me.a.up.new = lib.Variable(model.a.w[...] + 1)

    f(model)
    return model, model.me is model


def nested_jit(lib: Any) -> Any:
    model = make_model(lib)
    inner = lib.jit(lambda model, x: model(x).sum())
    outer = lib.jit(lambda model, x: inner(model, x) * inner(model, 2 * x))
    return outer(model, X), model


# -- grad


def value_and_grad(lib: Any) -> Any:
    model = make_model(lib)
    return lib.value_and_grad(mse)(model), model


def grad_with_aux(lib: Any) -> Any:
    model = make_model(lib)

    def f(model: Any, x: Any) -> Any:
        y = model(x)
        return y.sum(), {"y": y, "n": 3}

    return lib.grad(f, has_aux=True)(model, X), lib.value_and_grad(f, has_aux=True)(model, X), model


def grad_by_filters(lib: Any) -> Any:
    model = make_model(lib)
    model.eval()
    wanted = [
        lib.DiffState(0, lib.PathContains("kernel")),
        lib.DiffState(0, (lib.BatchStat, lib.PathContains("first"))),
        lib.DiffState(0, lib.Param),
    ]
    return [lib.grad(mse, argnums=argnums)(model) for argnums in wanted], model


def grad_by_arguments(lib: Any) -> Any:
    def f(a: Any, x: Any, b: Any) -> Any:
        return (a.w[...] * x * b["w"][...]).sum()

    a, x = lib.Dict(w=lib.Param(jnp.array(2.0))), jnp.ones(2)
    b = {"w": lib.Param(jnp.array(3.0)), "n": lib.BatchStat(jnp.array(1.0))}
    options = [0, 1, 2, -1, (0, 1), (1, 2), (0,), [0, lib.DiffState(2, ...)]]
    return [lib.grad(f, argnums=argnums)(a, x, b) for argnums in options], lib.grad(f)(a=a, x=x, b=b)


def grad_of_states_and_single_variables(lib: Any) -> Any:
    stat = lib.BatchStat(jnp.array(3.0))
    state = lib.State({"a": stat, "b": {"c": lib.Param(jnp.array(2.0))}})
    grads = lib.grad(lambda s: s["a"][...] ** 2 * s["b"]["c"][...])(state)
    return grads, lib.grad(lambda v: v[...] ** 2)(stat), lib.grad(lambda t: t[0][...] ** 2)([stat])


def grad_of_shared_variables(lib: Any) -> Any:
    w, v = lib.Param(jnp.array(2.0)), lib.Param(jnp.array(3.0))
    model = lib.Dict(a=lib.Dict(w=w), b=lib.Dict(w=w, v=v))
    within = lib.grad(lambda m: m.a.w[...] * m.b.w[...] * m.b.v[...])(model)
    tree = lib.grad(lambda t: t["x"][...] * t["y"][0][...] * t["y"][1].v[...])({"x": w, "y": [w, model.b]})
    two = lib.grad(lambda a, b: a.w[...] * b.w[...], argnums=(0, 1))(model.a, model.b)
    return within, tree, two


def grad_keeps_changes(lib: Any) -> Any:
    model = make_model(lib)

    def f(model: Any, x: Any) -> Any:
        model.hidden = lib.Cache(model.first(x))
        model.first.kernel[...] = model.first.kernel[...] * 0
        return (model.hidden[...] ** 2).sum()

    return lib.grad(f)(model, X), model


def grad_of_grad(lib: Any) -> Any:
    model = lib.Dict(w=lib.Param(jnp.array(2.0)))
    first = lib.grad(lambda m: m.w[...] ** 3)
    return first(model), lib.grad(lambda m: first(m)["w"][...])(model), lib.jit(first)(model)


# -- vmap


def vmap_makes_and_applies(lib: Any) -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    stack = lib.vmap(lambda key: lib.Linear(3, 2, rngs=lib.Rngs(key)))(keys)
    y = lib.vmap(lambda model, x: model(x), in_axes=(0, None))(stack, X)
    z = lib.vmap(lambda model, x: model(x), in_axes=(None, 0), out_axes=1)(
        lib.Linear(3, 2, rngs=lib.Rngs(1)), X
    )
    return stack, y, z


def vmap_by_filters(lib: Any) -> Any:
    axes = lib.StateAxes({lib.Param: 1, "shared": None, ...: 0})
    model = lib.Dict(
        w=lib.Param(jnp.arange(6.0).reshape(2, 3)),
        s=lib.BatchStat(jnp.zeros(3)),
        t=lib.Variable(jnp.array(2.0), tag="shared"),
        a=jnp.arange(3.0),
    )

    def f(model: Any, x: Any) -> Any:
        model.s[...] = model.w[...].sum() * model.t[...] + model.a
        model.new = lib.Param(model.w[...] * x)
        model.t[...] = model.t[...] + 1
        return model, model.s[...]

    out = lib.vmap(f, in_axes=(axes, 0), out_axes=(axes, 0))(model, jnp.arange(3.0))
    return out[0] is model, model, out[1]


def vmap_names_sizes_and_keywords(lib: Any) -> Any:
    total = lib.vmap(lambda m: jax.lax.psum(m.w[...], "i"), axis_name="i")
    made = lib.vmap(lambda: lib.Dict(w=lib.Param(jnp.ones(2))), axis_size=3, out_axes=-1)()
    by_name = lib.vmap(lambda x, y: x + y, in_axes=(0, None))(jnp.arange(3.0), y=jnp.ones(2))
    return total(lib.Dict(w=lib.Param(jnp.arange(3.0)))), made, by_name


def vmap_of_grad_of_vmap(lib: Any) -> Any:
    keys = jax.random.split(jax.random.key(0), 3)
    stack = lib.vmap(lambda key: lib.Linear(3, 1, rngs=lib.Rngs(key)))(keys)
    per_row = lib.vmap(lambda model, x: model(x).sum(), in_axes=(None, 0))
    return lib.vmap(lib.grad(lambda model, x: per_row(model, x).sum()), in_axes=(0, None))(stack, X)


def vmap_state_axes_from_a_state(lib: Any) -> Any:
    model = lib.Linear(2, 3, rngs=lib.Rngs(0))
    axes = lib.state(model)
    axes["kernel"], axes["bias"] = 1, None
    return lib.vmap(lambda: lib.Linear(2, 3, rngs=lib.Rngs(0)), out_axes=lib.StateAxes(axes), axis_size=4)()


# -- scan


def make_stack(lib: Any) -> Any:
    keys = jax.random.split(jax.random.key(0), 3)
    return lib.vmap(lambda key: lib.Linear(3, 3, rngs=lib.Rngs(key)))(keys)


def scan_over_layers(lib: Any) -> Any:
    stack = make_stack(lib)

    def f(layer: Any, x: Any) -> Any:
        layer.norm = lib.BatchStat(jnp.sum(x))
        return jnp.tanh(layer(x))

    options = [{}, {"reverse": True}, {"unroll": 2}]
    scans = [lib.scan(f, in_axes=(0, lib.Carry), out_axes=lib.Carry, **option) for option in options]
    grads = lib.grad(lambda stack: scans[0](stack, X).sum())(stack)
    return [scan(stack, X) for scan in scans], stack, grads


def scan_with_carried_modules(lib: Any) -> Any:
    model = make_model(lib)

    @lib.scan
    def f(carry: Any, x: Any) -> Any:
        model, total = carry
        y = model(x)
        return (model, total + y.sum()), (y, model.calls[...])

    (out, total), ys = f((model, 0.0), jnp.stack([X, 2 * X]))
    return out is model, total, ys, model


def scan_by_filters(lib: Any) -> Any:
    axes = lib.StateAxes({lib.Param: 0, lib.BatchStat: lib.Carry, ...: None})
    model = lib.Dict(
        w=lib.Param(jnp.arange(3.0)), s=lib.BatchStat(jnp.zeros(())), t=lib.Variable(jnp.array(2.0))
    )

    @lib.scan(in_axes=(axes, lib.Carry, 1, None), out_axes=(1, lib.Carry, 0))
    def f(model: Any, c: Any, x: Any, k: Any) -> Any:
        model.s[...] = model.s[...] + model.w[...] * k
        return x, c + model.s[...], model.t[...] * x.sum()

    return f(model, 1.0, jnp.arange(6.0).reshape(2, 3), 2.0), model


def scan_without_carry(lib: Any) -> Any:
    model = lib.Dict(w=lib.Param(jnp.arange(3.0)))

    def f(model: Any, x: Any) -> Any:
        model.w[...] = model.w[...] + x
        return model.w[...], lib.Dict(q=lib.Param(x * 2))

    y, made = lib.scan(f, in_axes=(0, 0), out_axes=(0, 0))(model, jnp.ones(3))
    length = lib.scan(lambda c: (c * 2, c), in_axes=(lib.Carry,), length=4)(1.0)
    only = lib.scan(lambda c: c * 2, in_axes=lib.Carry, out_axes=lib.Carry, length=4)(1.0)
    return y, made, model, length, only


def scan_with_random_streams(lib: Any) -> Any:
    rngs = lib.Rngs(params=0, dropout=1).split({"params": 3})
    axes = lib.StateAxes({"params": 0, ...: None})

    @lib.scan(in_axes=(lib.Carry, axes), length=3)
    def f(carry: Any, rngs: Any) -> Any:
        return carry, (rngs.params.uniform(()), rngs.dropout.uniform(()))

    return f((), rngs), rngs, f((), rngs), lib.scan(lambda r, x: (r, r.dropout.normal(())))(rngs, X)[1]


# -- eval_shape


def abstract(lib: Any) -> Any:
    model = make_model(lib)
    made = lib.eval_shape(lambda: make_model(lib))
    y = lib.eval_shape(lambda model, x: {"y": model(x)}, model, X)
    again = lib.eval_shape(lambda model: model, model)
    return made, y, model, again is model, again


# -- programs

PROGRAMS = [
    jit_changes_values, jit_changes_structure, jit_swaps, jit_keeps_identity, jit_of_static_and_variables,
    jit_shares_variables_between_arguments, jit_of_cycles, nested_jit, value_and_grad, grad_with_aux,
    grad_by_filters, grad_by_arguments, grad_of_states_and_single_variables, grad_of_shared_variables,
    grad_keeps_changes, grad_of_grad,
    vmap_makes_and_applies, vmap_by_filters, vmap_names_sizes_and_keywords, vmap_of_grad_of_vmap,
    vmap_state_axes_from_a_state, scan_over_layers, scan_with_carried_modules, scan_by_filters,
    scan_without_carry, scan_with_random_streams, abstract,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_gives_what_it_gives_on_flax(program):
    assert_same_outcome(program)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spelling", "compiled"), [("newer", False), ("newer", True), ("older", True)], ids=str
)
def test_training_gives_the_weights_that_it_gives_on_flax(spelling, compiled):
    def train(lib: Any) -> Any:
        model = make_model(lib)
        if spelling == "newer":
            optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.Param)
        else:
            optimizer = lib.ModelAndOptimizer(model, optax.adam(1e-2))

        def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
            loss, grads = lib.value_and_grad(mse)(model, x, y)
            optimizer.update(model, grads) if spelling == "newer" else optimizer.update(grads)
            return loss

        step = lib.jit(step) if compiled else step
        losses = [step(model, optimizer, X, Y) for _ in range(3)]
        model.eval()
        return losses, model(X), lib.state(model), lib.state(optimizer.opt_state), optimizer.step[...]

    ours, theirs = train(nnx), train(flax_nnx)
    assert_same_tree(
        jax.tree.leaves([*ours[:2], nnx.to_pure_dict(ours[2])]),
        jax.tree.leaves([*theirs[:2], flax_nnx.to_pure_dict(theirs[2])]),
        rtol=1e-5,
    )
    assert [path for path, _ in nnx.to_flat_state(ours[2])] == [
        path for path, _ in flax_nnx.to_flat_state(theirs[2])
    ]
    assert int(ours[4]) == int(theirs[4]) == 3


def test_abstract_state_is_described_by_shape_and_dtype():
    made = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    assert described(nnx, made.kernel) == ("Param", {}, ("float32", (2, 3)))


# -- errors


def outer_model_changed_in(transform: str) -> Any:
    def program(lib: Any) -> None:
        model = lib.Dict(w=lib.Param(jnp.array(1.0)))

        def f(x: Any) -> Any:
            model.w[...] = x
            return x

        argument = jnp.ones(2) if transform == "vmap" else 1.0
        getattr(lib, transform)(f)(argument)

    return program


def shared(lib: Any) -> Any:
    return lib.Dict(w=lib.Param(jnp.ones((2, 2))))


def alias(name: str, *args: Any, **options: Any) -> Any:
    def program(lib: Any) -> None:
        model = shared(lib)
        getattr(lib, name)(lambda a, b: a.w[...].sum(), **options)(model, model)

    return program


def inner_jit_changes_outer_model(lib: Any) -> None:
    model = lib.Dict(w=lib.Param(jnp.array(1.0)))

    @lib.jit
    def inner(model: Any, x: Any) -> None:
        model.w[...] = x

    jax.jit(lambda x: (inner(model, x), x)[1])(1.0)


ERRORS = {
    "a model from outside changed in jit": outer_model_changed_in("jit"),
    "a model from outside changed in grad": outer_model_changed_in("grad"),
    "a model from outside changed in vmap": outer_model_changed_in("vmap"),
    "a model from outside changed by a jit inside": inner_jit_changes_outer_model,
    "sharing between axes in vmap": alias("vmap", in_axes=(0, 1)),
    "sharing between mapped and not in vmap": alias("vmap", in_axes=(0, None)),
    "sharing between differentiated and not": alias("grad"),
    "an axis in and another out": lambda lib: lib.vmap(lambda m: m, in_axes=0, out_axes=1)(shared(lib)),
    "carry in one of the two": lambda lib: lib.scan(lambda c, x: x, in_axes=(lib.Carry, 0), out_axes=0),
    "two carries": lambda lib: lib.scan(lambda a, b: (a, b), in_axes=(lib.Carry, lib.Carry)),
    "an output that is not stacked": lambda lib: lib.scan(lambda c, x: (c, x), out_axes=(lib.Carry, None))(
        1.0, jnp.ones(2)
    ),
    "another module as carry": lambda lib: lib.scan(lambda m, x: (lib.Dict(w=lib.Param(m.w[...] + x)), x))(
        lib.Dict(w=lib.Param(jnp.array(1.0))), jnp.ones(2)
    ),
    "an unmapped variable that differs": lambda lib: lib.vmap(lambda v, x: v.set_value(x), in_axes=(None, 0))(
        lib.Param(jnp.array(0.0)), jnp.ones(2)
    ),
    "axes of another length": lambda lib: lib.vmap(lambda x: x, in_axes=(0, 1))(X),
    "a gradient of a vector": lambda lib: lib.grad(lambda x: x)(jnp.ones(2)),
    "a gradient of an argument that is not there": lambda lib: lib.grad(lambda x: x, argnums=3)(1.0),
    "filters that do not cover a module": lambda lib: lib.vmap(
        lambda m: None, in_axes=(lib.StateAxes({lib.BatchStat: 0}),)
    )(shared(lib)),
    "two values for one argument": lambda lib: lib.jit(lambda x: x)(1.0, x=2.0),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_fails_on_flax_fails_alike(name):
    assert_same_error(ERRORS[name])


def test_a_module_from_outside_is_not_returned_as_a_copy():
    for transform in ("jit", "vmap"):
        for lib, error in ((nnx, nnx.TraceContextError), (flax_nnx, ValueError)):
            f = returning(shared(lib))
            with pytest.raises(error):
                getattr(lib, transform)(f)(jnp.ones(2))


def returning(model: Any) -> Any:
    return lambda x: model
