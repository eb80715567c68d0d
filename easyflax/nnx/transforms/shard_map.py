"""`nnx.shard_map`: functions of modules that see the shard of each device."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence, Set
from typing import Any, NoReturn

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from easyflax.nnx.core.signatures import keeps_signature
from easyflax.nnx.transforms.axes import (
    axes_after,
    axes_of_leaves,
    broadcast,
    without_objects,
)
from easyflax.nnx.transforms.groups import Groups
from easyflax.nnx.transforms.lift import Outcome, also_return, run, unpack
from easyflax.nnx.transforms.packing import (
    Call,
    bound_object,
    is_slot,
    leaf_paths,
    leaf_value,
    named_like,
    pack,
    positional_arguments,
)
from easyflax.nnx.transforms.sharding import by_filter, check_fits, places_of_leaves, replace_none

_MISSING: Any = object()


@keeps_signature
def shard_map(
    f: Any = _MISSING,
    *,
    mesh: Mesh | AbstractMesh | None = None,
    in_specs: Any,
    out_specs: Any,
    axis_names: Set[Hashable] = frozenset(),
    check_vma: bool = True,
) -> Any:
    """Calls a function of modules and arrays on every device of a mesh, each with its shard of the arguments,
    as `jax.shard_map` does for arrays.

    Args:
        f: the function; without it, a decorator is returned.
        mesh: the devices; without it, the active mesh.
        in_specs: a `PartitionSpec` for all positional arguments, or a tuple of trees of them, one for each;
            for a module, a spec for all its variables, an `nnx.StateSharding` of specs by filter, or a state
            of specs. Keyword arguments are replicated, as is what has None.
        out_specs: the same for the output. What the function changes in a module comes back by the spec that
            the module went in with; all its variables come to lie on the mesh.
        axis_names: the axes of the mesh that the function is written for; without them, all.
        check_vma: check that what is said to be replicated is so.

    Raises:
        ValueError: a spec does not fit the mesh or its argument; a variable whose spec says that it is
            replicated gets a different value on each device.

    Example:

        >>> import jax, jax.numpy as jnp
        >>> from jax.sharding import PartitionSpec as P
        >>> from easyflax import nnx
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> forward = nnx.shard_map(
        ...     lambda model, x: model(x), mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data")
        ... )
        >>> forward(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jnp.ones((4, 2))).shape
        (4, 3)
    """
    options = {"mesh": mesh, "axis_names": axis_names, "check_vma": check_vma}
    if f is _MISSING:
        return lambda f: shard_map(f, in_specs=in_specs, out_specs=out_specs, **options)  # type: ignore[arg-type]
    fun, bound = bound_object(f)
    ins = replace_none(by_filter(in_specs, "in_specs of nnx.shard_map"), PartitionSpec())
    outs = replace_none(by_filter(out_specs, "out_specs of nnx.shard_map"), PartitionSpec())

    def mapped(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        given = _specs_of_arguments(ins, len(args) - len(bound))
        return _map(fun, pack(args, kwargs), (PartitionSpec(),) * len(bound) + given, outs, options)

    return named_like(f, mapped)


def _specs_of_arguments(specs: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(specs, (tuple, list)):
        return (specs,) * count
    if len(specs) != count:
        raise ValueError(
            f"nnx.shard_map got in_specs of length {len(specs)} for {count} positional arguments. Give one "
            "entry for each argument, or one spec for all."
        )
    return tuple(specs)


def _map(
    fun: Callable[..., Any], call: Call, in_specs: Sequence[Any], out_specs: Any, options: dict[str, Any]
) -> Any:
    replicated = PartitionSpec()
    leaf_specs = axes_of_leaves(call, in_specs, replicated)
    groups = Groups(replicated, in_specs, out_specs)

    def pure(values: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        out, changed, outcome = run(fun, call.spec, values, args, kwargs, transform="shard_map")
        # All variables come back, so that they lie on the mesh afterwards.
        changed, outcome = also_return(range(len(values)), values, changed, outcome)
        specs = axes_after(call, in_specs, leaf_specs, out, out_specs, outcome, replicated)
        if options["check_vma"]:
            _check_replicated(call, changed, specs, outcome)
        return out, groups.sort(changed, specs), outcome

    arg_specs = [without_objects(spec, replicated) for spec in in_specs]
    mapped = jax.shard_map(
        pure,
        in_specs=(leaf_specs, arg_specs, replicated),
        out_specs=(without_objects(out_specs, replicated), (replicated, groups.entries), replicated),
        **options,
    )
    try:
        out, changed, outcome = mapped(call.walk.values(), call.args, call.kwargs)
    except ValueError as error:
        _explain(call, in_specs, leaf_specs, options["mesh"], error)
    return unpack(call, out, groups.join(changed), outcome)


def _check_replicated(
    call: Call, changed: Sequence[Any], specs: Sequence[PartitionSpec], outcome: Outcome
) -> None:
    """Names the variable, where jax could only name its place in a list."""
    paths = leaf_paths(outcome.after or call.spec.graphdef)
    for leaf, value, spec in zip(outcome.leaves, changed, specs, strict=True):
        named = {axis for entry in spec for axis in (entry if isinstance(entry, tuple) else (entry,))}
        differing = sorted(_varying(value) - named)
        if differing:
            raise ValueError(
                f"The function that shard_map calls gave '{'/'.join(map(str, paths[leaf][1:]))}' a value "
                f"that differs along the mesh axes {differing}, which its spec {spec} does not name. Reduce "
                "it over these axes (jax.lax.psum, pmean), name them in the spec, or pass check_vma=False."
            )


def _varying(value: Any) -> set[Any]:
    """Returns the mesh axes along which a value differs, as far as jax tells."""
    axes: set[Any] = set()
    for leaf in jax.tree.leaves(value):
        type_of = jax.typeof(leaf)
        manual = getattr(type_of, "manual_axis_type", None)
        axes |= getattr(type_of, "vma", frozenset()) if manual is None else manual.varying  # before jax 0.10
    return axes


def _explain(
    call: Call, in_specs: Sequence[Any], leaf_specs: Sequence[Any], mesh: Any, error: Exception
) -> NoReturn:
    """Raises an error that names the argument whose spec does not fit, if one can be found; else `error`."""
    where = places_of_leaves(call)
    found = [(where[i], leaf_value(call, i), spec) for i, spec in enumerate(leaf_specs)]
    for i, specs in enumerate(in_specs):
        pairs = [(leaf, spec) for leaf, spec in broadcast(specs, call.args[i]) if not is_slot(leaf)]
        found += [(f"argument {i}", leaf, spec) for leaf, spec in pairs]
    check_fits(found, "nnx.shard_map got in_specs with", error, mesh)
    raise error
