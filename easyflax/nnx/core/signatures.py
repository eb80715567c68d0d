"""The types of transforms, for editors and type checkers; at run time nothing here does anything.

A transform is called in two ways: with a function and options, or with the options alone, and then it returns
a decorator. `keeps_signature` and its like say so of a `def` whose first parameter is the function, and take
the options from there:

    @keeps_signature
    def vmap(f: Any = _MISSING, *, in_axes: Any = 0) -> Any: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

O = ParamSpec("O")  # noqa: E741  the options of a transform
P = ParamSpec("P")
R = TypeVar("R")

Transform = Callable[Concatenate[Any, O], Any]


class KeepsSignature(Protocol[O]):
    """Returns a function that is called like the given one and returns the like."""

    @overload
    def __call__(self, f: Callable[P, R], *args: O.args, **options: O.kwargs) -> Callable[P, R]: ...
    @overload
    def __call__(self, *args: O.args, **options: O.kwargs) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


class ReturnsGradients(Protocol[O]):
    """Returns a function that is called like the given one and returns gradients, which have no static
    type."""

    @overload
    def __call__(self, f: Callable[P, Any], *args: O.args, **options: O.kwargs) -> Callable[P, Any]: ...
    @overload
    def __call__(
        self, *args: O.args, **options: O.kwargs
    ) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...


class AddsGradients(Protocol[O]):
    """Returns a function that is called like the given one and returns its output and gradients."""

    @overload
    def __call__(
        self, f: Callable[P, R], *args: O.args, **options: O.kwargs
    ) -> Callable[P, tuple[R, Any]]: ...
    @overload
    def __call__(
        self, *args: O.args, **options: O.kwargs
    ) -> Callable[[Callable[P, R]], Callable[P, tuple[R, Any]]]: ...


def keeps_signature(transform: Transform[O]) -> KeepsSignature[O]:
    """Declares a transform whose functions are called like the given ones and return the like."""
    typed: Any = transform
    return typed


def returns_gradients(transform: Transform[O]) -> ReturnsGradients[O]:
    """Declares a transform whose functions return gradients."""
    typed: Any = transform
    return typed


def adds_gradients(transform: Transform[O]) -> AddsGradients[O]:
    """Declares a transform whose functions return their output and gradients."""
    typed: Any = transform
    return typed
