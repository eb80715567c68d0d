"""The weights of a layer, as lists and as arrays, in Keras's order and under Keras's names."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import easyflax.nnx as nnx
from easyflax.layers import freezing, weight_order

__all__ = ["Weighted"]


class Weighted(nnx.Module):
    """A module that lists its weights, and those of modules inside, as Keras's layers do."""

    __slots__ = ()

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets all layers inside, too.

        It is read when `fit` begins. Of a layer inside one that is frozen the own flag decides, as set last.
        """
        return vars(self).get("trainable", True)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        freezing.set_trainable(self, value)

    @property
    def weights(self) -> list[nnx.Variable[Any]]:
        """All weights, those of layers inside included, without the state of random streams."""
        return weight_order.ordered_weights(self)

    @property
    def trainable_weights(self) -> list[nnx.Variable[Any]]:
        """The weights that training changes."""
        frozen = freezing.frozen_variables(self)
        return [one for one in self.weights if isinstance(one, nnx.Param) and id(one) not in frozen]

    @property
    def non_trainable_weights(self) -> list[nnx.Variable[Any]]:
        """The weights that no gradient changes, such as running averages and those that are frozen."""
        trained = {id(one) for one in self.trainable_weights}
        return [one for one in self.weights if id(one) not in trained]

    @property
    def variables(self) -> list[nnx.Variable[Any]]:
        """The weights and the state of random streams: of each layer its own, then those inside."""
        return weight_order.ordered_variables(self)

    @property
    def trainable_variables(self) -> list[nnx.Variable[Any]]:
        """As `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[nnx.Variable[Any]]:
        """The variables that no gradient changes, the state of random streams among them."""
        trained = {id(one) for one in self.trainable_weights}
        return [one for one in self.variables if id(one) not in trained]

    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Calls the layer as a pure function of its variables, for `jax.grad` and `jax.jit`.

        Args:
            trainable_variables: arrays in the order of the property, or those variables themselves.
            non_trainable_variables: likewise.
            *args: as for a call.
            return_losses: whether `losses` of the call are returned, too.
            **kwargs: as for a call.

        Returns:
            what a call returns, and the non-trainable variables after it; then the list of losses.

        Raises:
            ValueError: the numbers of variables differ, or the layer is not built.
        """
        weight_order.check_built(self, "stateless_call")
        copy: Any = nnx.clone(self)
        held = [copy.trainable_variables, copy.non_trainable_variables]
        for variables, values in zip(held, (trainable_variables, non_trainable_variables), strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.set_raw_value(value.get_raw_value() if isinstance(value, nnx.Variable) else value)
        outputs = copy(*args, **kwargs)
        after = [variable.get_raw_value() for variable in held[1]]
        return (outputs, after, copy.losses) if return_losses else (outputs, after)

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights as NumPy arrays, in the order of `weights`."""
        return [np.asarray(one.get_raw_value()) for one in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Sets the weights, in the order of `get_weights`.

        Raises:
            ValueError: their number or a shape differs, or the layer is not built.
        """
        weight_order.set_weights(self, weights)

    def count_params(self) -> int:
        """Returns how many numbers the weights hold.

        Raises:
            ValueError: the layer is not built.
        """
        weight_order.check_built(self, "count_params")
        return sum(leaf.size for one in self.weights for leaf in jax.tree.leaves(one.get_raw_value()))
