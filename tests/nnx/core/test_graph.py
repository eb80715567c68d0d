"""split, merge, update, state, clone, pop, iteration over the graph, and GraphDef."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Layer(nnx.Module):
    def __init__(self, features=2):
        self.kernel = nnx.Param(jnp.ones(features))
        self.stat = nnx.BatchStat(jnp.zeros(features))
        self.features = features

    def __call__(self, x):
        self.stat += 1
        return x * self.kernel


def make_model():
    model = nnx.Dict(first=Layer(2), second=Layer(3), scale=jnp.array(2.0))
    model.third = model.first  # shared
    model.parent = model  # a cycle
    return model


def paths(state):
    return list(nnx.to_flat_state(state).paths)


MODEL_PATHS = [
    ("first", "kernel"),
    ("first", "stat"),
    ("scale",),
    ("second", "kernel"),
    ("second", "stat"),
]


# -- split, state, merge


def test_split_and_state_return_the_variables_of_the_model_themselves():
    model = make_model()
    graphdef, state = nnx.split(model)
    assert paths(state) == MODEL_PATHS
    assert state.first.kernel is model.first.kernel
    assert state.scale is model.scale
    assert nnx.state(model).first.stat is model.first.stat
    assert nnx.variables(model).first.stat is model.first.stat
    assert nnx.graphdef(model) == graphdef


def test_split_and_state_by_filters():
    model = make_model()
    _, params, rest = nnx.split(model, nnx.Param, ...)
    assert paths(params) == [("first", "kernel"), ("second", "kernel")]
    assert paths(rest) == [("first", "stat"), ("scale",), ("second", "stat")]
    assert paths(nnx.state(model, nnx.BatchStat)) == [("first", "stat"), ("second", "stat")]
    stats, nothing = nnx.state(model, nnx.BatchStat, nnx.Cache)
    assert (len(paths(stats)), paths(nothing)) == (2, [])
    with pytest.raises(ValueError, match=r"Non-exhaustive filters: 3 leaves .*: first/stat \(BatchStat\)"):
        nnx.split(model, nnx.Param)


def test_merge_makes_new_modules_around_the_given_variables():
    model = make_model()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    for again in (nnx.merge(graphdef, params, rest), nnx.merge(graphdef, rest, params)):
        assert again is not model
        assert again.first is again.third
        assert again.parent is again
        assert again.first.kernel is model.first.kernel
        assert again.second.features == 3
    copied = nnx.merge(graphdef, params, rest, copy=True)
    assert copied.first.kernel is not model.first.kernel
    np.testing.assert_array_equal(copied.first.kernel, model.first.kernel)


def test_marks_survive_merging_cloning_and_compiled_functions():
    model = nnx.Dict(count=nnx.data(1), name=nnx.static("a"), items=nnx.List([nnx.data(2), 3]))
    for other in (nnx.merge(*nnx.split(model)), nnx.clone(model)):
        assert nnx.graphdef(other) == nnx.graphdef(model)
        other.count, other["items"][0] = 7, 8
        assert nnx.to_pure_dict(nnx.state(other)) == {"count": 7, "items": {0: 8}}

    def mark(model):
        model.made = nnx.data(5)
        model.count = nnx.static(6)

    nnx.jit(mark)(model)
    model.made = 9
    assert nnx.to_pure_dict(nnx.state(model)) == {"made": 9, "items": {0: 2}}


def test_merge_takes_nested_dicts_of_arrays_as_well():
    model = nnx.Dict(layer=Layer(2))
    graphdef, state = nnx.split(model)
    again = nnx.merge(graphdef, nnx.to_pure_dict(jax.tree.map(lambda x: x + 1, state)))
    assert type(again.layer.stat) is nnx.BatchStat
    assert again.layer.kernel.value.tolist() == [2, 2]
    assert nnx.merge(graphdef, nnx.to_flat_state(state)).layer.kernel is model.layer.kernel


def test_merge_names_leaves_that_are_missing_or_too_many():
    graphdef, state = nnx.split(nnx.Dict(layer=Layer(2)))
    del state.layer["stat"]
    with pytest.raises(ValueError, match=r"The states lack 1 of the 2 leaves of this graphdef: layer/stat\."):
        nnx.merge(graphdef, state)
    state.layer["stat"] = nnx.BatchStat(1)
    state["more"] = nnx.Param(1)
    with pytest.raises(ValueError, match=r"The states have 1 leaves that this graphdef"):
        nnx.merge(graphdef, state)


def test_a_single_variable_or_array_can_be_split_and_merged():
    for leaf in (nnx.Param(jnp.ones(2)), jnp.ones(3)):
        graphdef, state = nnx.split(leaf)
        assert state is leaf
        assert nnx.merge(graphdef, state) is leaf
        assert nnx.state(leaf) is leaf
    variable = nnx.Param(jnp.ones(2))
    graphdef, stats, params, rest = nnx.split(variable, nnx.BatchStat, nnx.Param, ...)
    assert params is variable
    assert (paths(stats), paths(rest)) == ([], [])
    assert nnx.merge(graphdef, stats, params, rest) is variable


def test_containers_of_modules_can_be_split_and_merged():
    a, b = Layer(2), Layer(2)
    for container in ([a, b], (a, b), {"x": a, "y": b}, nnx.List([a, b])):
        graphdef, state = nnx.split(container)
        again = nnx.merge(graphdef, state)
        assert type(again) is type(container)
        assert len(again) == 2
        assert jax.tree.leaves(nnx.state(again))[0] is a.kernel.value
    merged = nnx.merge(*nnx.split((a, [a, b])))
    assert merged[0] is merged[1][0]


def test_the_functional_style_works_inside_jax_jit():
    model = nnx.Dict(layer=Layer(2))
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(graphdef, state, x):
        merged = nnx.merge(graphdef, state)
        y = merged.layer(x)
        return y, nnx.state(merged)

    for _ in range(2):
        y, state = forward(graphdef, state, 3.0)
    assert y.tolist() == [3, 3]
    assert model.layer.stat.value.tolist() == [0, 0]
    nnx.update(model, state)
    assert model.layer.stat.value.tolist() == [2, 2]


# -- update


def test_update_sets_values_in_place_and_leaves_the_rest():
    model = make_model()
    kernel, stat = model.first.kernel, model.first.stat
    nnx.update(model, {"first": {"kernel": jnp.zeros(2)}}, nnx.State({"scale": jnp.array(5.0)}))
    assert model.third.kernel is kernel
    assert (kernel.value.tolist(), stat.value.tolist(), float(model.scale)) == ([0, 0], [0, 0], 5)


def test_update_takes_metadata_along_with_variables():
    model = nnx.Dict(w=nnx.Param(jnp.ones(2)))
    nnx.update(model, nnx.State({"w": nnx.Param(jnp.zeros(2), note="a")}))
    assert (model.w.value.tolist(), model.w.note) == ([0, 0], "a")


def test_update_reaches_into_plain_containers():
    w = nnx.Param(jnp.ones(1))
    model = nnx.Dict(items=[w, {"x": jnp.ones(1)}, (jnp.ones(1), w)])
    items = model.items_ = model["items"]
    nnx.update(model, {"items": {0: jnp.zeros(1), 1: {"x": jnp.array([3.0])}, 2: {0: jnp.array([4.0])}}})
    assert model["items"] is items
    assert (w.value.tolist(), items[1]["x"].tolist(), items[2][0].tolist()) == ([0], [3], [4])
    assert items[2][1] is w


def test_update_takes_containers_of_modules_and_single_variables():
    a, b, v = Layer(2), Layer(2), nnx.Param(1)
    nnx.update((a, [b]), jax.tree.map(lambda x: x * 0, nnx.state((a, [b]))))
    assert b.kernel.value.tolist() == [0, 0]
    nnx.update(v, nnx.Param(2, note="a"))
    assert (v.value, v.note) == (2, "a")
    nnx.update(v, 3)
    assert v.value == 3


def test_update_adds_attributes_that_were_not_there():
    model = nnx.Dict()
    nnx.update(model, {"w": nnx.Param(1)})
    assert model.w.value == 1


def test_update_names_paths_that_do_not_fit():
    model = nnx.Dict(layer=Layer(2))
    with pytest.raises(ValueError, match="update got values below 'other', where the module has nothing"):
        nnx.update(model, {"other": {"kernel": jnp.ones(2)}})
    with pytest.raises(ValueError, match="update got a Param for 'layer', where the module has a Layer"):
        nnx.update(model, {"layer": nnx.Param(1)})
    with pytest.raises(ValueError, match="update got values for arrays that are items of a tuple"):
        nnx.update((jnp.ones(1), model), {0: jnp.zeros(1)})


def test_update_needs_a_state():
    with pytest.raises(TypeError, match=r"update got a Layer, expected a state .* Pass nnx.state"):
        nnx.update(Layer(), Layer())


# -- clone


def test_a_clone_shares_neither_modules_nor_variables():
    model = make_model()
    clone = nnx.clone(model)
    assert clone.parent is clone
    assert clone.first is clone.third is not model.first
    clone.first.kernel[...] = 7
    clone.scale = jnp.array(0.0)
    clone.second.features = 9
    assert model.first.kernel.value.tolist() == [1, 1]
    assert (float(model.scale), model.second.features) == (2, 3)


def test_a_clone_may_share_the_variables():
    model = make_model()
    clone = nnx.clone(model, variables=False)
    assert clone.first is not model.first
    assert clone.first.kernel is model.first.kernel


def test_a_clone_with_its_own_arrays_survives_their_donation():
    model = make_model()
    shallow, deep = nnx.clone(model), nnx.clone(model, arrays=True)
    assert shallow.first.kernel.value is model.first.kernel.value
    donating = nnx.jit(lambda m: m.first(1.0), donate_argnums=0)
    donating(model)
    assert deep.first.kernel.value.tolist() == [1, 1]
    assert float(deep.scale) == 2
    assert shallow.first.kernel.value.is_deleted()


def test_containers_are_cloned_too():
    layer = Layer(2)
    pair = nnx.clone([layer, layer])
    assert pair[0] is pair[1] is not layer


# -- pop


def test_pop_takes_matching_leaves_out_of_modules_and_dicts():
    model = nnx.Dict(
        a=nnx.Dict(h=nnx.Intermediate(1), w=nnx.Param(2)), b={"h": nnx.Intermediate(3)}, c=jnp.ones(2)
    )
    popped = nnx.pop(model, nnx.Intermediate)
    assert nnx.to_pure_dict(popped) == {"a": {"h": 1}, "b": {"h": 3}}
    assert paths(nnx.state(model)) == [("a", "w"), ("c",)]
    params, rest = nnx.pop(model, nnx.Param, ...)
    assert (paths(params), paths(rest)) == ([("a", "w")], [("c",)])
    assert paths(nnx.state(model)) == []


def test_pop_takes_a_shared_variable_out_of_all_its_places_and_returns_it_once():
    seen = nnx.Intermediate(1)
    model = nnx.Dict(a=seen, b=nnx.Dict(c=seen))
    popped = nnx.pop(model, nnx.Intermediate)
    assert popped.a is seen
    assert paths(popped) == [("a",)]
    assert paths(nnx.state(model)) == []


def test_pop_needs_a_filter_and_leaves_items_of_lists_alone():
    with pytest.raises(ValueError, match="pop got no filter, expected at least one"):
        nnx.pop(Layer())
    with pytest.raises(ValueError, match="pop found a leaf at 'x/0', an item of a list"):
        nnx.pop(nnx.Dict(x=[nnx.Intermediate(1)]), nnx.Intermediate)
    with pytest.raises(ValueError, match="an item of a List"):
        nnx.pop(nnx.List([nnx.Intermediate(1)]), nnx.Intermediate)


def test_pop_returns_a_shared_variable_at_the_path_that_split_has_for_it():
    shared = nnx.Param(jnp.ones(2))
    model = nnx.Dict(inner=nnx.Dict(w=shared), w=shared, table={0: nnx.Param(jnp.zeros(2))})
    graphdef = nnx.graphdef(model)
    popped = nnx.pop(model, nnx.Param)
    assert paths(popped) == [("inner", "w"), ("table", 0)]
    again = nnx.merge(graphdef, popped)
    assert again.w is again.inner.w is shared


def test_a_failed_pop_takes_nothing_out():
    model = nnx.Dict(a=nnx.Intermediate(1), x=[nnx.Intermediate(2)])
    with pytest.raises(ValueError, match="pop found a leaf at 'x/0'"):
        nnx.pop(model, nnx.Intermediate)
    assert paths(nnx.state(model)) == [("a",), ("x", 0)]


# -- iteration


def test_the_graph_is_iterated_children_first_each_object_once():
    model = nnx.Dict(b=Layer(2), l=[1, nnx.Param(5)], t=("x", nnx.Param(6)))
    model.a = model.b
    model.me = model
    found = list(nnx.iter_graph(model))
    objects = [value for _, value in found if isinstance(value, (nnx.Pytree, nnx.Variable, list))]
    assert len(set(map(id, objects))) == len(objects)
    assert [path for path, _ in found] == [
        ("a", "features"),
        ("a", "kernel"),
        ("a", "stat"),
        ("a",),
        ("l", 0),
        ("l", 1),
        ("l",),
        ("t", 0),
        ("t", 1),
        ("t",),
        (),
    ]
    assert found[-1] == ((), model)
    assert dict(found)[("a", "features")] == 2


def test_only_modules_are_iterated_by_iter_modules():
    shared = Layer(1)
    roots = nnx.List([shared, nnx.Dict(x=shared), {"y": Layer(1)}])
    assert [path for path, _ in nnx.iter_modules(roots)] == [(0,), (1,), (2, "y"), ()]


# -- GraphDef


def test_graphdefs_are_equal_and_hash_alike_for_equal_structures():
    a, b = nnx.graphdef(make_model()), nnx.graphdef(make_model())
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b}) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m.first, "features", 3),
        lambda m: setattr(m.first, "features", 2.0),
        lambda m: setattr(m.first, "features", True),
        lambda m: setattr(m.first, "more", None),
        lambda m: delattr(m.first, "features"),
        lambda m: setattr(m, "third", Layer(2)),
        lambda m: setattr(m, "parent", None),
        lambda m: setattr(m.first, "stat", nnx.Cache(m.first.stat.value)),
        lambda m: m.first.stat.set_metadata(note=1),
        lambda m: setattr(m.first, "stat", m.first.stat.value),
        lambda m: setattr(m.first, "stat", m.first.kernel),
        lambda m: setattr(m, "items_", [1]),
        lambda m: setattr(m, "items_", (1,)),
    ],
)
def test_graphdefs_tell_structures_apart(change):
    model = make_model()
    before = nnx.graphdef(model)
    change(model)
    after = nnx.graphdef(model)
    assert before != after
    assert hash(before) != hash(after)


def test_values_are_no_part_of_the_structure():
    model = make_model()
    before = nnx.graphdef(model)
    model.first.kernel.value = jnp.zeros((5, 5), jnp.int32)
    model.scale = jnp.zeros(3)
    assert nnx.graphdef(model) == before


def test_a_graphdef_is_a_pytree_without_leaves_and_can_be_pickled():
    model = make_model()
    graphdef, state = nnx.split(model)
    assert jax.tree.leaves(graphdef) == []
    assert jax.jit(lambda g: g)(graphdef) == graphdef
    again = nnx.merge(pickle.loads(pickle.dumps(graphdef)), state)
    assert again.parent is again


def test_apply_merges_calls_and_splits_again():
    model = nnx.Dict(layer=Layer(2))
    graphdef, state = nnx.split(model)
    y, (graphdef, state) = graphdef.apply(state).layer(3.0)
    assert y.tolist() == [3, 3]
    assert state.layer.stat.value.tolist() == [1, 1]
    assert model.layer.stat.value.tolist() == [0, 0]
    graphdef, params, rest = nnx.split(nnx.List([Layer(2)]), nnx.Param, ...)
    y, _ = graphdef.apply(params, rest)[0](4.0)
    assert y.tolist() == [4, 4]
    graphdef, state = nnx.split(Layer(2))
    assert graphdef.apply(state)(5.0)[0].tolist() == [5, 5]


def test_structures_with_values_that_cannot_be_hashed_have_hashes_and_compare_by_value():
    def graphdef(options, note):
        return nnx.graphdef(nnx.Dict(layer=nnx.Dict(options=options), w=nnx.Param(1, note=note)))

    one, equal = graphdef({1, 2}, [1]), graphdef({1, 2}, [1])
    assert one == equal
    assert hash(one) == hash(equal)
    assert one != graphdef({1, 3}, [1])
    assert one != graphdef({1, 2}, [2])
    assert one != graphdef(({1, 2},), [1])


def test_merging_inside_of_a_transform_copies_what_was_made_outside():
    class Counter(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(2))
            self.count = nnx.Variable(jnp.array(0))

        def __call__(self, x):
            self.count[...] += 1
            return x * self.scale

    counter = Counter()
    graphdef, params, counts = nnx.split(counter, nnx.Param, ...)

    def loss(params):
        module = nnx.merge(graphdef, params, counts)
        return module(jnp.ones(2)).sum(), nnx.state(module, nnx.Not(nnx.Param))

    grads, counts = jax.grad(loss, has_aux=True)(params)
    assert grads["scale"].value.tolist() == [1.0, 1.0]
    assert counts["count"].value == 1
    assert counter.count.value == 0


def test_a_pure_dict_may_hold_the_dict_that_is_a_variables_value():
    model = nnx.Dict(a=nnx.Variable({"w": jnp.ones(2)}), b={0: nnx.Variable({})})
    graphdef, state = nnx.split(model)
    pure = {"a": {"w": jnp.zeros(2)}, "b": {0: {}}}
    assert nnx.merge(graphdef, pure).a.value["w"].tolist() == [0, 0]
    nnx.replace_by_pure_dict(state, {**pure, "b": {"0": {}}})
    assert state.a.value["w"].tolist() == [0, 0]
    assert model.a.value["w"].tolist() == [1, 1]


def test_a_graphdef_with_functions_can_be_pickled():
    graphdef, state = nnx.split(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.0)))
    again = pickle.loads(pickle.dumps(graphdef))
    assert again == graphdef
    assert hash(again) == hash(graphdef)
    assert nnx.merge(again, state)(jnp.ones((1, 2))).shape == (1, 3)


def test_update_adds_copies_of_variables():
    model, added = nnx.Dict(), nnx.Param(2.0)
    nnx.update(model, {"a": added})
    assert model.a is not added
    assert model.a.value == 2.0


def test_arrays_are_copied_with_their_variables_only():
    with pytest.raises(ValueError, match="arrays=True and variables=False, expected both"):
        nnx.clone(make_model(), variables=False, arrays=True)


def test_merge_takes_the_leaves_of_a_state_as_a_list():
    model = nnx.List([nnx.Linear(2, 3, rngs=nnx.Rngs(i)) for i in range(11)])
    leaves = jax.tree.leaves(nnx.variables(model), is_leaf=lambda x: isinstance(x, nnx.Variable))
    for given in (leaves, [leaf.get_value() for leaf in leaves]):
        again = nnx.merge(nnx.graphdef(model), given)
        assert all((a.kernel[...] == b.kernel[...]).all() for a, b in zip(again, model, strict=True))
    with pytest.raises(ValueError, match="A list of 21 leaves was given in place of a state, expected 22"):
        nnx.merge(nnx.graphdef(model), leaves[1:])
