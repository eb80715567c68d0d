"""Variables act as their values: the operators, and what else Python has special names for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

A = TypeVar("A")


class ActsAsValue(Generic[A]):
    """Base of variables: forwards operators, indexing and conversions to `get_value` and `set_value`."""

    __slots__ = ()

    __array_priority__ = (
        100  # NumPy arrays on the left of an operator leave it to us, as they do for JAX arrays
    )

    def get_value(self, *, index: Any = ...) -> Any:
        """Returns the value, or a part of it."""
        raise NotImplementedError

    def set_value(self, value: Any, *, index: Any = ...) -> None:
        """Replaces the value, or a part of it."""
        raise NotImplementedError

    def __jax_array__(self) -> Any:
        return self.get_value()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_value().__array__(*args, **kwargs)

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_value().__dlpack__(*args, **kwargs)

    def __dlpack_device__(self) -> Any:
        return self.get_value().__dlpack_device__()

    @overload
    def __getitem__(self, index: EllipsisType) -> A: ...
    @overload
    def __getitem__(self: ActsAsValue[jax.Array], index: Any) -> jax.Array: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        return self.get_value(index=index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.set_value(value, index=index)

    def __delitem__(self, index: Any) -> None:
        value = self.get_value()
        del value[index]
        self.set_value(value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_value()(*args, **kwargs)

    def assign(self, value: Any) -> Any:
        """Replaces the value by one of its shape, in its dtype, and returns it: Keras's spelling.

        Raises:
            ValueError: the shapes differ.
        """
        old = self.get_value()
        new = jnp.asarray(_value_of(value), old.dtype)
        if new.shape != old.shape:
            raise ValueError(
                f"assign got an array of shape {new.shape} for a {type(self).__name__} of shape {old.shape}, "
                "expected equal shapes. Pass an array of that shape."
            )
        self.set_value(new)
        return new

    def assign_add(self, value: Any) -> Any:
        """Adds to the value, and returns the sum: Keras's spelling."""
        return self.assign(self.get_value() + _value_of(value))

    def assign_sub(self, value: Any) -> Any:
        """Subtracts from the value, and returns the difference: Keras's spelling."""
        return self.assign(self.get_value() - _value_of(value))

    def numpy(self) -> np.ndarray:
        """Returns the value as a NumPy array: Keras's spelling."""
        return np.asarray(self.get_value())

    def __len__(self) -> int:
        return len(self.get_value())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get_value())

    def __contains__(self, item: Any) -> bool:
        return item in self.get_value()

    def __bool__(self) -> bool:
        return bool(self.get_value())

    def __round__(self, ndigits: int = 0) -> Any:
        return round(self.get_value(), ndigits)

    def __format__(self, spec: str) -> str:
        return format(self.get_value(), spec) if spec else repr(self)

    if TYPE_CHECKING:  # what `_add_operators` adds

        def _operator(self, other: Any, /) -> Any: ...

        __add__ = __sub__ = __mul__ = __matmul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _operator
        __radd__ = __rsub__ = __rmul__ = __rmatmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = _operator
        __rpow__ = __lshift__ = __rshift__ = __and__ = __xor__ = __or__ = __rand__ = __rxor__ = _operator
        __ror__ = __rlshift__ = __rrshift__ = __lt__ = __le__ = __gt__ = __ge__ = _operator

        def __neg__(self) -> Any: ...
        def __pos__(self) -> Any: ...
        def __abs__(self) -> Any: ...
        def __invert__(self) -> Any: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __complex__(self) -> complex: ...
        def __index__(self) -> int: ...


def _value_of(operand: Any) -> Any:
    return operand.get_value() if isinstance(operand, ActsAsValue) else operand


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: ActsAsValue, other: Any) -> Any:
        return function(self.get_value(), _value_of(other))

    return method


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: ActsAsValue, other: Any) -> Any:
        return function(_value_of(other), self.get_value())

    return method


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: ActsAsValue, other: Any) -> ActsAsValue:
        self.set_value(function(self.get_value(), _value_of(other)))
        return self

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    def method(self: ActsAsValue) -> Any:
        return getattr(self.get_value(), name)()

    return method


def _add_operators() -> None:
    two_sided = "add sub mul matmul truediv floordiv mod pow lshift rshift and_ xor or_"
    for name in two_sided.split():
        function, plain = getattr(operator, name), name.rstrip("_")
        setattr(ActsAsValue, f"__{plain}__", _binary(function))
        setattr(ActsAsValue, f"__r{plain}__", _reflected(function))
        setattr(ActsAsValue, f"__i{plain}__", _in_place(function))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):  # element by element; the hash stays that of the object
        setattr(ActsAsValue, f"__{name}__", _binary(getattr(operator, name)))
    for name in ("neg", "pos", "abs", "invert", "complex", "int", "float", "index", "trunc", "floor", "ceil"):
        setattr(ActsAsValue, f"__{name}__", _unary(f"__{name}__"))


_add_operators()
