"""`nnx.while_loop` and `nnx.fori_loop`: loops whose value holds modules.

The loop carries all values of the modules and the arrays beside them. A body may change modules in place, and
may return new ones of the same structure in place of those it was passed, a new `State` of gradients say.
Which it did is known once the body was traced; a `_Report` brings it out of the loop.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from easyflax.nnx.core.graphdef import Ref
from easyflax.nnx.core.signatures import R
from easyflax.nnx.transforms.carry import carried
from easyflax.nnx.transforms.control_flow import (
    argument,
    first_difference_of_trees,
    first_difference_of_types,
    leaf_names,
    number_of_owner,
    origin,
    output_names,
    plain,
    root_names,
    shapes_of,
)
from easyflax.nnx.transforms.kept import kept_with, name_of
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.packing import Call, Spec, bound_object, is_slot, pack, put_back


def while_loop(cond_fun: Callable[[R], Any], body_fun: Callable[[R], R], init_val: R) -> R:
    """Calls a function on its own output for as long as a condition holds, as `jax.lax.while_loop` does.

    Args:
        cond_fun: says for a value whether to go on; it may read modules, not change them.
        body_fun: returns the next value: the same containers, arrays of the same shapes and dtypes, and in
            place of each module that module, perhaps changed, or a new one of the same structure.
        init_val: the first value: modules, arrays, and containers of these.

    Returns:
        the last value. It holds the modules of `init_val`, with the changes that the body made to them.

    Raises:
        ValueError: `body_fun` changes the structure of the value or of a module; `cond_fun` changes a module.
        TypeError: `body_fun` changes a shape or dtype.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> double = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
        >>> double.kernel[...] = 2 * jnp.eye(2)
        >>> def body(val):
        ...     layer, x = val
        ...     return layer, layer(x)
        >>> _, x = nnx.while_loop(lambda val: val[1].sum() < 10, body, (double, jnp.ones(2)))
        >>> x.tolist()
        [8.0, 8.0]
    """
    loop = _Loop("while_loop", init_val, body_fun, cond_fun)
    test = loop.pure(_make_test, cond_fun)
    return loop.finish(lambda body, carry: jax.lax.while_loop(test, body, carry))


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, R], R],
    init_val: R,
    *,
    unroll: int | bool | None = None,
) -> R:
    """Calls a function for each number from `lower` up to, not including, `upper`, as `jax.lax.fori_loop`
    does.

    Args:
        lower: the first number.
        upper: the number after the last one. With both known when it is traced, the loop can be
            differentiated in reverse mode.
        body_fun: called with the number and the value, returns the next value: the same containers, arrays
            of the same shapes and dtypes, and in place of each module that module, perhaps changed, or a new
            one of the same structure.
        init_val: the first value: modules, arrays, and containers of these.
        unroll: steps unrolled into one iteration of the compiled loop, or True for all; only for bounds that
            are known.

    Returns:
        the last value. It holds the modules of `init_val`, with the changes that the body made to them.

    Raises:
        ValueError: `body_fun` changes the structure of the value or of a module.
        TypeError: `body_fun` changes a shape or dtype.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> total = nnx.Variable(jnp.array(0))
        >>> def body(i, total):
        ...     total[...] += i
        ...     return total
        >>> nnx.fori_loop(0, 5, body, total) is total, int(total)
        (True, 10)
    """
    loop = _Loop("fori_loop", init_val, body_fun)
    bounds = plain(lower), plain(upper)
    return loop.finish(lambda body, carry: jax.lax.fori_loop(*bounds, body, carry, unroll=unroll))


@jax.tree_util.register_static
class _Report:
    """What tracing a body tells of the value it returns, as a part of that value without arrays.

    jax wants the structure of the value to stay the same, so all reports are equal.

    Attributes:
        outcome: what to write to the caller's objects and where the objects of the output are; None where no
            body was traced.
        sources: the numbers, among the values that are carried, of the values for `outcome.leaves`.
    """

    def __init__(self, outcome: Outcome | None = None, sources: tuple[int, ...] = ()) -> None:
        self.outcome = outcome
        self.sources = sources

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Report)

    def __hash__(self) -> int:
        return hash(_Report)


class _Loop:
    """One call of a loop. Methods of modules among its functions have their modules carried as well."""

    def __init__(self, transform: str, init_val: Any, *functions: Callable[..., Any]) -> None:
        self.transform = transform
        self.body_fun = functions[0]
        self.owners: list[Any] = []
        self.targets: dict[Any, tuple[Callable[..., Any], int | None]] = {}
        for f in functions:
            fun, bound = bound_object(f)
            self.targets[f] = fun, number_of_owner(bound, self.owners)
        self.call: Call = pack((init_val, *self.owners), {})

    def pure(self, make: Callable[..., Any], f: Callable[..., Any]) -> Any:
        fun, owner = self.targets[f]
        return kept_with(fun, make, self.transform, self.call.spec, owner)

    def finish(self, loop: Callable[..., Any]) -> Any:
        """Runs the loop and returns its last value."""
        call, body = self.call, self.pure(_make_body, self.body_fun)
        try:
            values, args, report = loop(body, (call.walk.values(), call.args, _Report()))
        except TypeError:
            message = self._explain(body)
            if message is None:
                raise
            raise TypeError(message) from None
        out = argument(call.spec, args, 0)
        outcome = report.outcome or Outcome(())
        changed = [values[i] for i in report.sources]
        if outcome.after is not None:
            return unpack(call, out, changed, outcome)
        unpack(call, None, changed, outcome)
        return put_back(out, call.objects)

    def _explain(self, body: Any) -> str | None:
        """Says which shape or dtype the body changes; None if it changes none."""
        call = self.call
        index = () if self.transform == "while_loop" else (0,)
        result = shapes_of(body, *index, (call.walk.values(), call.args, _Report()))
        if result is None:
            return None
        values, args, _ = result
        names = leaf_names(call.spec.graphdef, root_names(call.spec, call.args, _positions(call.args)))
        before, after = output_names(call.args[0], "init_val"), output_names(args[0], "init_val")
        found = first_difference_of_types(
            [
                *((where, a, b) for (where, a), (_, b) in zip(before, after, strict=True) if not is_slot(a)),
                *zip(names, call.walk.values(), values, strict=True),
            ]
        )
        if found is None:
            return None
        where, old, new = found
        return (
            f"nnx.{self.transform}: body_fun ('{name_of(self.body_fun)}') got {old} at '{where}' and "
            f"returned {new}, expected the same shape and dtype, as its output is its next input.\n"
            "Keep the shape, convert the dtype with astype, or begin with an array like the one returned."
        )


def _positions(args: Sequence[Any]) -> list[str]:
    return ["init_val", *("the object that a method belongs to" for _ in args[1:])]


def _make_body(
    get_fun: Callable[[], Callable[..., Any]], transform: str, spec: Spec, owner: int | None
) -> Callable[..., Any]:
    """Returns the pure body: from values, arguments and a report to the next ones."""

    def body(*args: Any) -> Any:
        *index, (values, rest, _) = args

        fun = get_fun()

        @functools.wraps(fun)
        def step(value: Any, *owners: Any) -> Any:
            own = () if owner is None else (owners[owner],)
            return fun(*own, *index, value)

        result = run(step, spec, values, rest, {}, transform=transform)
        return _next(f"nnx.{transform}: body_fun ('{name_of(fun)}')", spec, values, rest, *result)

    return body


def _make_test(
    get_fun: Callable[[], Callable[..., Any]], transform: str, spec: Spec, owner: int | None
) -> Callable[..., Any]:
    """Returns the pure condition."""

    def test(carry: Any) -> Any:
        values, rest, _ = carry

        fun = get_fun()

        @functools.wraps(fun)
        def ask(value: Any, *owners: Any) -> Any:
            own = () if owner is None else (owners[owner],)
            return plain(fun(*own, value))

        answer, _, outcome = run(ask, spec, values, rest, {}, transform=transform)
        if outcome.leaves or outcome.after is not None:
            names = root_names(spec, rest, _positions(rest))
            where = names[0]
            if outcome.after is None:
                where = leaf_names(spec.graphdef, names)[outcome.leaves[0]]
            raise ValueError(
                f"nnx.{transform}: cond_fun ('{name_of(fun)}') changed '{where}', expected it to leave "
                "modules as they are: the change would be lost.\nMake the change in body_fun."
            )
        return answer

    return test


def _next(
    label: str,
    spec: Spec,
    values: Sequence[Any],
    args: list[Any],
    out: Any,
    changed: list[Any],
    outcome: Outcome,
) -> tuple[list[Any], list[Any], _Report]:
    """Returns the next carry from what a body returned and did."""
    before = argument(spec, args, 0)
    difference = first_difference_of_trees(before, out, "init_val")
    if difference is not None:
        where, old, new = difference
        raise ValueError(
            f"{label} got {old} at '{where}' and returned {new}, expected the same structure, as its output "
            "is its next input.\nReturn the same containers, and modules where there were modules."
        )
    old_leaves, treedef = jax.tree.flatten(before, is_leaf=is_slot)
    leaves = jax.tree.leaves(out, is_leaf=is_slot)
    rest = treedef.unflatten([a if is_slot(a) else b for a, b in zip(old_leaves, leaves, strict=True)])
    rest = None if is_slot(rest) else rest
    places = _places(spec, args, before, leaves, outcome)
    new = dict(zip(outcome.leaves, changed, strict=True))
    if outcome.after is None and all(ref == spec.graphdef.roots[root] for _, root, ref in places):
        report = _Report(dataclasses.replace(outcome, outputs=()), outcome.leaves)
        return [new.get(i, value) for i, value in enumerate(values)], [rest, *args[1:]], report
    result = carried(label, spec.graphdef, outcome, places)
    following = [new[leaf] if leaf in new else values[origin(outcome, leaf)] for leaf in result.leaves]  # type: ignore[index]
    return following, [rest, *args[1:]], _Report(result.outcome, result.sources)


def _places(
    spec: Spec, args: Sequence[Any], before: Any, leaves: Sequence[Any], outcome: Outcome
) -> list[tuple[str, int, Ref]]:
    """Returns for each place of an object in the value how to write it, the number of the root there, and
    what is there after the body; then the same for modules whose methods are called."""
    structure = outcome.after or spec.graphdef
    places = [
        (where, old.index, outcome.outputs[new.index])
        for (where, old), new in zip(output_names(before, "init_val"), leaves, strict=True)
        if is_slot(old)
    ]
    owners = [(place, index) for place, index in spec.places if place != 0]
    names = _positions(args)
    return places + [(names[int(place)], index, structure.roots[index]) for place, index in owners]
