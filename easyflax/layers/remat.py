"""Rematerialisation: values of the forward pass are computed again for the gradient, instead of kept.

    with ef.RematScope("larger_than", output_size_threshold=4096):
        block = ef.layers.Dense(512)                  # layers that are made here
    model.compile("adam", "mse", remat="full")        # all modules of a model, in training

A call that is rematerialised keeps its inputs and what a policy names; everything else is computed a second
time when the gradient comes by. Changes of variables, such as running statistics and counts of random
streams, are made once, by the first computation; the second one sees the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax import activations
from easyflax.errors import unknown_name_message
from easyflax.interop.flax_mirror import Submodule
from easyflax.layers.rematerialized import is_within, output_size, rematerialized
from easyflax.nnx.core.calls import calls_within

__all__ = ["RematScope", "current_scope", "remat", "scope_of"]

_MODES = ("full", "activations", "larger_than", "list_of_layers")
# Those of `jax.checkpoint_policies` that are policies; the others make one of arguments.
_POLICIES = (
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
)
_THRESHOLD = 1024

_scopes: ContextVar[tuple[RematScope, ...]] = ContextVar("easyflax_remat_scopes", default=())


@dataclass(frozen=True)
class RematScope:
    """Says which calls compute their values again for the gradient, to save memory.

    As a context manager it holds for the layers that are made in the block, wherever they are called later;
    the innermost block counts. Given to `compile(remat=)` it holds for all modules of the model that were
    made in no such block, layers or not. What a call returns does not change, nor do gradients, but for
    rounding; calls outside of a transform compute as ever.

    What is rematerialised is kept in one piece: modules within it are not looked at again. Models, and
    `Sequential`s, are looked into in search of modules to rematerialise; a list of names may name them, too.
    On the CPU, XLA computes early whatever it can, and less memory is saved than on accelerators.

    Args:
        mode: `"full"` for every module; `"activations"` for what modules have as their attribute
            `activation`; `"larger_than"` for those whose outputs have more elements than
            `output_size_threshold`, the rows of the batch included; `"list_of_layers"` for those named; None
            for none.
        output_size_threshold: see there.
        layer_names: names of layers; for `compile` also paths such as "encoder.blocks.0", and patterns of
            names and paths such as "encoder.blocks.*".
        policy: says which values are kept all the same: the name of one in `jax.checkpoint_policies`, or what
            a function there returns.

    Raises:
        TypeError: `policy` is no function, or `layer_names` no list of strings.
        ValueError: a name is unknown, or an argument does not go with `mode`.

    Examples:
        >>> import easyflax as ef
        >>> with RematScope("list_of_layers", layer_names=["wide"]):
        ...     model = ef.Sequential([ef.Input((4,)), ef.layers.Dense(64, name="wide"), ef.layers.Dense(1)])
        >>> jax.grad(lambda x: model(x).sum())(jax.numpy.ones((2, 4))).shape
        (2, 4)

    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174
    """

    mode: str | None = "full"
    output_size_threshold: int = _THRESHOLD
    layer_names: Sequence[str] | None = None
    policy: Any = None

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in _MODES:
            raise ValueError(unknown_name_message("mode of RematScope", str(self.mode), _MODES))
        _check_threshold(self.mode, self.output_size_threshold)
        object.__setattr__(self, "layer_names", _checked_names(self.mode, self.layer_names))
        object.__setattr__(self, "policy", _checked_policy(self.policy))

    def __enter__(self) -> RematScope:
        _scopes.set((*_scopes.get(), self))
        return self

    def __exit__(self, *exception: object) -> None:
        _scopes.set(_scopes.get()[:-1])

    def call(
        self,
        module: Any,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        path: str = "",
    ) -> Any:
        """Returns `f(module, *args, **kwargs)`, rematerialised if the scope says so.

        Args:
            module: what is called.
            f: what its call does; calls of modules within come by here themselves.
            args: its arguments.
            kwargs: likewise.
            path: where it is in the model that is trained.
        """
        if self.mode is None or is_within():
            return f(module, *args, **kwargs)
        if self.mode == "activations":
            return _with_remat_activation(module, partial(f, module, *args, **kwargs), self.policy)
        if self.mode == "list_of_layers":
            is_asked = self._names(module, path)
        elif is_looked_into(module):
            is_asked = False
        elif self.mode == "larger_than":
            is_asked = output_size(f, module, args, kwargs) > self.output_size_threshold
        else:
            is_asked = True
        return (
            rematerialized(f, module, args, kwargs, self.policy) if is_asked else f(module, *args, **kwargs)
        )

    @contextmanager
    def within(self, module: Any) -> Iterator[None]:
        """Has calls of modules in `module`, which should be a copy, come by `call` in the block."""

        def around(
            path: tuple[Any, ...],
            inner: Any,
            call: Any,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            if not path or isinstance(inner, Submodule):
                return call(*args, **kwargs)
            if vars(inner).get("_remat_scope") is not None:  # which is asked by the call itself
                return call(*args, **kwargs)
            return self.call(inner, call.func, args, kwargs, _joined(path))

        with calls_within(module, around):
            yield

    def check_applies(self, module: Any) -> None:
        """Raises if there is nothing in `module` that the scope asks for.

        Raises:
            ValueError: a name is that of no module, no module has an activation, or there is no module.
        """
        modules = {_joined(path): one for path, one in nnx.iter_modules(module) if path}
        modules = {path: one for path, one in modules.items() if not isinstance(one, Submodule)}
        for pattern in self.layer_names or ():
            if not any(_matches(pattern, one, path) for path, one in modules.items()):
                known = [getattr(one, "name", path) for path, one in modules.items()]
                raise ValueError(unknown_name_message("layer in compile(remat=)", pattern, known))
        if self.mode == "activations" and not any(map(_has_activation, modules.values())):
            raise ValueError(
                f"compile: got remat='activations', and no module of {type(module).__name__} has an "
                "attribute `activation`, expected one at least. Pass remat='full', or names of layers."
            )
        if self.mode is not None and all(map(is_looked_into, modules.values())):
            raise ValueError(
                f"compile: got remat, and {type(module).__name__} holds no modules to be computed again one "
                "by one, expected some. Use nnx.remat in its methods, for a module of Flax that of Flax."
            )

    def _names(self, module: Any, path: str) -> bool:
        return any(_matches(pattern, module, path) for pattern in self.layer_names or ())


def scope_of(given: Any) -> RematScope | None:
    """Returns what `compile(remat=)` was given as a scope.

    Args:
        given: None; a mode or the name of a policy; a policy; names of layers in a list; or a `RematScope`.

    Raises:
        TypeError: it is none of these.
        ValueError: a name is unknown.
    """
    if given is None or isinstance(given, RematScope):
        return given
    if isinstance(given, str):
        if given in _POLICIES:
            return RematScope(policy=given)
        if given not in ("full", "activations"):
            known = ("full", "activations", *_POLICIES)
            raise ValueError(unknown_name_message("remat of compile", given, known))
        return RematScope(given)
    if isinstance(given, list | tuple):
        return RematScope("list_of_layers", layer_names=given)
    if callable(given):
        return RematScope(policy=given)
    raise TypeError(
        f"compile: remat is {given!r}, expected 'full', 'activations', names of layers in a list, a policy "
        "of jax.checkpoint_policies, or an ef.RematScope. Leave it out to keep all values."
    )


def current_scope() -> RematScope | None:
    """Returns the scope of the innermost block, None outside of all."""
    scopes = _scopes.get()
    return scopes[-1] if scopes else None


def is_looked_into(module: Any) -> bool:
    """Says whether a module only calls others, which are rematerialised in its place."""
    return getattr(module, "_is_made_of_layers", False) or isinstance(module, nnx.Sequential)


def remat(f: Any, *, policy: Any = None) -> Any:
    """Has a function or module compute its values again when it is differentiated, to save memory.

    Args:
        f: a function of arrays, modules and anything else; a module, or a method of one. Of a layer it is the
            layer itself that comes back, and from now on it does so; of another module, or a method, a module
            that holds it and calls it.
        policy: as for `RematScope`.

    Raises:
        TypeError: `f` cannot be called.

    Examples:
        >>> import jax.numpy as jnp
        >>> float(jax.grad(remat(lambda x: jnp.sin(jnp.sin(x))))(0.0))
        1.0
    """
    if not callable(f):
        raise TypeError(f"remat: got {f!r}, expected a function, a module or a method. Pass one.")
    policy = _checked_policy(policy)
    if hasattr(f, "_remat_scope"):
        f._remat_scope = RematScope(policy=policy)
        return f
    if isinstance(f, nnx.Module):
        return Rematerialized(f, type(f).__call__, policy)
    owner = getattr(f, "__self__", None)
    if isinstance(owner, nnx.Module):
        return Rematerialized(owner, f.__func__, policy)
    return _RematFunction(f, policy)


class Rematerialized(nnx.Module):
    """Calls a module, or a method of it, with its values computed again for the gradient.

    Args:
        module: what is called; it may be the one that holds this.
        method: what of it, a function of the module and further arguments.
        policy: see `RematScope`.
    """

    def __init__(self, module: Any, method: Callable[..., Any], policy: Any = None) -> None:
        self.module = module
        self.method = method
        self.policy = policy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the method returns."""
        return rematerialized(self.method, self.module, args, kwargs, self.policy)


class _RematFunction:
    """A function whose values are computed again for the gradient; equal to another of the same function."""

    def __init__(self, f: Callable[..., Any], policy: Any) -> None:
        self.__wrapped__ = f
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.__doc__ = f.__doc__
        self._policy = policy

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return rematerialized(_without_module(self.__wrapped__), None, args, kwargs, self._policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RematFunction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, Any]:
        return self.__wrapped__, self._policy


def _without_module(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *args, **kwargs: f(*args, **kwargs)


# -- activations


def _has_activation(module: Any) -> bool:
    activation = vars(module).get("activation")
    return callable(activation) and activation is not activations.linear


def _with_remat_activation(module: Any, call: Callable[[], Any], policy: Any) -> Any:
    """Calls something with the activation of a module rematerialised for the time being."""
    activation = vars(module).get("activation")
    if not _has_activation(module) or isinstance(activation, nnx.Module | _RematFunction):
        return call()  # a module comes by itself
    vars(module)["activation"] = _RematFunction(activation, policy)
    try:
        return call()
    finally:
        vars(module)["activation"] = activation


# -- arguments


def _matches(pattern: str, module: Any, path: str) -> bool:
    name = getattr(module, "name", None)
    return fnmatchcase(path, pattern) or (isinstance(name, str) and fnmatchcase(name, pattern))


def _joined(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _check_threshold(mode: str | None, threshold: Any) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 0:
        raise ValueError(
            f"RematScope: output_size_threshold is {threshold!r}, expected a number of elements, an integer "
            "of at least 0. Pass one, such as 1024."
        )
    if mode != "larger_than" and threshold != _THRESHOLD:
        raise ValueError(
            f"RematScope: got output_size_threshold={threshold} with mode={mode!r}, expected it with "
            "mode='larger_than' only. Leave it out, or change the mode."
        )


def _checked_names(mode: str | None, names: Any) -> tuple[str, ...]:
    names = () if names is None else names
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"RematScope: layer_names is {names!r}, expected names of layers in a list. Pass for example "
            "layer_names=['dense']."
        )
    if (mode == "list_of_layers") != bool(names):
        raise ValueError(
            f"RematScope: got layer_names={list(names)} with mode={mode!r}, expected names with "
            "mode='list_of_layers' and only with it. Pass both, or neither."
        )
    return tuple(names)


def _checked_policy(policy: Any) -> Any:
    if isinstance(policy, str):
        if policy not in _POLICIES:
            raise ValueError(unknown_name_message("policy of RematScope", policy, _POLICIES))
        return getattr(jax.checkpoint_policies, policy)
    if policy is not None and not callable(policy):
        raise TypeError(
            f"RematScope: policy is {policy!r}, expected a name such as 'dots_saveable' or a function. See "
            "jax.checkpoint_policies."
        )
    return policy
