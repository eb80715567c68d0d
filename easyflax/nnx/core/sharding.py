"""How a variable's axes lie on a mesh of devices: names, rules that translate them, sharding at creation.

The metadata `out_sharding` of a variable names a mesh axis, or None, for each axis of the value. The names
may be aliases, which rules translate: those of the variable (`sharding_rules`) and those in force
(`logical_axis_rules`). A variable made with such metadata while a mesh is active is sharded at once, unless
`use_eager_sharding(False)` is in force.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

F = TypeVar("F", bound=Callable[..., Any])
Rules = Any  # pairs (alias, mesh axis or axes or None), or a mapping of these


class _Settings(threading.local):
    """What is in force in this thread."""

    rules: tuple[tuple[Any, Any], ...] = ()
    eager: bool = True


_settings = _Settings()


@contextmanager
def logical_axis_rules(rules: Rules) -> Iterator[None]:
    """Has aliases of mesh axes translated while the context lasts.

    Args:
        rules: pairs of an alias and a mesh axis, several of them, or None (not sharded).

    >>> from easyflax import nnx
    >>> kernel = nnx.Param(0.0, out_sharding=("embed", "hidden"), eager_sharding=False)
    >>> with nnx.logical_axis_rules([("hidden", "model"), ("embed", None)]):
    ...     tuple(nnx.get_partition_spec({"kernel": kernel})["kernel"].get_raw_value())
    (None, 'model')
    """
    before = _settings.rules
    _settings.rules = _as_pairs(rules)
    try:
        yield
    finally:
        _settings.rules = before


class use_eager_sharding:
    """Sets whether variables with sharding metadata are sharded when they are made; also a context manager,
    which sets it back at its end, and a decorator, for the duration of each call.

    >>> from easyflax import nnx
    >>> with nnx.use_eager_sharding(False):
    ...     nnx.using_eager_sharding()
    False
    >>> nnx.using_eager_sharding()
    True
    """

    def __init__(self, value: bool) -> None:
        self._value = value
        self._before = _settings.eager
        _settings.eager = value

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        _settings.eager = self._before

    def __call__(self, f: F) -> F:
        _settings.eager = self._before

        @functools.wraps(f)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with use_eager_sharding(self._value):
                return f(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


def using_eager_sharding() -> bool:
    """Says whether variables with sharding metadata are sharded when they are made."""
    return _settings.eager


def _as_pairs(rules: Rules) -> tuple[tuple[Any, Any], ...]:
    pairs = rules.items() if isinstance(rules, Mapping) else rules or ()
    return tuple((alias, tuple(axis) if isinstance(axis, list) else axis) for alias, axis in pairs)


def _rules_for(metadata: Mapping[str, Any]) -> dict[Any, Any]:
    """Returns the rules in force together with those of the variable itself."""
    rules = dict(_settings.rules)
    for alias, axis in _as_pairs(metadata.get("sharding_rules")):
        if rules.setdefault(alias, axis) != axis:
            raise ValueError(
                f"The variable's sharding_rules translate {alias!r} to {axis!r}, the rules in force "
                f"(nnx.logical_axis_rules) to {rules[alias]!r}. Take one of the two out, or use another "
                "alias."
            )
    return rules


def resolve(metadata: Mapping[str, Any]) -> Any:
    """Returns the `out_sharding` of some metadata with aliases translated: a `PartitionSpec`, or whatever
    holds one (`NamedSharding`, `Format`) as it was given; None where there is none.

    Raises:
        ValueError: the rules contradict each other.
    """
    sharding = metadata.get("out_sharding")
    if sharding is None:
        return None
    if isinstance(sharding, str):
        raise ValueError(
            f"A variable has out_sharding={sharding!r}, expected a name for each axis of its value. Pass a "
            f"tuple, such as ({sharding!r},) for one axis."
        )
    rules = _rules_for(metadata)
    return map_spec(sharding, lambda spec: PartitionSpec(*(_translate(name, rules) for name in spec)))


def _translate(name: Any, rules: Mapping[Any, Any]) -> Any:
    name = tuple(name) if isinstance(name, list) else name
    return rules.get(name, name)


def map_spec(sharding: Any, f: Any) -> Any:
    """Returns `sharding` (a tuple of names, `PartitionSpec`, `NamedSharding` or `Format`) with `f` applied to
    the names."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, map_spec(sharding.spec, f))
    if hasattr(sharding, "layout") and hasattr(sharding, "sharding"):  # a Format
        return type(sharding)(sharding.layout, map_spec(sharding.sharding, f))
    return f(sharding)


def spec_of(sharding: Any) -> Any:
    """Returns the `PartitionSpec` in what `resolve` returned."""
    while not isinstance(sharding, PartitionSpec):
        sharding = sharding.spec if isinstance(sharding, NamedSharding) else sharding.sharding
    return sharding


def mesh_of(sharding: Any, metadata: Mapping[str, Any]) -> Any:
    """Returns the mesh for a variable: that of its sharding, of its metadata, or the active one (or None)."""
    if isinstance(sharding, NamedSharding):
        return sharding.mesh
    if not isinstance(sharding, PartitionSpec) and sharding is not None:
        return mesh_of(sharding.sharding, metadata)
    own, active = metadata.get("mesh"), jax.sharding.get_abstract_mesh()
    return own if own is not None or active.empty else active


def misfit(spec: Sequence[Any], shape: Sequence[int], mesh: Any) -> str | None:
    """Says why a value of some shape cannot be laid out as `spec` on `mesh`; None if it can."""
    sizes = mesh.shape
    named = [(i, entry if isinstance(entry, tuple) else (entry,)) for i, entry in enumerate(spec)]
    named = [(i, [axis for axis in axes if isinstance(axis, str)]) for i, axes in named]
    used = [axis for _, axes in named for axis in axes]
    for axis in used:
        if axis not in sizes:
            return (
                f"{axis!r} is not an axis of the mesh, which has {list(sizes)}. Name one of these, or "
                "translate the alias with nnx.logical_axis_rules or sharding_rules="
            )
        if used.count(axis) > 1:
            return f"the mesh axis {axis!r} is named twice. Name it for one axis of the value only"
    if len(spec) > len(shape):
        return (
            f"it names {len(spec)} axes, and the value has {len(shape)}. Give one name, or None, for each "
            "axis of the value"
        )
    for i, axes in named:
        parts = 1
        for axis in axes:
            parts *= sizes[axis]
        if shape[i] % parts:
            return (
                f"axis {i} of the value has size {shape[i]}, which is no multiple of the {parts} devices "
                f"along {axes}. Change the size, or do not shard this axis"
            )
    return None


def place(value: Any, metadata: Mapping[str, Any], kind: str) -> Any:
    """Returns the value of a new variable, sharded as its metadata says.

    Args:
        value: an array, or an abstract one, which then carries the sharding.
        metadata: of the variable.
        kind: of the variable, for error messages.

    Raises:
        ValueError: there is no mesh, or the sharding does not fit the mesh or the value.
    """
    if not metadata.get("out_sharding") or not metadata.get("eager_sharding", _settings.eager):
        return value
    sharding = resolve(metadata)
    mesh = mesh_of(sharding, metadata)
    if mesh is None:
        return _place_in_context(value, sharding, kind)
    kinds = set(mesh.axis_types)
    if kinds == {AxisType.Manual}:  # in a shard_map: the value is one shard already
        return value
    shape = getattr(value, "shape", None)
    why = None if shape is None else misfit(tuple(spec_of(sharding)), shape, mesh)
    if why is not None:
        raise ValueError(
            f"A {kind} of shape {shape} was made with out_sharding={metadata['out_sharding']!r}, but {why}."
        )
    if isinstance(value, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=_on_mesh(sharding, mesh))
    if kinds == {AxisType.Auto}:
        return _constrain(value, _on_mesh(sharding, mesh))
    if kinds == {AxisType.Explicit}:
        return jax.sharding.reshard(value, _on_mesh(sharding, mesh))
    raise ValueError(
        f"A {kind} with out_sharding={metadata['out_sharding']!r} was made on a mesh with the axis types "
        f"{mesh.axis_types}, expected all of them Auto or all Explicit. Make the mesh so, or pass "
        "eager_sharding=False and shard the value yourself."
    )


def _on_mesh(sharding: Any, mesh: Any) -> Any:
    return NamedSharding(mesh, sharding) if isinstance(sharding, PartitionSpec) else sharding


def _constrain(value: Any, sharding: Any) -> Any:
    try:
        return jax.lax.with_sharding_constraint(value, sharding)
    except TypeError:  # an array made outside of the active mesh, which jax moves there only on request
        if not isinstance(value, Tracer):
            return jax.device_put(value, sharding.spec)
        # A slice in a vmap: device_put would take the names for axes of the whole.
        return jax.lax.with_sharding_constraint(jax.device_put(value, PartitionSpec()), sharding)


def with_devices(mesh: Any) -> Any:
    """Returns the active mesh itself where jax gives it: outside of traces, and not in its older versions."""
    get_mesh = getattr(jax.sharding, "get_mesh", None)
    if not isinstance(mesh, AbstractMesh) or get_mesh is None:
        return mesh
    try:
        return get_mesh()
    except ValueError:
        return mesh


def _place_in_context(value: Any, sharding: Any, kind: str) -> Any:
    """Leaves the finding of the mesh to jax: it alone knows of one entered by `with mesh:`, the older way."""
    try:
        return jax.lax.with_sharding_constraint(value, sharding)
    except RuntimeError as error:
        raise ValueError(
            f"A {kind} of shape {getattr(value, 'shape', ())} was made with out_sharding={sharding!r}, but "
            "no mesh is active. Make it inside of `with jax.set_mesh(mesh):`, pass mesh=, or turn sharding "
            "at creation off with eager_sharding=False or nnx.use_eager_sharding(False)."
        ) from error
