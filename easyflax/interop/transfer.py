"""Moving values between variables and named arrays: all that fits is found out first, then set at once.

A `Part` says which variables and which arrays hold the same numbers, and how to convert them. Reading a file
of weights and reading a PyTorch state dict differ in the parts only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

import easyflax.nnx as nnx
from easyflax.interop.names import prefix_before, shown

__all__ = ["Leftovers", "Part", "check_parts", "load_parts", "save_parts"]

_MOST_LINES = 12


class Part(NamedTuple):
    """Variables and arrays that hold the same numbers.

    Attributes:
        place: where the variables are, for messages.
        variables: those to set; none if the arrays are of no use here.
        names: of the arrays.
        to_ours: from the arrays to the variables' values, one after the other.
        to_theirs: back.
    """

    place: str
    variables: tuple[nnx.Variable[Any], ...]
    names: tuple[str, ...]
    to_ours: Callable[..., Sequence[np.ndarray]]
    to_theirs: Callable[..., Sequence[np.ndarray]]


class Leftovers(NamedTuple):
    """What was not loaded.

    Attributes:
        missing: names of arrays that the model needs and that are not there.
        unexpected: names of arrays that the model has no use for.
        misfits: sentences about arrays and layers that could not be converted.
    """

    missing: list[str]
    unexpected: list[str]
    misfits: list[str]


def check_parts(parts: Iterable[Part], call: str) -> None:
    """Checks that each variable holds one array of numbers, and no two have one name.

    Raises:
        TypeError: a variable holds something else.
        ValueError: two different ones have one name.
    """
    owners: dict[str, Part] = {}
    for part in parts:
        for variable in part.variables:
            value = _value(variable)
            if not hasattr(value, "dtype") or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                raise TypeError(
                    f"{call}: got a {type(variable).__name__} at {part.place!r} with a value of type "
                    f"{type(value).__name__}, expected one array of numbers. Leave it out, with only=... or "
                    "names={...: None}."
                )
        for name in part.names:
            if _identity(owners.setdefault(name, part)) != _identity(part):
                raise ValueError(
                    f"{call}: got the name {name!r} for {owners[name].place!r} and for {part.place!r}, "
                    "expected a name for each. Correct names=."
                )


def load_parts(
    parts: Iterable[Part],
    arrays: Mapping[str, Any],
    *,
    call: str,
    strict: bool,
    known: Iterable[str] = (),
    misfits: Iterable[str] = (),
) -> Leftovers:
    """Sets the variables of `parts` from `arrays`, keeping their dtypes and shardings.

    Args:
        parts: those with the same variables are places of one shared module.
        arrays: NumPy, JAX or torch arrays by name.
        call: the function the user called, for messages.
        strict: whether anything left over is an error; then nothing is changed.
        known: names in `arrays` that are left out on purpose.
        misfits: what was found to be wrong before.

    Raises:
        TypeError: `arrays` holds something else.
        ValueError: `strict`, and something is left over.
    """
    _check_arrays(arrays, call)
    left = Leftovers([], [], list(misfits))
    used = set(known)
    values: list[tuple[nnx.Variable[Any], np.ndarray]] = []
    for places in _by_variables(parts):
        used.update(name for part in places for name in part.names)
        present = [part for part in places if all(name in arrays for name in part.names)]
        if present:
            values += _converted(present, arrays, left)
        elif places[0].variables:
            absent = [[name for name in part.names if name not in arrays] for part in places]
            left.missing.extend(min(absent, key=len))
    left.unexpected.extend(name for name in arrays if name not in used)
    if strict and any(left):
        raise ValueError(_message(left, call))
    placed = [(variable, _placed(value, _value(variable))) for variable, value in values]
    for variable, value in placed:
        variable.set_raw_value(value)
    return left


def save_parts(parts: Iterable[Part], *, every_place: bool) -> dict[str, np.ndarray]:
    """Returns the values of `parts` as arrays by name.

    Args:
        parts: those with the same variables are places of one shared module.
        every_place: whether to write a shared module at each of them, not only at the first.
    """
    arrays: dict[str, np.ndarray] = {}
    for places in _by_variables(parts):
        values = [_to_numpy(_value(variable)) for variable in places[0].variables]
        for part in places if every_place else places[:1]:
            if part.variables:
                arrays.update(zip(part.names, part.to_theirs(*values), strict=True))
    return arrays


def _value(variable: nnx.Variable[Any]) -> Any:
    """The variable's value; a plain number as an array, of the dtype that JAX gives it."""
    value = variable.get_raw_value()
    return jnp.asarray(value) if isinstance(value, (bool, int, float, complex)) else value


def _by_variables(parts: Iterable[Part]) -> list[list[Part]]:
    places: dict[Any, list[Part]] = {}
    for part in parts:
        places.setdefault(_identity(part), []).append(part)
    return list(places.values())


def _identity(part: Part) -> Any:
    """What is equal for all places of one shared module."""
    return tuple(map(id, part.variables)) or part.names


def _converted(
    places: Sequence[Part], arrays: Mapping[str, Any], left: Leftovers
) -> list[tuple[nnx.Variable[Any], np.ndarray]]:
    """The values of one shared module, from the first of its places; the others must agree."""
    first, *others = places
    if not first.variables:
        return []
    olds = [_value(variable) for variable in first.variables]
    try:
        news = _values(first, olds, arrays)
        for other in others:
            if not all(map(np.array_equal, _values(other, olds, arrays), news)):
                raise ValueError(
                    f"{first.names[0]!r} and {other.names[0]!r} differ, and are one shared variable here"
                )
    except ValueError as error:
        left.misfits.append(str(error) if first.place in first.names else f"{first.place}: {error}")
        return []
    return list(zip(first.variables, news, strict=True))


def _values(part: Part, olds: Sequence[Any], arrays: Mapping[str, Any]) -> list[np.ndarray]:
    given = [_to_numpy(arrays[name]) for name in part.names]
    like = part.to_theirs(*(np.broadcast_to(np.zeros((), old.dtype), old.shape) for old in olds))
    wrong = [
        f"{name!r} has shape {array.shape}, expected {expected.shape}"
        for name, array, expected in zip(part.names, given, like, strict=True)
        if array.shape != expected.shape
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    return [
        _cast(array, old.dtype, part.names) for array, old in zip(part.to_ours(*given), olds, strict=True)
    ]


def _cast(array: np.ndarray, dtype: Any, names: Sequence[str]) -> np.ndarray:
    """A copy of the array, so that nobody who writes into the original changes the variable."""
    for kind in (jnp.floating, jnp.complexfloating, jnp.integer, jnp.bool_):
        if jnp.issubdtype(array.dtype, kind) and jnp.issubdtype(dtype, kind):
            cast = np.array(array, dtype, order="C")
            if kind is not jnp.integer or np.array_equal(cast, array):
                return cast
            raise ValueError(f"{shown(list(names))} holds integers that {dtype} does not")
    raise ValueError(f"{shown(list(names))} has dtype {array.dtype}, expected {dtype} or one like it")


def _placed(value: np.ndarray, old: Any) -> Any:
    """The value as `old` was: on the same devices, and free to be moved if that was."""
    if isinstance(old, np.ndarray):
        return value
    sharding = getattr(old, "sharding", None)  # of arrays, and of abstract ones perhaps
    if sharding is None or isinstance(old, Tracer) or not getattr(old, "committed", True):
        return jnp.asarray(value)
    return jax.device_put(value, sharding)


def _to_numpy(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):  # a torch tensor; NumPy has no place for its narrow floats
        array = array.detach().cpu()
        narrow = array.dtype.is_floating_point and array.dtype.itemsize < 4
        return (array.float() if narrow else array).numpy()
    return np.asarray(array)


def _check_arrays(arrays: Mapping[str, Any], call: str) -> None:
    for name, array in arrays.items():
        if not isinstance(name, str) or not (hasattr(array, "shape") and hasattr(array, "dtype")):
            raise TypeError(
                f"{call}: got {name!r} of type {type(array).__name__} among the arrays, expected arrays or "
                "tensors by name. Pass the state dict itself, for example "
                "torch.load(path, weights_only=True)['state_dict']."
            )


def _message(left: Leftovers, call: str) -> str:
    lines = []
    if left.missing:
        lines.append(f"missing: {shown(left.missing, _MOST_LINES)}")
    if left.unexpected:
        lines.append(f"unexpected: {shown(left.unexpected, _MOST_LINES)}")
    if prefix := prefix_before(left.missing, left.unexpected):
        lines.append(f"most have {prefix + '.'!r} before their names there: try names={{'': {prefix!r}}}")
    elif prefix := prefix_before(left.unexpected, left.missing):
        lines.append(f"most have {prefix + '.'!r} before their names here only: try names={{{prefix!r}: ''}}")
    lines += left.misfits[:_MOST_LINES]
    if len(left.misfits) > _MOST_LINES:
        lines.append(f"and {len(left.misfits) - _MOST_LINES} more")
    return (
        f"{call}: the arrays do not fit the model, and nothing was changed:\n  "
        + "\n  ".join(lines)
        + "\nexpected one array for each name that the model has, of its shape, and no others. Say with "
        "names= what they are called there (None leaves one out, in a mapping also one of theirs), or pass "
        "strict=False to load what fits."
    )
