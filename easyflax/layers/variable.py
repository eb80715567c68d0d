"""Variables in Keras's manner: of a value or an initializer, trained or not, of a policy's dtype."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import constraints, initializers, random, regularizers
from easyflax.layers.dtypes import dtype_policy

__all__ = ["Variable", "attach", "make_variable"]


def make_variable(
    shape: Any,
    initializer: Any,
    dtype: Any,
    *,
    trainable: bool = True,
    autocast: bool = True,
    regularizer: Any = None,
    constraint: Any = None,
    name: str | None = None,
) -> Any:
    """Returns a new variable whose value an initializer makes; see `Layer.add_weight`."""
    dtype = jnp.dtype(dtype)
    if initializer is None:
        initializer = "glorot_uniform" if jnp.issubdtype(dtype, jnp.inexact) else "zeros"
    shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
    resolved: Any = initializers.get(initializer)
    make = initializers.as_init(resolved)
    value = make(random.next_key(), shape, dtype)
    variable = _of_value(value, trainable=trainable, autocast=autocast, name=name)
    attach(variable, regularizer=regularizer, constraint=constraint)
    return variable


def attach(variable: Any, *, regularizer: Any = None, constraint: Any = None) -> None:
    """Has training regularize and constrain a variable: both are metadata of it.

    Args:
        variable: a parameter.
        regularizer: see `easyflax.regularizers`, or None.
        constraint: see `easyflax.constraints`, or None.
    """
    given = {"regularizer": regularizers.get(regularizer), "constraint": constraints.get(constraint)}
    if metadata := {name: value for name, value in given.items() if value is not None}:
        variable.set_metadata(**metadata)


def _of_value(value: Any, *, trainable: bool, autocast: bool, name: str | None) -> Any:
    metadata: dict[str, Any] = {} if name is None else {"name": name}
    if not autocast:
        metadata["autocast"] = False
    return (nnx.Param if trainable else nnx.Variable)(value, **metadata)


class _AnyVariable(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, nnx.Variable)


class Variable(metaclass=_AnyVariable):
    """Makes a variable as Keras's class of this name does: an `nnx.Param`, or an `nnx.Variable` if untrained.

    Every variable is an instance of it.

    Args:
        initializer: the value, an array or a number; or with `shape` an initializer, see
            `easyflax.initializers`.
        shape: of the variable, where an initializer makes its value.
        dtype: by default that of the value, for initializers that of the global policy's weights.
        trainable: whether optimizers change it.
        autocast: whether layers that hold it read it in the dtype that they compute in.
        name: what `variable.name` says.

    Raises:
        ValueError: there is an initializer without a shape, or a value of another shape.

    Examples:
        >>> count = Variable(0, trainable=False, dtype="int32")
        >>> count.assign_add(2)
        Array(2, dtype=int32)
        >>> Variable("ones", shape=(2,)).numpy().tolist()
        [1.0, 1.0]
        >>> isinstance(count, Variable)
        True
    """

    def __new__(
        cls,
        initializer: Any,
        shape: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        *,
        name: str | None = None,
    ) -> Any:
        del cls
        if isinstance(initializer, nnx.Variable):
            initializer = initializer.get_value()
        is_maker = initializer is None or isinstance(initializer, str | dict) or callable(initializer)
        if is_maker:
            if shape is None:
                raise ValueError(
                    f"Variable: got the initializer {initializer!r} without a shape, expected one, or a "
                    "value. Pass shape=()."
                )
            dtype = dtype_policy().variable if dtype is None else dtype
            return make_variable(shape, initializer, dtype, trainable=trainable, autocast=autocast, name=name)
        value = jnp.asarray(initializer, jnp.asarray(initializer).dtype if dtype is None else dtype)
        if shape is not None and tuple(shape) != value.shape:
            raise ValueError(
                f"Variable: got a value of shape {value.shape} and shape={tuple(shape)}, expected equal "
                "ones. Leave shape out."
            )
        return _of_value(value, trainable=trainable, autocast=autocast, name=name)
