"""`nnx.List` and `nnx.Dict`, and plain containers as attributes."""

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx

# -- Dict


def test_items_of_a_dict_are_attributes():
    layers = nnx.Dict({"first": 1}, second=2)
    layers["third"] = nnx.Param(jnp.ones(2))
    layers.fourth = 4
    assert layers.first == 1
    assert layers["fourth"] == 4
    assert layers.third is layers["third"]
    assert list(layers) == ["first", "second", "third", "fourth"]
    assert (len(layers), "third" in layers, "x" in layers, layers.get("x", 5)) == (4, True, False, 5)
    del layers["first"]
    del layers.second
    assert layers.pop("fourth") == 4
    layers.update(fifth=5)
    assert layers.setdefault("fifth", 0) == 5
    assert list(layers) == ["third", "fifth"]


def test_a_dict_can_be_made_from_pairs():
    assert dict(nnx.Dict([("a", 1), ("b", 2)])) == {"a": 1, "b": 2}


def test_an_item_may_have_the_name_of_a_method():
    layers = nnx.Dict()
    layers["items"] = 1
    assert layers["items"] == 1
    assert list(layers) == ["items"]


def test_missing_items_raise():
    layers = nnx.Dict(a=1)
    with pytest.raises(KeyError, match="b"):
        layers["b"]
    with pytest.raises(KeyError, match="b"):
        del layers["b"]
    with pytest.raises(AttributeError, match=r"Dict has no item or attribute 'b'; it has \['a'\]"):
        _ = layers.b


def test_the_state_of_a_dict_has_its_keys_as_paths():
    layers = nnx.Dict(b=nnx.Param(1), a=nnx.Dict(x=nnx.Param(2)))
    assert nnx.to_flat_state(nnx.state(layers)).paths == (("a", "x"), ("b",))


# -- List


def as_list(layers):
    assert len(layers) == len(list(layers))
    return [layers[i] for i in range(len(layers))]


def test_a_list_does_what_a_python_list_does():
    ours, python = nnx.List([1, 2, 3]), [1, 2, 3]
    for change in (
        lambda items: items.append(4),
        lambda items: items.insert(0, 5),
        lambda items: items.insert(-1, 6),
        lambda items: items.insert(100, 7),
        lambda items: items.insert(-100, 8),
        lambda items: items.extend([9, 9]),
        lambda items: items.__setitem__(1, 10),
        lambda items: items.__setitem__(-1, 11),
        lambda items: items.__setitem__(slice(1, 3), [12, 13, 14]),
        lambda items: items.__setitem__(slice(0, 2), []),
        lambda items: items.__delitem__(0),
        lambda items: items.__delitem__(slice(1, 3)),
        lambda items: items.reverse(),
        lambda items: items.remove(4),
        lambda items: items.pop(),
        lambda items: items.pop(0),
        lambda items: items.__iadd__([15]),
    ):
        change(ours)
        change(python)
        assert as_list(ours) == python
    assert (ours[-1], ours[0:2], ours.index(15), 15 in ours) == (
        python[-1],
        python[0:2],
        len(python) - 1,
        True,
    )
    ours.clear()
    assert as_list(ours) == []


def test_positions_out_of_range_raise():
    layers = nnx.List([1])
    for position in (1, -2):
        with pytest.raises(IndexError, match=f"List index {position} is out of range: the list has 1 items"):
            layers[position]
        with pytest.raises(IndexError, match="out of range"):
            layers[position] = 2


def test_a_list_may_have_attributes_besides_its_items():
    layers = nnx.List([nnx.Param(1), nnx.Param(2)])
    layers.name = "encoder"
    layers.append(nnx.Param(3))
    assert [v.value for v in layers] == [1, 2, 3]
    assert nnx.to_pure_dict(nnx.state(layers)) == {0: 1, 1: 2, 2: 3}


def test_the_state_of_a_long_list_is_in_the_order_of_numbers():
    layers = nnx.List([nnx.Param(i) for i in range(12)])
    assert nnx.to_flat_state(nnx.state(layers)).paths == tuple((i,) for i in range(12))
    assert jax.tree.leaves(nnx.state(layers)) == list(range(12))
    assert jax.tree.leaves(layers) == list(range(12))


def test_items_marked_as_data_or_static():
    layers = nnx.List([nnx.data(1), nnx.static("a"), 3])
    layers.append(nnx.data(4))
    layers[2] = nnx.data(5)
    assert as_list(layers) == [1, "a", 5, 4]
    assert nnx.to_pure_dict(nnx.state(layers)) == {0: 1, 2: 5, 3: 4}


def test_containers_are_equal_only_to_themselves_and_hashable():
    a, b = nnx.List([1]), nnx.List([1])
    c, d = nnx.Dict(x=1), nnx.Dict(x=1)
    assert a == a
    assert len({a, b, c, d}) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items.append(1),
        lambda items: items.insert(0, 1),
        lambda items: items.__setitem__(0, 1),
        lambda items: items.__setitem__(slice(0, 1), [1]),
        lambda items: items.__delitem__(0),
    ],
    ids=["append", "insert", "set", "set slice", "delete"],
)
def test_a_list_cannot_be_changed_from_inside_a_transform_that_it_was_not_passed_to(change):
    layers = nnx.List([0])

    def f(x):
        change(layers)
        return x

    with pytest.raises(nnx.TraceContextError, match=r"Cannot set .* of this List here"):
        jax.jit(f)(1.0)
    assert as_list(layers) == [0]


# -- plain containers as attributes


class Holder(nnx.Module):
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (lambda: [nnx.Param(1), nnx.Param(2)], [("value", 0), ("value", 1)]),
        (lambda: {"b": nnx.Param(1), "a": nnx.Param(2)}, [("value", "a"), ("value", "b")]),
        (lambda: (nnx.Param(1), nnx.Param(2)), [("value", 0), ("value", 1)]),
        (
            lambda: [{"x": (nnx.Param(1),)}, Holder(nnx.Param(2))],
            [("value", 0, "x", 0), ("value", 1, "value")],
        ),
        (lambda: [jnp.ones(1), (jnp.ones(2), 3)], [("value", 0), ("value", 1, 0)]),
        (lambda: [1, "a", (2, None)], []),
    ],
    ids=["list", "dict", "tuple", "nested", "arrays", "static"],
)
def test_plain_containers_are_looked_into(make, paths):
    module = Holder(make())
    assert list(nnx.to_flat_state(nnx.state(module)).paths) == paths
    graphdef, state = nnx.split(module)
    again = nnx.merge(graphdef, state)
    assert jax.tree.structure(again.value) == jax.tree.structure(module.value)
    assert type(again.value) is type(module.value)


def test_a_plain_list_in_two_places_is_one_list_after_merging():
    items = [nnx.Param(1)]
    module = nnx.Dict(a=items, b=items)
    again = nnx.merge(*nnx.split(module))
    assert again.a is again.b
    assert again.a is not items


def test_named_tuples_keep_their_type():
    import optax

    state = optax.adam(1e-3).init({"w": jnp.ones(2)})
    module = Holder(state)
    again = nnx.merge(*nnx.split(module))
    assert jax.tree.structure(again.value) == jax.tree.structure(state)
    assert ("value", 0, "mu", "w") in nnx.to_flat_state(nnx.state(module)).paths


def test_a_dict_equals_mappings_with_equal_items():
    assert nnx.Dict(a=1, b="x") == {"a": 1, "b": "x"} == nnx.Dict(b="x", a=1)
    assert nnx.Dict(a=1) != {"a": 2}
    assert nnx.Dict(a=1) != [1]
