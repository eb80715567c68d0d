"""`StateMethods`: a model's weights and training state, out and in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax.numpy as jnp

from easyflax import checkpoint
from easyflax.models import weights
from easyflax.models.compiled import Compiled
from easyflax.models.resuming import resumable
from easyflax.train.binding import Binding
from easyflax.train.session import Session

__all__ = ["StateMethods"]


class StateMethods:
    """Saves and restores."""

    __slots__ = ()

    trained_module: Any
    _require_built: Callable[[str], None]
    _require_compiled: Callable[[str], Compiled]
    _binding: Callable[[], Binding]
    _session: Session | None

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes the weights into one file, frozen ones too, under the names of the layers.

        Args:
            filepath: of the file. It is in a format of our own, that of safetensors, whatever it is called;
                `"model.weights.h5"` will do, too.
            overwrite: whether a file that is there is replaced.

        Raises:
            FileExistsError: there is one, and it is not to be replaced.
            ValueError: the model is not built.
        """
        self._require_built("save_weights")
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(
                f"save_weights: {os.fspath(filepath)} exists, expected a new path with overwrite=False. Pass "
                "another one, or overwrite=True."
            )
        checkpoint.save_weights(filepath, weights.by_name(self, self._whole()))

    def load_weights(
        self, filepath: str | os.PathLike[str], skip_mismatch: bool = False, *, by_name: bool = False
    ) -> None:
        """Reads weights that `save_weights` of this model wrote, or of another one.

        Args:
            filepath: of the file, or the folder of a checkpoint.
            skip_mismatch: leaves weights as they are that the file does not have in their shape, and says so
                in a warning, instead of raising.
            by_name: gives each layer the weights of the one of its name, wherever that was in the other
                model; layers without one stay as they are. By default the whole way to the layer counts.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is damaged, or no other than `save_weights` wrote it; or the folder
                holds no checkpoint of this model.
            ValueError: names or shapes differ, or the model is not built.
        """
        self._require_built("load_weights")
        if os.path.isdir(filepath):
            if skip_mismatch or by_name:
                raise ValueError(
                    f"load_weights: {os.fspath(filepath)} is a folder, expected a file with skip_mismatch or "
                    "by_name. Leave these out, or save a file with model.save_weights."
                )
            template = self.get_state(weights_only=True)
            self.set_state(checkpoint.newest(filepath).restore(template, partial=True))
            return
        arrays = checkpoint.load_weights(filepath)
        weights.set_from_file(
            self,
            self._whole(),
            arrays,
            skip_mismatch=skip_mismatch,
            by_name=by_name,
        )

    def _whole(self) -> Binding:
        """Returns the binding of all that the model holds, also beside the module that it wraps."""
        model: Any = self
        return Binding(model, "module" if self.trained_module is not model else None)

    def get_state(self, *, weights_only: bool = False) -> dict[str, Any]:
        """Returns everything that training changes, as nested dicts of arrays that it never deletes.

        Args:
            weights_only: leaves out random streams, metrics, optimizers and step count.

        Returns:
            `{"params": {path: array}, "other": {path: array}}`, frozen parameters among the params, and
            `"opt_state"` and `"counters": {"step": int32, "updates": int32}`.

        Raises:
            NotCompiledError: without `weights_only`, `compile` was not called.
        """
        binding = self._binding()
        variables = weights.by_path(binding, with_rest=not weights_only)
        params = binding.params.keys() | binding.frozen.keys()
        state: dict[str, Any] = {
            "params": {name: value for name, value in variables.items() if name in params},
            "other": {name: value for name, value in variables.items() if name not in params},
        }
        if weights_only:
            return state
        engine = self._require_compiled("get_state").engine
        state["opt_state"] = engine.layout.copy_home(engine.opt_state(binding))
        counts = {"step": engine.steps_done, "updates": engine.updates_done}
        state["counters"] = {name: jnp.asarray(count, jnp.int32) for name, count in counts.items()}
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets what `get_state` returned, with or without `weights_only`; also within a fit.

        Raises:
            ValueError: it is of another model.
        """
        binding = self._binding()
        weights.set_all(binding, {**state["params"], **state["other"]}, "set_state")
        if "opt_state" in state:
            engine = self._require_compiled("set_state").engine
            engine.set_opt_state(state["opt_state"], binding)
            engine.steps_done = int(state["counters"]["step"])
            engine.updates_done = int(state["counters"]["updates"])

    def _get_state(self, weights_only: bool) -> dict[str, Any]:
        return self.get_state(weights_only=weights_only)

    # -- for callbacks

    def state_to_save(self, *, weights_only: bool = False) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Returns what a checkpoint holds, for callbacks that write some.

        Args:
            weights_only: leaves out what only training needs.

        Returns:
            `get_state`, with averages in place of weights where a callback has some; and, within `fit`, what
            else the run needs to go on, else None.
        """
        if self._session is None:
            return self.get_state(weights_only=weights_only), None
        return self._session.course.to_save(weights_only=weights_only)

    def averages_in_place(self) -> AbstractContextManager[None]:
        """Has averages in place of weights in a `with`, where a callback of the running fit has some."""
        return nullcontext() if self._session is None else self._session.course.averages_in_place()

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Lets the running `fit` go on from the newest checkpoint in `path`; for `on_train_begin`.

        Raises:
            CheckpointError: there is nothing to go on from, or it is of another model.
            RuntimeError: no fit is running.
        """
        if self._session is None:
            raise RuntimeError(
                "resume was called while no fit of this model runs, expected a call from on_train_begin of a "
                "callback. Call fit(resume_from=path), or load_checkpoint(path) for the state alone."
            )
        state, run = resumable(path).restore_with_run(self.get_state())
        self._session.course.resume(state, run)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Sets the state from the newest whole checkpoint in `path`, where `ModelCheckpoint` wrote it.

        Raises:
            CheckpointError: there is none, or it is of another model.
        """
        saved = checkpoint.newest(path)
        self.set_state(saved.restore(self.get_state(weights_only=saved.metadata["weights_only"])))
