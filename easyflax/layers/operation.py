"""`Operation`: a function of arrays with settings, which symbolic values write down like a layer."""

from __future__ import annotations

from typing import Any

from easyflax.layers.symbolic import apply, symbolic_leaves
from easyflax.naming import snake_case

__all__ = ["Operation"]


class Operation:
    """Base class of functions of arrays that have settings, but no weights; subclasses define `call`.

    Args:
        name: of the steps in graphs; the class's name in snake case by default.

    Examples:
        >>> from easyflax.layers import Input
        >>> class Scale(Operation):
        ...     def __init__(self, factor, name=None):
        ...         super().__init__(name)
        ...         self.factor = factor
        ...
        ...     def call(self, x):
        ...         return self.factor * x
        >>> Scale(2.0)(3.0), Scale(2.0)(Input((4,))).shape
        (6.0, (None, 4))
    """

    def __init__(self, name: str | None = None):
        self.name = name or snake_case(type(self).__name__)
        self.__name__ = self.name  # for the graph

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; defined by subclasses."""
        raise NotImplementedError(
            f"{type(self).__name__} has no method call, expected one that computes the output. Define "
            "call(self, inputs)."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what `call` returns; for symbolic values symbolic ones."""
        if symbolic_leaves((args, kwargs)):
            return apply(self, *args, **kwargs)
        return self.call(*args, **kwargs)
