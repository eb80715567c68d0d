"""Fully sharded data parallelism: the state split over the devices, as well as the rows of a batch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from easyflax.distribution.data_parallel import DataParallel
from easyflax.nnx.core.variables import reading_params_through

__all__ = ["FSDP"]


class FSDP(DataParallel):
    """Splits large arrays of the training state over the devices, for models that are large next to a device.

        model.compile("adam", "mse", distribution=ef.distribution.FSDP())

    Parameters, the optimizer's state, gradients and averages lie in equal parts on all devices, which gather
    the parameters of a layer when they compute it; `compile(remat="full")` does that anew for the gradient,
    instead of keeping them. Each array that has at least `min_size` bytes is split along its
    longest axis of those that the number of devices divides; the others, and arrays without such an axis,
    are whole on every device. Batches are split by rows, as with `DataParallel`. Results are those of one
    device, to rounding.

    Arrays stay where they are when a fit ends: the model's variables, and those that callbacks see, are split
    likewise. They can be read and computed with as ever; `np.asarray(variable)` gathers one on the host. A
    model that does not fit on one device is best made in the memory of the host, in a block
    `with jax.default_device(jax.devices("cpu")[0]):`; the first fit takes each array from there to its
    places.

    Args:
        devices: the devices to use; all of this process by default.
        min_size: bytes of the smallest array that is split. Arrays up to 16 KiB travel together from step to
            step, so splitting them would gain nothing.

    Raises:
        ValueError: `devices` is empty, or `min_size` no positive integer.

    Source: Rajbhandari et al. 2020, stage 3, https://arxiv.org/abs/1910.02054

    Examples:
        >>> layout = FSDP(jax.devices()[:1])
        >>> tuple(layout.sharding_of(jnp.zeros((512, 1024))).spec)
        (None, 'data')
    """

    def __init__(self, devices: Sequence[Any] | None = None, *, min_size: int = 2**16):
        super().__init__(devices)
        if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 1:
            raise ValueError(
                f"FSDP: min_size is {min_size!r}, expected bytes, an integer of at least 1. Leave it out for "
                "64 KiB."
            )
        self.min_size = min_size

    def sharding_of(self, array: Any) -> NamedSharding:
        """Returns where an array of this shape and dtype lies: split along one axis, or whole.

        Args:
            array: or a `jax.ShapeDtypeStruct`.
        """
        axis = self._axis_to_split(array)
        if axis is None:
            return self.replicated
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))

    def _axis_to_split(self, array: Any) -> int | None:
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.extended)
        if is_key or math.prod(array.shape) * array.dtype.itemsize < self.min_size:
            return None
        lengths = [(length, -axis) for axis, length in enumerate(array.shape) if self._divides(length)]
        return -max(lengths)[1] if lengths else None

    def _divides(self, length: int) -> bool:
        return length > 0 and length % self.num_devices == 0

    def specs_of_state(self, tree: Any) -> Any:
        """Returns shapes, dtypes and places of what `put_state` returns for such a tree, and puts nothing."""
        if self._is_default:
            return super().specs_of_state(tree)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding_of(leaf)), tree
        )

    def put_state(self, tree: Any) -> Any:
        """Returns `tree` on the devices; it may share memory with `tree`, so it must not be donated."""
        if self._is_default:
            return super().put_state(tree)
        return jax.device_put(tree, jax.tree.map(self.sharding_of, tree))

    def bring_home(self, tree: Any) -> Any:
        """Returns `tree` as it is: nothing has room for all of it but the devices together."""
        return tree

    def copy_home(self, tree: Any) -> Any:
        """Returns copies of the arrays of `tree`, which lie where these do."""
        return self._copy(tree)

    def jit(
        self, function: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """Returns `function` jitted, with its results where `put_state` would put them."""
        if self._is_default:
            return super().jit(function, donate_argnums=donate_argnums)

        computing = self.computing(function)

        @functools.wraps(computing)
        def placed(*args: Any) -> Any:
            # The places of results are known when their shapes are, which is within the trace.
            return jax.tree.map(self._constrained, computing(*args))

        return jax.jit(placed, donate_argnums=donate_argnums)

    def computing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function` with parameters gathered where a module reads them, for use within a trace."""
        if self._is_default:
            return function

        @functools.wraps(getattr(function, "func", function))  # the name of a partial is that of its function
        def gathering(*args: Any) -> Any:
            with reading_params_through(self._gathered):
                return function(*args)

        return gathering

    def _constrained(self, leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return jax.lax.with_sharding_constraint(leaf, self.sharding_of(leaf))

    def _gathered(self, leaf: Any) -> Any:
        """Returns a parameter whole, else XLA may split what is computed from it as it is split."""
        is_split = isinstance(leaf, jax.Array) and self._axis_to_split(leaf) is not None
        return jax.lax.with_sharding_constraint(leaf, self.replicated) if is_split else leaf
