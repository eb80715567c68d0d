"""How the training step goes to the device: with the state packed, one step a call or several.

A call costs more the more arrays it takes and returns. So the small arrays of the train state travel as one
vector a dtype, from step to step; they are unpacked within the compiled step, and on the host when somebody
looks at them. Several steps run in one loop on the device. How often it runs is an argument, so that groups
of any length share one compiled program, and compute to the bit what the loop computes one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.packing import Packed, Packing
from easyflax.train.specs import specs
from easyflax.train.state import TrainState

__all__ = ["Dispatch", "Form", "PackedState", "batch_at", "is_small", "looped", "runs_any_number"]

LARGEST_PACKED = 2**14  # bytes: packing and unpacking an array of this size takes what handing one over does

Step = Callable[[TrainState, Batch], tuple[TrainState, Packed]]


class PackedState(NamedTuple):
    """A train state as it travels.

    Attributes:
        vectors: the small arrays, by dtype.
        apart: all others.
    """

    vectors: Packed
    apart: list[Any]


class Form:
    """Packs nestings of arrays of one structure, and unpacks them.

    On the host nothing is compiled for it, which would take longer than many a fit: XLA makes a kernel of
    each array that a program returns.

    Args:
        tree: a nesting of that structure; only shapes and dtypes are read.
        largest: bytes of the largest array that is packed.
    """

    def __init__(self, tree: Any, largest: int = LARGEST_PACKED):
        leaves, self._structure = jax.tree.flatten(tree)
        self._is_small = [is_small(leaf, largest) for leaf in leaves]
        small = specs([leaf for leaf, is_small in zip(leaves, self._is_small) if is_small])
        self.packing = Packing(lambda: [jnp.zeros(leaf.shape, leaf.dtype) for leaf in small])

    def split(self, tree: Any) -> tuple[list[Any], list[Any]]:
        """Returns the small arrays of a nesting, and the others."""
        leaves = self._structure.flatten_up_to(tree)
        small = [leaf for leaf, is_small in zip(leaves, self._is_small) if is_small]
        return small, [leaf for leaf, is_small in zip(leaves, self._is_small) if not is_small]

    def join(self, small: Sequence[Any], apart: Sequence[Any]) -> Any:
        """Returns what `split` took apart."""
        of_small, of_apart = iter(small), iter(apart)
        return self._structure.unflatten(
            [next(of_small if is_small else of_apart) for is_small in self._is_small]
        )

    def pack(self, tree: Any) -> PackedState:
        """Returns arrays packed; for use within a trace."""
        small, apart = self.split(tree)
        return PackedState(self.packing.pack(small), apart)

    def unpack(self, packed: PackedState) -> Any:
        """Returns the nesting again; for use within a trace."""
        return self.join(self.packing.unpack(packed.vectors), packed.apart)

    def pack_on_host(self, tree: Any, layout: DataParallel) -> PackedState:
        """Returns arrays packed, on the devices; those that are not small are the same."""
        small, apart = self.split(tree)
        vectors = self.packing.pack_on_host(jax.device_get(small))
        return PackedState(layout.put_state(jax.device_put(vectors)), apart)

    def unpack_on_host(self, packed: PackedState, layout: DataParallel) -> Any:
        """Returns the nesting again, on the devices; arrays that are not small are the same.

        It waits for the step that they come from.
        """
        vectors = jax.tree.map(np.array, jax.device_get(packed.vectors))  # copies, as steps overwrite these
        return self.join(layout.put_state(jax.device_put(self.packing.unpack(vectors))), packed.apart)


class Dispatch:
    """The training step for states of one structure, as it is called from the host.

    Args:
        form: of the states.
        step: `(state, batch) -> (state, packed logs)`.
        apply: `state -> state`, applies gradients that wait; None where each step does.
        layout: the devices.
        eager: whether nothing is compiled.

    Attributes:
        step: `(packed state, batch) -> (packed state, packed logs)`.
        many: `(packed state, batches, count, are_last) -> (packed state, packed logs of all)`, see `looped`.
        apply: `packed state -> packed state`, or None.
    """

    def __init__(
        self,
        form: Form,
        step: Step,
        apply: Callable[[TrainState], TrainState] | None,
        layout: DataParallel,
        *,
        eager: bool = False,
    ):
        self.form = form
        self._runs_any_number = runs_any_number(layout)
        jit: Callable[..., Any] = _as_it_is if eager else partial(layout.jit, donate_argnums=(0,))

        def one(packed: PackedState, batch: Batch) -> tuple[PackedState, Packed]:
            state, logs = step(form.unpack(packed), batch)
            return form.pack(state), logs

        def many(
            packed: PackedState, batches: Batch, count: Any, are_last: Any
        ) -> tuple[PackedState, Packed]:
            count = count if self._runs_any_number else are_last.shape[0]
            state, logs = looped(step, apply, form.unpack(packed), batches, count, are_last)
            return form.pack(state), logs

        self.step = jit(one)
        self.many = jit(many)
        self.apply = None if apply is None else jit(lambda packed: form.pack(apply(form.unpack(packed))))

    def takes(self, count: int, length: int) -> bool:
        """Says whether `many` can do `count` of `length` steps."""
        return count == length or self._runs_any_number


def looped(
    step: Step,
    apply: Callable[[TrainState], TrainState] | None,
    state: TrainState,
    batches: Batch,
    count: Any,
    are_last: jax.Array,
) -> tuple[TrainState, Packed]:
    """Does the first `count` steps of `batches`; returns the state, and the logs of all, `(number, ...)`.

    Args:
        step: see `Dispatch`.
        apply: likewise.
        state: before.
        batches: every array `(number, rows, ...)`.
        count: int32 `()` or an int, at least one.
        are_last: bool `(number,)`, after which steps the gradients that wait are applied.
    """

    def one(index: jax.Array, carry: tuple[TrainState, Packed]) -> tuple[TrainState, Packed]:
        state, logs = step(carry[0], batch_at(batches, index))
        if apply is not None:
            state = jax.lax.cond(are_last[index], apply, lambda state: state, state)
        return state, jax.tree.map(lambda all_, new: all_.at[index].set(new), carry[1], logs)

    logs = jax.eval_shape(lambda state: step(state, batch_at(batches, 0))[1], state)
    none = jax.tree.map(lambda log: jnp.zeros((*are_last.shape, *log.shape), log.dtype), logs)
    return jax.lax.fori_loop(0, count, one, (state, none))


def batch_at(batches: Batch, index: Any) -> Batch:
    """Returns one of several batches that are stacked."""
    return jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, index, keepdims=False), batches)


def runs_any_number(layout: DataParallel) -> bool:
    """Says whether a loop on these devices takes the number of its rounds as an argument.

    A GPU would ask the host after each round whether there is another one.
    """
    return layout.platform != "gpu"


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def is_small(leaf: Any, largest: int = LARGEST_PACKED) -> bool:
    """Says whether an array is packed, given the bytes of the largest one that is."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return not is_key and leaf.size * leaf.dtype.itemsize <= largest
