"""Properties that hold for every graph of modules and every program that changes one.

By default each property is tried on a few random examples, always the same. To look for faults, set
EASYFLAX_EXAMPLES to how many examples each shall be tried on; these are drawn anew in each run.
"""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from tests.nnx.random_graphs import (
    MAKES,
    VALUES,
    Labels,
    Special,
    children,
    describe,
    filled,
    graphs,
    is_array,
    is_key,
    programs,
    reachable,
    run,
)

EXAMPLES = int(os.environ.get("EASYFLAX_EXAMPLES", "0"))


def tried(times: int) -> Any:
    """Settings for a property that is tried on so many examples by default."""
    return settings(
        max_examples=EXAMPLES or times,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


X = 0.5 * filled(1)

filters = st.permutations(
    [
        nnx.Param,
        nnx.BatchStat,
        nnx.RngState,
        nnx.PathContains("a"),
        nnx.PathContains("x"),
        nnx.Not(nnx.Variable),
    ]
).flatmap(lambda order: st.integers(0, 4).map(lambda n: (*order[:n], ...)))


def mutable_ids(root: Any) -> set[int]:
    return {id(value) for value in reachable(root)}


# -- graphs


@tried(60)
@given(graphs(), filters, st.randoms())
def test_merge_after_split_is_the_identity(root, filters, random):
    graphdef, *states = nnx.split(root, *filters)
    random.shuffle(states)
    for merged in (nnx.merge(graphdef, *states), nnx.merge(graphdef, nnx.merge_state(*states))):
        assert describe(merged) == describe(root)
        assert nnx.graphdef(merged) == graphdef
        assert not ({id(v) for v in reachable(merged) if not isinstance(v, nnx.Variable)} & mutable_ids(root))
    assert [v for v in reachable(nnx.merge(graphdef, *states)) if isinstance(v, nnx.Variable)] == [
        v for v in reachable(root) if isinstance(v, nnx.Variable)
    ]
    copied = nnx.merge(graphdef, *states, copy=True)
    assert describe(copied) == describe(root)
    assert not mutable_ids(copied) & mutable_ids(root)


@tried(40)
@given(graphs())
def test_copies_are_equal_and_share_nothing(root):
    for copied in (nnx.clone(root), copy.deepcopy(root), pickle.loads(pickle.dumps(root))):
        assert describe(copied) == describe(root)
        assert nnx.graphdef(copied) == nnx.graphdef(root)
        assert not mutable_ids(copied) & mutable_ids(root)


@tried(40)
@given(graphs())
def test_an_update_brings_the_values_of_another_module(root):
    other = nnx.clone(root)
    before = Labels(root)
    for value in reachable(other):
        if isinstance(value, nnx.Variable):
            value.set_raw_value(jax.tree.map(lambda x: x[None], value.get_raw_value()))
        elif isinstance(value, (nnx.Pytree, list, dict)):
            for name, child in children(value):
                if isinstance(child, jax.Array):
                    nnx.update(value, {name: child + 1})
    nnx.update(root, nnx.state(other))
    expected = describe(other, Labels(other))
    assert describe(root, before) == expected
    nnx.update(root, nnx.split(other)[1])
    assert describe(root, before) == expected
    nnx.update(root, *nnx.state(other, nnx.Param, ...))
    assert describe(root, before) == expected


@tried(40)
@given(graphs())
def test_states_come_back_from_each_of_their_forms(root):
    graphdef, state = nnx.split(root)
    assert nnx.state(root) == state
    flat = nnx.to_flat_state(state)
    assert nnx.from_flat_state(flat) == state
    assert describe(nnx.merge(graphdef, flat)) == describe(root)
    assert describe(nnx.merge(graphdef, nnx.from_flat_state(dict(flat)))) == describe(root)
    assert describe(nnx.merge(graphdef, jax.tree.map(lambda x: x, state))) == describe(root)
    leaves, treedef = jax.tree.flatten(state)
    assert describe(nnx.merge(graphdef, treedef.unflatten(leaves))) == describe(root)

    doubled = jax.tree.map(lambda x: jax.random.split(x)[0] if is_key(x) else x + 1, state)
    pure = nnx.to_pure_dict(doubled)
    nnx.replace_by_pure_dict(state, nnx.restore_int_paths(pure))
    assert describe(nnx.to_pure_dict(state)) == describe(pure)
    assert describe(nnx.merge(graphdef, state)) == describe(nnx.merge(graphdef, doubled))
    assert describe(nnx.merge(graphdef, pure)) == describe(nnx.merge(graphdef, doubled))


@tried(40)
@given(graphs(), programs())
def test_a_kept_traversal_finds_what_a_new_one_would(root, program):
    nnx.state(root)
    run(program, root, X)
    fresh = nnx.clone(root)
    assert describe(fresh) == describe(root)
    assert nnx.graphdef(root) == nnx.graphdef(fresh)
    assert describe(nnx.to_pure_dict(nnx.state(root))) == describe(nnx.to_pure_dict(nnx.state(fresh)))


def _items(value: Any) -> list[Any]:
    """The items of sequences below `value`, also of those inside of tuples."""
    if isinstance(value, (list, tuple, nnx.List)):
        return [one for item in value for one in (item, *_items(item if isinstance(item, tuple) else None))]
    return [one for _, child in children(value) if isinstance(child, tuple) for one in _items(child)]


@tried(40)
@given(graphs())
def test_popped_state_puts_a_module_together_again(root):
    items = [item for value in reachable(root) for item in _items(value)]
    assume(not any(isinstance(item, nnx.Param) for item in items))  # they cannot be popped
    before, graphdef = describe(root), nnx.graphdef(root)
    popped = nnx.pop(root, nnx.Param)
    assert not any(isinstance(value, nnx.Param) for value in reachable(root))
    assert describe(nnx.merge(graphdef, popped, nnx.state(root))) == before


# -- transforms: updating through them equals running the function


def check(transformed: Any, program: Any, root: Any, calls: int = 2) -> None:
    """Runs a program eagerly and transformed, on clones, and compares all that can be seen."""
    eager, other = nnx.clone(root), nnx.clone(root, arrays=True)
    for _ in range(calls):
        known, others = Labels(eager), Labels(other)
        expected = run(program, eager, X)
        out = transformed(other, X)
        assert describe((other, out), others) == describe((eager, expected), known)
        assert nnx.graphdef(other) == nnx.graphdef(eager)


def check_last(transformed: Any, program: Any, root: Any) -> None:
    """Does what `check` does for a transformed function that returns nothing but the last value of `x`."""
    eager, other = nnx.clone(root), nnx.clone(root)
    for _ in range(2):
        known, others = Labels(eager), Labels(other)
        _, x = run(program, eager, X)
        assert describe((other, transformed(other, X)), others) == describe((eager, x), known)
        assert nnx.graphdef(other) == nnx.graphdef(eager)


def total(out: Any) -> jax.Array:
    """The sum of all numbers in an output, without those in modules, which may hold themselves."""
    leaves = jax.tree.leaves(out, is_leaf=lambda x: isinstance(x, (nnx.Pytree, nnx.Variable, nnx.State)))
    numbers = [x for x in leaves if is_array(x) and x.dtype == jnp.float32]
    return sum(map(jnp.sum, numbers), jnp.zeros(()))


@tried(25)
@given(graphs(numbers=False), programs())
def test_jit_does_what_the_program_does(root, program):
    check(nnx.jit(lambda root, x: run(program, root, x)), program, root)


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")  # of what a program deletes
@tried(15)
@given(graphs(numbers=False), programs())
def test_jit_with_donation_does_what_the_program_does(root, program):
    check(nnx.jit(lambda root, x: run(program, root, x), donate_argnums=0), program, root)


@tried(15)
@given(graphs(numbers=False), programs())
def test_value_and_grad_does_what_the_program_does(root, program):
    def loss(root: Any, x: Any) -> Any:
        out = run(program, root, x)
        return total(out[1]), out

    def transformed(root: Any, x: Any) -> Any:
        graphdef, params, rest = nnx.split(nnx.clone(root), nnx.Param, ...)

        def pure(params: Any) -> Any:
            return loss(nnx.merge(graphdef, params, rest), x)[0]

        expected = jax.grad(pure)(params)
        (_, out), grads = nnx.value_and_grad(loss, has_aux=True)(root, x)
        assert describe(grads) == describe(expected)
        return out

    check(transformed, program, root)


any_axis = st.sampled_from([0, 1, -1, -2])


def part(i: int, axes: nnx.StateAxes) -> Any:
    """Takes part `i` along the axes of all arrays but those that are carried or shared."""

    def take(variable: Any, array: Any) -> Any:
        leaf = jnp.zeros(()) if variable is None else variable
        axis = next(a for f, a in zip(axes.filters, axes.axes, strict=True) if nnx.to_predicate(f)((), leaf))
        return jax.tree.map(lambda x: jnp.take(x, i, axis), array) if isinstance(axis, int) else array

    return take


def parts(root: Any, axes: nnx.StateAxes, i: int) -> Any:
    """A module like `root` with part `i` of each array."""
    graphdef, state = nnx.split(root)
    take = part(i, axes)

    def leaf_part(path: Any, leaf: Any) -> Any:
        return leaf.copy(take(leaf, leaf.get_value())) if isinstance(leaf, nnx.Variable) else take(None, leaf)

    return nnx.merge(graphdef, nnx.map_state(leaf_part, state))


def with_narrow(root: Any, kinds: tuple[type, ...]) -> Any:
    """A module like `root`, whose variables of these kinds lack an axis."""
    root = nnx.clone(root)
    for value in reachable(root):
        if isinstance(value, kinds):
            value.value = value.value[0]
    return root


@tried(15)
@given(graphs(rich=False), programs(), any_axis, any_axis, any_axis)
def test_vmap_does_what_the_program_does_to_each_part(root, program, first, second, third):
    by_kind = {nnx.Param: first, nnx.BatchStat: second, Special: None, nnx.Variable: third}
    axes = nnx.StateAxes({**by_kind, ...: 0})  # 0 for arrays, which may be in the output, too
    limits = {"kinds": (nnx.Param, nnx.BatchStat, nnx.Variable), "frozen": (Special,)}
    mapped = nnx.vmap(lambda root, x: run(program, root, x, **limits), in_axes=(axes, 0), out_axes=(axes, 0))
    root = with_narrow(root, (Special,))
    for _ in range(2):
        known = Labels(root)
        before = [parts(root, axes, i) for i in range(2)]
        out, x = mapped(root, X)
        for i, one in enumerate(before):
            labels = Labels(one)
            result = run(program, one, X[i], **limits)
            expected = describe((one, *result), labels)
            assert describe((root, out, x), known, part(i, axes)) == expected


SCAN_LIMITS = {"kinds": (nnx.Param, nnx.Variable), "frozen": (Special,)}


@tried(15)
@given(graphs(rich=False), programs(*VALUES, *MAKES), any_axis, any_axis)
def test_scan_does_what_the_program_does_in_each_step(root, program, first, second):
    axes = nnx.StateAxes({nnx.Param: first, nnx.BatchStat: nnx.Carry, Special: None, ...: second})
    loop = nnx.scan(
        lambda root, x: run(program, root, x, **SCAN_LIMITS),
        in_axes=(axes, nnx.Carry),
        out_axes=(0, nnx.Carry),
        length=2,
    )
    root = with_narrow(root, (Special, nnx.BatchStat))
    known = Labels(root)
    steps = [parts(root, axes, i) for i in range(2)]
    out, last = loop(root, X[0])
    x, carried = X[0], None
    for i, step in enumerate(steps):
        labels = Labels(step)
        if carried is not None:
            nnx.update(step, carried)
        result, x = run(program, step, x, **SCAN_LIMITS)
        carried = jax.tree.map(lambda value: value, nnx.state(step, nnx.BatchStat))  # copies the variables
        assert describe([value[i] for value in out]) == describe(result)
        if i < len(steps) - 1:  # of what is carried only the last is left
            nnx.update(step, nnx.state(root, nnx.BatchStat))
        assert describe(root, known, part(i, axes)) == describe(step, labels)
    assert describe(last) == describe(x)


# -- transforms in transforms


def under_grad(f: Any) -> Any:
    def loss(root: Any, x: Any) -> Any:
        out = f(root, x)
        return total(out), out

    return lambda root, x: nnx.value_and_grad(loss, has_aux=True)(root, x)[0][1]


def under_vjp(f: Any) -> Any:
    def transformed(root: Any, x: Any) -> Any:
        out, pullback, aux = nnx.vjp(lambda root, x: (x.sum(), f(root, x)), root, x, has_aux=True)
        pullback(jnp.ones_like(out))
        return aux

    return transformed


def under_vmap(f: Any) -> Any:
    return nnx.vmap(f, in_axes=None, out_axes=None, axis_size=2)


def under_shard_map(f: Any) -> Any:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    return nnx.shard_map(f, mesh=mesh, in_specs=P(), out_specs=P())


def under_switch(f: Any) -> Any:
    def other(root: Any, x: Any) -> Any:
        return f(root, 2 * x)

    return lambda root, x: nnx.switch(jnp.array(1), [other, f, other], root, x)


def under_cond(f: Any) -> Any:
    return lambda root, x: nnx.cond(total(x) > -1e9, f, lambda root, x: f(root, x * 2), root, x)


def as_method(f: Any) -> Any:
    class Caller(nnx.Module):
        def __init__(self, root: Any):
            self.root = root

        @nnx.jit
        def __call__(self, x: Any) -> Any:
            return f(self.root, x)

    return lambda root, x: Caller(root)(x)


ANY = [nnx.jit, nnx.remat, under_grad, under_vjp, under_vmap, under_switch, under_cond, as_method]


def under_scan(f: Any) -> Any:
    def step(carry: Any, _: Any) -> Any:
        root, x = carry
        return (root, f(root, x)), None

    return lambda root, x: nnx.scan(step, length=1)((root, x), None)[0][1]


def under_fori_loop(f: Any) -> Any:
    return lambda root, x: nnx.fori_loop(0, 1, lambda _, carry: (carry[0], f(*carry)), (root, x))[1]


def under_while_loop(f: Any) -> Any:
    def body(carry: Any) -> Any:
        root, x, i = carry
        return root, f(root, x), i + 1

    return lambda root, x: nnx.while_loop(lambda carry: carry[2] < 1, body, (root, x, 0))[1]


LOOPS = [under_scan, under_fori_loop, under_while_loop]


def nested(wrappers: Any) -> Any:
    return st.lists(st.sampled_from(wrappers), min_size=1, max_size=3)


def wrap(wrappers: Any, f: Any) -> Any:
    for wrapper in wrappers:
        f = wrapper(f)
    return f


@tried(25)
@given(graphs(numbers=False), programs(), nested(ANY))
def test_nested_transforms_do_what_the_program_does(root, program, wrappers):
    check(wrap(wrappers, lambda root, x: run(program, root, x)), program, root)


@tried(20)
@given(graphs(numbers=False), programs(*VALUES), nested([*ANY, *LOOPS]))
def test_loops_in_transforms_do_what_the_program_does(root, program, wrappers):
    inside = wrappers[: max((i for i, w in enumerate(wrappers) if w in (under_grad, under_vjp)), default=0)]
    assume(under_while_loop not in inside)  # jax cannot differentiate it
    check_last(wrap(wrappers, lambda root, x: run(program, root, x)[1]), program, root)
