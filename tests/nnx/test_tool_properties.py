"""Properties of views, maps, flattening and contexts that hold for every graph of modules.

As in `test_properties.py`, EASYFLAX_EXAMPLES sets how many examples each is tried on.
"""

from __future__ import annotations

from typing import Any

import jax
from hypothesis import given

from easyflax import nnx
from tests.nnx.random_graphs import describe, graphs, programs, reachable, run
from tests.nnx.test_properties import check, mutable_ids, tried


def variables(root: Any) -> list[Any]:
    return [value for value in reachable(root) if isinstance(value, nnx.Variable)]


def nodes(root: Any) -> set[int]:
    return mutable_ids(root) - set(map(id, variables(root)))


@tried(40)
@given(graphs())
def test_a_map_of_everything_to_itself_is_a_copy_that_shares_variables(root):
    for new in (
        nnx.recursive_map(lambda _, value: value, root),
        nnx.map(lambda _, value: value, root),
        nnx.view(root),
        nnx.unflatten(*nnx.flatten(root)),
        nnx.merge(nnx.unpack(root)),
    ):
        assert describe(new) == describe(root)
        assert nnx.graphdef(new) == nnx.graphdef(root)
        assert all(a is b for a, b in zip(variables(new), variables(root), strict=True))
        assert not nodes(new) & nodes(root)


@tried(40)
@given(graphs())
def test_duplicates_are_what_can_be_reached_by_several_paths(root):
    def follow(path: Any) -> Any:
        value = root
        for part in path:
            indexed = isinstance(value, (list, tuple, dict, nnx.List, nnx.State)) and not hasattr(
                value, str(part)
            )
            value = value[part] if indexed else getattr(value, part)
        return value

    groups = nnx.find_duplicates(root)
    for paths in groups:
        assert len({id(follow(path)) for path in paths}) == 1
    repeated = [path for paths in groups for path in paths[1:]]
    assert len(set(repeated)) == len(repeated)


def by_contexts(f: Any) -> Any:
    """A transform of its own: `f` under `jax.jit`, with its changes written back by an update context."""

    @jax.jit
    def inside(pure: Any) -> Any:
        root, x = nnx.from_tree(pure, ctxtag="jit", is_inner=True)
        out = f(root, x)
        return nnx.to_tree((root, out), ctxtag="jit")

    @nnx.update_context("jit")
    def transformed(root: Any, x: Any) -> Any:
        pure = inside(nnx.to_tree((root, x), ctxtag="jit"))
        same, out = nnx.from_tree(pure, ctxtag="jit", is_inner=False)
        assert same is root
        return out

    return transformed


@tried(40)
@given(graphs(numbers=False), programs())
def test_a_transform_made_of_contexts_does_what_the_program_does(root, program):
    check(by_contexts(lambda root, x: run(program, root, x)), program, root)


@tried(30)
@given(graphs())
def test_what_is_split_in_one_context_is_merged_with_its_sharing(root):
    parts = [value for value in reachable(root) if isinstance(value, (nnx.Pytree, nnx.Variable))][::-1]
    with nnx.split_context() as ctx:
        split = [ctx.split(part) for part in parts]
    with nnx.merge_context() as ctx:
        merged = [ctx.merge(*one) for one in split]
    assert describe(tuple(merged)) == describe(tuple(parts))
    assert not mutable_ids(tuple(merged)) & mutable_ids(root)
