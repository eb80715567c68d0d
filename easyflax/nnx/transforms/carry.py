"""Modules that the body of a loop returns in place of those it was passed.

Modules changed in place stay the caller's. Where a body returns new ones, of the same structure, each step
gets those of the step before, the caller's are left alone, and the loop returns new ones: copies of those
rows of the structure, next to the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from easyflax.nnx.core.differences import structure_differences
from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graphdef import ARRAY, NODE, STATIC, VARIABLE, GraphDef, NodeDef, Ref
from easyflax.nnx.transforms.control_flow import origin
from easyflax.nnx.transforms.lift import Outcome


class Carried(NamedTuple):
    """How the values of a loop go on.

    Attributes:
        leaves: for each value, the leaf after a step that is the value for the next step.
        outcome: what to do with the caller's objects after the last step.
        sources: the number of the value for each of `outcome.leaves`.
    """

    leaves: list[int]
    outcome: Outcome
    sources: tuple[int, ...]


def carried(
    label: str,
    before: GraphDef[Any],
    outcome: Outcome,
    places: Sequence[tuple[str, int, Ref]],
) -> Carried:
    """Finds out what goes on where, for a body that did not just change values in place.

    Args:
        label: names the body in messages.
        before: the structure that each step begins with.
        outcome: what the body did.
        places: for each place that has an object how to write it, the number of the root that is passed
            there, and a reference to the object that is returned there.

    Raises:
        ValueError: the structure after a step is another one.
    """
    after = outcome.after or before
    names = [name for name, _, _ in places]
    old = before.with_roots(tuple(before.roots[root] for _, root, _ in places))
    new = after.with_roots(tuple(ref for _, _, ref in places))
    differences = structure_differences(old, new, names)
    if differences:
        raise ValueError(_message(label, differences))
    matched = _match(old, new)
    rewriter = _Rewriter(label, names, before, matched, outcome)
    outputs = {
        root: rewriter.rewrite((i,), before.roots[root], False) for i, (_, root, _) in enumerate(places)
    }
    return rewriter.result(tuple(outputs[root] for root in range(len(before.roots))))


def _message(label: str, differences: Sequence[str]) -> str:
    return (
        f"{label} returned modules of another structure than it was passed: {'; '.join(differences)}. "
        "Expected the same, as its output is its next input.\n"
        "Make variables and modules before the loop, and change their values inside."
    )


class _Match(NamedTuple):
    """The row of one structure for each row of another one, from corresponding roots."""

    nodes: dict[int, int]
    variables: dict[int, int]
    arrays: dict[int, int]


def _match(first: GraphDef[Any], second: GraphDef[Any]) -> _Match:
    """Finds the corresponding rows of two structures that are equal but for the order of their rows."""
    found = _Match({}, {}, {})
    stack = list(zip(first.roots, second.roots, strict=True))
    while stack:
        (tag, number), (_, other) = stack.pop()
        if tag == STATIC:
            continue
        known = found[_TABLES[tag]]
        if number not in known:
            known[number] = other
            if tag == NODE:
                rows = first.nodes[number], second.nodes[other]
                children = ({key: (t, n) for key, t, n in row.children} for row in rows)
                stack += _pairs(*children)
    return found


_TABLES = {NODE: 0, VARIABLE: 1, ARRAY: 2}


def _pairs(children: dict[Any, Ref], others: dict[Any, Ref]) -> list[tuple[Ref, Ref]]:
    return [(ref, others[key]) for key, ref in children.items()]


class _Rewriter:
    """Adds to a structure copies of what is new after each step."""

    def __init__(
        self, label: str, names: Sequence[str], before: GraphDef[Any], matched: _Match, outcome: Outcome
    ) -> None:
        self._label, self._names = label, names
        self._before, self._matched, self._outcome = before, matched, outcome
        self._after = outcome.after or before
        self._nodes: list[Any] = list(before.nodes)
        self._copies: dict[Ref, Ref] = {}  # of nodes and variables
        self._variables: list[int] = []  # those that are copied
        self._arrays: list[int] = []
        self._kept_arrays: list[int] = []
        self._visited: set[int] = set()

    def rewrite(self, path: Path, ref: Ref, in_kept: bool) -> Ref:
        """Returns the reference to use after the last step.

        Args:
            in_kept: whether what refers to it is an object of the caller.
        """
        tag, number = ref
        if tag == STATIC:
            return ref
        if tag == ARRAY:
            (self._kept_arrays if in_kept else self._arrays).append(number)
            return ref if in_kept else (ARRAY, self._before.num_arrays + len(self._arrays) - 1)
        if tag == NODE and not self._before.nodes[number].is_reference:
            return self._value(path, ref, in_kept)
        if self._is_kept(ref):
            self._visit(path, ref)
            return ref
        if in_kept:
            where = "/".join(map(str, (self._names[path[0]], *path[1:])))
            raise ValueError(_message(self._label, [f"'{where}': is another object"]))
        if ref in self._copies:
            return self._copies[ref]
        return self._copy(path, ref)

    def _is_kept(self, ref: Ref) -> bool:
        tag, number = ref
        if tag == VARIABLE:
            return origin(self._outcome, self._matched.variables[number]) == number
        partner = self._matched.nodes[number]
        return (partner if self._outcome.after is None else self._outcome.node_origins[partner]) == number

    def _visit(self, path: Path, ref: Ref) -> None:
        """Looks through a node that stays, in which everything must stay."""
        if ref[0] == NODE and ref[1] not in self._visited:
            self._visited.add(ref[1])
            self._children(path, self._before.nodes[ref[1]], True)

    def _value(self, path: Path, ref: Ref, in_kept: bool) -> Ref:
        row = self._before.nodes[ref[1]]
        children = self._children(path, row, in_kept)
        if in_kept:
            return ref
        self._nodes.append(row._replace(children=children))  # after its parts, as `assemble` wants it
        return NODE, len(self._nodes) - 1

    def _copy(self, path: Path, ref: Ref) -> Ref:
        tag, number = ref
        if tag == VARIABLE:
            self._variables.append(number)
            copy = VARIABLE, len(self._before.variables) + len(self._variables) - 1
            self._copies[ref] = copy
            return copy
        row = self._before.nodes[number]
        copy = NODE, len(self._nodes)
        self._copies[ref] = copy
        self._nodes.append(None)
        self._nodes[copy[1]] = row._replace(children=self._children(path, row, False))
        return copy

    def _children(self, path: Path, row: NodeDef, in_kept: bool) -> tuple[tuple[Any, int, Any], ...]:
        return tuple(
            (key, *self.rewrite((*path, key), (tag, payload), in_kept)) for key, tag, payload in row.children
        )

    def result(self, outputs: tuple[Ref, ...]) -> Carried:
        before, matched = self._before, self._matched
        count, after_count = len(before.variables), len(self._after.variables)
        leaves = [matched.variables[i] for i in range(count)]
        leaves += [after_count + matched.arrays[i] for i in range(before.num_arrays)]
        shift = len(self._variables)  # new variables come before all arrays
        kept = [i for i in range(count) if self._is_kept((VARIABLE, i))]
        kept += [count + i for i in sorted(self._kept_arrays)]
        changed = set(self._outcome.leaves)
        sources = {i if i < count else i + shift: i for i in kept if leaves[i] in changed}
        sources |= {count + n: i for n, i in enumerate(self._variables)}
        first_array = count + shift + before.num_arrays
        sources |= {first_array + n: count + i for n, i in enumerate(self._arrays)}
        numbers = tuple(sorted(sources))
        structure = GraphDef(
            before.roots,
            tuple(self._nodes),
            (*before.variables, *(before.variables[i] for i in self._variables)),
            before.num_arrays + len(self._arrays),
        )
        outcome = Outcome(
            numbers,
            outputs,
            structure,
            tuple(
                i if i < len(before.nodes) and row.is_reference else None for i, row in enumerate(self._nodes)
            ),
            (*range(count), *[None] * shift, *range(count, before.num_leaves), *[None] * len(self._arrays)),
        )
        return Carried(leaves, outcome, tuple(sources[number] for number in numbers))
