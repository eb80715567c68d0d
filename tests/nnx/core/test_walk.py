"""The kept traversal: it lasts while nothing changes, every change is noticed, and it keeps nothing alive."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx
from easyflax.nnx.core.walk import Walk, walk


class Layer(nnx.Module):
    def __init__(self, value=1.0, rate=0.5):
        self.w = nnx.Param(jnp.full(2, value), note=0)
        self.stat = nnx.BatchStat(jnp.array(value))
        self.features = 2
        self.drop = nnx.Dropout(rate, rngs=nnx.Rngs(0))


def make_model():
    model = nnx.Dict(
        layer=Layer(),
        items=nnx.List([Layer(2.0), Layer(3.0)]),
        table=nnx.Dict(x=Layer(4.0), n=1),
        plain=[Layer(5.0), {"k": nnx.Param(jnp.array(6.0)), "n": 1}, 3],
        mapping={"a": nnx.Param(jnp.array(7.0)), "n": 1},
        pair=(Layer(8.0), jnp.ones(1)),
        array=jnp.arange(2.0),
        count=nnx.data(1),
        opt=optax.adam(1e-3).init({"w": jnp.ones(2)}),
        fixed=nnx.Param(jnp.zeros(1)),
    )
    model.shared = model.layer
    model.me = model
    return model


NUMBERS = [("count",), ("table", "n")]  # inside of compiled functions they may be arrays


def probe(model):
    """All that a function could see of a model: values, paths, static attributes, kinds and metadata."""
    seen = {}
    for path, value in nnx.iter_graph(model):
        name = "/".join(map(str, path))
        if isinstance(value, nnx.Variable):
            seen[f"{name} {type(value).__name__} {sorted(value.get_metadata().items())}"] = value.value
        elif isinstance(value, (jax.Array, np.ndarray)) or path in NUMBERS:
            seen[name] = value
        elif isinstance(value, (nnx.Pytree, list, dict, tuple)):
            seen[f"{name} {type(value).__name__}"] = 0
        else:
            seen[f"{name}={value!r} {type(value).__name__}"] = 0
    return {name: jax.random.key_data(x) if is_key(x) else x for name, x in seen.items()}


def is_key(x):
    return jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key)


jitted_probe = nnx.jit(probe)
pytestmark = pytest.mark.filterwarnings("ignore:nnx.jit has traced")  # one probe for all structures


def assert_up_to_date(model):
    """The kept walk is the one that would be made now; a compiled function sees what an eager one does."""
    kept, fresh = walk(model), Walk((model,))
    assert kept.graphdef == fresh.graphdef
    assert all(a is b for a, b in zip(kept.variables, fresh.variables, strict=True))
    assert all(a is b for a, b in zip(kept.values(), fresh.values(), strict=True))
    inside, outside = jitted_probe(model), probe(model)
    assert sorted(inside) == sorted(outside)
    for name, value in outside.items():
        np.testing.assert_array_equal(inside[name], value, err_msg=name)


def jit_append(model):
    def grow(model):
        model.items.append(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
        model.plain.append(nnx.Param(jnp.ones(1)))
        del model.table
        model.layer.features = 5

    nnx.jit(grow)(model)


def rename(mapping):
    mapping["b"] = mapping.pop("a")


def swap(items):
    items[0], items[1] = items[1], items[0]


STRUCTURE = {
    "a static attribute": lambda m: setattr(m.layer, "features", 7),
    "an equal value of another type": lambda m: setattr(m.layer, "features", 2.0),
    "a new attribute": lambda m: setattr(m.layer, "more", nnx.Param(jnp.ones(1))),
    "a deleted attribute": lambda m: delattr(m.layer, "stat"),
    "another variable": lambda m: setattr(m.layer, "w", nnx.Param(jnp.full(2, 9.0), note=0)),
    "a variable of another kind": lambda m: setattr(m.layer, "stat", nnx.Cache(m.layer.stat.value)),
    "another module": lambda m: setattr(m, "layer", Layer(9.0)),
    "sharing ended": lambda m: setattr(m, "shared", Layer()),
    "sharing begun": lambda m: setattr(m.table, "x", m.layer),
    "a cycle cut": lambda m: setattr(m, "me", None),
    "an array of numpy": lambda m: setattr(m, "array", np.ones(2)),
    "an array turned into a variable": lambda m: setattr(m, "array", nnx.Param(m.array)),
    "a marked number": lambda m: setattr(m, "count", 2),
    "a mark": lambda m: setattr(m.table, "n", nnx.data(3)),
    "a mark on the same value": lambda m: setattr(m.table, "n", nnx.data(m.table.n)),
    "a mark taken back": lambda m: setattr(m, "count", nnx.static(3)),
    "List.append": lambda m: m.items.append(Layer()),
    "List.insert": lambda m: m.items.insert(0, Layer(9.0)),
    "List item": lambda m: m.items.__setitem__(1, Layer(9.0)),
    "List slice": lambda m: m.items.__setitem__(slice(0, 1), [Layer(9.0), 3]),
    "List item deleted": lambda m: m.items.__delitem__(0),
    "List.pop": lambda m: m.items.pop(),
    "List.reverse": lambda m: m.items.reverse(),
    "List.clear": lambda m: m.items.clear(),
    "List items swapped": lambda m: swap(m.items),
    "Dict item": lambda m: m.table.__setitem__("y", Layer()),
    "Dict item deleted": lambda m: m.table.__delitem__("x"),
    "Dict.update": lambda m: m.table.update(n=2),
    "list.append": lambda m: m.plain.append(nnx.Param(jnp.ones(1))),
    "list item": lambda m: m.plain.__setitem__(0, Layer(9.0)),
    "list item deleted": lambda m: m.plain.__delitem__(0),
    "list items swapped": lambda m: swap(m.plain),
    "a static item of a list": lambda m: m.plain.__setitem__(2, 4),
    "list.clear": lambda m: m.plain.clear(),
    "an item of a dict in a list": lambda m: m.plain[1].__setitem__("k", nnx.Param(jnp.array(9.0))),
    "a static item of a dict in a list": lambda m: m.plain[1].__setitem__("n", 2),
    "dict item": lambda m: m.mapping.__setitem__("a", nnx.Param(jnp.array(9.0))),
    "dict item added": lambda m: m.mapping.__setitem__("b", nnx.Param(jnp.array(9.0))),
    "dict item deleted": lambda m: m.mapping.__delitem__("a"),
    "dict item under another name": lambda m: rename(m.mapping),
    "a static item of a dict": lambda m: m.mapping.__setitem__("n", 2),
    "another list": lambda m: setattr(m, "plain", list(m.plain)),
    "another tuple": lambda m: setattr(m, "pair", (m.pair[0], jnp.zeros(1))),
    "a module in a tuple": lambda m: setattr(m.pair[0], "features", 9),
    "a longer tuple": lambda m: setattr(m, "pair", (*m.pair, 1)),
    "a state of optax": lambda m: setattr(m, "opt", jax.tree.map(lambda x: x + 1, m.opt)),
    "metadata": lambda m: m.layer.w.set_metadata(note=1),
    "metadata as an attribute": lambda m: setattr(m.layer.w, "note", 1),
    "metadata deleted": lambda m: m.layer.w.del_metadata("note"),
    "metadata of another variable taken over": lambda m: m.layer.w.copy_from(m.layer.w.copy(note=2)),
    "eval()": lambda m: m.eval(),
    "set_attributes": lambda m: m.set_attributes(nnx.Dropout, rate=0.25),
    "pop": lambda m: nnx.pop(m, nnx.BatchStat),
    "update of metadata": lambda m: nnx.update(m, {"layer": {"w": nnx.Param(jnp.ones(2), note=3)}}),
    "update of a new path": lambda m: nnx.update(m, {"layer": {"more": nnx.Param(jnp.ones(2))}}),
    "a compiled function that changes structure": jit_append,
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_change_of_structure_is_noticed(name):
    model = make_model()
    first = walk(model)
    STRUCTURE[name](model)
    assert walk(model) is not first
    assert_up_to_date(model)


def jit_elsewhere(model):
    def change(layer, x):
        layer.w += x
        layer.drop.rngs.count[...] += 1

    nnx.jit(change)(model.layer, 1.0)


def jit_variable(model):
    def change(w):
        w += 1

    nnx.jit(change)(model.layer.w)


def jit_in_containers(model):
    def change(tree):
        tree[0]["w"].value += 1
        tree[1].array = tree[1].array + 1
        tree[1].pair[0].w += 1

    nnx.jit(change)(({"w": model.layer.w}, model))


def jit_state(model):
    def change(state):
        state.layer.w += 1
        state.array = state.array + 1

    state = nnx.state(model)
    nnx.jit(change)(state)
    model.array = state.array


VALUES = {
    ".value": lambda m: setattr(m.layer.w, "value", jnp.zeros(3)),
    "[...]": lambda m: m.layer.w.__setitem__(..., 5.0),
    "an index": lambda m: m.layer.w.__setitem__(0, 5.0),
    "+=": lambda m: m.layer.w.__iadd__(1.0),
    ".raw_value": lambda m: setattr(m.layer.w, "raw_value", jnp.zeros(3)),
    "set_raw_value": lambda m: m.plain[1]["k"].set_raw_value(jnp.zeros(3)),
    "copy_from": lambda m: m.layer.w.copy_from(m.items[0].w),
    "an array attribute": lambda m: setattr(m, "array", m.array + 1),
    "an array of another shape": lambda m: setattr(m, "array", jnp.ones((2, 2))),
    "update": lambda m: nnx.update(m, jax.tree.map(lambda x: x + 1, nnx.state(m, nnx.Param))),
    "the state's variable": lambda m: nnx.state(m).layer.w.set_value(jnp.ones(2)),
    "a random stream": lambda m: m.layer.drop.rngs(),
    "a compiled function of a part": jit_elsewhere,
    "a compiled function of a variable": jit_variable,
    "a compiled function of containers": jit_in_containers,
    "a compiled function of a state": jit_state,
}


@pytest.mark.parametrize("name", VALUES)
def test_a_change_of_value_is_noticed(name):
    model = make_model()
    del model.opt  # whose arrays lie in tuples, and are part of no variable
    assert_up_to_date(model)
    VALUES[name](model)
    assert_up_to_date(model)
    VALUES[name](model)
    assert_up_to_date(model)


STATE_CHANGES = {
    "a new entry": lambda s: s.__setitem__("new", nnx.Param(jnp.ones(1))),
    "a nested entry": lambda s: setattr(s.layer, "new", jnp.ones(1)),
    "an entry deleted": lambda s: s.__delitem__("array"),
    "an attribute deleted": lambda s: delattr(s.layer, "w"),
    "another variable": lambda s: setattr(s.layer, "w", nnx.Param(jnp.zeros(3))),
    "an array": lambda s: s.__setitem__("array", s.array + 5),
    "an array of another shape": lambda s: setattr(s, "array", jnp.ones((2, 2))),
    "the value of a variable": lambda s: s.layer.w.set_value(jnp.zeros(3)),
}


@pytest.mark.parametrize("name", STATE_CHANGES)
def test_a_change_of_a_state_is_noticed(name):
    state = nnx.State({"layer": {"w": nnx.Param(jnp.ones(2))}, "array": jnp.ones(2)})
    seen = nnx.jit(lambda state: jax.tree.map(lambda x: x * 1, nnx.to_pure_dict(state)))
    seen(state)
    STATE_CHANGES[name](state)
    inside, outside = seen(state), nnx.to_pure_dict(state)
    assert jax.tree.structure(inside) == jax.tree.structure(outside)
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
    assert walk(state).graphdef == Walk((state,)).graphdef


def test_the_walk_is_kept_while_only_values_change():
    model = nnx.Dict(layer=Layer(), array=jnp.ones(2), items=[Layer()])
    first = walk(model)
    model.layer.w += 1
    model.array = model.array + 1
    nnx.jit(lambda m: m.items[0].w.set_value(m.layer.w * 2))(model)
    model.layer.features = model.layer.features
    model.train()
    assert walk(model) is first
    np.testing.assert_array_equal(walk(model).values()[-1], [2, 2])


def test_a_compiled_function_is_traced_again_only_for_another_structure():
    traces = []

    @nnx.jit
    def f(layer, x):
        traces.append(layer.features)
        layer.stat += x
        return layer.w * layer.features

    layer = Layer()
    for _ in range(3):
        f(layer, 1.0)
    layer.w[...] = 3.0
    f(layer, 1.0)
    f(Layer(7.0), 1.0)  # another object of the same structure
    assert traces == [2]
    layer.features = 3
    assert f(layer, 1.0).tolist() == [9, 9]
    layer.features = 2
    assert f(layer, 1.0).tolist() == [6, 6]
    assert traces == [2, 3]
    assert float(layer.stat.value) == 7


def test_nested_static_tuples_are_told_apart_by_type():
    f = nnx.jit(lambda m: jnp.asarray(m.config[1][0]))
    model = nnx.Dict(config=(1, (1,)))
    assert f(model).dtype == jnp.int32
    model.config = (1, (1.0,))
    assert f(model).dtype == jnp.float32
    model.config = (1, (True,))
    assert f(model).dtype == jnp.bool_


@pytest.mark.parametrize("make", [collections.OrderedDict, lambda: collections.defaultdict(int)])
def test_mutable_containers_that_jax_knows_are_watched(make):
    model = nnx.Dict(table=make())
    assert len(jax.tree.leaves(nnx.state(model))) == 0
    model.table["a"] = nnx.Param(jnp.ones(1))
    assert len(jax.tree.leaves(nnx.state(model))) == 1
    nnx.jit(lambda m: m.table["a"].set_value(m.table["a"] + 1))(model)
    assert model.table["a"].value.tolist() == [2]
    model.table["b"] = nnx.Param(jnp.ones(1))
    assert len(jax.tree.leaves(nnx.state(model))) == 2


def test_pytrees_of_other_libraries_are_watched():
    @jax.tree_util.register_pytree_node_class
    class Box:
        def __init__(self, content):
            self.content = content

        def tree_flatten(self):
            return (self.content,), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    model = nnx.Dict(box=Box(jnp.ones(2)))
    f = nnx.jit(lambda m: m.box.content * 2)
    assert f(model).tolist() == [2, 2]
    model.box.content = jnp.full(2, 5.0)
    assert f(model).tolist() == [10, 10]
    model.box.content = [nnx.Param(jnp.ones(1))]
    assert len(jax.tree.leaves(nnx.state(model))) == 1


# -- several walks of the same objects


def test_walks_that_share_variables_see_each_others_changes():
    layer = Layer()
    model, other = nnx.Dict(layer=layer), nnx.Dict(deep=nnx.Dict(layer=layer))
    pair = nnx.Dict(a=model, b=other)

    def change(root):
        for _, module in nnx.iter_modules(root):
            if isinstance(module, Layer):
                module.w[...] = module.w * 2

    read, write = nnx.jit(lambda *roots: layer_of(roots[0]).w + 0), nnx.jit(change)
    roots = [layer, model, other, pair]
    expected = 1.0
    for writer in [*roots, *reversed(roots)]:
        write(writer)
        expected *= 2
        for reader in roots:
            assert read(reader).tolist() == [expected] * 2
        assert read(model, other).tolist() == [expected] * 2
        assert read(other, model).tolist() == [expected] * 2


def layer_of(root):
    return next(module for _, module in nnx.iter_modules(root) if isinstance(module, Layer))


def test_many_walks_of_the_same_object_stay_right():
    layer = Layer()
    roots = [nnx.Dict(layer=layer, number=i) for i in range(20)]
    read = nnx.jit(lambda m: m.layer.w * 1)
    for i, root in enumerate(roots):
        assert read(root).tolist() == [1 + i] * 2
        layer.w += 1
    assert [read(root)[0] for root in roots] == [21] * 20
    layer.features = 9
    for root in roots[::5]:
        assert_up_to_date(root)


def test_many_partners_of_the_same_first_root_stay_right():
    first = Layer()
    others = [Layer(float(i)) for i in range(20)]
    total = nnx.jit(lambda a, b: a.w + b.w)
    for _ in range(2):
        for i, other in enumerate(others):
            assert total(first, other).tolist() == [1 + i] * 2
    others[3].w = nnx.Param(jnp.zeros(2))
    assert total(first, others[3]).tolist() == [1, 1]


def test_an_object_that_takes_the_place_of_a_dead_one_is_not_taken_for_it():
    first = Layer()
    total = nnx.jit(lambda a, b: a.w + b.w)
    for i in range(30):  # the memory of the last `other`, and with it its id, is used again
        assert total(first, Layer(float(i))).tolist() == [1 + i] * 2


# -- trace levels


def test_a_model_from_outside_cannot_be_changed_through_a_compiled_function_inside_jax_jit():
    model = nnx.Dict(layer=Layer())

    def change(model, x):
        model.layer.stat += x

    inner = nnx.jit(change)
    inner(model, 1.0)
    with pytest.raises(nnx.TraceContextError, match="'layer/stat' was changed by a function"):
        jax.jit(lambda x: inner(model, x))(1.0)
    assert float(model.layer.stat.value) == 2
    assert_up_to_date(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda model, x: setattr(model.layer, "array", model.layer.array + x),
        lambda model, x: setattr(model.layer, "more", nnx.Param(x)),
        lambda model, x: setattr(model.empty, "more", nnx.Param(x)),
        lambda model, x: model.items.append(nnx.Param(x)),
        lambda model, x: model.layer.w.set_metadata(note=5),
    ],
    ids=["an array", "a new attribute", "the first attribute", "a new item", "metadata"],
)
def test_no_value_from_inside_jax_jit_stays_in_a_model_from_outside(change):
    model = nnx.Dict(layer=Layer(), empty=nnx.Dict(), items=nnx.List([]))
    model.layer.array = jnp.ones(2)
    inner = nnx.jit(change)
    before = probe(model)
    with pytest.raises(nnx.TraceContextError):
        jax.jit(lambda x: inner(model, x))(1.0)
    after = probe(model)
    assert sorted(after) == sorted(before)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(after))
