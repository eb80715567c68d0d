import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Foo(nnx.Module):
    def __init__(self, a, b):
        self.a = nnx.Param(a)
        self.b = nnx.BatchStat(b)


def test_a_tree_goes_there_and_back_with_its_sharing():
    foo = Foo(jnp.array(1.0), jnp.array(2.0))
    tree = (foo, 1, {"b": foo, "v": foo.a}, None)
    pure = nnx.to_tree(tree)
    assert isinstance(pure[0], nnx.NodeStates)
    assert [len(pure[0].state), len(pure[2]["b"].state)] == [2, 0]
    assert all(isinstance(leaf, (jax.Array, int)) for leaf in jax.tree.leaves(pure))
    first, one, rest, none = nnx.from_tree(pure)
    assert first is rest["b"]
    assert rest["v"] is first.a
    assert (one, none) == (1, None)


def test_a_plain_transform_of_the_tree_updates_the_objects():
    foo = Foo(jnp.array(1.0), jnp.array(2.0))

    @jax.jit
    def inside(pure):
        first, rest = nnx.from_tree(pure, ctxtag="t", is_inner=True)
        assert rest["b"] is first
        first.a[...] += first.b[...]
        first.new = first.b
        return nnx.to_tree((first, rest), ctxtag="t")

    with nnx.update_context("t"):
        pure = inside(nnx.to_tree((foo, {"b": foo}), ctxtag="t"))
        first, rest = nnx.from_tree(pure, ctxtag="t", is_inner=False)
    assert first is foo is rest["b"]
    assert float(foo.a) == 3.0
    assert foo.new is foo.b


@dataclasses.dataclass(frozen=True)
class Axes:
    params: Any
    stats: Any


def test_a_vmap_with_axes_by_kind_of_variable():
    def split(ctx: nnx.SplitContext, path: Any, prefix: Any, node: Any) -> Any:
        if isinstance(prefix, Axes):
            return nnx.NodeStates.from_split(*ctx.split(node, nnx.Param, nnx.BatchStat))
        return nnx.NodeStates.from_split(*ctx.split(node))

    first, second = Foo(jnp.array(0), jnp.arange(5)), Foo(jnp.array(1), jnp.array(2))
    axes = Axes(None, 0)
    in_axes = (axes, None, {"b": axes})
    jax_axes = jax.tree.map(
        lambda x: nnx.NodeStates.from_prefixes((x.params, x.stats)) if isinstance(x, Axes) else x, in_axes
    )
    with nnx.update_context("v"):
        pure = nnx.to_tree((first, second, {"b": first}), ctxtag="v", prefix=in_axes, split_fn=split)

        @functools.partial(jax.vmap, in_axes=jax_axes, out_axes=(jax_axes, 0))
        def inside(*pure):
            args = nnx.from_tree(pure, ctxtag="v", is_inner=True)
            assert args[0] is args[2]["b"]
            args[0].b[...] += args[1].b[...]
            y = args[0].a[...] + args[0].b[...]
            return nnx.to_tree((args, y), ctxtag="v", prefix=(in_axes, 0), split_fn=split)

        (args, y) = nnx.from_tree(inside(*pure), ctxtag="v", is_inner=False)
    assert args[0] is first
    assert args[2]["b"] is first
    np.testing.assert_array_equal(y, jnp.arange(5) + 2)
    np.testing.assert_array_equal(first.b.value, jnp.arange(5) + 2)


def test_other_leaves_go_through_the_functions_on_request():
    pure = nnx.to_tree((1, 2), split_fn=lambda ctx, path, prefix, x: x + prefix, prefix=(10, 20))
    assert pure == (1, 2)
    pure = nnx.to_tree(
        (1, 2), split_fn=lambda ctx, path, prefix, x: x + prefix, prefix=(10, 20), map_non_graph_nodes=True
    )
    assert pure == (11, 22)
    back = nnx.from_tree(
        pure, merge_fn=lambda ctx, path, prefix, x: x - prefix, prefix=(10, 20), map_non_graph_nodes=True
    )
    assert back == (1, 2)


def test_inconsistent_aliasing_names_both_paths():
    foo = Foo(jnp.array(1.0), jnp.array(2.0))
    tree = (foo, 1, {"b": foo})
    nnx.to_tree(tree, prefix=(0, None, 0))
    with pytest.raises(
        ValueError, match=r"Inconsistent aliasing.*same Param has the prefix 0 at '0/a' and 1 at '2/b/a'"
    ):
        nnx.to_tree(tree, prefix=(0, None, 1))
    with pytest.raises(ValueError, match="same BatchStat has the prefix None at '0/b' and 0 at '2/b/b'"):
        nnx.to_tree(tree, prefix=(nnx.StateAxes({nnx.Param: 0, ...: None}), None, 0))
    nnx.to_tree(tree, prefix=(0, None, 1), check_aliasing=False)


def test_node_states_say_what_they_lack():
    states = nnx.NodeStates.from_states(1, 2)
    assert states.replace(states=(3,)).state == 3
    with pytest.raises(ValueError, match="have no graphdef"):
        states.graphdef  # noqa: B018
    with pytest.raises(ValueError, match="have 2 states, expected one"):
        states.state  # noqa: B018
    with pytest.raises(ValueError, match=r"from_tree found a int at '\[0\]', expected NodeStates"):
        nnx.from_tree([1], map_non_graph_nodes=True)
