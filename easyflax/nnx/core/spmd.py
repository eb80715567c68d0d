"""Sharding metadata of models: what initializers give to variables, and what layouts are derived from it.

>>> import jax
>>> from easyflax import nnx
>>> mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
>>> init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
>>> with jax.set_mesh(mesh):
...     layer = nnx.Linear(2, 4, kernel_init=init, rngs=nnx.Rngs(0))
>>> tuple(layer.kernel.sharding.spec)
(None, 'model')
>>> tuple(nnx.get_partition_spec(nnx.state(layer))["kernel"].get_raw_value())
(None, 'model')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

from easyflax.nnx.core.graph import clone
from easyflax.nnx.core.sharding import map_spec, mesh_of, misfit, resolve, spec_of, with_devices
from easyflax.nnx.core.variables import Variable, VariableMetadata, with_metadata
from easyflax.nnx.core.walk import walk

A = TypeVar("A")

PARTITION_NAME = "partition_name"
"""The key in `transform_metadata` for the name of the axis that a transform adds."""


def with_partitioning(
    initializer: Callable[..., Any],
    sharding: Any,
    mesh: jax.sharding.Mesh | None = None,
    **metadata: Any,
) -> Callable[..., VariableMetadata[Any]]:
    """Returns an initializer whose variables carry sharding metadata.

    Args:
        initializer: any function that returns a value.
        sharding: a mesh axis (or an alias, or None) for each axis of the value; or a `PartitionSpec`.
        mesh: the mesh to shard over; without it, the one that is active when a variable is made.
        **metadata: more metadata, such as `sharding_rules`.

    >>> from easyflax import nnx
    >>> init = nnx.with_partitioning(nnx.initializers.ones_init(), ("data", None), eager_sharding=False)
    >>> nnx.Linear(2, 4, kernel_init=init, rngs=nnx.Rngs(0)).kernel.out_sharding
    ('data', None)
    """
    return with_metadata(initializer, out_sharding=sharding, mesh=mesh, **metadata)


def get_var_pspec(variable: Variable[Any]) -> PartitionSpec | None:
    """Returns the `PartitionSpec` of one variable, with aliases translated; None if its value is no array."""
    metadata = variable.get_metadata()
    if metadata.get("out_sharding"):
        return spec_of(resolve(metadata))
    return PartitionSpec() if hasattr(variable.get_raw_value(), "shape") else None


def get_partition_spec(tree: A) -> A:
    """Returns `tree` (a state, a module, or any pytree) with a `PartitionSpec` in place of each value.

    Variables stay variables, and hold it; without sharding metadata it is the empty one.

    >>> from easyflax import nnx
    >>> state = nnx.State({"scale": nnx.Param(1.0, sharding=("model",), eager_sharding=False)})
    >>> tuple(nnx.get_partition_spec(state)["scale"].get_raw_value())
    ('model',)
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, Variable):
            return leaf.copy(get_var_pspec(leaf))
        return PartitionSpec() if hasattr(leaf, "shape") else None

    return jax.tree.map(convert, tree, is_leaf=_is_variable)


def get_named_sharding(tree: A, mesh: jax.sharding.Mesh) -> A:
    """Returns `tree` with a `NamedSharding` over `mesh` in place of each value; see `get_partition_spec`.

    Raises:
        ValueError: a variable names an axis that the mesh does not have, or its value cannot be split so.

    >>> import jax
    >>> from easyflax import nnx
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> shardings = nnx.get_named_sharding(nnx.state(nnx.Linear(2, 4, rngs=nnx.Rngs(0))), mesh)
    >>> tuple(shardings["kernel"].get_raw_value().spec), dict(shardings["kernel"].get_raw_value().mesh.shape)
    ((), {'model': 1})
    """

    def convert(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, Variable):
            return NamedSharding(mesh, PartitionSpec()) if hasattr(leaf, "shape") else None
        spec = get_var_pspec(leaf)
        if spec is None:
            return leaf.copy(None)
        _check_fit(leaf, spec, mesh, jax.tree_util.keystr(path, simple=True, separator="/"))
        return leaf.copy(NamedSharding(mesh, spec))

    return jax.tree.map_with_path(convert, tree, is_leaf=_is_variable)


def as_abstract(tree: A) -> A:
    """Returns a copy of an abstract model in which the variables with sharding metadata carry their sharding.

    Args:
        tree: a module or state whose variables hold `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: no mesh is active and a variable has none, or a sharding does not fit.

    >>> import jax
    >>> from easyflax import nnx
    >>> with nnx.use_eager_sharding(False):
    ...     kernel = nnx.Param(jax.ShapeDtypeStruct((2, 4), "float32"), sharding=(None, "b"))
    >>> mesh = jax.make_mesh((1,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> with jax.set_mesh(mesh):
    ...     tuple(nnx.as_abstract(nnx.State({"kernel": kernel}))["kernel"].sharding.spec)
    (None, 'b')
    """
    copy = clone(tree)
    found = walk(copy)
    for path, variable in zip(found.graphdef.paths().variables, found.variables, strict=True):
        value, metadata = variable.get_raw_value(), variable.get_metadata()
        if "out_sharding" not in metadata or not _has_no_sharding(value):
            continue
        where = "/".join(map(str, path))
        sharded = abstract_value(value, metadata, where)
        if sharded is value:
            raise ValueError(
                f"as_abstract got '{where}' with out_sharding={metadata['out_sharding']!r}, but no mesh is "
                "active. Call it inside of `with jax.set_mesh(mesh):`, or give the variable a mesh as "
                "metadata."
            )
        variable.set_raw_value(sharded)
    return copy


abstract_with_sharding = as_abstract


def abstract_value(value: Any, metadata: Mapping[str, Any], where: str) -> Any:
    """Returns an abstract array with the sharding that a variable's metadata gives it.

    Whatever has a sharding already, is no array, or has no mesh to lie on is returned as it is.

    Raises:
        ValueError: the sharding does not fit the mesh or the value.
    """
    sharding = resolve(metadata)
    mesh = mesh_of(sharding, metadata)
    if mesh is None or not _has_no_sharding(value):
        return value
    spec = PartitionSpec() if sharding is None else spec_of(sharding)
    _check_fit(value, spec, mesh, where)
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=NamedSharding(with_devices(mesh), spec))


def _has_no_sharding(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and getattr(value, "sharding", None) is None


def _check_fit(value: Any, spec: PartitionSpec, mesh: Any, where: str) -> None:
    shape = getattr(value, "shape", None)
    why = None if shape is None else misfit(tuple(spec), shape, mesh)
    if why is not None:
        raise ValueError(f"'{where}' of shape {shape} has the sharding {spec}, but {why}.")


def _is_variable(value: Any) -> bool:
    return isinstance(value, Variable)


# -- axes that transforms add and remove


def add_axis(tree: A, index: int, transform_metadata: Mapping[str, Any]) -> A:
    """Notes in the variables of `tree`, in place, that their values got a new axis.

    The name under `PARTITION_NAME` is put into `out_sharding` at `index`, other entries of
    `transform_metadata` into the metadata of the same name, and the `on_add_axis` hooks run.

    >>> from easyflax import nnx
    >>> kernel = nnx.Param(0.0, sharding=("in", "out"), eager_sharding=False)
    >>> nnx.spmd.add_axis(kernel, 0, {nnx.PARTITION_NAME: "layers"}).out_sharding
    ('layers', 'in', 'out')
    """
    name, others = _name_and_others(transform_metadata)

    def add(leaf: Any) -> Any:
        if isinstance(leaf, Variable):
            for key, entry in _axis_entries(leaf, name, others):
                leaf.set_metadata(
                    key, map_spec(leaf.get_metadata(key), lambda s, e=entry: _insert(s, index, e))
                )
            leaf.add_axis(index, name)
        return leaf

    return jax.tree.map(add, tree, is_leaf=_is_variable)


def remove_axis(tree: A, index: int, transform_metadata: Mapping[str, Any]) -> A:
    """Undoes `add_axis`.

    Raises:
        ValueError: a variable has another name at `index`.
    """
    name, others = _name_and_others(transform_metadata)

    def remove(leaf: Any) -> Any:
        if isinstance(leaf, Variable):
            for key, entry in _axis_entries(leaf, name, others):
                leaf.set_metadata(
                    key, map_spec(leaf.get_metadata(key), lambda s, e=entry: _remove(s, index, e))
                )
            leaf.remove_axis(index, name)
        return leaf

    return jax.tree.map(remove, tree, is_leaf=_is_variable)


def _name_and_others(transform_metadata: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    if PARTITION_NAME not in transform_metadata:
        raise ValueError(
            f"transform_metadata got {dict(transform_metadata)}, expected nnx.PARTITION_NAME among its keys. "
            "Add {nnx.PARTITION_NAME: name}, the name of the mesh axis for the axis that is mapped, or "
            "None."
        )
    others = dict(transform_metadata)
    return others.pop(PARTITION_NAME), others


def _axis_entries(variable: Variable[Any], name: Any, others: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the metadata with an entry for each axis that `variable` has, and the new axis's entry."""
    found = [("out_sharding", name)] if variable.get_metadata("out_sharding", None) is not None else []
    return found + [
        (key, entry) for key, entry in others.items() if isinstance(variable.get_metadata(key, None), tuple)
    ]


def _insert(entries: Any, index: int, entry: Any) -> Any:
    new = list(entries)
    if index < 0:
        index += len(new) + 1
    new += [None] * (index - len(new))
    new.insert(index, entry)
    return _like(entries, new)


def _remove(entries: Any, index: int, entry: Any) -> Any:
    new = list(entries)
    got = new.pop(index) if -len(new) <= index < len(new) else None
    if got != entry:
        raise ValueError(
            f"Expected {entry!r} at axis {index} of a variable's metadata {entries!r}, got {got!r}: the axis "
            "that is mapped must have the name that transform_metadata gives it. Make the variables with "
            "the same transform_metadata, or name the axis there as it is named here."
        )
    return _like(entries, new)


def _like(entries: Any, new: list[Any]) -> Any:
    return PartitionSpec(*new) if isinstance(entries, PartitionSpec) else tuple(new)
