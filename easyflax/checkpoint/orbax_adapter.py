"""The only file that knows Orbax: named arrays into a folder, in the background, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["OrbaxWriter", "read_arrays"]


class OrbaxWriter:
    """Writes one folder of arrays at a time. `start` returns when the arrays may be donated or changed."""

    def __init__(self) -> None:
        import orbax.checkpoint as ocp  # slow to import, and only needed by those who save

        # Created in the foreground: with a folder that cannot be made, Orbax's background thread waits for
        # ever.
        options = ocp.AsyncOptions(create_directories_asynchronously=False)
        self._args = ocp.args.StandardSave
        self._checkpointer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler(), async_options=options)

    def start(self, folder: Path, arrays: Mapping[str, Any]) -> None:
        """Begins to write `arrays` to `folder`, an absolute path that must not exist.

        Arrays without elements are left out: Orbax refuses them, and a shape says all about them.
        """
        arrays = {name: array for name, array in arrays.items() if array.size}
        if arrays:
            self._checkpointer.save(folder, args=self._args(arrays))

    def wait(self) -> None:
        """Returns when the folder is complete.

        Raises:
            Exception: what went wrong in the background, such as OSError for a full disk.
        """
        self._checkpointer.wait_until_finished()

    def close(self) -> None:
        """Finishes what was begun and ends Orbax's threads."""
        self._checkpointer.close()


def read_arrays(folder: Path, templates: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays under the templates' names, each of the kind, and on the devices, of its template.

    Args:
        folder: an absolute path.
        templates: `jax.Array`, `jax.ShapeDtypeStruct` (on the first device where it names no sharding) or
            `np.ndarray`. Shapes and dtypes must be those that were saved: Orbax casts without a word.
    """
    import orbax.checkpoint as ocp

    wanted = {name: _abstract(template) for name, template in templates.items() if template.size}
    arrays: dict[str, Any] = {}
    if wanted:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            arrays = checkpointer.restore(folder, args=ocp.args.StandardRestore(wanted))
    return {
        name: arrays[name] if name in arrays else _empty(template) for name, template in templates.items()
    }


def _abstract(template: Any) -> Any:
    if isinstance(template, (np.ndarray, np.generic)):
        return np.asarray(template)
    return jax.ShapeDtypeStruct(template.shape, template.dtype, sharding=_sharding(template))


def _empty(template: Any) -> Any:
    if isinstance(template, (np.ndarray, np.generic)):
        return np.zeros(template.shape, template.dtype)
    return jax.device_put(jnp.zeros(template.shape, template.dtype), _sharding(template))


def _sharding(template: Any) -> jax.sharding.Sharding:
    return template.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
