"""`nnx.make_jaxpr`: the program that jax sees of a function of modules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from easyflax.nnx.transforms.lift import run
from easyflax.nnx.transforms.packing import Call, bound_object, leaves_below, named_like, pack, slots_in

_MISSING: Any = object()


def make_jaxpr(
    f: Callable[..., Any] = _MISSING,
    *,
    static_argnums: int | Sequence[int] = (),
    axis_env: Sequence[tuple[Hashable, int]] | None = None,
    return_shape: bool = False,
) -> Callable[..., Any]:
    """Returns a function that returns the jaxpr of `f` for its arguments, as `jax.make_jaxpr` does.

    The inputs of the jaxpr are the arrays of the arguments in order, where for a module the values of its
    variables are; its outputs are those of the output, where a module stands for its values. Modules that are
    passed are not changed.

    Args:
        f: a function of modules and arrays; without it, a decorator is returned.
        static_argnums: positions of arguments that are constants of the program.
        axis_env: names and sizes of axes that `f` uses in collectives.
        return_shape: return a pair of the jaxpr and the output with `jax.ShapeDtypeStruct`s in place of
            arrays.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> scale = nnx.Param(jnp.ones(2))
        >>> nnx.make_jaxpr(lambda scale, x: scale * x)(scale, jnp.ones(2))
        { lambda ; a:f32[2] b:f32[2]. let c:f32[2] = mul a b in (c,) }
    """
    options = {"axis_env": axis_env, "return_shape": return_shape}
    if f is _MISSING:
        return lambda f: make_jaxpr(f, static_argnums=static_argnums, **options)  # type: ignore[arg-type]
    fun, bound = bound_object(f)
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    def jaxpr_of(*args: Any, **kwargs: Any) -> Any:
        static = [n + len(args) + len(bound) if n < 0 else n + len(bound) for n in numbers]
        call = pack((*bound, *args), kwargs)
        pure = _make_pure(fun, call, frozenset(static))
        return jax.make_jaxpr(pure, **options)(*_inputs(call, frozenset(static)))

    return named_like(f, jaxpr_of)


Place = int | str


def _inputs(call: Call, static: frozenset[int]) -> list[Any]:
    """Returns for each argument the values that are reached first from it, and its own arrays."""
    values, leaves = call.walk.values(), _leaves_by_place(call)
    return [
        ([values[leaf] for leaf in leaves[place]], None if place in static else rest)
        for place, rest in _places(call)
    ]


def _make_pure(fun: Callable[..., Any], call: Call, static: frozenset[int]) -> Callable[..., Any]:
    leaves = _leaves_by_place(call)

    def pure(*inputs: Any) -> Any:
        values: list[Any] = [None] * call.spec.graphdef.num_leaves
        found: dict[Place, Any] = {}
        for (place, rest), (own, given) in zip(_places(call), inputs, strict=True):
            for leaf, value in zip(leaves[place], own, strict=True):
                values[leaf] = value
            found[place] = rest if place in static else given
        args = [found[i] for i in range(len(call.args))]
        outputs = []  # as they are: jax takes the modules in them apart

        @functools.wraps(fun)
        def catch(*args: Any, **kwargs: Any) -> None:
            outputs.append(fun(*args, **kwargs))

        kwargs = {name: found[name] for name in call.kwargs}
        run(catch, call.spec, values, args, kwargs, transform="make_jaxpr")
        return outputs[0]

    return pure


def _places(call: Call) -> list[tuple[Place, Any]]:
    return [*enumerate(call.args), *call.kwargs.items()]


def _leaves_by_place(call: Call) -> dict[Place, list[int]]:
    graphdef, places = call.spec.graphdef, dict(call.spec.places)
    taken: set[int] = set()
    found: dict[Place, list[int]] = {}
    for place, rest in _places(call):
        roots = [places[place]] if place in places else [slot.index for slot in slots_in(rest)]
        below = [leaf for root in roots for _, leaf in leaves_below(graphdef, graphdef.roots[root])]
        found[place] = [leaf for leaf in dict.fromkeys(below) if leaf not in taken]
        taken.update(found[place])
    return found
