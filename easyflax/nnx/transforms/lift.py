"""The one mechanism under every transform: a function of modules as a pure function of arrays.

A transform does four things.

1. `pack` (`packing.py`) takes the modules out of the arguments and walks them (`core/walk.py`). What is left
   is a flat list of values, a static `Spec` that says how to rebuild the modules and where they were, and the
   other arguments.
2. It calls a jax transform on a function of those values, which calls `run`: new modules are built around the
   values, the user's function is called on them, and they are compared with what they were. `run` returns the
   function's output with modules taken out, the values that really changed, and an `Outcome`, static, that
   says what these are.
3. How the values are mapped, differentiated or scanned is the transform's own affair: it decides for each
   leaf.
4. `unpack` writes the changes to the caller's modules and puts modules back into the output.

A function may set and delete attributes, create variables and modules, and return modules: then the structure
after the call differs from that before, `Outcome.after` holds it, and the caller's objects are brought into
that structure.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from easyflax.errors import TraceContextError
from easyflax.nnx.core.graphdef import (
    NODE,
    VARIABLE,
    GraphDef,
    Ref,
    assemble,
    collect_nodes,
    leaves_if_unchanged,
    make_variables,
    resolve_root,
)
from easyflax.nnx.core.state import State
from easyflax.nnx.core.tracking import Tracked, current_trace, running, running_transform
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import Walk
from easyflax.nnx.transforms.notes import note_leaks
from easyflax.nnx.transforms.packing import (
    Call,
    Spec,
    put_back,
    take_out,
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a function did to the objects it was called with; a pytree without leaves.

    Attributes:
        leaves: numbers of the leaves (variables first, then arrays) whose values are new, in the structure
            after the call.
        outputs: references to the objects in the output, in that structure.
        after: the structure after the call; None when it is the one before.
        node_origins: for each node of `after` its number before, or None for a new one.
        leaf_origins: likewise for the leaves; an array without a variable is known by its identity, or by its
            place where the structure before stayed.
        nodes_before: if `after` begins with the structure before, unchanged, and has more rows only for what
            the function returns, the number of nodes before; otherwise None.
    """

    leaves: tuple[int, ...]
    outputs: tuple[Ref, ...] = ()
    after: GraphDef[Any] | None = None
    node_origins: tuple[int | None, ...] = ()
    leaf_origins: tuple[int | None, ...] = ()
    nodes_before: int | None = None

    @functools.cached_property
    def known(self) -> tuple[list[int], tuple[int, ...]]:
        """Which of the values that come back belong to leaves that were there before, and their numbers."""
        pairs = [(i, self.leaf_origins[leaf]) for i, leaf in enumerate(self.leaves)]
        return [i for i, old in pairs if old is not None], tuple(old for _, old in pairs if old is not None)

    @functools.cached_property
    def made(self) -> tuple[list[int], list[int]]:
        """Which of the values that come back belong to new variables, and which are new arrays."""
        after = self.after
        assert after is not None
        new = [i for i, leaf in enumerate(self.leaves) if self.leaf_origins[leaf] is None]
        count = len(after.variables)
        return [i for i in new if self.leaves[i] < count], [i for i in new if self.leaves[i] >= count]

    @functools.cached_property
    def returns_known_nodes(self) -> bool:
        """Whether what is returned is, or refers to, modules that were there before."""
        after, start = self.after, self.nodes_before
        assert after is not None
        assert start is not None
        refs = [(t, n) for row in after.nodes[start:] for _, t, n in row.children]
        return any(tag == NODE and number < start for tag, number in (*refs, *self.outputs))


def run(
    f: Callable[..., Any],
    spec: Spec,
    values: Sequence[Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    transform: str,
) -> tuple[Any, list[Any], Outcome]:
    """Calls `f` on objects built around `values`.

    Args:
        transform: the name of the transform, for messages.

    Returns:
        the output with objects taken out, the values that changed, and what they are.
    """
    before = spec.graphdef
    count = len(before.variables)
    variables = make_variables(before, values[:count])
    nodes = assemble(before, variables, values[count:])
    roots = [resolve_root(ref, nodes, variables) for ref in before.roots]
    filled, keywords = spec.fill(args, kwargs, roots)
    with running(transform, f):
        try:
            out = f(*filled, **keywords)
        except jax.errors.UnexpectedTracerError as error:
            note_leaks(error, before, values)
            raise
        returned: list[Any] = []
        out = take_out(out, returned)
        found = _compare_values(before, values, nodes, variables, returned)
        if found is None:
            found = _compare(before, values, nodes, variables, Walk((*roots, *returned)))
        return out, *found


def _compare_values(
    before: GraphDef[Any],
    values: Sequence[Any],
    nodes: Sequence[Any],
    variables: Sequence[Variable[Any]],
    returned: Sequence[Any],
) -> tuple[list[Any], Outcome] | None:
    """Returns what changed where that is values only, and None where it is, or may be, more."""
    outputs: tuple[Ref, ...] = ()
    if returned:
        refs: dict[int, Ref] = {id(node): (NODE, i) for i, node in enumerate(nodes)}
        refs |= {id(variable): (VARIABLE, i) for i, variable in enumerate(variables)}
        if not all(id(value) in refs for value in returned):
            return None
        outputs = tuple(refs[id(value)] for value in returned)
    new_values = leaves_if_unchanged(before, nodes, variables)
    if new_values is None:
        return None
    leaves = tuple(i for i, (old, new) in enumerate(zip(values, new_values, strict=True)) if old is not new)
    return [new_values[i] for i in leaves], Outcome(leaves, outputs)


def _compare(
    before: GraphDef[Any],
    values: Sequence[Any],
    nodes: Sequence[Any],
    variables: Sequence[Variable[Any]],
    after: Walk,
) -> tuple[list[Any], Outcome]:
    outputs = after.graphdef.roots[len(before.roots) :]
    new_values = after.values()
    if _same_objects(before, nodes, variables, after):
        leaves = tuple(
            i for i, (old, new) in enumerate(zip(values, new_values, strict=True)) if old is not new
        )
        return [new_values[i] for i in leaves], Outcome(leaves, outputs)
    _check_made_inside(after)
    known = {id(value): i for table in (nodes, variables) for i, value in enumerate(table)}
    node_origins = tuple(
        known.get(id(node)) if row.is_reference else None
        for row, node in zip(after.graphdef.nodes, after.nodes or (), strict=True)
    )
    variable_origins = tuple(known.get(id(variable)) for variable in after.variables)
    structure = after.graphdef.with_roots(after.graphdef.roots[: len(before.roots)])
    is_extended = _is_extended(before, structure, node_origins, variable_origins)
    first, count = len(variables), len(after.variables)
    if is_extended:  # then the arrays before are the first ones
        new_arrays = structure.num_arrays - before.num_arrays
        array_origins = (*range(first, before.num_leaves), *[None] * new_arrays)
    else:
        known_arrays = {id(values[i]): i for i in range(first, len(values))}
        array_origins = tuple(known_arrays.get(id(array)) for array in new_values[count:])
    origins = (*variable_origins, *array_origins)
    leaves = tuple(
        i
        for i, (value, origin) in enumerate(zip(new_values, origins, strict=True))
        if origin is None or value is not values[origin]
    )
    nodes_before = len(before.nodes) if is_extended else None
    outcome = Outcome(leaves, outputs, structure, node_origins, origins, nodes_before)
    return [new_values[i] for i in leaves], outcome


def _is_extended(
    before: GraphDef[Any],
    after: GraphDef[Any],
    node_origins: Sequence[int | None],
    variable_origins: Sequence[int | None],
) -> bool:
    """Whether one structure begins with another one, of the same objects."""
    numbers = zip(range(len(before.nodes)), node_origins, before.nodes, strict=False)
    return (
        after.roots == before.roots
        and after.nodes[: len(before.nodes)] == before.nodes
        and after.variables[: len(before.variables)] == before.variables
        and variable_origins[: len(before.variables)] == tuple(range(len(before.variables)))
        and all(i == origin or not row.is_reference for i, origin, row in numbers)
    )


def _check_made_inside(after: Walk) -> None:
    """Objects that a function returns, or puts into others, must be those it was passed or made itself."""
    trace = current_trace()
    for path, tag, payload in after.graphdef.iter_refs():
        if tag not in (NODE, VARIABLE):
            continue
        found = after.variables[payload] if tag == VARIABLE else (after.nodes or ())[payload]
        if isinstance(found, Tracked) and not isinstance(found, State) and found._trace != trace:
            where = "/".join(map(str, path[1:])) or "the output itself"
            raise TraceContextError(
                f"The {type(found).__name__} at '{where}' of what the function returned or changed was made "
                f"outside of {running_transform()}, which is running, and is no argument of the function: it "
                "would come back as a copy.\n"
                "Pass the module that holds it as an argument."
            )


def _same_objects(
    before: GraphDef[Any], nodes: Sequence[Any], variables: Sequence[Variable[Any]], after: Walk
) -> bool:
    return (
        before.same_tables(after.graphdef)
        and before.roots == after.graphdef.roots[: len(before.roots)]
        and all(a is b for a, b in zip(variables, after.variables, strict=True))
        and all(
            a is b
            for a, b, row in zip(nodes, after.nodes or (), before.nodes, strict=True)
            if row.is_reference
        )
    )


def also_return(
    leaves: Iterable[int], values: Sequence[Any], changed: Sequence[Any], outcome: Outcome
) -> tuple[list[Any], Outcome]:
    """Adds leaves that did not change, by their numbers before the call, to what `run` returns."""
    new = dict(zip(outcome.leaves, changed, strict=True))
    if outcome.after is None:
        new = {**{i: values[i] for i in leaves}, **new}
    else:  # an array without a variable may be in several places now
        wanted = set(leaves)
        new = {**{i: values[old] for i, old in enumerate(outcome.leaf_origins) if old in wanted}, **new}
    order = tuple(sorted(new))
    return [new[i] for i in order], dataclasses.replace(outcome, leaves=order)


def unpack(call: Call, out: Any, values: Sequence[Any], outcome: Outcome) -> Any:
    """Writes what changed to the caller's objects and returns the output with objects put back in."""
    found = call.walk
    if outcome.after is None and found.can_store(outcome.leaves):
        if values:
            found.store(outcome.leaves, values)
        if not outcome.outputs:
            return out
        nodes, variables = collect_nodes(found.graphdef, call.objects), found.variables
    elif outcome.nodes_before is not None and found.can_store(outcome.known[1]):
        nodes, variables = _extend(call, values, outcome)
    else:
        nodes, variables = _restructure(call, values, outcome)
    return put_back(out, [resolve_root(ref, nodes, variables) for ref in outcome.outputs])


def _extend(
    call: Call, values: Sequence[Any], outcome: Outcome
) -> tuple[Sequence[Any], Sequence[Variable[Any]]]:
    """Stores changed values, and builds what is new next to the caller's objects, which it leaves alone."""
    found, after = call.walk, outcome.after
    assert after is not None
    numbers, positions = outcome.known
    if numbers:
        found.store(positions, [values[i] for i in numbers])
    start, old = len(found.variables), found.graphdef
    new_variables, new_arrays = outcome.made
    variables = [*found.variables, *make_variables(after, [values[i] for i in new_variables], start)]
    arrays = [*(None for _ in range(old.num_arrays)), *(values[i] for i in new_arrays)]
    nodes = (None,) * len(old.nodes)
    if outcome.returns_known_nodes:
        nodes = collect_nodes(old, call.objects)
    return assemble(after, variables, arrays, finished=nodes), variables


def _restructure(
    call: Call, values: Sequence[Any], outcome: Outcome
) -> tuple[list[Any], Sequence[Variable[Any]]]:
    """Brings the caller's objects into the structure after the call."""
    found, after = call.walk, outcome.after
    if after is None:  # the same structure, with arrays to set inside of immutable containers
        after = found.graphdef
        outcome = dataclasses.replace(
            outcome,
            node_origins=tuple(i if row.is_reference else None for i, row in enumerate(after.nodes)),
            leaf_origins=tuple(range(after.num_leaves)),
        )
    new = dict(zip(outcome.leaves, values, strict=True))
    variables: list[Variable[Any]] = []
    for i, row in enumerate(after.variables):
        origin = outcome.leaf_origins[i]
        if origin is None:
            variables.append(row.type.from_metadata(new[i], dict(row.metadata)))
            continue
        variable = found.variables[origin]
        if i in new:
            variable.set_raw_value(new[i])
        if dict(row.metadata) != variable._metadata:
            variable.set_metadata(dict(row.metadata))
        variables.append(variable)
    old = found.values()
    arrays = []
    for i in range(len(after.variables), after.num_leaves):
        origin = outcome.leaf_origins[i]
        arrays.append(new[i] if i in new or origin is None else old[origin])
    nodes = collect_nodes(found.graphdef, call.objects)
    existing = [None if origin is None else nodes[origin] for origin in outcome.node_origins]
    return assemble(after, variables, arrays, existing), variables
