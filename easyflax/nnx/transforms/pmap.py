"""`nnx.pmap`: functions of modules over an axis, with one device for each entry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from easyflax.nnx.core.signatures import keeps_signature
from easyflax.nnx.core.variables import Variable
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.axes import (
    axes_after,
    axes_of_arguments,
    axes_of_leaves,
    broadcast,
    without_objects,
)
from easyflax.nnx.transforms.groups import Grouped, Groups
from easyflax.nnx.transforms.jit import with_donation
from easyflax.nnx.transforms.lift import also_return, run, unpack
from easyflax.nnx.transforms.metadata import with_axis_metadata
from easyflax.nnx.transforms.packing import (
    Call,
    Spec,
    bound_object,
    is_slot,
    leaf_value,
    named_like,
    pack,
    positional_arguments,
)
from easyflax.nnx.transforms.sharding import places_of_leaves

_MISSING: Any = object()
_LEADING = 4  # arguments of the mapped function before the user's: spec, size, donated values, other values


@keeps_signature
def pmap(
    f: Any = _MISSING,
    *,
    axis_name: Hashable | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    static_broadcasted_argnums: int | Iterable[int] = (),
    devices: Sequence[Any] | None = None,
    backend: str | None = None,
    axis_size: int | None = None,
    donate_argnums: int | Iterable[int] = (),
    transform_metadata: Mapping[Any, Any] | None = None,
) -> Any:
    """Maps a function of modules and arrays over an axis as `nnx.vmap` does, and computes each entry on a
    device of its own, as `jax.pmap` does for arrays.

    For new programs jax advises `nnx.jit` with shardings, or `nnx.shard_map`.

    Args:
        f: the function; without it, a decorator is returned.
        axis_name: a name for the axis, for collectives inside.
        in_axes: an axis (None: not mapped) for all positional arguments, or a tuple of trees of axes; for a
            module, an axis for all its variables or `nnx.StateAxes` by filter. Keyword arguments are mapped
            over axis 0.
        out_axes: the same for the output; modules may be made inside. None takes the value of one device.
        static_broadcasted_argnums: positions of arguments that are constants of the program, hashable.
        devices: the devices to use, as many as the axis has entries; without them, the first ones.
        backend: the platform of the devices.
        axis_size: the size of the axis, where no argument has it.
        donate_argnums: positions of arguments whose arrays may be overwritten; for a module, all its arrays.
        transform_metadata: `{nnx.PARTITION_NAME: name}`, see `nnx.vmap`.

    Raises:
        ValueError: arguments share a variable but map it differently; their axes have different sizes, or
            more entries than there are devices.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> forward = nnx.pmap(lambda model, x: model(x), in_axes=(None, 0))
        >>> forward(model, jnp.ones((1, 4, 2))).shape
        (1, 4, 3)
    """
    if f is _MISSING:
        return lambda f: pmap(
            f,
            axis_name=axis_name,
            in_axes=in_axes,
            out_axes=out_axes,
            static_broadcasted_argnums=static_broadcasted_argnums,
            devices=devices,
            backend=backend,
            axis_size=axis_size,
            donate_argnums=donate_argnums,
            transform_metadata=transform_metadata,
        )
    fun, bound = bound_object(f)
    shift = len(bound)
    static, donated = _positions(static_broadcasted_argnums, shift), _positions(donate_argnums, shift)
    options = {"axis_name": axis_name, "devices": devices, "backend": backend, "axis_size": axis_size}
    by_count: dict[int, _Pmapped] = {}  # jax wants an axis for each argument

    def mapped(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = positional_arguments(fun, (*bound, *args), kwargs)
        count = len(args)
        if count not in by_count:
            axes = (None,) * shift + axes_of_arguments(in_axes, count - shift, "pmap")
            axes = tuple(None if i in static else axis for i, axis in enumerate(axes))
            inner = with_axis_metadata(fun, axes, out_axes, transform_metadata)
            by_count[count] = _Pmapped(inner, axes, out_axes, static, donated, options)
        return by_count[count](args, kwargs)

    return named_like(f, mapped)


def _positions(numbers: int | Iterable[int], shift: int) -> tuple[int, ...]:
    given = (numbers,) if isinstance(numbers, int) else numbers
    return tuple(number + shift for number in given)


class _Pmapped:
    """A function mapped by `jax.pmap`, for a number of positional arguments."""

    def __init__(
        self,
        fun: Callable[..., Any],
        in_axes: tuple[Any, ...],
        out_axes: Any,
        static: tuple[int, ...],
        donated: tuple[int, ...],
        options: dict[str, Any],
    ) -> None:
        self._fun = fun
        self._in_axes = in_axes
        self._out_axes = out_axes
        self._donated = frozenset(donated)
        self._devices = options["devices"] or jax.devices(options["backend"])
        # jax takes the size from an argument that is mapped, and there may be none.
        size = options["axis_size"]
        self._size = None if size is None else np.zeros(size, bool)
        self._groups = Groups(in_axes, out_axes, 0)
        groups = None, self._groups.entries
        self._pmapped = jax.pmap(
            self._pure,
            in_axes=(None, 0, groups, groups, *map(without_objects, in_axes)),
            out_axes=(without_objects(out_axes, 0), groups, None),
            static_broadcasted_argnums=(0, *(number + _LEADING for number in static)),
            donate_argnums=(2, *(number + _LEADING for number in donated)),
            **options,
        )

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = pack(args, kwargs)
        spec = with_donation(call, self._donated) if self._donated else call.spec
        axes = axes_of_leaves(call, self._in_axes)
        parts = zip(spec.divide(call.walk.values()), spec.divide(axes), strict=True)
        donated, kept = (self._groups.sort(values, of_values or ()) for values, of_values in parts)
        try:
            out, changed, outcome = self._pmapped(spec, self._size, donated, kept, *call.args, **call.kwargs)
        except (ValueError, IndexError) as error:
            self._explain(call, axes, error)
        return unpack(call, out, Groups.join(changed), outcome)

    def _pure(
        self, spec: Spec, _size: Any, donated: Grouped, kept: Grouped, *args: Any, **kwargs: Any
    ) -> Any:
        values = spec.join(Groups.join(donated), Groups.join(kept))
        numbers = spec.join(donated[0].numbers, kept[0].numbers)
        axes = [self._groups.entries[number] for number in numbers]
        out, changed, outcome = run(self._fun, spec, values, args, kwargs, transform="pmap")
        # The caller's arrays are gone, so donated leaves come back even where they did not change.
        changed, outcome = also_return(spec.marked, values, changed, outcome)
        call = Call([], spec, walk(), list(args), kwargs)
        after = axes_after(call, self._in_axes, axes, out, self._out_axes, outcome)
        return out, self._groups.sort(changed, after), outcome

    def _explain(self, call: Call, axes: Sequence[Any], error: Exception) -> NoReturn:
        """Raises an error that names the arguments whose axes do not fit, if there are any; else `error`."""
        where = places_of_leaves(call)
        found = [(where[i], leaf_value(call, i), axis) for i, axis in enumerate(axes)]
        for i, prefix in enumerate(self._in_axes):
            pairs = [pair for pair in broadcast(prefix, call.args[i]) if not is_slot(pair[0])]
            found += [(f"argument {i}", leaf, axis) for leaf, axis in pairs]
        sizes: dict[int, str] = (
            {} if self._size is None else {self._size.size: f"axis_size={self._size.size}"}
        )
        for place, value, axis in found:
            shape = np.shape(value.get_raw_value() if isinstance(value, Variable) else value)
            if axis is None:
                continue
            if not -len(shape) <= axis < len(shape):
                raise ValueError(
                    f"nnx.pmap got {place} of shape {shape} to map over axis {axis}, which it does not have. "
                    "Give None in in_axes for what is not mapped."
                ) from error
            sizes.setdefault(shape[axis], f"size {shape[axis]} in {place}")
        if len(sizes) > 1:
            raise ValueError(
                f"nnx.pmap got mapped axes of different sizes: {', '.join(sizes.values())}; expected one "
                "size. Give None in in_axes for what is not mapped, or arguments of one size."
            ) from error
        for size, place in sizes.items():
            if size > len(self._devices):
                raise ValueError(
                    f"nnx.pmap got {place}, and {len(self._devices)} devices, expected one for each entry. "
                    "Use nnx.vmap, or reshape to (devices, entries for each device, ...)."
                ) from error
        raise error
