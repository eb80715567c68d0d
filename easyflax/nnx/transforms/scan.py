"""`nnx.scan`: loops over layers or time steps, with modules carried, scanned or shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.nnx.core.graphdef import NODE, VARIABLE, GraphDef, Ref
from easyflax.nnx.core.signatures import keeps_signature
from easyflax.nnx.core.state import State
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.axes import (
    Axis,
    Carry,
    axes_after,
    axes_of_arguments,
    axes_of_leaves,
    broadcast,
)
from easyflax.nnx.transforms.by_value import Box, NewObjects, OnBoxes, box, replace_carry, unbox
from easyflax.nnx.transforms.kept import keep
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.metadata import with_axis_metadata
from easyflax.nnx.transforms.packing import (
    Call,
    Slot,
    Spec,
    bound_object,
    is_slot,
    named_like,
    pack,
    positional_arguments,
)
from easyflax.nnx.transforms.scan_checks import (
    carry_position,
    check_carry,
    check_new_leaves,
    check_structure,
    check_types,
    is_random_state,
    warn_of_dropped,
)

_MISSING: Any = object()
_NO_ARRAY = object()  # where an argument has an array, in the arguments that a step knows


@keeps_signature
def scan(
    f: Any = _MISSING,
    *,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    in_axes: Any = (Carry, 0),
    out_axes: Any = (Carry, 0),
    transform_metadata: Mapping[Any, Any] | None = None,
) -> Any:
    """Calls a function once for each step along an axis, as `jax.lax.scan` does for arrays.

    Args:
        f: the function of one step; without it, a decorator is returned.
        length: the number of steps, where no argument is scanned.
        reverse: go from the last step to the first.
        unroll: steps unrolled into one iteration of the compiled loop, or True for all.
        in_axes: for each positional argument an axis to scan over, None for the same in each step, or
            `nnx.Carry` (once at most) for what the step before returned; for modules also `nnx.StateAxes`.
            Without a tuple it holds for all arguments.
        out_axes: the same for the output: an axis to stack along, or `nnx.Carry`.
        transform_metadata: `{nnx.PARTITION_NAME: name}` takes `name` (or None) out of the sharding metadata
            of variables that are scanned, and puts it into that of what is stacked, at the axis; other
            entries do so with other metadata.

    Returns:
        a function that returns the output of the last step where it is carried, and outputs stacked along the
        axis elsewhere. Changes to scanned modules are stacked, those to carried ones are kept. Where a step
        returns a new state or variable as carry, that is carried, and the one passed stays as it was.

    Raises:
        ValueError: `nnx.Carry` is not in both or neither of `in_axes` and `out_axes`; a variable is
            made inside on a module that is not scanned.

    Example:

        >>> import jax, jax.numpy as jnp
        >>> from easyflax import nnx
        >>> make = nnx.vmap(lambda key: nnx.Linear(3, 3, rngs=nnx.Rngs(key)))
        >>> layers = make(jax.random.split(jax.random.key(0), 5))
        >>> forward = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        >>> forward(layers, jnp.ones((1, 3))).shape
        (1, 3)
    """
    options = {"length": length, "reverse": reverse, "unroll": unroll}
    if f is _MISSING:
        axes = {"in_axes": in_axes, "out_axes": out_axes, "transform_metadata": transform_metadata}
        return lambda f: scan(f, **axes, **options)  # type: ignore[arg-type]
    fun, bound = bound_object(f)
    check_carry(in_axes, out_axes)
    steps: dict[Any, _Step] = {}  # jax compiles a loop anew for every function object that it is given
    boxed: set[int] = set()  # what the function was seen to return by value

    def scanned(*args: Any, **kwargs: Any) -> Any:
        args, rest = positional_arguments(fun, (*bound, *args), kwargs)
        if rest:
            raise TypeError(
                f"scan got the keyword arguments {sorted(rest)}, which in_axes has no place for. "
                "Close over them, or make them positional arguments of the function."
            )
        axes = (None,) * len(bound) + axes_of_arguments(in_axes, len(args) - len(bound), "scan")
        inner = with_axis_metadata(fun, axes, out_axes, transform_metadata)
        while True:
            try:
                return _scan_boxed(inner, args, axes, out_axes, options, steps, frozenset(boxed))
            except NewObjects as found:
                boxed.update(found.positions)

    return named_like(f, scanned)


def _scan_boxed(
    fun: Callable[..., Any],
    args: Sequence[Any],
    in_axes: tuple[Any, ...],
    out_axes: Any,
    options: dict[str, Any],
    steps: dict[Any, _Step],
    boxed: frozenset[int],
) -> Any:
    """Runs the loop with states and variables at some positions of the carry by value.

    Raises:
        NewObjects: the function returns new ones in other positions, too.
    """
    carry_in = carry_position(in_axes)
    if not boxed or carry_in is None:
        return _run_loop(fun, pack(args, {}), in_axes, out_axes, options, steps)
    carry_out = None if out_axes is Carry else carry_position(out_axes)
    args = [box(arg, boxed) if i == carry_in else arg for i, arg in enumerate(args)]
    step = OnBoxes(fun, carry_in, carry_out, boxed)
    out = _run_loop(step, pack(args, {}), in_axes, out_axes, options, steps)
    return replace_carry(out, carry_out, unbox)


def _run_loop(
    fun: Callable[..., Any],
    call: Call,
    in_axes: tuple[Any, ...],
    out_axes: Any,
    options: dict[str, Any],
    steps: dict[Any, _Step],
) -> Any:
    leaf_axes = axes_of_leaves(call, in_axes)
    arg_leaves, arg_tree = jax.tree.flatten(tuple(call.args), is_leaf=is_slot)
    arg_axes = [axis for _, axis in broadcast(in_axes, tuple(call.args))]
    # All inputs of a step in one list: the values of the modules, then the leaves of the arguments.
    inputs = [*call.walk.values(), *arg_leaves]
    axes = [*leaf_axes, *arg_axes]
    # Numbers in variables are arrays inside; those in arguments stay what they are.
    static = {
        i: x
        for i, (x, axis) in enumerate(zip(inputs, axes, strict=True))
        if is_slot(x) or (axis is None and not _has_array(x, or_number=i < len(leaf_axes)))
    }
    made = _Step(fun, call.spec, in_axes, out_axes, arg_tree, tuple(axes), len(leaf_axes), static)
    step = keep(steps, made.key, lambda: made)  # that of a call which was the same but for its arrays
    carry = [inputs[i] for i in step.carried], [inputs[i] for i in step.constant]
    xs = [_moved(inputs[i], axes[i], 0) for i in step.scanned]
    (last, _), (ys, stacked, info) = jax.lax.scan(step, carry, xs, **options)
    final = dict(zip(step.carried, last, strict=True))
    rest = iter(stacked)
    changed = [
        final[old] if axis is Carry else _moved(next(rest), 0, axis)
        for old, axis in zip(info.before, info.axes, strict=True)
    ]
    return unpack(call, step.output(ys, final, inputs, info.outcome), changed, info.outcome)


class _Step:
    """The function of one step, as `jax.lax.scan` calls it; it holds no array.

    Attributes:
        axes: of the inputs: first the `count` leaves of the modules, then the leaves of the arguments.
        static: inputs that are no arrays, by number.
        carried, scanned, constant: the numbers of the other inputs. Constant ones are passed along.
        key: equal for steps that do the same.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        spec: Spec,
        in_axes: tuple[Any, ...],
        out_axes: Any,
        arg_tree: Any,
        axes: tuple[Axis, ...],
        count: int,
        static: dict[int, Any],
    ) -> None:
        self.fun = fun
        self.in_axes = in_axes
        self.out_axes = out_axes
        self.arg_tree = arg_tree
        self.axes = axes
        self.count = count
        self.static = static
        self.carry_in = carry_position(in_axes)
        self.carry_out = None if out_axes is Carry else carry_position(out_axes)
        numbers = [i for i in range(len(axes)) if i not in static]
        self.carried = [i for i in numbers if axes[i] is Carry]
        self.scanned = [i for i in numbers if isinstance(axes[i], int)]
        self.constant = [i for i in numbers if axes[i] is None]
        places = [static.get(i, _NO_ARRAY) for i in range(count, len(axes))]
        self.call = Call([], spec, walk(), list(arg_tree.unflatten(places)), {})
        values = tuple((i, type(value), value) for i, value in static.items())
        self.key = fun, spec, in_axes, out_axes, arg_tree, axes, values

    def __call__(self, carry: tuple[list[Any], list[Any]], xs: list[Any]) -> Any:
        carried, constant = carry
        inputs: list[Any] = [self.static.get(i) for i in range(len(self.axes))]
        for numbers, values in ((self.carried, carried), (self.constant, constant), (self.scanned, xs)):
            for i, value in zip(numbers, values, strict=True):
                inputs[i] = value
        args = self.arg_tree.unflatten(inputs[self.count :])
        out, changed, outcome = run(
            self.fun, self.call.spec, inputs[: self.count], args, {}, transform="scan"
        )
        carry_tree, ys = self._take_carry(out)
        self._check_new_objects(carry_tree, outcome)
        arrays = self._carried_arrays(carry_tree, outcome)
        changed, outcome, before, axes = self._changes(changed, outcome, out)
        check_structure(self.call, self.in_axes, outcome, lambda spec: self._run_again(spec, inputs, args))
        new = dict(zip(self.carried, carried, strict=True))
        new.update({i: v for i, v, axis in zip(before, changed, axes, strict=True) if axis is Carry})
        check_types(self.call, inputs, new)
        new.update(arrays)
        stacked = [value for value, axis in zip(changed, axes, strict=True) if axis is not Carry]
        return ([new[i] for i in self.carried], constant), (ys, stacked, _Info(outcome, before, axes))

    def _run_again(self, spec: Spec, inputs: list[Any], args: Any) -> Outcome:
        """Returns what a step does that begins with another structure, without computing it."""
        return jax.eval_shape(
            lambda values: run(self.fun, spec, values, args, {}, transform="scan")[2], inputs[: self.count]
        )

    def _take_carry(self, out: Any) -> tuple[Any, Any]:
        """Returns the carried part of a step's output, and the output without it."""
        if self.out_axes is Carry:
            return out, None
        if self.carry_out is None:
            return None, out
        if not isinstance(out, tuple) or len(out) != len(self.out_axes):
            got = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
            got = "a module or variable" if is_slot(out) else got
            raise ValueError(
                f"scan got {got} from the function, expected a tuple of {len(self.out_axes)} with the carry "
                f"at position {self.carry_out}, as out_axes says. Return such a tuple, or change out_axes."
            )
        return out[self.carry_out], tuple(None if i == self.carry_out else part for i, part in enumerate(out))

    def _check_new_objects(self, tree: Any, outcome: Outcome) -> None:
        """Raises NewObjects if the carry holds new states or variables in place of those that were passed."""
        if self.carry_in is None:
            return
        old = self._carried_argument(list(range(len(self.axes))))
        old_leaves, old_treedef = jax.tree.flatten(old, is_leaf=_is_part)
        leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_part)
        if treedef != old_treedef:
            return
        structure = outcome.after or self.call.spec.graphdef
        pairs = [(is_slot(a) and is_slot(b), a, b) for a, b in zip(old_leaves, leaves, strict=True)]
        new = [
            i
            for i, (both, a, b) in enumerate(pairs)
            if both and not _same_carry(a, b, structure.roots, outcome)
        ]
        if new and all(_is_value(structure, outcome.outputs[leaves[i].index]) for i in new):
            raise NewObjects(new)

    def _changes(
        self, changed: list[Any], outcome: Outcome, out: Any
    ) -> tuple[list[Any], Outcome, tuple[Any, ...], tuple[Axis, ...]]:
        """Returns what changed, without leaves of axis None: they are the same in every step."""
        axes = axes_after(self.call, self.in_axes, self.axes[: self.count], out, self.out_axes, outcome)
        structure = outcome.after or self.call.spec.graphdef
        before = [_before(outcome, leaf) for leaf in outcome.leaves]
        check_new_leaves(structure, outcome.leaves, before, axes)
        dropped = [leaf for leaf, axis in zip(outcome.leaves, axes, strict=True) if axis is None]
        warn_of_dropped(structure, [leaf for leaf in dropped if not is_random_state(structure, leaf)])
        kept = [i for i, axis in enumerate(axes) if axis is not None]
        outcome = dataclasses.replace(outcome, leaves=tuple(outcome.leaves[i] for i in kept))
        return (
            [changed[i] for i in kept],
            outcome,
            tuple(before[i] for i in kept),
            tuple(axes[i] for i in kept),
        )

    def _carried_arrays(self, tree: Any, outcome: Outcome) -> dict[int, Any]:
        """Returns the new values of the arrays in the carried argument."""
        if self.carry_in is None:
            return {}
        old = self._carried_argument(list(range(len(self.axes))))
        old_leaves, old_treedef = jax.tree.flatten(old, is_leaf=is_slot)
        leaves, treedef = jax.tree.flatten(tree, is_leaf=is_slot)
        roots = (outcome.after or self.call.spec.graphdef).roots
        if treedef != old_treedef or not all(
            _same_carry(a, b, roots, outcome) for a, b in zip(old_leaves, leaves, strict=True)
        ):
            raise ValueError(
                f"scan got {_describe(tree)} as the new carry, expected the structure {old_treedef}, with "
                "the same modules.\n"
                "Return the carried module itself, changed in place, and arrays of the same shape and dtype."
            )
        return {i: leaf for i, leaf in zip(old_leaves, leaves, strict=True) if not is_slot(leaf)}

    def _carried_argument(self, inputs: list[Any]) -> Any:
        """Returns the carried argument over `inputs`, with slots for modules."""
        places = dict(self.call.spec.places)
        if self.carry_in in places:
            return Slot(places[self.carry_in])
        leaves = [self.static.get(i, inputs[i]) for i in range(self.count, len(self.axes))]
        return self.arg_tree.unflatten(leaves)[self.carry_in]

    def output(self, ys: Any, final: dict[int, Any], inputs: list[Any], outcome: Outcome) -> Any:
        """Returns the output of the whole loop, with slots for modules as `outcome.outputs` numbers them."""
        carry = None
        if self.carry_in is not None:
            roots = (outcome.after or self.call.spec.graphdef).roots
            carry = jax.tree.map(
                lambda x: Slot(outcome.outputs.index(roots[x.index])) if isinstance(x, Slot) else x,
                self._carried_argument([final.get(i, value) for i, value in enumerate(inputs)]),
                is_leaf=is_slot,
            )
        if self.out_axes is Carry:
            return carry
        out_axes = self.out_axes
        if self.carry_out is not None:
            out_axes = tuple(0 if i == self.carry_out else axis for i, axis in enumerate(out_axes))
        leaves = [y if is_slot(y) else _moved(y, 0, axis) for y, axis in broadcast(out_axes, ys)]
        ys = jax.tree.structure(ys, is_leaf=is_slot).unflatten(leaves)
        if self.carry_out is None:
            return ys
        return tuple(carry if i == self.carry_out else part for i, part in enumerate(ys))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Info:
    """What a step changed: the outcome, the number that each changed leaf had before, and its axis."""

    outcome: Outcome
    before: tuple[int | None, ...]
    axes: tuple[Axis, ...]


def _before(outcome: Outcome, leaf: int) -> int | None:
    if outcome.after is None:
        return leaf
    return outcome.leaf_origins[leaf]


def _same_carry(old: Any, new: Any, roots: Sequence[Ref], outcome: Outcome) -> bool:
    if is_slot(old) != is_slot(new):
        return False
    return not is_slot(old) or roots[old.index] == outcome.outputs[new.index]


def _is_part(value: Any) -> bool:
    return is_slot(value) or isinstance(value, Box)


def _is_value(structure: GraphDef[Any], ref: Ref) -> bool:
    """Whether an object is a state or a variable, which may be carried by value; modules are not."""
    tag, number = ref
    return tag == VARIABLE or (tag == NODE and issubclass(structure.nodes[number].type, State))


def _describe(tree: Any) -> str:
    return str(jax.tree.map(lambda x: "module" if is_slot(x) else jax.typeof(x), tree, is_leaf=is_slot))


def _moved(value: Any, source: Axis, destination: Axis) -> Any:
    """Moves an axis of all arrays of a leaf: the value of a variable may be a tree of them."""
    if source == destination and isinstance(value, jax.Array):
        return value
    return jax.tree.map(lambda array: jnp.moveaxis(jnp.asarray(array), source, destination), value)


def _has_array(value: Any, *, or_number: bool) -> bool:
    kinds = (jax.Array, np.ndarray, np.generic, *((int, float, complex) if or_number else ()))
    return any(isinstance(leaf, kinds) for leaf in jax.tree.leaves(value))
