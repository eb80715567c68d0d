"""Views, captures, maps over graphs, contexts and state functions, here and on flax.nnx."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import FLAX_ONLY_METADATA
from tests.parity.test_graph import FLAX_ONLY_ATTRIBUTES, assert_same_error, assert_same_outcome, make_model


def viewed(lib: Any) -> Any:
    model = make_model(lib)
    train, test = lib.view(model, deterministic=False), lib.view(model, deterministic=True)
    stats = lib.view(model, only=lib.BatchNorm, use_running_average=True)
    seen = [(m.drop.deterministic, m.norm.use_running_average) for m in (model, train, test, stats)]
    shared = [test.norm.mean is model.norm.mean, test.norm is model.norm, test.again is test.layers[3]]
    other = lib.with_attributes(model, rate=0.25, use_fast_variance=False)
    return seen, shared, other.drop.rate, model.drop.rate, other.norm.use_fast_variance


def views_of_own_modules(lib: Any) -> Any:
    class Own(lib.Module):
        def __init__(self, sub: Any = None) -> None:
            self.mode = "a"
            self.sub = sub

        def set_view(self, mode: str | None = None, **kwargs: Any) -> None:
            """Sets it.

            Args:
              mode: which one.
            """
            self.mode = mode or self.mode
            self.seen = tuple(sorted(kwargs))

    own = Own(Own(lib.Dropout(0.5)))
    new = lib.view(own, mode="b", anything=1)
    only = lib.view(own, only=lambda path, _: path == ("sub",), mode="c")
    found = [new.mode, new.sub.mode, own.mode, new.seen, only.mode, only.sub.mode, hasattr(own, "seen")]
    return found, lib.view_info(own, only=Own).replace(Own.__qualname__, "Own").splitlines()


def make_sowing(lib: Any) -> Any:
    class Layer(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.linear = lib.Linear(2, 2, rngs=rngs)

        def helper(self, x: Any) -> Any:
            return jnp.tanh(x)

        def __call__(self, x: Any) -> Any:
            x = self.perturb("before", x)
            y = self.helper(self.linear(x))
            self.sow(lib.Intermediate, "after", y)
            self.sow(lib.Cache, "largest", y.max(), init_fn=lambda: -jnp.inf, reduce_fn=jnp.maximum)
            return y

    class Net(lib.Module):
        def __init__(self) -> None:
            self.layers = lib.List([Layer(lib.Rngs(i)) for i in range(2)])
            self.first = self.layers[0]

        def __call__(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return self.first(x)

    return Net()


def captured(lib: Any) -> Any:
    net, x = make_sowing(lib), jnp.arange(4.0).reshape(2, 2)
    out = lib.capture(net, lib.Intermediate)(x)
    several = lib.capture(lib.Cache, lib.Perturbation)(lambda net, x: net(x))(net, x)
    outputs = lib.capture(net, lib.Intermediate, method_outputs=lib.Intermediate)(x)
    ours = set(vars(net)) - FLAX_ONLY_ATTRIBUTES
    return out, several, outputs, lib.capture(net)(x), sorted(map(str, ours))


def captured_gradients(lib: Any) -> Any:
    net, x = make_sowing(lib), jnp.arange(4.0).reshape(2, 2)
    _, zeros = lib.capture(net, lib.Perturbation)(x)

    @lib.jit
    def step(net: Any, zeros: Any, x: Any) -> Any:
        def loss(net: Any, zeros: Any) -> Any:
            out, sown = lib.capture(net, lib.Intermediate, init=zeros)(x)
            return (out**2).sum(), sown

        (grads, seen), sown = lib.grad(loss, argnums=(0, 1), has_aux=True)(net, zeros)
        return grads, lib.merge_state(seen, sown)

    return step(net, zeros, x)


def mapped(lib: Any) -> Any:
    model = make_model(lib)
    paths = []

    def change(path: Any, leaf: Any) -> Any:
        paths.append(path)
        if isinstance(leaf, lib.Param):
            return leaf.replace(jnp.zeros_like(leaf.get_raw_value()))
        return leaf.get_raw_value() if isinstance(leaf, lib.Variable) else leaf * 2

    return lib.map(change, model), paths, model, lib.map(lambda _, v: v * 2, lib.Param(jnp.array(3.0)))


def recursively_mapped(lib: Any) -> Any:
    model = make_model(lib)
    visited = []

    def change(path: Any, value: Any) -> Any:
        if not {*map(str, path)} & FLAX_ONLY_ATTRIBUTES and isinstance(value, (lib.Pytree, lib.Variable)):
            visited.append((path, type(value).__name__))
        if isinstance(value, lib.Linear):
            return lib.Dict(inner=value)
        if isinstance(value, lib.Dropout):
            value.rate = 0.0
        return value

    new = lib.recursive_map(change, model)
    return visited, new, new.again is new.layers[3], new.drop.rate, model.drop.rate, model


def duplicates(lib: Any) -> Any:
    model = make_model(lib)
    model.tied = model.norm.scale
    model.twice = model.array
    return lib.find_duplicates(model), lib.find_duplicates(model, only=lib.Variable)


def iterated_children(lib: Any) -> Any:
    model = make_model(lib)
    model.plain = lib.data([lib.Linear(1, 1, rngs=lib.Rngs(0))])
    children = [(name, type(child)) for name, child in lib.iter_children(model)]
    return children, [(name, type(child)) for name, child in lib.iter_module_children(model)]


def metadata_of_many(lib: Any) -> Any:
    model = make_model(lib)
    lib.set_metadata(model, note=1)
    lib.set_metadata(model, only=lib.BatchStat, note=2, more=(1, 2))
    return model


def unpacked(lib: Any) -> Any:
    model = make_model(lib)
    params, rest = lib.unpack(model, lib.Param, ...)
    again = lib.merge(rest, params)
    params["norm"]["scale"] = jnp.zeros(2)
    lib.update(model, params)
    return again, model, sorted(params), len(rest)


def pure(lib: Any) -> Any:
    model = make_model(lib)
    params = lib.state(model, (lib.Param, lib.BatchStat))
    return dict(lib.to_flat_state(lib.as_pure(params))), lib.as_pure([model.norm.scale, 1])


def called(lib: Any) -> Any:
    class Counter(lib.Module):
        def __init__(self) -> None:
            self.count = lib.Variable(jnp.array(0))

        def add(self, by: Any = 1) -> Any:
            self.count[...] += by
            return self.count[...]

    @jax.jit
    def step(graph_state: Any) -> Any:
        out, graph_state = lib.call(graph_state)["b"][0].add(by=3)
        return out, graph_state

    out, graph_state = step(lib.split({"a": Counter(), "b": [Counter()]}))
    return out, lib.merge(*graph_state)


def partially_applied(lib: Any) -> Any:
    model = lib.Dict(linear=lib.Linear(2, 1, rngs=lib.Rngs(0)), drop=lib.Dropout(0.5, rngs=lib.Rngs(1)))
    optimizer = lib.Optimizer(model, optax.sgd(0.1), wrt=lib.Param)

    @lib.jit
    def step(model: Any, optimizer: Any, x: Any) -> Any:
        def loss(model: Any) -> Any:
            return (model.drop(model.linear(x)) ** 2).mean()

        value, grads = lib.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    train = lib.cached_partial(step, model, optimizer)
    model.eval()
    return [train(jnp.ones((4, 2))) for _ in range(3)], model, model.drop.deterministic


def train_state(lib: Any) -> Any:
    class State(lib.TrainState):
        stats: Any

    graphdef, params, stats = lib.split(
        lib.Dict(a=lib.Linear(2, 2, rngs=lib.Rngs(0)), b=lib.BatchStat(jnp.ones(1))), lib.Param, lib.BatchStat
    )
    state = State.create(graphdef, params=params, tx=optax.adam(0.1), stats=stats)
    y, _ = state.apply("params", "stats").a(jnp.ones((1, 2)))
    state = state.apply_gradients(jax.tree.map(jnp.ones_like, state.params), stats=stats)
    return y, state.params, state.stats, state.step


def updated_in_contexts(lib: Any) -> Any:
    model = make_model(lib)
    with lib.update_context("t"):
        with lib.split_context("t") as ctx:
            first, second = ctx.split(model), ctx.split(model.norm)

        @jax.jit
        def inside(first: Any, second: Any) -> Any:
            with lib.merge_context("t", True) as ctx:
                model, norm = ctx.merge(*first), ctx.merge(*second)
            norm.scale[...] += 1
            norm.added = model.layers[0]
            model.drop.rate = 0.1
            with lib.split_context("t") as ctx:
                return ctx.split(model), ctx.split(norm)

        first, second = inside(first, second)
        with lib.merge_context("t", False) as ctx:
            out, norm = ctx.merge(*first), ctx.merge(*second)
    same = [out is model, norm is model.norm, norm.added is model.layers[0]]
    return model, same, model.drop.rate


def dataclasses_of_modules(lib: Any) -> Any:
    @lib.dataclass
    class Made(lib.Module):
        a: int = lib.static()
        b: Any = lib.data()
        c: Any = lib.data(default=3)
        d: int = 4

    @dataclasses.dataclass
    class Standard(lib.Module):
        weight: Any
        rngs: Any

        def __post_init__(self) -> None:
            self.linear = lib.Linear(2, 2, rngs=self.rngs)

    made = Made(a=1, b=jnp.ones(2))
    return made, jax.tree.leaves(made), Standard(lib.Param(1.0), lib.Rngs(0)), lib.has_data([1, made.b])


def nested_mappings(lib: Any) -> Any:
    nested = {"a": 1, "b": {"c": {}, "d": [2]}}
    t = lib.traversals
    flat = t.flatten_mapping(nested)
    joined = t.flatten_mapping(nested, sep="/")
    return flat, joined, t.unflatten_mapping(joined, sep="/"), t.flatten_to_sequence(nested)


def updates_add_copies(lib: Any) -> Any:
    model, added = lib.Dict(a=lib.Param(1.0)), lib.Param(2.0)
    lib.update(model, {"b": added, "a": lib.Param(3.0, note=1)})
    return model, model.b is added


def updates_by_several_states(lib: Any) -> Any:
    model = lib.Dict(a=lib.Param(1.0), b=lib.BatchStat(2.0), items=lib.List([lib.Param(3.0)]), n=jnp.ones(1))
    lib.update(model, {"a": 5.0}, lib.State({"b": lib.BatchStat(6.0)}), {"a": 7.0, "items": {0: 8.0}})
    lib.update(model, lib.State({}), {"n": jnp.zeros(2)})
    variable = lib.Param(1.0)
    lib.update(variable, lib.Param(4.0, note="x"))
    plain = {"a": {"b": 1, "c": lib.Param(jnp.array(2))}, "l": [lib.Param(1)]}
    lib.update(plain, {"a": {"b": 4, "c": jnp.array(10)}, "l": {0: 7}})
    return model, variable, plain


def popped_by_path(lib: Any) -> Any:
    model = make_model(lib)
    tagged, arrays = lib.pop(model, "slow", lambda path, x: not isinstance(x, lib.Variable))
    rest = lib.pop(model.norm, lib.BatchStat, lib.Param)
    return tagged, arrays, rest, model


def flat_states(lib: Any) -> Any:
    state = lib.state(lib.Dict(a=lib.Param(1.0), b=lib.Dict(c=lib.BatchStat(2.0), d=lib.Param(3.0))))
    flat = lib.to_flat_state(state)
    params, rest = flat.split(lib.Param, ...)
    merged = lib.FlatState.merge(rest, params)
    return (
        [list(flat), flat.paths, list(flat.leaves), len(flat), flat[0], list(params), list(rest)],
        [list(merged), merged.to_nested_state(), list(flat.filter(lib.BatchStat)), lib.State(state)],
        [lib.from_flat_state(dict(flat)), lib.from_flat_state(list(flat)), flat == lib.to_flat_state(state)],
    )


def states_as_mappings(lib: Any) -> Any:
    state = lib.State({"b": {"x": lib.Param(1.0)}, "a": lib.BatchStat(2.0)})
    other = lib.State({"b": {"y": lib.Param(5.0)}})
    union = state | other
    attribute, state.c = state.b.x, {"z": 3}
    del state["a"]
    extracted = lib.to_pure_dict(union, extract_fn=lambda leaf: leaf.get_value() + 1)
    flat = state.flat_state()
    return (
        [union, attribute, state, "c" in state, sorted(union), dict(state.raw_mapping).keys() == {"b", "c"}],
        [extracted, state.to_pure_dict(), list(flat), lib.State.from_flat_path(dict(flat))],
        [jax.tree.map(lambda x: x + 1, union), jax.tree.leaves(state), state == state, bool(lib.State({}))],
    )


def pure_dicts_replaced(lib: Any) -> Any:
    state = lib.state(lib.List([lib.Dict(w=lib.Param(1.0)), lib.Dict(w=lib.BatchStat(2.0))]))
    lib.replace_by_pure_dict(state, {"1": {"w": 5.0}})
    state.replace_by_pure_dict({0: {"w": 7.0}}, replace_fn=lambda leaf, value: leaf.replace(value * 2))
    return state


def split_states(lib: Any) -> Any:
    state = lib.state(make_model(lib))
    one = lib.split_state(state, ...)
    params, keys, rest = lib.split_state(state, lib.Param, lib.RngState, ...)
    filtered = lib.filter_state(state, lib.BatchStat), lib.filter_state(state, lib.Param, "slow")
    return one, params, keys, rest, filtered, lib.merge_state(params, keys, rest)


def variables_with_hooks(lib: Any) -> Any:
    calls = []

    class Hooked(lib.Variable):
        def on_get_value(self, value: Any) -> Any:
            calls.append("get")
            return value + 1

        def on_set_value(self, value: Any) -> Any:
            calls.append("set")
            return value * 2

        def on_create_value(self, value: Any) -> Any:
            calls.append("create")
            return value - 3

        def on_add_axis(self, index: int, name: str) -> None:
            calls.append((index, name))

        def on_remove_axis(self, index: int, name: str) -> None:
            calls.append((name, index))

    variable = Hooked(jnp.array(10.0), note=1)
    seen = [variable.get_value(), variable[...], variable.get_raw_value()]
    variable.set_value(jnp.array(5.0))
    variable[...] = jnp.array(6.0)
    variable.add_axis(0, "layers")
    variable.remove_axis(1, "batch")
    others = [one.get_raw_value() for one in (variable, variable.copy(), variable.replace(jnp.array(1.0)))]
    return seen, others, sorted(variable.get_metadata().keys() - FLAX_ONLY_METADATA), calls, variable.note


def hooks_in_modules(lib: Any) -> Any:
    class Box(lib.Module):
        def __init__(self) -> None:
            self.w = lib.Param(jnp.array(2.0), on_set_value=lambda _, x: x * 10)

        def __call__(self) -> Any:
            self.w[...] = self.w[...] + 1
            return self.w[...]

    box = Box()
    outs = [lib.jit(lambda box: box())(box)]
    graphdef, state = lib.split(box)
    outs.append(lib.merge(graphdef, state)())
    lib.update(box, {"w": jnp.array(1.0)})
    return outs, box.w.get_raw_value(), lib.clone(box).w.get_raw_value()


def variable_methods(lib: Any) -> Any:
    v = lib.Param(jnp.arange(3.0), note="a")
    w = v.replace(jnp.ones(3))
    v.copy_from(lib.Param(jnp.zeros(3), other=1))
    u = lib.Param(jnp.arange(3.0), note="a")
    u.update_from_state(lib.Param(jnp.ones(2), fresh=True))
    own = {name: value for name, value in u.get_metadata().items() if name in FLAX_ONLY_METADATA}
    u.set_metadata({"x": 1, **own})
    u.set_metadata("y", 2)
    u.set_metadata(z=3)
    u.del_metadata("y")
    return [
        v,
        w,
        u,
        u.get_metadata("none", default=4),
        u.has_metadata("x"),
        u.x,
        u.type is lib.Param,
        v.shape,
    ]


def trees_of_variables(lib: Any) -> Any:
    v = lib.Variable({"a": jnp.ones(2), "b": 1})
    v["b"] = 5
    holder = lib.Dict(v=v)
    return v["a"], holder, lib.to_pure_dict(lib.state(holder)), lib.clone(holder).v["b"], "a" in v


def lists_and_dicts(lib: Any) -> Any:
    rngs = lib.Rngs(0)
    items = lib.List([lib.Linear(1, 1, rngs=rngs) for _ in range(3)])
    items.insert(1, lib.Param(5.0))
    del items[0]
    items.extend([lib.Param(6.0)])
    last = items.pop()
    table = lib.Dict(a=lib.Param(1.0), b=lib.List([1, 2]))
    table.update(c=lib.Param(2.0))
    popped = table.pop("a")
    return items, len(items), last, table, popped, list(table), items[-1], items[0:2], table.get("z", 9)


PROGRAMS = [
    viewed, views_of_own_modules, captured, captured_gradients, mapped, recursively_mapped, duplicates,
    iterated_children, metadata_of_many, unpacked, pure, called, partially_applied, train_state,
    updated_in_contexts, dataclasses_of_modules, nested_mappings, updates_add_copies,
    updates_by_several_states, popped_by_path, flat_states, states_as_mappings, pure_dicts_replaced,
    split_states, variables_with_hooks, hooks_in_modules, variable_methods, trees_of_variables,
    lists_and_dicts,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.__name__ for program in PROGRAMS])
def test_a_program_gives_what_it_gives_on_flax(program: Any):
    assert_same_outcome(program)


def change_structure(model: Any) -> None:
    model.added = 1


ERRORS = {
    "an unused view": lambda lib: lib.view(make_model(lib), decode=True),
    "an unknown attribute": lambda lib: lib.with_attributes(make_model(lib), unknown=1),
    "states of two modules": lambda lib: lib.merge(lib.unpack(lib.Dict()), lib.unpack(lib.Dict(a=1))),
    "no state": lambda lib: lib.merge(lib.graphdef(lib.Dict())),
    "children of a number": lambda lib: list(lib.iter_children(1)),
    "no update context": lambda lib: lib.current_update_context("nothing"),
    "squeeze several": lambda lib: lib.split_rngs(lib.Rngs(0), splits=2, squeeze=True),
    "reseed several": lambda lib: lib.reseed(lib.Rngs(0).split(2), default=1),
    "an unknown policy": lambda lib: lib.reseed(lib.Rngs(0), default=1, policy="none"),
    "check a dict": lambda lib: lib.check_pytree({}),
    "a structure changed under cached_partial": lambda lib: lib.cached_partial(
        lib.jit(change_structure), lib.Dict(a=lib.Param(1.0))
    )(),
    "a subgraph gets a leaf": lambda lib: lib.update(lib.Dict(a=lib.Dict()), {"a": lib.Param(1)}),
    "pop an item": lambda lib: lib.pop([lib.Param(1)], lib.Param),
    "prefix without a match": lambda lib: lib.prefix(lib.Dict(a=lib.Param(1)), {lib.BatchStat: 0}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_fails_on_flax_fails_alike(name: str):
    assert_same_error(ERRORS[name])


@pytest.mark.parametrize("by_function", [False, True])
def test_prefixes_map_alike(by_function: bool):
    def program(lib: Any) -> Any:
        class Model(lib.Module):
            def __init__(self, rngs: Any) -> None:
                self.weight = lib.Param(rngs.normal((3, 2)))
                self.stat = lib.BatchStat(jnp.array(2.0))

        both = {"m": Model(lib.Rngs(0)), "v": lib.Param(jnp.arange(3.0))}

        def rule(_: Any, leaf: Any) -> Any:
            return None if isinstance(leaf, lib.BatchStat) else 0

        axes = lib.prefix(both, rule if by_function else {lib.Param: 0, ...: None})

        def f(both: Any, x: Any) -> Any:
            return (both["m"].weight * x + both["m"].stat).sum() + both["v"][...]

        options = {} if lib is nnx else {"graph_updates": False}
        return lib.vmap(f, in_axes=(axes, None), **options)(both, jnp.ones(2))

    np.testing.assert_allclose(program(nnx), program(flax_nnx), rtol=1e-6)
