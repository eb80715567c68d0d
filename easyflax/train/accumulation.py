"""Gradients of several batches made into those of one: added up, each batch by what it counts.

A loss that is a mean is that of all rows of the group if each batch weighs as much as its mean was divided
by: its rows, or the values that masks leave. A loss that is a sum is just added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from easyflax.train.binding import Arrays

__all__ = [
    "PENDING",
    "Group",
    "Pending",
    "add_gradients",
    "divided",
    "emptied",
    "gradients_of",
    "no_gradients",
]


# Where the gradients that wait are, among the states of additions.
PENDING = "gradient_accumulation"


class Pending(NamedTuple):
    """The gradients of a group of batches that is not complete.

    Attributes:
        grads: their weighted sum in float32 or wider, by path; of no meaning while `batches` is 0.
        weight: float32 `()`, the sum of the weights.
        batches: int32 `()`, how many batches were added.
    """

    grads: Arrays
    weight: jax.Array
    batches: jax.Array


@dataclass
class Group:
    """Counts the batches of a group on the host.

    Attributes:
        size: how many make a group.
        left: batches left of the epoch, None if nobody knows.
        waiting: batches of the group so far.
    """

    size: int = 1
    left: int | None = None
    waiting: int = 0

    @property
    def is_open(self) -> bool:
        """Whether there are batches whose gradients wait."""
        return self.waiting > 0

    def add(self) -> bool:
        """Counts a batch; says whether it is the last one of a group."""
        self.waiting += 1
        if self.left is not None:
            self.left -= 1
        is_last = self.waiting >= self.size or self.left == 0
        if is_last:
            self.close()
        return is_last

    def close(self) -> None:
        """Begins another group."""
        self.waiting = 0


def no_gradients(params: Arrays) -> Pending:
    """Returns what the first batch of a group is added to."""
    zeros = jax.tree.map(lambda param: jnp.zeros(param.shape, _wide(param.dtype)), params)
    return Pending(zeros, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))


def emptied(pending: Pending) -> Pending:
    """Returns the same without any batch; the arrays stay, the next batch replaces what is in them."""
    return Pending(pending.grads, jnp.zeros_like(pending.weight), jnp.zeros_like(pending.batches))


def divided(pending: Pending, *, is_sum: bool) -> Pending:
    """Returns the mean over the group in place of the sum, or the sum itself of a loss that is one.

    An update that takes its gradients from here, and leaves this behind for the next group to replace, has
    them in the memory where they waited; XLA would keep a quotient that is used twice in memory of its own.
    """
    if is_sum:
        return pending
    divisor = jnp.where(pending.weight == 0, 1.0, pending.weight)
    return pending._replace(grads=jax.tree.map(lambda grad: grad / divisor.astype(grad.dtype), pending.grads))


def add_gradients(pending: Pending, grads: Arrays, weight: Any) -> Pending:
    """Returns the sum with the gradients of one batch more.

    Args:
        pending: so far.
        grads: of the batch, by path.
        weight: what it counts, float32 `()`.
    """
    weight = jnp.asarray(weight, jnp.float32)
    is_first = pending.batches == 0

    def added(old: jax.Array, grad: jax.Array) -> jax.Array:
        # A batch of no weight may have NaN for gradients.
        new = jnp.where(weight == 0, 0, grad.astype(old.dtype) * weight.astype(old.dtype))
        return jnp.where(is_first, new, old + new)

    return Pending(jax.tree.map(added, pending.grads, grads), pending.weight + weight, pending.batches + 1)


def gradients_of(pending: Pending, params: Arrays) -> Arrays:
    """Returns the gradients of a group, in the dtypes of `params`.

    Args:
        pending: what `divided` returned.
        params: by path.
    """
    return jax.tree.map(lambda grad, param: grad.astype(param.dtype), pending.grads, params)


def _wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
