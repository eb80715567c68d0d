"""Names made from names of classes and functions."""

from __future__ import annotations

import re

__all__ = ["snake_case"]


def snake_case(name: str) -> str:
    """Returns `MeanSquaredError` as `mean_squared_error`; digits break no word.

    Examples:
        >>> snake_case("KLDivergence"), snake_case("Conv2DTranspose"), snake_case("<lambda>")
        ('kl_divergence', 'conv2d_transpose', 'lambda')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
