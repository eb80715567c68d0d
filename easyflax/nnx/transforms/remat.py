"""`nnx.remat`: computes intermediate values again for the gradient, to save memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from easyflax.nnx.core.signatures import keeps_signature
from easyflax.nnx.transforms.kept import keep, name_of
from easyflax.nnx.transforms.lift import run, unpack
from easyflax.nnx.transforms.packing import Spec, bound_object, named_like, pack, positional_arguments

_MISSING: Any = object()


@keeps_signature
def remat(
    f: Any = _MISSING,
    *,
    prevent_cse: bool | Sequence[bool] = True,
    static_argnums: int | tuple[int, ...] = (),
    policy: Callable[..., bool] | None = None,
) -> Any:
    """Makes a function compute its intermediate values again when it is differentiated, in place of storing
    them, as `jax.checkpoint` does.

    Args:
        f: the function or method; without it, a decorator is returned. Changes that it makes to modules are
            kept, and made once: the gradient sees the same random numbers and statistics.
        prevent_cse: keep the compiler from merging the second computation with the first. Not needed inside
            of `nnx.scan`.
        static_argnums: positions of arguments that are constants, such as a flag that the function branches
            on.
        policy: says which intermediate values are stored all the same; see `jax.checkpoint_policies`.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> class Block(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.linear = nnx.Linear(2, 2, rngs=rngs)
        ...     @nnx.remat
        ...     def __call__(self, x):
        ...         return nnx.relu(self.linear(x))
        >>> grads = nnx.grad(lambda block: block(jnp.ones((1, 2))).sum())(Block(nnx.Rngs(0)))
        >>> grads.linear.kernel.shape
        (2, 2)
    """
    if f is _MISSING:
        return lambda f: remat(f, prevent_cse=prevent_cse, static_argnums=static_argnums, policy=policy)
    fun, bound = bound_object(f)
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    table: dict[Any, Any] = {}  # jax keeps what it traced for each function object

    def rematerialized(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        call = pack(args, kwargs)
        static = _take_static(call.args, numbers, len(bound))

        def make() -> Any:
            pure = _make_pure(fun, call.spec, static)
            return jax.checkpoint(pure, prevent_cse=prevent_cse, policy=policy)

        key = call.spec, tuple((i, type(value), value) for i, value in static.items())
        out, changed, outcome = keep(table, key, make)(call.walk.values(), call.args, call.kwargs)
        return unpack(call, out, changed, outcome)

    return named_like(f, rematerialized)


def _take_static(args: list[Any], numbers: Sequence[int], shift: int) -> dict[int, Any]:
    """Takes the static arguments out of `args`. Those that were not passed have their default in any case."""
    static = {}
    for number in numbers:
        position = number + len(args) if number < 0 else number + shift
        if shift <= position < len(args) and args[position] is not None:
            static[position], args[position] = args[position], None
    return static


def _make_pure(fun: Callable[..., Any], spec: Spec, static: dict[int, Any]) -> Callable[..., Any]:
    def pure(values: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        args = [static.get(i, value) for i, value in enumerate(args)]
        return run(fun, spec, values, args, kwargs, transform="remat")

    pure.__name__ = pure.__qualname__ = name_of(fun)
    return pure
