"""What a step of `nnx.scan` must keep, and what its axes must say: checks that name what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from easyflax.nnx.core.differences import differ_in_static_values_only, structure_differences
from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.rngs import RngState
from easyflax.nnx.transforms.axes import Axis, Carry, StateAxes, broadcast, is_axis
from easyflax.nnx.transforms.lift import Outcome
from easyflax.nnx.transforms.packing import Call, Spec, is_slot, leaf_paths, leaf_places


def check_carry(in_axes: Any, out_axes: Any) -> None:
    """Raises a ValueError unless something is carried in both or neither of the axes, and all outputs can be
    stacked."""
    for name, axes in (("in_axes", in_axes), ("out_axes", out_axes)):
        count = sum(axis is Carry for axis in axes) if isinstance(axes, (tuple, list)) else 0
        if count > 1:
            raise ValueError(
                f"scan got nnx.Carry {count} times in {name}, expected it once. Put what is carried into one "
                "tuple."
            )
    carries = [axes is Carry or carry_position(axes) is not None for axes in (in_axes, out_axes)]
    if carries[0] != carries[1]:
        missing = "out_axes" if carries[0] else "in_axes"
        raise ValueError(
            f"scan got no nnx.Carry in {missing}, but in the other: what is carried must be an argument and "
            f"an output. Put nnx.Carry into {missing}, or leave it out of both."
        )
    for axis in jax.tree.leaves(out_axes, is_leaf=is_axis):
        if axis is None or (isinstance(axis, StateAxes) and None in axis.axes):
            raise ValueError(
                "scan got None in out_axes, expected an axis to stack along or nnx.Carry: outputs of all "
                "steps differ. Return what is the same in every step from outside of the loop."
            )


def carry_position(axes: Any) -> int | None:
    """Returns the position of `nnx.Carry` in a tuple of axes."""
    if not isinstance(axes, (tuple, list)):
        return None
    return next((i for i, axis in enumerate(axes) if axis is Carry), None)


def check_structure(
    call: Call, in_axes: Sequence[Any], outcome: Outcome, run_again: Callable[[Spec], Outcome]
) -> None:
    """Checks that a carried module has the same structure after a step, since the next begins with it.

    Static attributes may change in the first step, as flags that say "initialized" do, if later steps leave
    them so.

    Args:
        run_again: says what a step does that begins with another structure.

    Raises:
        ValueError: the structure is another one.
    """
    if outcome.after is None:
        return
    if differ_in_static_values_only(call.spec.graphdef, outcome.after):
        again = run_again(Spec(outcome.after, call.spec.places, call.spec.trees))
        if again.after is None:
            return
    before = call.spec.graphdef
    carried = [root for place, root in call.spec.places if isinstance(place, int) and in_axes[place] is Carry]
    for arg, axes in zip(call.args, in_axes, strict=True):
        carried += [leaf.index for leaf, axis in broadcast(axes, arg) if is_slot(leaf) and axis is Carry]
    old = before.with_roots(tuple(before.roots[root] for root in carried))
    new = outcome.after.with_roots(tuple(outcome.after.roots[root] for root in carried))
    differences = structure_differences(old, new, [""] * len(carried))
    if differences:
        raise ValueError(
            "The function that scan calls changed the structure of a carried module: "
            f"{'; '.join(differences)}. "
            "Expected the same before and after a step, since the next step begins with it.\n"
            "Set and delete attributes before or after the loop, and change values inside."
        )


def check_types(call: Call, old: Sequence[Any], new: Mapping[int, Any]) -> None:
    """Raises a TypeError if a step leaves another shape or dtype in a carried module; of other arrays jax
    says it.

    Args:
        old: the inputs of the step, first the leaves of the modules.
        new: some of them after the step, by number.
    """
    for i, value in new.items():
        if i >= call.spec.graphdef.num_leaves or value is old[i] or not isinstance(old[i], jax.Array):
            continue
        before, after = jax.typeof(old[i]), jax.typeof(value)
        if before.shape != after.shape or (before.dtype != after.dtype and not before.weak_type):
            raise TypeError(
                f"The function that scan calls got {before.str_short()} at {leaf_places(call.spec)[i]}, "
                f"which is carried, and left {after.str_short()} there, expected the same shape and dtype in "
                "every step.\n"
                "Keep the shape, convert the dtype with astype, or begin with an array like the new one."
            )


def check_new_leaves(
    structure: GraphDef[Any], leaves: Sequence[int], before: Sequence[int | None], axes: Sequence[Axis]
) -> None:
    """Raises a ValueError if a step makes a variable that each step would make anew."""
    for leaf, old, axis in zip(leaves, before, axes, strict=True):
        if old is not None or isinstance(axis, int):
            continue
        where = "carried module, whose structure" if axis is Carry else "module with axis None, which"
        raise ValueError(
            f"The function that scan calls made '{_path_of(structure, leaf)}' new on a {where} must be the "
            "same before and after a step.\n"
            "Make it before the loop, or give the module an axis."
        )


def warn_of_dropped(structure: GraphDef[Any], leaves: Sequence[int]) -> None:
    """Warns that changes to leaves that all steps share are not kept."""
    if leaves:
        names = ", ".join(f"'{_path_of(structure, leaf)}'" for leaf in leaves)
        warnings.warn(
            f"The function that scan calls changed {names}, which has axis None: it is the same in every "
            "step, and the change is dropped. To keep it give it an axis or nnx.Carry, for example by "
            "nnx.StateAxes({nnx.Param: None, ...: nnx.Carry}).",
            stacklevel=2,
        )


def _path_of(structure: GraphDef[Any], leaf: int) -> str:
    return "/".join(map(str, leaf_paths(structure)[leaf][1:])) or "the argument itself"


def is_random_state(structure: GraphDef[Any], leaf: int) -> bool:
    """Whether a leaf is the key or counter of a random stream."""
    return leaf < len(structure.variables) and issubclass(structure.variables[leaf].type, RngState)
