"""Logs that stay on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from numbers import Real
from typing import Any

import jax

from easyflax.train.packing import Packed, Packing, row


class BatchLogs(MutableMapping[str, Any]):
    """The logs of one step: a mapping from names to Python floats, fetched all at once when first read.

    Args:
        packed: what the step left on the device.
        packing: unpacks it.
        check: called with the fetched values; raises when the loss is not finite.
        index: of the step, where `packed` is of several, `(number, ...)`.
    """

    def __init__(
        self,
        packed: Packed,
        packing: Packing,
        check: Callable[[dict[str, Any]], None] | None = None,
        index: int | None = None,
    ):
        self._packed = packed
        self._packing = packing
        self._check = check
        self._index = index
        self._added: dict[str, Any] = {}
        self._values: dict[str, Any] | None = None

    def add(self, name: str, value: Any) -> None:
        """Adds a number, or an array of the device without waiting for it.

        Args:
            name: in the logs.
            value: if an array, nobody may donate or delete it.
        """
        if self._values is not None:
            self._values[name] = as_python(jax.device_get(value))
        else:
            self._added[name] = value

    def is_ready(self) -> bool:
        """Says whether the step has finished, so that reading would not wait."""
        arrays: Any = [*self._packed.values(), *self._added.values()]  # jax.Array does not declare is_ready
        return all(array.is_ready() for array in arrays if hasattr(array, "is_ready"))

    def wait(self) -> None:
        """Waits until the step has finished, and fetches nothing."""
        jax.block_until_ready((self._packed, self._added))

    def fetch(self) -> dict[str, Any]:
        """Returns the logs as a dict; waits for the step."""
        if self._values is None:
            packed, added = jax.device_get((self._packed, self._added))
            packed = packed if self._index is None else row(packed, self._index)
            unpacked = {**self._packing.unpack(packed), **added}
            values = {name: as_python(value) for name, value in unpacked.items()}
            if self._check is not None:
                self._check(values)
            self._values = values
        return self._values

    def copy(self) -> dict[str, Any]:
        """Returns the logs as a plain dict."""
        return dict(self.fetch())

    def __getitem__(self, name: str) -> Any:
        return self.fetch()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.fetch()[name] = value

    def __delitem__(self, name: str) -> None:
        del self.fetch()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fetch())

    def __len__(self) -> int:
        return len(self.fetch())

    def __repr__(self) -> str:
        return repr(self.fetch())


def add_to_logs(logs: MutableMapping[str, Any] | None, values: Mapping[str, Any]) -> None:
    """Adds values to the logs that a hook was given, without waiting for any of them in those of a batch.

    Args:
        logs: of an epoch or a batch.
        values: numbers and scalar arrays that nobody deletes, by name.
    """
    for name, value in values.items():
        if isinstance(logs, BatchLogs):
            logs.add(name, value)
        elif logs is not None:
            logs[name] = as_python(jax.device_get(value))


def as_python(value: Any) -> Any:
    """Returns a Python float for a number or a scalar array; anything else stays as it is."""
    if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):  # complex numbers and text
        return value


def plain_logs(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a copy of the logs as Keras hands them to hooks: sorted by name, numbers as Python floats.

    Args:
        logs: of numbers, arrays or anything else; a dict among the values is flattened into the result.

    Examples:
        >>> plain_logs({"loss": 1, "accuracies": {"b": 0.5, "a": 0.25}})
        {'a': 0.25, 'b': 0.5, 'loss': 1.0}
    """
    plain: dict[str, Any] = {}
    for name, value in sorted((logs or {}).items()):
        plain |= plain_logs(value) if isinstance(value, Mapping) else {name: as_python(value)}
    return plain


def in_keras_order(logs: dict[str, Any]) -> dict[str, Any]:
    """Returns the logs sorted by name, the order in which Keras 3 hands them on and History keeps them."""
    return dict(sorted(logs.items()))
