"""The methods by which programs written for Keras set the values of variables."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["Assignment"]


class Assignment:
    """Gives variables Keras's `assign`, `assign_add`, `assign_sub` and `numpy`."""

    __slots__ = ()

    def assign(self, value: Any) -> Any:
        """Sets the value, in the dtype of the old one, and returns the variable.

        Raises:
            ValueError: the shape differs.
        """
        variable: Any = self
        old = variable.get_value()
        new = jnp.asarray(value, jnp.result_type(old))
        if new.shape != jnp.shape(old):
            raise ValueError(
                f"assign got a value of shape {new.shape}, expected {jnp.shape(old)}, that of the variable. "
                "Reshape it, or make another variable."
            )
        variable.set_value(new)
        return self

    def assign_add(self, value: Any) -> Any:
        """Adds to the value, and returns the variable."""
        variable: Any = self
        return self.assign(variable.get_value() + value)

    def assign_sub(self, value: Any) -> Any:
        """Subtracts from the value, and returns the variable."""
        variable: Any = self
        return self.assign(variable.get_value() - value)

    def numpy(self) -> np.ndarray:
        """Returns the value as a NumPy array."""
        variable: Any = self
        return np.asarray(variable.get_value())
