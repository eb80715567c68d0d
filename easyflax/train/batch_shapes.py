"""The shapes of batches: many are warned of, since each is compiled for; rows are told when memory ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.errors import JaxRuntimeError

from easyflax.data import Batch

__all__ = ["BatchShapes"]

MANY = 5


class BatchShapes:
    """Notes the shapes of batches; each shape is compiled anew, which takes far longer than a step.

    Args:
        is_told: whether a warning is given where there are many.
    """

    def __init__(self, *, is_told: bool = True):
        self._is_told = is_told
        self._seen: dict[str, dict[Any, None]] = {}
        self._rows = 0

    def note(self, step: str, batch: Batch) -> None:
        """Notes a batch, and warns once when a step has met more than five shapes.

        Args:
            step: "fit", "evaluate" or "predict".
            batch: before it is put on the devices.
        """
        shapes = tuple([leaf.shape for leaf in jax.tree.leaves(batch)])
        self._rows = shapes[0][0]  # the inputs come first
        seen = self._seen.setdefault(step, {})
        if shapes in seen:
            return
        seen[shapes] = None
        if len(seen) > MANY and self._is_told:
            self._is_told = False
            inputs = len(jax.tree.leaves(batch.x))
            shown = "; ".join(", ".join(map(str, shapes[:inputs])) for shapes in seen)
            warnings.warn(
                f"{step}: batches have come in {len(seen)} shapes so far, and the step was compiled for "
                f"each, expected a few. The inputs had: {shown}. Pad the batches to a few shapes (rows of "
                f"padding get a sample_weight of 0), or sort rows of similar length into batches.",
                stacklevel=2,
            )

    @contextmanager
    def advising_on_memory(self, caller: str) -> Iterator[None]:
        """Adds to an error of a device that ran out of memory how large the batch was, and what may help.

        Args:
            caller: "fit", "evaluate" or "predict".
        """
        try:
            yield
        except JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error) and self._rows:
                error.add_note(_advice(caller, self._rows))
            raise


def _advice(caller: str, rows: int) -> str:
    half = max(rows // 2, 1)
    advice = (
        f"{caller}: the device ran out of memory with a batch of {rows} rows. The activations of a step take "
        f"memory in proportion to them: batch_size={half} needs about half as much."
    )
    if caller != "fit":
        return f"{advice} The results stay the same."
    return (
        f"{advice} To update by the gradients of {rows} rows all the same, accumulate two batches: "
        f"optimizers.Adam(gradient_accumulation_steps=2)."
    )
