"""The steps of `nnx.jit(f)` on its way to a compiled program: traced, lowered, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from easyflax.nnx.transforms.packing import Spec

if TYPE_CHECKING:
    from easyflax.nnx.transforms.jit import JitWrapped


class _Stage:
    """What a stage does not define itself is that of jax's stage of the same name."""

    def __init__(self, wrapped: JitWrapped[..., Any], spec: Spec, inner: Any) -> None:
        self._wrapped = wrapped
        self._spec = spec
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Traced(_Stage):
    """A function traced by `nnx.jit(f).trace`; its `jaxpr` is one of the modules' arrays."""

    _inner: jax.stages.Traced

    def lower(self, **options: Any) -> Lowered:
        """Lowers the traced function; takes the arguments of `jax.stages.Traced.lower`."""
        return Lowered(self._wrapped, self._spec, self._inner.lower(**options))


class Lowered(_Stage):
    """A function lowered by `nnx.jit(f).lower`."""

    _inner: jax.stages.Lowered

    def compile(self, *args: Any, **kwargs: Any) -> Compiled:
        """Compiles the lowered function; takes the arguments of `jax.stages.Lowered.compile`."""
        return Compiled(self._wrapped, self._spec, self._inner.compile(*args, **kwargs))


class Compiled(_Stage):
    """A function compiled ahead of time: call it like the function, with modules of the structure it was
    lowered for.

    Raises:
        TypeError: structure, shapes or dtypes differ from those that it was lowered for.
    """

    _inner: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wrapped = self._wrapped
        call, spec, donated, values = wrapped.prepare(args, kwargs)
        if spec != self._spec:
            raise TypeError(
                "A compiled function got modules of another structure (attributes, kinds of variables, or "
                "places among the arguments) than it was lowered for. Lower and compile it for these "
                "modules, or call the function that nnx.jit returned."
            )
        rest, named = wrapped.without_static(call.args, call.kwargs)
        out, changed, outcome = self._inner(donated, values, *rest, **named)
        return wrapped.finish(call, out, changed, outcome)
