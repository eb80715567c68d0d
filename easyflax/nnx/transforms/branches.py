"""`nnx.cond` and `nnx.switch`: one of several functions of modules, chosen by a value.

Each branch is traced on modules of its own and returns all values; jax gives back those that no branch
changed as they were.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from easyflax.nnx.core.differences import structure_differences
from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graphdef import NODE, VARIABLE, GraphDef, Ref
from easyflax.nnx.core.signatures import R
from easyflax.nnx.transforms.control_flow import (
    first_difference_of_trees,
    first_difference_of_types,
    leaf_names,
    number_of_owner,
    origin,
    output_names,
    plain,
    root_names,
    shapes_of,
    shown,
)
from easyflax.nnx.transforms.kept import kept_with, name_of
from easyflax.nnx.transforms.lift import Outcome, also_return, run, unpack
from easyflax.nnx.transforms.packing import Call, Spec, bound_object, is_slot, pack

_OBJECTS = (NODE, VARIABLE)


def cond(pred: Any, true_fun: Callable[..., R], false_fun: Callable[..., R], *operands: Any) -> R:
    """Calls one of two functions of modules and arrays, as `jax.lax.cond` does for arrays.

    Args:
        pred: a boolean or number, or a variable that holds one.
        true_fun: called with the operands if `pred` is true; changes that it makes to modules are kept.
        false_fun: called otherwise.
        *operands: modules, arrays, and containers of these.

    Returns:
        the output of the function that was called; it may hold modules.

    Raises:
        TypeError: the functions differ in the structure, shapes or dtypes of what they return, or of the
            modules as they leave them.
        TraceContextError: a function changes a module that is no operand.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> def step(count):
        ...     count[...] += 1
        >>> def reset(count):
        ...     count[...] = jnp.zeros_like(count)
        >>> count = nnx.Variable(jnp.array(3))
        >>> nnx.cond(count < 3, step, reset, count)
        >>> int(count)
        0
    """
    pred = plain(pred)
    return _select(
        "cond",
        ("true_fun", "false_fun"),
        (true_fun, false_fun),
        operands,
        lambda branches, *args: jax.lax.cond(pred, *branches, *args),
    )


def switch(index: Any, branches: Sequence[Callable[..., R]], *operands: Any) -> R:
    """Calls one of several functions of modules and arrays, as `jax.lax.switch` does for arrays.

    Args:
        index: the number of the function to call, or a variable that holds it; what is too small or too large
            counts as the first or last.
        branches: functions, methods of modules, or modules; changes that they make to modules are kept.
        *operands: modules, arrays, and containers of these.

    Returns:
        the output of the function that was called; it may hold modules.

    Raises:
        TypeError: the functions differ in the structure, shapes or dtypes of what they return, or of the
            modules as they leave them.
        TraceContextError: a function changes a module that is no operand.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> experts = [nnx.Linear(2, 3, rngs=nnx.Rngs(i)) for i in range(4)]
        >>> nnx.switch(2, experts, jnp.ones((1, 2))).shape
        (1, 3)
    """
    index = plain(index)
    labels = [f"branches[{i}]" for i in range(len(branches))]
    return _select(
        "switch", labels, branches, operands, lambda branches, *args: jax.lax.switch(index, branches, *args)
    )


def _select(
    transform: str,
    labels: Sequence[str],
    functions: Sequence[Callable[..., Any]],
    operands: tuple[Any, ...],
    choose: Callable[..., Any],
) -> Any:
    targets = [bound_object(f) for f in functions]
    owners: list[Any] = []
    numbers = [number_of_owner(bound, owners) for _, bound in targets]
    call = pack((*owners, *operands), {})
    branches = [
        kept_with(fun, _make_branch, transform, call.spec, number, len(owners))
        for (fun, _), number in zip(targets, numbers, strict=True)
    ]
    values = call.walk.values()
    try:
        out, new, outcome = choose(branches, values, call.args)
    except TypeError:
        owner_names = [f"{label}.__self__" for label, n in zip(labels, numbers, strict=True) if n is not None]
        where = [*owner_names, *(f"operands[{i}]" for i in range(len(operands)))]
        named = [f"{label} ('{name_of(f)}')" for label, f in zip(labels, functions, strict=True)]
        message = _explain(transform, named, branches, call, where)
        if message is None:
            raise
        raise TypeError(message) from None
    return unpack(call, out, *_changes(values, new, outcome))


def _make_branch(
    get_fun: Callable[[], Callable[..., Any]], transform: str, spec: Spec, owner: int | None, count: int
) -> Callable[..., Any]:
    """Returns the pure function of one branch.

    Args:
        owner: the position of the object that the function is a method of.
        count: the number of such objects, before the operands.
    """

    def branch(values: list[Any], args: list[Any]) -> tuple[Any, list[Any], Outcome]:
        fun = get_fun()

        @functools.wraps(fun)
        def on_operands(*args: Any) -> Any:
            own = () if owner is None else (args[owner],)
            return fun(*own, *args[count:])

        out, changed, outcome = run(on_operands, spec, values, args, {}, transform=transform)
        return out, *also_return(range(len(values)), values, changed, outcome)

    return branch


def _changes(values: Sequence[Any], new: Sequence[Any], outcome: Outcome) -> tuple[list[Any], Outcome]:
    """Leaves out what came back as it was, so that a transform around this one sees no change."""
    kept = []
    for i, leaf in enumerate(outcome.leaves):
        before = origin(outcome, leaf)
        if before is None or not _is_same(values[before], new[i]):
            kept.append(i)
    return [new[i] for i in kept], dataclasses.replace(outcome, leaves=tuple(outcome.leaves[i] for i in kept))


def _is_same(old: Any, new: Any) -> bool:
    if old is new or isinstance(old, jax.Array):
        return old is new
    leaves, new_leaves = jax.tree.leaves(old), jax.tree.leaves(new)  # a variable may hold a tree of arrays
    return len(leaves) == len(new_leaves) and all(a is b for a, b in zip(leaves, new_leaves, strict=True))


# -- messages


def _explain(
    transform: str, labels: Sequence[str], branches: Sequence[Any], call: Call, positions: Sequence[str]
) -> str | None:
    """Says how the branches differ; None if they do not."""
    results = [shapes_of(branch, call.walk.values(), call.args) for branch in branches]
    if any(result is None for result in results):
        return None
    names = root_names(call.spec, call.args, positions)
    for label, result in zip(labels[1:], results[1:], strict=True):
        found = _difference(call.spec, names, results[0], result)
        if found is not None:
            return (
                f"The branches of nnx.{transform} differ: {labels[0]} {found[0]}, and {label} {found[1]}, "
                "expected the same of all.\n"
                "Make the branches return the same structure, shapes and dtypes, and leave the same "
                "attributes on the modules: set an attribute before, or in all of them."
            )
    return None


def _difference(spec: Spec, names: Sequence[str], first: Any, other: Any) -> tuple[str, str] | None:
    """Returns what the first branch does, and what the other does."""
    (out, new, outcome), (other_out, other_new, other_outcome) = first, other
    structures = [result.after or spec.graphdef for result in (outcome, other_outcome)]
    if structure_differences(structures[0], structures[1]):
        return _changed(spec, structures[0], names), _changed(spec, structures[1], names)
    found = first_difference_of_trees(out, other_out, "output")
    if found is not None:
        return _both("returns", *found)
    where = [name for name, leaf in output_names(out, "output") if is_slot(leaf)][: len(outcome.outputs)]
    differences = structure_differences(
        structures[0].with_roots(outcome.outputs), structures[1].with_roots(other_outcome.outputs), where
    )
    if differences:
        return "returns modules", f"returns others: {'; '.join(differences)}"
    pairs = zip(output_names(out, "output"), output_names(other_out, "output"), strict=True)
    found = first_difference_of_types((name, a, b) for (name, a), (_, b) in pairs if not is_slot(a))
    if found is not None:
        return _both("returns", *found)
    everything = structures[0].with_roots((*spec.graphdef.roots, *outcome.outputs))
    names = [*names, *where]
    leaves = leaf_names(everything, names)
    triples = zip(outcome.leaves, new, other_new, strict=True)
    found = first_difference_of_types((leaves[leaf], a, b) for leaf, a, b in triples)
    if found is not None:
        return _both("leaves", *found)
    return _difference_of_objects(spec.graphdef, names, outcome, other_outcome)


def _both(verb: str, where: str, first: str, other: str) -> tuple[str, str]:
    return f"{verb} {first} at '{where}'", f"{verb} {other}"


def _changed(spec: Spec, structure: GraphDef[Any], names: Sequence[str]) -> str:
    """Says what a branch changed of the structure that it was passed."""
    differences = structure_differences(spec.graphdef, structure, names)
    return f"changed {'; '.join(differences)}" if differences else "changed no attribute"


def _difference_of_objects(
    before: GraphDef[Any], names: Sequence[str], first: Outcome, other: Outcome
) -> tuple[str, str] | None:
    """Finds a place in which both have an object of the same structure, but not the same object."""
    places = {(tag, number): shown(names, path) for path, tag, number in _refs(before) if tag in _OBJECTS}
    for verb, where, one, another in _pairs_of_places(before, names, first, other):
        if one[0] not in _OBJECTS:
            continue
        origins = _origin(first, one), _origin(other, another)
        if origins[0] != origins[1]:
            texts = ["a new one" if i is None else f"what was at '{places[one[0], i]}'" for i in origins]
            return _both(verb, where, texts[0], texts[1])
    return None


def _pairs_of_places(
    before: GraphDef[Any], names: Sequence[str], first: Outcome, other: Outcome
) -> Iterator[tuple[str, str, Ref, Ref]]:
    """Iterates over `(verb, where, what one has there, what the other has there)`: below the arguments, then
    below each object of the output."""
    structures = first.after or before, other.after or before
    for path, tag, number in _refs(structures[0].with_roots(before.roots)):
        yield "leaves", shown(names, path), (tag, number), (tag, number)
    for where, one, another in zip(names[len(before.roots) :], first.outputs, other.outputs, strict=True):
        below = [s.with_roots((ref,)).iter_refs() for s, ref in zip(structures, (one, another), strict=True)]
        for (path, *a), (_, *b) in zip(*below, strict=True):
            yield "returns", "/".join(map(str, (where, *path))), (a[0], a[1]), (b[0], b[1])


def _origin(outcome: Outcome, ref: Ref) -> int | None:
    tag, number = ref
    if tag != NODE:
        return origin(outcome, number)
    return number if outcome.after is None else outcome.node_origins[number]


def _refs(graphdef: GraphDef[Any]) -> Iterator[tuple[Path, int, Any]]:
    """Iterates over the references with paths that begin with the number of the root."""
    single = len(graphdef.roots) == 1
    return (((0, *path) if single else path, tag, number) for path, tag, number in graphdef.iter_refs())
