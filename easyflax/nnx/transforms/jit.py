"""`nnx.jit`: `jax.jit` for functions of modules.

In steady state a call costs what `jax.jit` costs on a flat list of the same arrays: the walk of the modules
is kept, their values are gathered into one list, and only what the function really changed comes back out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import jax

from easyflax.nnx.core.signatures import O, P, R, Transform
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.eval_shape import eval_shape
from easyflax.nnx.transforms.groups import Grouped, Groups
from easyflax.nnx.transforms.lift import Outcome, also_return, run, unpack
from easyflax.nnx.transforms.notes import note_leaks, note_no_arrays
from easyflax.nnx.transforms.packing import (
    Call,
    Spec,
    bound_object,
    leaves_below,
    pack,
    positional_arguments,
    slots_in,
)
from easyflax.nnx.transforms.repeats import Repeats
from easyflax.nnx.transforms.retracing import trace_log
from easyflax.nnx.transforms.sharding import Shardings
from easyflax.nnx.transforms.stages import Lowered, Traced

Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)

_MISSING: Any = object()
_LEADING = 3  # arguments of the compiled function before the user's: spec, donated values, other values


class JitWrapped(Generic[P, R_co]):
    """A function compiled by `nnx.jit`; call it like the function.

    Attributes:
        jitted_fn: the function that `jax.jit` made of it, which holds the compiled programs.
    """

    def __init__(
        self,
        fun: Callable[P, R_co],
        *,
        static_argnums: int | Sequence[int] | None = None,
        static_argnames: str | Iterable[str] | None = None,
        donate_argnums: int | Sequence[int] | None = None,
        donate_argnames: str | Iterable[str] | None = None,
        partial_args: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        functools.update_wrapper(self, fun)
        self._fun, owner = bound_object(fun)
        self._bound = (*owner, *partial_args)
        shift = len(owner)
        static = self._static = _numbers_and_names(self._fun, static_argnums, static_argnames, shift)
        donated = _numbers_and_names(self._fun, donate_argnums, donate_argnames, shift)
        self._donated = frozenset([*donated[0], *donated[1]])
        self._options = {
            "static_argnums": (0, *(number + _LEADING for number in static[0])),
            "static_argnames": static[1],
            "donate_argnums": (1, *(number + _LEADING for number in donated[0])),
            "donate_argnames": donated[1],
            **{name: value for name, value in options.items() if value is not None},
        }
        self.jitted_fn = jax.jit(_compiled(self._fun), **self._options)
        self._repeats = Repeats()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        if self._bound:
            args = (*self._bound, *args)  # type: ignore[assignment]
        call = None if kwargs else self._repeats.find(args)
        if call is None:
            call = pack(args, kwargs)
            if self._donated:
                call = call._replace(spec=with_donation(call, self._donated))
            self._repeats.note(args, call)
        values, spec = call.walk.values(), call.spec
        try:
            out, changed, outcome = self.jitted_fn(spec, *spec.divide(values), *call.args, **call.kwargs)
        except jax.errors.UnexpectedTracerError as error:
            note_leaks(error, spec.graphdef, values)
            raise
        except TypeError as error:
            note_no_arrays(error, spec.graphdef, values)
            raise
        return unpack(call, out, changed, outcome)

    @overload
    def __get__(self, instance: None, owner: Any = None) -> JitWrapped[P, R_co]: ...
    @overload
    def __get__(
        self: JitWrapped[Concatenate[Any, Q], R_co], instance: object, owner: Any = None
    ) -> JitWrapped[Q, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        method = object.__new__(type(self))
        vars(method).update(vars(self), _bound=(*self._bound, instance))
        return method

    @property
    def __self__(self) -> Any:
        """The module of a bound method, as methods have it."""
        if self._bound:
            return self._bound[0]
        raise AttributeError("__self__")

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Traces the function for the given arguments, as `jax.jit(f).trace` does; the modules stay as they
        are."""
        call, spec, donated, values = self.prepare(args, kwargs)
        traced = self._jitted_for(len(call.args)).trace(spec, donated, values, *call.args, **call.kwargs)
        return Traced(self, spec, traced)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Lowers the function for the given arguments: `trace(...).lower()`."""
        return self.trace(*args, **kwargs).lower()

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what `nnx.eval_shape` returns for the function; the modules stay as they are."""
        args = (*self._bound, *args)
        numbers = self._static[0]

        def fun(*rest: Any, **named: Any) -> Any:
            dynamic = iter(rest)
            given = [value if i in numbers else next(dynamic) for i, value in enumerate(args)]
            return self._fun(*given, **{**kwargs, **named})

        rest, named = self.without_static(args, kwargs)
        return eval_shape(fun, *rest, **named)

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Spec, Any, Any]:
        """Returns the packed arguments, and `spec, donated values, other values` for the compiled
        function."""
        call = pack((*self._bound, *args), kwargs)
        values = call.walk.values()
        if not self._donated:
            return call, call.spec, (), values
        spec = with_donation(call, self._donated)
        return call, spec, *spec.divide(values)

    def without_static(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Returns the arguments that are not constants of the program."""
        numbers, names = self._static
        rest = [value for i, value in enumerate(args) if i not in numbers]
        return rest, {name: value for name, value in kwargs.items() if name not in names}

    def finish(self, call: Call, out: Any, changed: Any, outcome: Outcome) -> Any:
        """Writes changes to the caller's modules and returns the output."""
        return unpack(call, out, changed, outcome)

    def _jitted_for(self, count: int) -> Any:  # noqa: ARG002
        """Returns the function that `jax.jit` made, for `count` positional arguments."""
        return self.jitted_fn


class ShardedJitWrapped(JitWrapped[P, R_co]):
    """A function compiled by `nnx.jit` with shardings.

    Values travel in groups (see `sharding.py`), and since jax wants a sharding for each argument, there is a
    jitted function for each number of arguments, in place of `jitted_fn`.
    """

    def __init__(
        self, fun: Callable[..., Any], *, in_shardings: Any, out_shardings: Any, **options: Any
    ) -> None:
        super().__init__(fun, **options)
        del self.jitted_fn
        uncounted = len(bound_object(fun)[1])
        self._shardings = Shardings(in_shardings, out_shardings, self._static[0], uncounted)
        self._compiled = _compiled_with_shardings(self._fun, self._shardings)
        self._by_count: dict[int, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call, spec, donated, kept = self.prepare(args, kwargs)
        try:
            out, changed, outcome = self._jitted_for(len(call.args))(
                spec, donated, kept, *call.args, **call.kwargs
            )
        except (ValueError, RuntimeError) as error:
            self._shardings.explain(call, error)
        return self.finish(call, out, changed, outcome)

    def _jitted_for(self, count: int) -> Any:
        if count not in self._by_count:
            options = {**self._options, **self._shardings.for_jax(count)}
            self._by_count[count] = jax.jit(self._compiled, **options)
        return self._by_count[count]

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Spec, Any, Any]:
        if self._shardings.has_inputs:
            args, kwargs = positional_arguments(self._fun, (*self._bound, *args), kwargs)
            args = args[len(self._bound) :]
            self._shardings.check_no_keywords(kwargs)
        call, spec, donated, kept = super().prepare(args, kwargs)
        groups = self._shardings.groups
        numbers = spec.divide(self._shardings.numbers(call))
        return (
            call,
            spec,
            groups.sort_by_number(donated, numbers[0]),
            groups.sort_by_number(kept, numbers[1]),
        )

    def finish(self, call: Call, out: Any, changed: Any, outcome: Outcome) -> Any:
        return unpack(call, out, Groups.join(changed), outcome)


class Jit(Protocol[O]):
    """The type of `nnx.jit`."""

    @overload
    def __call__(self, fun: Callable[P, R], *args: O.args, **options: O.kwargs) -> JitWrapped[P, R]: ...
    @overload
    def __call__(
        self, *args: O.args, **options: O.kwargs
    ) -> Callable[[Callable[P, R]], JitWrapped[P, R]]: ...


def _typed(transform: Transform[O]) -> Jit[O]:
    """Declares `nnx.jit`, as `keeps_signature` does other transforms."""
    typed: Any = transform
    return typed


@_typed
def jit(
    fun: Any = _MISSING,
    *,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    device: Any = None,
    backend: str | None = None,
    inline: bool = False,
    compiler_options: dict[str, Any] | None = None,
) -> Any:
    """Compiles a function of modules and arrays with `jax.jit`; changes that it makes to the modules are
    kept.

    Args:
        fun: the function; without it, a decorator is returned. A method bound to a module works too.
        in_shardings: a sharding (or a `PartitionSpec` for the active mesh) for all positional arguments, or a
            tuple of trees of shardings, one for each that is not static; None leaves it to jax. For a module,
            a sharding for all its variables, an `nnx.StateSharding` by filter, or a state of shardings; the
            variables of the caller's module are placed so, too.
        out_shardings: the same for the output.
        static_argnums: positions of arguments that are constants of the program, hashable; compiled anew for
            each value.
        static_argnames: the same by name.
        donate_argnums: positions of arguments whose arrays may be overwritten; for a module, all its arrays.
        donate_argnames: the same by name.
        keep_unused: pass arguments that the function does not use to the device all the same.
        device: the device to run on; jax advises against it.
        backend: the platform to run on; jax advises against it.
        inline: inline the function into the jaxpr of a function that calls it.
        compiler_options: for XLA, by name.

    Raises:
        ValueError: a sharding does not fit the mesh or its argument.
        TraceContextError: the function changes a module that it was not passed.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> class Counter(nnx.Module):
        ...     def __init__(self):
        ...         self.count = nnx.Variable(jnp.array(0))
        >>> @nnx.jit
        ... def increment(counter):
        ...     counter.count += 1
        >>> counter = Counter()
        >>> increment(counter)
        >>> int(counter.count)
        1
    """
    options = {
        "in_shardings": in_shardings,
        "out_shardings": out_shardings,
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
        "keep_unused": keep_unused,
        "inline": inline,
        "device": device,
        "backend": backend,
        "compiler_options": compiler_options,
    }
    if fun is _MISSING:
        return lambda fun: make_jit_wrapped(fun, **options)
    return make_jit_wrapped(fun, **options)


def make_jit_wrapped(
    fun: Callable[P, R], *, in_shardings: Any, out_shardings: Any, **options: Any
) -> JitWrapped[P, R]:
    """Returns what `nnx.jit` returns, with options as `JitWrapped` takes them."""
    if in_shardings is None and out_shardings is None:
        return JitWrapped(fun, **options)
    return ShardedJitWrapped(fun, in_shardings=in_shardings, out_shardings=out_shardings, **options)


def _compiled(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the pure function that `jax.jit` compiles."""

    log = trace_log(fun)

    def compiled(spec: Spec, donated: Sequence[Any], kept: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        values = spec.join(donated, kept)
        log.note(fun, compiled, spec, values, args, kwargs)
        if not spec.marked:
            return run(fun, spec, values, args, kwargs, transform="jit")
        out, changed, outcome = run(fun, spec, values, args, kwargs, transform="jit")
        # The caller's arrays are gone, so donated leaves come back even where they did not change.
        return out, *also_return(spec.marked, values, changed, outcome)

    return _named(compiled, fun)


def _compiled_with_shardings(fun: Callable[..., Any], shardings: Shardings) -> Callable[..., Any]:
    """Returns the pure function that `jax.jit` compiles, whose values come and go in groups."""

    log = trace_log(fun)

    def compiled(spec: Spec, donated: Grouped, kept: Grouped, *args: Any, **kwargs: Any) -> Any:
        values = spec.join(Groups.join(donated), Groups.join(kept))
        log.note(fun, compiled, spec, values, args, kwargs)
        numbers = spec.join(donated[0].numbers, kept[0].numbers)
        out, changed, outcome = run(fun, spec, values, args, kwargs, transform="jit")
        changed, outcome = also_return(spec.marked, values, changed, outcome)
        entries, changed, outcome = shardings.also_return_sharded(
            Call([], spec, walk(), list(args), kwargs), numbers, values, out, changed, outcome
        )
        return out, shardings.groups.sort(changed, entries), outcome

    return _named(compiled, fun)


def _named(compiled: Callable[..., Any], fun: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `compiled` the name of `fun`, which profiles and jaxprs show."""
    compiled.__name__ = compiled.__qualname__ = getattr(fun, "__name__", type(fun).__name__)
    return compiled


def with_donation(call: Call, donated: frozenset[int | str]) -> Spec:
    """Returns the spec that also tells which leaves belong to donated arguments."""
    in_trees = tuple(
        slot.index
        for place in call.spec.trees
        if place in donated
        for slot in slots_in(call.kwargs[place] if isinstance(place, str) else call.args[place])
    )
    key = "donated", call.spec.places, call.spec.trees, donated, in_trees
    spec = call.walk.specs.get(key)
    if spec is None:
        graphdef = call.spec.graphdef
        roots = [*in_trees, *(index for place, index in call.spec.places if place in donated)]
        marked = {leaf for root in roots for _, leaf in leaves_below(graphdef, graphdef.roots[root])}
        spec = Spec(graphdef, call.spec.places, call.spec.trees, tuple(sorted(marked)))
        call.walk.specs[key] = spec
    return spec


def _numbers_and_names(
    fun: Callable[..., Any],
    numbers: int | Sequence[int] | None,
    names: str | Iterable[str] | None,
    shift: int,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Completes argument positions by their names and names by their positions, as `jax.jit` does.

    Args:
        shift: the number of arguments that are bound already, which `numbers` do not count.
    """
    found_numbers = [numbers] if isinstance(numbers, int) else list(numbers or ())
    found_names = [names] if isinstance(names, str) else list(names or ())
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # built-in functions
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    found_numbers = [(n + len(positional) if n < 0 else n + shift) for n in found_numbers]
    if names is None:
        found_names = [
            positional[n] for n in found_numbers if n < len(positional) and positional[n] in keyword
        ]
    elif numbers is None:
        found_numbers = [positional.index(name) for name in found_names if name in positional]
    return tuple(found_numbers), tuple(found_names)
