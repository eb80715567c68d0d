"""Data parallelism: the state whole on every device, the rows of a batch split between them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class DataParallel:
    """Says where state and batches go when several devices train together.

    On one device nothing is placed by hand: NumPy arrays go straight into the jitted call, which is twice as
    fast as `jax.device_put` before it. Results are the same on any number of devices, to rounding.

    Args:
        devices: the devices to use; all of this process by default.

    Raises:
        ValueError: `devices` is empty.

    Examples:
        >>> layout = DataParallel(jax.devices()[:1])
        >>> layout.num_devices
        1
    """

    def __init__(self, devices: Sequence[Any] | None = None):
        devices = jax.local_devices() if devices is None else list(devices)
        if not devices:
            raise ValueError(
                f"{type(self).__name__}: devices is empty, expected at least one. Pass jax.devices(), or "
                "leave it out."
            )
        self.mesh = Mesh(np.array(devices), ("data",))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.by_rows = NamedSharding(self.mesh, PartitionSpec("data"))
        # One device, on which arrays are made anyway: placing them there by hand would only cost time.
        self._is_default = list(devices) == jax.local_devices()[:1]

    @property
    def num_devices(self) -> int:
        """How many devices share the work."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """What the devices are: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def steps_in_flight(self) -> int | None:
        """How many steps may be dispatched and unfinished; None where the runtime sees to it.

        Simulated devices share one pool of threads: with many steps queued, the threads of one step can wait
        in an all-reduce for those of another that never start, until the runtime gives up and aborts the
        process.
        """
        simulated = self.num_devices > 1 and self.platform == "cpu"
        return 4 if simulated else None

    def put_batch(self, batch: Any) -> Any:
        """Returns `batch`, a pytree of `(rows, ...)` arrays, laid out over the devices.

        Rows are split where they divide evenly. Where they do not, every device gets all rows and computes
        the same thing: slower for that one step, but nothing is padded, so batch statistics and dropout stay
        exact.
        """
        if self._is_default:
            return batch
        rows = jax.tree.leaves(batch)[0].shape[0]
        return jax.device_put(batch, self.by_rows if rows % self.num_devices == 0 else self.replicated)

    def put_batches(self, batches: Any) -> Any:
        """Returns a pytree of `(number, rows, ...)` arrays laid out as `put_batch` lays out each batch."""
        if self._is_default:
            return batches
        rows = jax.tree.leaves(batches)[0].shape[1]
        each = NamedSharding(self.mesh, PartitionSpec(None, "data"))
        return jax.device_put(batches, each if rows % self.num_devices == 0 else self.replicated)

    def specs_of_batch(self, batch: Any) -> Any:
        """Returns shapes, dtypes and places of what `put_batch` returns for such a batch, and puts nothing.

        Args:
            batch: a pytree of arrays or `jax.ShapeDtypeStruct`s of `(rows, ...)`.
        """
        if self._is_default:
            return _specs(batch, None)
        rows = jax.tree.leaves(batch)[0].shape[0]
        return _specs(batch, self.by_rows if rows % self.num_devices == 0 else self.replicated)

    def specs_of_state(self, tree: Any) -> Any:
        """Returns shapes, dtypes and places of what `put_state` returns for such a tree, and puts nothing."""
        return _specs(tree, None if self._is_default else self.replicated)

    def put_state(self, tree: Any) -> Any:
        """Returns `tree` on every device; it may share memory with `tree`, so it must not be donated."""
        if self._is_default and not _spans_devices(tree):
            return tree
        return jax.device_put(tree, self.replicated)

    def copy_to_devices(self, tree: Any) -> Any:
        """Returns copies of the arrays of `tree` on every device, which may be donated."""
        return self._copy(self.put_state(tree))

    def bring_home(self, tree: Any) -> Any:
        """Returns the arrays of `tree`, laid out by this object, as arrays of one device, not copied."""
        if self._is_default:
            return tree
        return jax.tree.map(lambda array: array.addressable_data(0), tree)

    def copy_home(self, tree: Any) -> Any:
        """Returns copies of the arrays of `tree`, laid out by this object, as arrays of one device."""
        return _copy_in_place(self.bring_home(tree))

    def jit(
        self, function: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """Returns `function` jitted, with its results on every device."""
        if self._is_default:
            return jax.jit(function, donate_argnums=donate_argnums)
        return jax.jit(function, donate_argnums=donate_argnums, out_shardings=self.replicated)

    def computing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function` as it is to be traced, with the parameters of modules where they are needed."""
        return function

    @functools.cached_property
    def _copy(self) -> Callable[[Any], Any]:
        return self.jit(_copy)


def _spans_devices(tree: Any) -> bool:
    """Says whether there are arrays in `tree` that another layout left on several devices."""
    leaves = jax.tree.leaves(tree)
    return any(isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1 for leaf in leaves)


def _specs(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _copy(tree: Any) -> Any:
    # The dtype is given to drop weak types: a weakly typed array comes back strongly typed from the first
    # step, and the second step would be compiled anew.
    return jax.tree.map(lambda x: jnp.array(x, dtype=x.dtype, copy=True), tree)


_copy_in_place = jax.jit(_copy)
