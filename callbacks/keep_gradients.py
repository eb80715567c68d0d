"""Keeps the newest gradients in the compiled step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from easyflax.train.additions import StepAddition, Update

__all__ = ["KeepGradients", "grads_of"]


@dataclass(frozen=True)
class KeepGradients(StepAddition):
    """Keeps the gradients of the newest update, as much memory as the parameters take."""

    needs_gradients: ClassVar[bool] = True

    def init(self, params: dict[str, Any]) -> dict[str, Any]:
        """Returns zeros."""
        return jax.tree.map(jnp.zeros_like, params)

    def after_update(self, state: dict[str, Any], update: Update) -> dict[str, Any]:
        """Returns the gradients of this update."""
        return jax.tree.map(lambda old, new: new.astype(old.dtype), state, grads_of(update, self.name))


def grads_of(update: Update, owner: str) -> dict[str, Any]:
    """Returns the gradients of an update.

    Raises:
        ValueError: a `train_step` of the model's own took them.
    """
    if update.grads is None:
        raise ValueError(
            f"{owner} needs the gradients, and the model's own train_step keeps them to itself. Call "
            "super().train_step(data) in it, or log what you need of them from there."
        )
    return update.grads
