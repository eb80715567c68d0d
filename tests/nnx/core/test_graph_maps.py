import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

Pair = collections.namedtuple("Pair", ["left", "right"])


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.pair = Pair(self.linear, nnx.Dropout(0.5))
        self.array = jnp.ones(3)


def test_map_puts_values_into_new_variables_of_the_same_kind():
    block = Block(nnx.Rngs(0))
    block.linear.kernel.set_metadata(role="weights")
    seen = []
    new = nnx.map(lambda path, leaf: seen.append(path) or jnp.zeros_like(leaf), block)
    assert seen == [("array",), ("linear", "bias"), ("linear", "kernel")]
    assert type(new.linear.kernel) is nnx.Param
    assert new.linear.kernel.role == "weights"
    assert not new.linear.kernel.value.any()
    assert not new.array.any()
    assert block.linear.kernel.value.any()
    assert block.array.any()
    assert new.pair.left is new.linear


def test_map_takes_variables_and_values_that_take_their_place():
    rngs = nnx.Rngs(0)
    assert nnx.map(lambda _, leaf: nnx.BatchStat(leaf.value), rngs).default.count.type is nnx.BatchStat
    assert nnx.map(lambda _, leaf: 0, rngs, recreate_variables=False).default.count == 0
    assert nnx.map(lambda path, leaf: leaf.value + 1, nnx.Param(jnp.array(1))).value == 2


def test_recursive_map_visits_everything_once_children_first():
    block = Block(nnx.Rngs(0))
    seen = []
    new = nnx.recursive_map(lambda path, value: (seen.append(path), value)[1], block)
    assert seen[-1] == ()
    assert seen.count(("linear",)) == 1
    assert ("pair", "left", "kernel") not in seen
    assert {("linear", "kernel"), ("linear", "in_features"), ("pair", "right"), ("array",)} <= set(seen)
    assert new is not block
    assert new.linear is not block.linear
    assert new.linear.kernel is block.linear.kernel


def test_recursive_map_replaces_in_all_places_and_in_tuples():
    block = Block(nnx.Rngs(0))

    def widen(_: object, value: object) -> object:
        return nnx.Linear(2, 7, rngs=nnx.Rngs(1)) if isinstance(value, nnx.Linear) else value

    new = nnx.recursive_map(widen, {"a": [block, block.linear], "b": 1})
    assert new["a"][1].out_features == 7
    assert new["a"][0].linear is new["a"][1] is new["a"][0].pair.left
    assert isinstance(new["a"][0].pair, Pair)
    assert block.linear.out_features == 2


def test_recursive_map_changes_copies_only():
    layers = nnx.List([nnx.Dropout(0.5), nnx.Dropout(0.5)])

    def stop(path: tuple[object, ...], value: object) -> object:
        if isinstance(value, nnx.Dropout):
            value.rate = 0.0
        return value

    assert [layer.rate for layer in nnx.recursive_map(stop, layers)] == [0.0, 0.0]
    assert [layer.rate for layer in layers] == [0.5, 0.5]


def test_recursive_map_keeps_cycles_but_does_not_replace_what_is_in_them():
    model = nnx.Dict(child=nnx.Dict(), a=1)
    model.child.parent = model
    new = nnx.recursive_map(lambda _, value: 2 if value == 1 and isinstance(value, int) else value, model)
    assert new.child.parent is new
    assert new.a == 2
    with pytest.raises(ValueError, match="at '', which refers to itself"):
        nnx.recursive_map(lambda path, value: nnx.Dict() if path == () else value, model)


def test_as_pure_replaces_variables_by_values():
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    pure = nnx.as_pure(nnx.state(layer))
    assert isinstance(pure, nnx.State)
    assert isinstance(pure.kernel, jax.Array)
    np.testing.assert_array_equal(pure.kernel, layer.kernel.value)
    assert nnx.as_pure([nnx.Param({"a": nnx.Param(1)}), 2]) == [{"a": 1}, 2]
    with pytest.warns(DeprecationWarning, match="use nnx.as_pure"):
        assert nnx.pure(nnx.Param(1)) == 1
