"""`nnx.scan`: loops over layers or time steps, with modules carried, scanned or shared."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core.graphdef import Ref
from easyflax.nnx.transforms.axes import Axis, Carry, axes_after, axes_of_arguments, axes_of_leaves, broadcast
from easyflax.nnx.transforms.lift import (
    Call,
    Outcome,
    Slot,
    bound_object,
    leaf_paths,
    named_like,
    pack,
    run,
    unpack,
)

_MISSING: Any = object()


def scan(
    f: Any = _MISSING,
    *,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    in_axes: Any = (Carry, 0),
    out_axes: Any = (Carry, 0),
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

    Returns:
        a function that returns the output of the last step where it is carried, and outputs stacked along the
        axis elsewhere. Changes to scanned modules are stacked, those to carried ones are kept.

    Raises:
        ValueError: `nnx.Carry` is not in both or neither of `in_axes` and `out_axes`; a module that is
            neither scanned nor carried was changed.

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
        return lambda f: scan(f, in_axes=in_axes, out_axes=out_axes, **options)  # type: ignore[arg-type]
    fun, bound = bound_object(f)

    def scanned(*args: Any, **kwargs: Any) -> Any:
        args = _positional(fun, (*bound, *args), kwargs)
        axes = (None,) * len(bound) + axes_of_arguments(in_axes, len(args) - len(bound), "scan")
        return _Loop(fun, pack(args, {}), axes, out_axes).run(options)

    return named_like(f, scanned)


class _Loop:
    """One call of a scanned function."""

    def __init__(self, fun: Callable[..., Any], call: Call, in_axes: Sequence[Any], out_axes: Any) -> None:
        self.fun = fun
        self.call = call
        self.in_axes = in_axes
        self.out_axes = out_axes
        self.carry_in = _carry_position(in_axes, "in_axes")
        self.carry_out = _carry_position((out_axes,) if out_axes is Carry else out_axes, "out_axes")
        if (self.carry_in is None) != (self.carry_out is None):
            raise ValueError(
                f"scan got in_axes {tuple(in_axes)} and out_axes {out_axes}: nnx.Carry stands in only one of "
                "them. "
                "What is carried must be an argument and an output."
            )
        self.leaf_axes = axes_of_leaves(call, in_axes)
        arg_leaves, self.arg_tree = jax.tree.flatten(tuple(call.args), is_leaf=_is_slot)
        arg_axes = [axis for _, axis in broadcast(tuple(in_axes), tuple(call.args))]
        # All inputs of a step in one list: the values of the modules, then the arrays in the arguments. Slots
        # are no arrays.
        self.inputs = [*call.walk.values(), *arg_leaves]
        self.axes: list[Axis] = [
            *self.leaf_axes,
            *(None if _is_slot(x) else a for x, a in zip(arg_leaves, arg_axes, strict=True)),
        ]
        self.carried = [i for i, axis in enumerate(self.axes) if axis is Carry]
        self.scanned = [i for i, axis in enumerate(self.axes) if isinstance(axis, int)]

    def run(self, options: dict[str, Any]) -> Any:
        carry = [self.inputs[i] for i in self.carried]
        xs = [jnp.moveaxis(_array(self.inputs[i]), self.axes[i], 0) for i in self.scanned]
        carry, (ys, stacked, info) = jax.lax.scan(self._step, carry, xs, **options)
        last = dict(zip(self.carried, carry, strict=True))
        rest = iter(stacked)
        changed = [
            last[leaf] if axis is Carry else jnp.moveaxis(next(rest), 0, axis)
            for leaf, axis in zip(info.before, info.axes, strict=True)
        ]
        return unpack(self.call, self._output(ys, last, info.outcome), changed, info.outcome)

    def _step(self, carry: list[Any], xs: list[Any]) -> Any:
        inputs = list(self.inputs)
        for i, value in [*zip(self.carried, carry, strict=True), *zip(self.scanned, xs, strict=True)]:
            inputs[i] = value
        count = len(self.leaf_axes)
        args = self.arg_tree.unflatten(inputs[count:])
        out, changed, outcome = run(self.fun, self.call.spec, inputs[:count], args, {})
        carry_tree, ys = self._take_carry(out)
        axes = axes_after(self.call, self.in_axes, self.leaf_axes, out, self.out_axes, outcome)
        before = tuple(_before(outcome, leaf) for leaf in outcome.leaves)
        self._check_changes(outcome, before, axes)
        new = dict(zip(self.carried, carry, strict=True))
        new.update({leaf: v for leaf, v, axis in zip(before, changed, axes, strict=True) if axis is Carry})  # type: ignore[misc]
        new.update(self._carried_arrays(carry_tree, outcome))
        stacked = [value for value, axis in zip(changed, axes, strict=True) if axis is not Carry]
        return [new[i] for i in self.carried], (ys, stacked, _Info(outcome, before, tuple(axes)))

    def _take_carry(self, out: Any) -> tuple[Any, Any]:
        """Returns the carried part of a step's output, and the output without it."""
        if self.out_axes is Carry:
            return out, None
        if self.carry_out is None:
            return None, out
        if not isinstance(out, tuple) or len(out) != len(self.out_axes):
            got = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
            raise ValueError(
                f"scan got {got} from the function, expected a tuple of {len(self.out_axes)}, as out_axes "
                f"{self.out_axes} says."
            )
        return out[self.carry_out], tuple(None if i == self.carry_out else part for i, part in enumerate(out))

    def _carried_arrays(self, tree: Any, outcome: Outcome) -> dict[int, Any]:
        """Returns the new values of the arrays in the carried argument."""
        if self.carry_in is None:
            return {}
        old = self.call.args[self.carry_in]
        places = dict(self.call.spec.places)
        if self.carry_in in places:
            old = Slot(places[self.carry_in])
        leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_slot)
        old_leaves, old_treedef = jax.tree.flatten(old, is_leaf=_is_slot)
        roots = (outcome.after or self.call.spec.graphdef).roots
        if treedef != old_treedef or not all(
            map(lambda a, b: _same_carry(a, b, roots, outcome), old_leaves, leaves)
        ):
            raise ValueError(
                f"scan got {_describe(tree)} as the new carry, expected the structure of the old one, "
                f"{_describe(old)}, with the same modules.\n"
                "Return the carried module itself, changed in place, and arrays of the same shape and dtype."
            )
        offset = len(self.leaf_axes)
        for argument in self.call.args[: self.carry_in]:
            offset += len(jax.tree.leaves(argument, is_leaf=_is_slot))
        if self.carry_in in places:
            return {}
        return {offset + i: leaf for i, leaf in enumerate(leaves) if not _is_slot(leaf)}

    def _check_changes(self, outcome: Outcome, before: Sequence[int | None], axes: Sequence[Axis]) -> None:
        paths = leaf_paths(outcome.after or self.call.spec.graphdef)
        for leaf, old, axis in zip(outcome.leaves, before, axes, strict=True):
            where = "/".join(map(str, paths[leaf][1:]))
            if axis is None:
                raise ValueError(
                    f"The function that scan calls changed '{where}', which has axis None: it is the same in "
                    "every step, so a change has no place "
                    "to go.\nGive it an axis, or nnx.Carry, for example by nnx.StateAxes({nnx.Param: None, "
                    "...: nnx.Carry})."
                )
            if axis is Carry and old is None:
                raise ValueError(
                    f"The function that scan calls made '{where}' new on a carried module, whose structure "
                    "must be the same before and after a step.\n"
                    "Make it before the loop."
                )

    def _output(self, ys: Any, last: dict[int, Any], outcome: Outcome) -> Any:
        carry = self._last_carry(last, outcome)
        if self.out_axes is Carry:
            return carry
        pairs = (
            broadcast(self.out_axes, ys)
            if self.carry_out is None
            else broadcast(
                tuple(0 if i == self.carry_out else axis for i, axis in enumerate(self.out_axes)), ys
            )
        )
        leaves = [leaf if _is_slot(leaf) else jnp.moveaxis(leaf, 0, axis) for leaf, axis in pairs]
        ys = jax.tree.structure(ys, is_leaf=_is_slot).unflatten(leaves)
        return (
            ys
            if self.carry_out is None
            else tuple(carry if i == self.carry_out else part for i, part in enumerate(ys))
        )

    def _last_carry(self, last: dict[int, Any], outcome: Outcome) -> Any:
        """Returns the carried argument after the last step, with slots as in the output."""
        if self.carry_in is None:
            return None
        roots = (outcome.after or self.call.spec.graphdef).roots
        places = dict(self.call.spec.places)
        if self.carry_in in places:
            return Slot(outcome.outputs.index(roots[places[self.carry_in]]))
        count = len(self.leaf_axes)
        inputs = [last.get(count + i, value) for i, value in enumerate(self.inputs[count:])]
        outputs = outcome.outputs
        inputs = [
            Slot(outputs.index(roots[x.index])) if _is_slot(x) and roots[x.index] in outputs else x
            for x in inputs
        ]
        return self.arg_tree.unflatten(inputs)[self.carry_in]


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
    return outcome.variable_origins[leaf] if leaf < len(outcome.variable_origins) else None


def _same_carry(old: Any, new: Any, roots: Sequence[Ref], outcome: Outcome) -> bool:
    if _is_slot(old) != _is_slot(new):
        return False
    return not _is_slot(old) or roots[old.index] == outcome.outputs[new.index]


def _describe(tree: Any) -> str:
    return str(jax.tree.map(lambda x: "module" if _is_slot(x) else jax.typeof(x), tree, is_leaf=_is_slot))


def _carry_position(axes: Any, name: str) -> int | None:
    positions = [i for i, axis in enumerate(axes) if axis is Carry] if isinstance(axes, (tuple, list)) else []
    if len(positions) > 1:
        raise ValueError(
            f"scan got nnx.Carry {len(positions)} times in {name}, expected it once. Put what is carried "
            "into one tuple."
        )
    return positions[0] if positions else None


def _positional(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Turns keyword arguments into positional ones, which is what axes are given for."""
    if not kwargs:
        return args
    bound = inspect.signature(fun).bind(*args, **kwargs)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"scan got the keyword-only arguments {sorted(bound.kwargs)}, for which in_axes has no place. "
            "Close over them."
        )
    return bound.args


def _array(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def _is_slot(value: Any) -> bool:
    return isinstance(value, Slot)
