"""Variables act as their values: the operators, and what else Python has special names for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any


class ActsAsValue:
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
