"""Capturing what modules `sow` and `perturb`, without the modules keeping it.

`capture` gives every module an attribute `__captures__` for the time of a call: a tuple with one variable for
each kind that is captured, whose value is a dictionary. `Module.sow` and `Module.perturb` write into it. The
variables are data like any other, so that they go through `jit`, `vmap` and `grad` with the module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.iteration import iter_modules
from easyflax.nnx.core.module import Module
from easyflax.nnx.core.state import State, from_flat_state, iter_leaves
from easyflax.nnx.core.variables import Variable

__all__ = ["capture"]

Kind = type[Variable[Any]]
_ATTRIBUTE = "__captures__"
_METHODS = "__method_outputs__"  # set so that functions compiled with and without them are told apart


def capture(
    fn: Any, /, *var_types: Kind, init: Mapping[Any, Any] | None = None, method_outputs: Kind | None = None
) -> Any:
    """Returns a function that also returns what the modules that it calls `sow` and `perturb`.

    Values of other kinds than `var_types` are not stored at all, and the modules are afterwards what they
    were before.

    Args:
        fn: a function whose first argument is the module, a module, or a method of one. Without it
            (`@nnx.capture(nnx.Intermediate)`), a decorator is returned.
        *var_types: the kinds to capture, such as `nnx.Intermediate`.
        init: values to begin with, such as perturbations from an earlier call; a state with variables at the
            paths of their modules.
        method_outputs: also capture, as this kind, what the methods of the modules return, by the name of
            the method: those that their own classes define, names with an underscore apart, and `__call__`.

    Returns:
        a function like `fn`. It returns `(output, state, ...)`, a state for each of `var_types`; without
        any, the output alone.

    Raises:
        TypeError: the function is called without a module.

    Example:
        >>> from easyflax import nnx
        >>> class Doubling(nnx.Module):
        ...     def __call__(self, x):
        ...         x = self.perturb("input", x)
        ...         self.sow(nnx.Intermediate, "doubled", 2 * x)
        ...         return 2 * x
        >>> model = Doubling()
        >>> y, sown = nnx.capture(model, nnx.Intermediate)(3.0)
        >>> float(sown.doubled[0]), hasattr(model, "doubled")
        (6.0, False)

        The gradient of an intermediate value is that of the perturbation added to it:

        >>> _, zeros = nnx.capture(model, nnx.Perturbation)(3.0)
        >>> def loss(model, zeros):
        ...     return nnx.capture(model, init=zeros)(3.0)
        >>> float(nnx.grad(loss, argnums=1)(model, zeros).input.value)
        2.0
    """
    if isinstance(fn, type) and issubclass(fn, Variable):
        kinds = (fn, *var_types)
        return lambda fun: capture(fun, *kinds, init=init, method_outputs=method_outputs)

    @functools.wraps(fn if callable(fn) and not isinstance(fn, Module) else type(fn).__call__)
    def captured(*args: Any, **kwargs: Any) -> Any:
        root = _module_of(fn, args, kwargs)
        try:
            _begin(root, var_types, init)
            with _MethodOutputs(root, method_outputs):
                out = fn(*args, **kwargs)
        finally:
            states = _end(root, var_types)
        return (out, *states) if states else out

    return captured


def _module_of(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the module, or container of modules, that a call is about."""
    bound = fn.args[:1] if isinstance(fn, functools.partial) else (getattr(fn, "__self__", None),)
    for candidate in (fn, *bound, *args[:1], *kwargs.values()):
        if _holds_modules(candidate):
            return candidate
    raise TypeError(
        f"nnx.capture called {getattr(fn, '__name__', fn)!r} with {len(args)} positional arguments, none of "
        "which is a module in the first place. Wrap a module or a method of one, or pass the module as the "
        "first argument."
    )


def _holds_modules(value: Any) -> bool:
    leaves = jax.tree.leaves(value, is_leaf=lambda node: isinstance(node, Module))
    return any(isinstance(leaf, Module) for leaf in leaves)


def _begin(root: Any, kinds: tuple[Kind, ...], init: Mapping[Any, Any] | None) -> None:
    given: dict[Path, dict[Kind, dict[Any, Any]]] = {}
    for path, variable in iter_leaves(init) if init else ():
        by_kind = given.setdefault(path[:-1], {})
        by_kind.setdefault(type(variable), {})[path[-1]] = variable.get_value()
    for path, module in list(iter_modules(root)):
        values: dict[Kind, Any] = {kind: {} for kind in kinds}
        values.update(given.get(path, {}))
        setattr(module, _ATTRIBUTE, tuple(kind(value) for kind, value in values.items()))


def _end(root: Any, kinds: tuple[Kind, ...]) -> tuple[State, ...]:
    """Takes the captured values out of the modules; returns a state for each kind."""
    found: dict[Kind, list[tuple[Path, Any]]] = {kind: [] for kind in kinds}
    for path, module in list(iter_modules(root)):
        for variable in vars(module).get(_ATTRIBUTE, ()):
            if type(variable) in found:
                entries = variable.get_raw_value().items()
                found[type(variable)] += [((*path, name), type(variable)(value)) for name, value in entries]
        if _ATTRIBUTE in vars(module):
            delattr(module, _ATTRIBUTE)
    return tuple(from_flat_state(found[kind]) for kind in kinds)


class _MethodOutputs:
    """While entered, the methods of some modules sow what they return."""

    def __init__(self, root: Any, kind: Kind | None) -> None:
        self._kind: Any = kind
        self._modules = [module for _, module in iter_modules(root)] if kind else []
        self._originals: list[tuple[type, str, Any]] = []

    def __enter__(self) -> None:
        for module in self._modules:
            setattr(module, _METHODS, self._kind)
        for cls in {type(module) for module in self._modules}:
            for name, method in _own_methods(cls):
                self._originals.append((cls, name, method))
                setattr(cls, name, self._sowing(name, method))

    def __exit__(self, *_: Any) -> None:
        for cls, name, method in self._originals:
            setattr(cls, name, method)
        for module in self._modules:
            delattr(module, _METHODS)

    def _sowing(self, name: str, method: Any) -> Callable[..., Any]:
        @functools.wraps(method)
        def sowing(module: Module, *args: Any, **kwargs: Any) -> Any:
            out = method.__get__(module)(*args, **kwargs)
            module.sow(self._kind, name, out)
            return out

        return sowing


def _own_methods(cls: type) -> list[tuple[str, Any]]:
    """Returns the methods that a class itself defines for its users."""
    return [
        (name, method)
        for name, method in vars(cls).items()
        if (name == "__call__" or not name.startswith("_"))
        and callable(method)
        and hasattr(method, "__get__")
        and not isinstance(method, (staticmethod, classmethod, type))
    ]
