"""The steps of evaluation and prediction, as they are called from the host: one a call, or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.binding import Arrays
from easyflax.train.compiling import telling
from easyflax.train.dispatch import batch_at, runs_any_number
from easyflax.train.fusing import steps_together
from easyflax.train.specs import kind, specs

__all__ = ["InferenceSteps"]

# `(params, other, carry, batch) -> (changed, carry, result)`; `changed` are those of the other variables that
# the step changed.
Step = Callable[[Arrays, Arrays, Any, Batch], tuple[Arrays, Any, Any]]


class InferenceSteps:
    """Runs a step that does not train.

    Args:
        name: what the progress calls the step.
        step: see `Step`.
        layout: the devices.
        keeps_all: whether the results of all steps are wanted, else those of the last one.
        eager: whether nothing is compiled.
        replicates: whether results are wanted on every device.

    Attributes:
        one: the step.
        many: `(params, other, carry, batches, count) -> (changed, carry, result or results)`, for batches
            that are stacked; of results `(number, ...)` the first `count` are of a batch.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        layout: DataParallel,
        *,
        keeps_all: bool,
        eager: bool = False,
        replicates: bool = True,
    ):
        self._step = step if eager else jax.jit(telling(name, layout.computing(step)))
        self._layout = layout
        self._keeps_all = keeps_all
        self._eager = eager
        self._together: dict[Any, int] = {}
        self.one: Callable[..., Any] = step
        self.many: Callable[..., Any] = self._many
        if not eager:
            jit = layout.jit if replicates else jax.jit
            self.one = jit(self._step, donate_argnums=(2,))
            self.many = jit(self._many, donate_argnums=(2,))

    def takes(self, count: int, length: int) -> bool:
        """Says whether `many` can do `count` of `length` steps."""
        return not self._eager and (count == length or runs_any_number(self._layout))

    def steps_together(self, params: Arrays, other: Arrays, carry: Any, batch: Batch) -> int:
        """Returns how many steps on batches like this one should be one dispatch."""
        if self._eager:
            return 1
        key = kind((batch, carry))
        if key not in self._together:
            layout = self._layout  # places belong to what was traced, and a step is traced only once
            state = layout.specs_of_state(specs((params, other, carry)))
            traced = self._step.trace(*state, layout.specs_of_batch(specs(batch)))  # type: ignore[attr-defined]
            self._together[key] = steps_together(traced.jaxpr, batch, self._layout.platform)
        return self._together[key]

    def _many(
        self, params: Arrays, other: Arrays, carry: Any, batches: Batch, count: Any
    ) -> tuple[Arrays, Any, Any]:
        length = jax.tree.leaves(batches)[0].shape[0]
        changed, _, result = jax.eval_shape(self._step, params, other, carry, batch_at(batches, 0))
        size = (length,) if self._keeps_all else ()
        results = jax.tree.map(lambda leaf: jnp.zeros((*size, *leaf.shape), leaf.dtype), result)

        def one(index: Any, state: tuple[Arrays, Any, Any]) -> tuple[Arrays, Any, Any]:
            values, carry, results = state
            changed, carry, result = self._step(params, {**other, **values}, carry, batch_at(batches, index))
            if self._keeps_all:
                result = jax.tree.map(lambda all_, new: all_.at[index].set(new), results, result)
            return {**values, **changed}, carry, result

        before = {name: other[name] for name in changed}
        count = count if runs_any_number(self._layout) else length
        return jax.lax.fori_loop(0, count, one, (before, carry, results))
