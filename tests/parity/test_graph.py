"""The same programs on graphs of modules, here and on flax.nnx: values, paths, order, sharing, errors."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from easyflax import nnx
from tests.parity.flax_oracle import FLAX_ONLY_METADATA, bits

FLAX_ONLY_ATTRIBUTES = {"_pytree__nodes", "_pytree__state", "_length"}


def described(lib: Any, value: Any) -> Any:
    """Plain data that is equal for equal results of the two libraries."""
    if isinstance(value, lib.Variable):
        metadata = {k: v for k, v in value.get_metadata().items() if k not in FLAX_ONLY_METADATA}
        return type(value).__name__, metadata, described(lib, value.get_raw_value())
    if isinstance(value, (lib.Pytree, lib.State)):
        state = value if isinstance(value, lib.State) else lib.state(value)
        return type(value).__name__, [(path, described(lib, x)) for path, x in lib.to_flat_state(state)]
    if isinstance(value, (jax.Array, np.ndarray)):
        return str(value.dtype), bits(value).tolist()
    if isinstance(value, jax.ShapeDtypeStruct):
        return str(value.dtype), value.shape
    if isinstance(value, (list, tuple)):
        return [described(lib, item) for item in value]
    if isinstance(value, dict):
        return {key: described(lib, item) for key, item in value.items()}
    if isinstance(value, type):
        return value.__name__
    return value


def outcome(lib: Any, program: Any) -> Any:
    """What a program returns, or the name of the exception that it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flax's, of spellings that work in both
        try:
            return described(lib, program(lib))
        except Exception as error:
            return f"raises {type(error).__name__}"


def assert_same_outcome(program: Any) -> None:
    ours = outcome(nnx, program)
    assert ours == outcome(flax_nnx, program)
    assert not isinstance(ours, str) or not ours.startswith("raises"), "a program that is to run raises"


def assert_same_error(program: Any) -> None:
    ours = outcome(nnx, program)
    assert ours == outcome(flax_nnx, program)
    assert isinstance(ours, str)
    assert ours.startswith("raises")


# -- programs


def make_model(lib: Any) -> Any:
    rngs = lib.Rngs(0, dropout=1)
    model = lib.Dict(
        layers=lib.List([lib.Linear(2, 2, rngs=rngs) for _ in range(11)]),
        norm=lib.BatchNorm(2, rngs=rngs),
        drop=lib.Dropout(0.5, rngs=rngs),
        array=jnp.arange(3.0),
        numpy=np.arange(2),
        tagged=lib.Variable(jnp.array(1.0), tag="slow"),
        static=("a", 1),
    )
    model.again = model.layers[3]
    return model


def split_and_state(lib: Any) -> Any:
    model = make_model(lib)
    _, state = lib.split(model)
    _, params, stats, rest = lib.split(model, lib.Param, lib.BatchStat, ...)
    aliases = [state["array"] is model.array, state["norm"]["mean"] is model.norm.mean]
    return state, params, stats, rest, lib.state(model, lib.RngState), aliases


def merged(lib: Any) -> Any:
    model = make_model(lib)
    graphdef, params, rest = lib.split(model, lib.Param, ...)
    again = lib.merge(graphdef, rest, params)
    shared = again.again is again.layers[3], again.layers[0].kernel is model.layers[0].kernel
    copied = lib.merge(graphdef, params, rest, copy=True)
    return again, shared, again.static, copied, copied.layers[0].kernel is model.layers[0].kernel


def roots_that_are_leaves(lib: Any) -> Any:
    variable = lib.Param(jnp.ones(2))
    graphdef, stats, params, rest = lib.split(variable, lib.BatchStat, lib.Param, ...)
    _, array = lib.split(jnp.ones(3))
    return stats, params, rest, params is variable, lib.merge(graphdef, stats, params, rest), array


def containers_as_roots(lib: Any) -> Any:
    a, b = lib.Linear(1, 1, rngs=lib.Rngs(0)), lib.Dict(w=lib.Param(1.0))
    states = [lib.state(root) for root in ((a, b), [a, {"x": b}], {"b": b, "a": a}, (a, a))]
    graphdef, state = lib.split((a, [b, 3, None]))
    again = lib.merge(graphdef, state)
    lib.update((a, b), jax.tree.map(lambda x: x * 0 + 7, lib.state((a, b))))
    return states, type(again), again[0], again[1][1:], a, b


def updated(lib: Any) -> Any:
    model = make_model(lib)
    kernel = model.layers[2].kernel
    lib.update(model, {"layers": {2: {"kernel": jnp.zeros((2, 2))}}, "array": jnp.ones(1)})
    state = jax.tree.map(lambda x: x + 1, lib.state(model, lib.BatchStat))
    lib.update(model, state, lib.State({"new": lib.Param(5.0)}))
    return model, model.layers[2].kernel is kernel


def cloned(lib: Any) -> Any:
    model = make_model(lib)
    clone = lib.clone(model)
    clone.norm.mean[...] = jnp.full(2, 9.0)
    shallow = lib.clone(model, variables=False)
    same = [clone.norm is model.norm, clone.again is clone.layers[3], shallow.norm.mean is model.norm.mean]
    return model, clone, same


def popped(lib: Any) -> Any:
    model = make_model(lib)
    model.seen = lib.Intermediate(jnp.ones(1))
    model.drop.seen = lib.Intermediate(jnp.zeros(1))
    first = lib.pop(model, lib.Intermediate)
    params, slow = lib.pop(model.norm, lib.Param), lib.pop(model, "slow", lib.BatchStat)
    return first, params, slow, model, lib.pop(model, lib.PathContains("array"))


def popped_from_dicts(lib: Any) -> Any:
    tree = {"a": {"b": jnp.array(1), "c": lib.Param(jnp.array(2)), "d": jnp.array(3.0)}}
    return lib.pop(tree, lib.Param), lib.pop(tree, lambda path, x: "b" in path), tree


def iterated(lib: Any) -> Any:
    model = make_model(lib)
    model.up = lib.Dict(model=model)
    kinds = (lib.Pytree, lib.Variable, jax.Array, np.ndarray)
    graph = [path for path, value in lib.iter_graph(model) if isinstance(value, kinds)]
    modules = [(path, type(value)) for path, value in lib.iter_modules(model)]
    return graph, modules, [path for path, _ in model.iter_modules()]


def children(lib: Any) -> Any:
    model = make_model(lib)
    return [(name, type(child)) for name, child in model.iter_children()]


def tree_paths(lib: Any) -> Any:
    model = make_model(lib)

    def names(tree: Any) -> list[str]:
        return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]

    return names(model), names(lib.state(model)), jax.tree.map(lambda x: x, model)


def flat_and_pure(lib: Any) -> Any:
    state = lib.state(make_model(lib), (lib.Param, lib.BatchStat))
    flat = lib.to_flat_state(state)
    pure = lib.to_pure_dict(state)
    lib.replace_by_pure_dict(state, jax.tree.map(lambda x: x + 1, pure))
    restored = lib.restore_int_paths({"a": {"0": 1, "x": 2}, "3": 4})
    return list(flat), pure, state, lib.from_flat_state(flat), restored


def replaced_by_pure_dict_leaves_the_model(lib: Any) -> Any:
    model = lib.Linear(2, 3, rngs=lib.Rngs(0))
    state = lib.state(model)
    lib.replace_by_pure_dict(state, {"bias": jnp.ones(3)})
    return model, state


def state_operations(lib: Any) -> Any:
    state = lib.State({"d": lib.Param(3), "a": {11: lib.Param(1), 10: lib.BatchStat(2), 9: lib.Cache(4)}})
    params, rest = state.split(lib.Param, ...)
    mapped = lib.map_state(lambda path, leaf: leaf.replace(len(path)), state)
    merged = lib.merge_state(params, rest)
    state["new"] = {"x": 1}
    return (
        params,
        rest,
        mapped,
        merged,
        state,
        state.filter(lib.Cache),
        state - params,
        list(state),
        len(state),
    )


def filters(lib: Any) -> Any:
    state = lib.state(make_model(lib))
    table = [
        lib.Param,
        "dropout",
        "slow",
        ...,
        True,
        False,
        None,
        (lib.BatchStat, "slow"),
        [lib.Cache],
        lib.Not(lib.Param),
        lib.All(lib.Param, lib.PathContains("norm")),
        lib.Any(lib.RngKey, lib.PathContains(3)),
        lib.PathContains("ker", exact=False),
        lib.OfType(lib.RngState),
        lambda path, value: len(path) == 1,
    ]
    return [lib.filter_state(state, filter) for filter in table]


def graphdef_equality(lib: Any) -> Any:
    def make(**changes: Any) -> Any:
        model = lib.Dict(w=lib.Param(jnp.ones(1)), n=1, child=lib.Dict(s="a"))
        for name, value in changes.items():
            setattr(model, name, value)
        return lib.graphdef(model)

    base = make()
    others = [
        make(),
        make(w=lib.Param(jnp.zeros(5))),
        make(n=2),
        make(n="1"),
        make(w=lib.BatchStat(jnp.ones(1))),
        make(w=lib.Param(jnp.ones(1), note=1)),
        make(child=lib.Dict(s="b")),
        make(child=lib.List([])),
        make(more=None),
    ]
    return [base == other for other in others], [hash(base) == hash(other) for other in others]


def modes(lib: Any) -> Any:
    model = make_model(lib)
    seen = []
    for change in (model.eval, model.train, lambda: model.set_attributes(lib.Dropout, rate=0.25)):
        change()
        seen.append((model.drop.deterministic, model.norm.use_running_average, model.drop.rate))
    model.set_attributes(nothing=1, raise_if_not_found=False)
    return seen


def sown(lib: Any) -> Any:
    class Layer(lib.Module):
        def __call__(self, x: Any) -> Any:
            self.sow(lib.Intermediate, "h", x)
            self.sow(lib.Intermediate, "sum", x, init_fn=lambda: 10, reduce_fn=lambda a, b: a + b)
            return self.perturb("p", x) * 2

    layer = Layer()
    out = [layer(jnp.array(1.0)), layer(jnp.array(2.0))]
    return out, layer, lib.pop(layer, lib.Intermediate), layer


def hooks_and_metadata(lib: Any) -> Any:
    v = lib.Param(
        jnp.array(1.0),
        on_create_value=lambda _, x: x + 10,
        on_get_value=lambda _, x: x * 2,
        on_set_value=lambda _, x: x - 1,
    )
    first = v[...]
    v[...] = jnp.array(5.0)
    w = lib.Param(
        lib.with_metadata(lib.initializers.ones_init(), role="a")(jax.random.key(0), (2,), jnp.float32)
    )
    w.set_metadata("more", 1)
    return first, v.get_raw_value(), v[...], w.role, w.has_metadata("more"), w.replace(jnp.zeros(1)), w.copy()


def arithmetic(lib: Any) -> Any:
    a, b = lib.Param(jnp.array([3, -1])), lib.BatchStat(jnp.array([2.0, 4.0]))
    return [
        a + b, a - 1, 2 * b, b / a, a // 2, a % 2, b**2, -a, abs(a), a @ b, a == b, b[0],
        1 - b, 2**b, 1 / b, a.T, b.sum(), jnp.sin(b), len(a),
        np.ones(2) + b, np.float32(2) * b, np.ones(2) @ b,
    ]  # fmt: skip


def random_keys(lib: Any) -> Any:
    rngs = lib.Rngs(0, params=1, dropout=jax.random.key(7))
    drawn = [rngs(), rngs.params(), rngs.params(), rngs.other(), rngs["dropout"](), rngs.normal((2,))]
    drawn += [rngs.params.uniform((2,)), rngs.lecun_normal()((2, 2), jnp.float32)]
    derived = [rngs.fork(), rngs.fork(split=3), rngs.fork(split={"params": 2, ...: None})]
    derived += [
        rngs.split(2),
        rngs.split({"params": (2, 2)}),
        rngs.broadcast(2),
        rngs.broadcast({"params": 3}),
    ]
    return drawn, derived, rngs, list(rngs), len(rngs), "other" in rngs, rngs.params.split(2)


def variable_names(lib: Any) -> Any:
    names = ["params", "batch_stats", "cache", "intermediates", "perturbations"]
    return [lib.variable_type_from_name(name) for name in names], lib.variable_name_from_type(lib.Param)


def applied(lib: Any) -> Any:
    graphdef, state = lib.split(lib.Dict(layer=lib.Linear(2, 3, rngs=lib.Rngs(0))))
    y, (graphdef, state) = graphdef.apply(state).layer(jnp.ones((1, 2)))
    return y, state


def dict_and_list(lib: Any) -> Any:
    items, table = lib.List([1, 2]), lib.Dict({"a": 1}, b=2)
    items.append(lib.Param(1.0))
    items[0] = lib.data(lib.Param(2.0))
    items += [5]
    items[-1] = 7
    table["c"] = lib.Param(3.0)
    del table["a"]
    return items, len(items), items[1], table, sorted(table), "b" in table


def marks(lib: Any) -> Any:
    class Marked(lib.Module):
        step: lib.Data[int]

        def __init__(self) -> None:
            self.step = 1
            self.count = lib.data(2)
            self.name = lib.static("x")

    module = Marked()
    module.step = 5
    module.count = "text"
    states = [lib.state(module)]
    module.count = lib.static(3)
    return *states, lib.state(module), lib.is_data(jnp.ones(1)), lib.is_data(1)


PROGRAMS = [
    split_and_state, merged, roots_that_are_leaves, containers_as_roots, updated, cloned, popped,
    popped_from_dicts, iterated, children, tree_paths, flat_and_pure, replaced_by_pure_dict_leaves_the_model,
    state_operations, filters, graphdef_equality, modes, sown, hooks_and_metadata, arithmetic, random_keys,
    variable_names, applied, dict_and_list, marks,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_gives_what_it_gives_on_flax(program):
    assert_same_outcome(program)


ERRORS = {
    "filters that do not cover all": lambda lib: lib.split(make_model(lib), lib.Param),
    "everything before another filter": lambda lib: lib.split(make_model(lib), ..., lib.Param),
    "merge without a leaf": lambda lib: lib.merge(lib.graphdef(make_model(lib)), lib.State({})),
    "merge with a leaf too many": lambda lib: lib.merge(
        lib.graphdef(lib.Dict(a=lib.Param(1))), {"a": lib.Param(1), "b": lib.Param(2)}
    ),
    "pop without a filter": lambda lib: lib.pop(make_model(lib)),
    "an unknown attribute": lambda lib: make_model(lib).set_attributes(unknown=1),
    "an unknown stream": lambda lib: lib.Rngs(params=0).dropout,
    "an unknown stream by key": lambda lib: lib.Rngs(params=0)["dropout"],
    "no default stream": lambda lib: lib.Rngs(params=0)(),
    "a seed that is none": lambda lib: lib.Rngs(1.5),
    "a missing entry of a state": lambda lib: lib.State({}).a,
    "a missing key of a state": lambda lib: lib.State({})["a"],
    "a missing item of a dict": lambda lib: lib.Dict()["a"],
    "a missing attribute of a dict": lambda lib: lib.Dict().a,
    "a missing item of a list": lambda lib: lib.List([1])[1],
    "a pure dict with another path": lambda lib: lib.replace_by_pure_dict(
        lib.state(make_model(lib)), {"zz": 1}
    ),
    "a value of another shape": lambda lib: lib.Param(jnp.ones(2)).__setitem__(..., jnp.ones(3)),
    "sow over another attribute": lambda lib: lib.Dict(a=1).sow(lib.Intermediate, "a", 1),
    "sow over another kind": lambda lib: lib.Dict(a=lib.Param(1)).sow(lib.Intermediate, "a", 1),
    "a registered name": lambda lib: lib.register_variable_name("params", lib.Cache),
    "an array that is static": lambda lib: lib.Dict(a=lib.static(jnp.ones(1))),
    "a change from inside jit": lambda lib: jax.jit(
        lambda model, x: model[0].tagged.set_value(x), static_argnums=0
    )((make_model(lib),), 1.0),
    "an attribute from inside jit": lambda lib: change_inside_jit(lib),
    "a key from inside jit": lambda lib: draw_inside_jit(lib),
    "copy_from another kind": lambda lib: lib.Param(1).copy_from(lib.Cache(1)),
}


def change_inside_jit(lib: Any) -> None:
    model = make_model(lib)

    def f(x: Any) -> Any:
        model.static = 3
        return x

    jax.jit(f)(1.0)


def draw_inside_jit(lib: Any) -> None:
    rngs = lib.Rngs(0)
    jax.jit(lambda x: (rngs(), x)[1])(1.0)


@pytest.mark.parametrize("name", ERRORS)
def test_what_fails_on_flax_fails_alike(name):
    assert_same_error(ERRORS[name])


# -- random programs


def build(lib: Any, steps: list[tuple[int, int, int]]) -> Any:
    """Runs random changes of a growing graph of modules."""
    root = lib.Dict(v0=lib.Param(jnp.array(0.0)))
    modules = [root]
    for number, (kind, a, b) in enumerate(steps):
        module, other = modules[a % len(modules)], modules[b % len(modules)]
        if kind == 0:
            kind_of_variable = (lib.Param, lib.BatchStat, lib.Cache)[b]
            setattr(module, f"v{b}", kind_of_variable(jnp.array(float(number))))
        elif kind == 1:
            modules.append(lib.Dict())
            setattr(module, f"m{b}", modules[-1])
        elif kind == 2:
            setattr(module, f"s{b}", other)
        elif kind == 3:
            setattr(module, f"l{b}", lib.List([lib.Param(jnp.array(1.0 * number)), other, number]))
        elif kind == 4:
            setattr(module, f"a{b}", jnp.array(float(number)))
        elif kind == 5:
            setattr(module, f"n{b}", number)
        elif kind == 6:
            variable = next((x for x in vars(other).values() if isinstance(x, lib.Variable)), None)
            setattr(module, f"w{b}", variable)
        else:
            names = sorted(n for n in vars(module) if n in ("v1", "v2", "s0", "s1", "l0", "a0", "n1"))
            if names:
                delattr(module, names[b % len(names)])
    return root


@settings(derandomize=True, deadline=None, max_examples=40, database=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_random_graphs_are_split_cloned_and_walked_as_on_flax(steps):
    def program(lib: Any) -> Any:
        root = build(lib, steps)
        graphdef, params, rest = lib.split(root, lib.Param, ...)
        again = lib.merge(graphdef, params, rest)
        paths = [path for path, _ in lib.iter_graph(again) if not set(map(str, path)) & FLAX_ONLY_ATTRIBUTES]
        return params, rest, lib.state(lib.clone(again)), paths, lib.graphdef(lib.clone(root)) == graphdef

    assert_same_outcome(program)
