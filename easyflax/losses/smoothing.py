"""Label smoothing, and the check of its amount."""

from __future__ import annotations

import jax

__all__ = ["check_smoothing", "smooth"]


def smooth(labels: jax.Array, amount: float, classes: int) -> jax.Array:
    """Returns labels mixed with the uniform distribution over `classes`, which takes the share `amount`.

    Source: Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567
    """
    check_smoothing(amount)
    return labels * (1 - amount) + amount / classes if amount else labels


def check_smoothing(amount: float) -> None:
    """Raises a ValueError unless `amount` is in `[0, 1]`."""
    if not 0 <= amount <= 1:
        raise ValueError(
            f"label_smoothing={amount} is outside [0, 1], expected a share. Pass for example 0.1."
        )
