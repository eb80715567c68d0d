"""`Function`: what lies between symbolic values, as a function of arrays."""

from __future__ import annotations

from typing import Any

from easyflax.layers.symbolic import symbolic_leaves
from easyflax.models.graph import Graph

__all__ = ["Function"]


class Function(Graph):
    """Computes symbolic outputs from symbolic inputs, without what models have for training.

    Args:
        inputs: a symbolic value, or a list, tuple or dict of them.
        outputs: likewise, in any nesting; they depend on nothing but the inputs.
        name: of the function.

    Raises:
        TypeError: there is something else among them.
        ValueError: an output depends on an input that is missing.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.layers import Input
        >>> x = Input((2,))
        >>> Function(x, 2 * x + 1)(jnp.array([[1.0, 2.0]])).tolist()
        [[3.0, 5.0]]
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(inputs, outputs)
        if name is not None:
            self._name = name

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs."""
        return symbolic_leaves(self.stated[0])

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs."""
        return symbolic_leaves(self.stated[1])
