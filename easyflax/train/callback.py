"""The base class of callbacks: hooks, named and called as in Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyflax.train.plan import Plan


class Callback:
    """Override the hooks you need; those you leave alone cost nothing.

    Order: `on_train_begin`, then for every epoch `on_epoch_begin`, (`on_train_batch_begin`,
    `on_train_batch_end`) for each batch, the test hooks if there is validation, `on_epoch_end`; at last
    `on_train_end`, unless an exception ended the training. `evaluate` and `predict` call the test and predict
    hooks.

    Epochs and batches count from 0. `logs` of batch hooks are the means over the epoch so far; they are
    fetched from the device when first read, so a callback that does not read them never waits. `logs` of
    epoch hooks are Python floats in one dict that all callbacks of the list share, in order: what one adds,
    the next sees, and History keeps.

    Attributes:
        model: the model being trained. Its weights are up to date whenever a hook runs, and what a hook
            changes, weights or learning rate, holds from the next step on.
        params: `verbose`, `epochs` and `steps` (an epoch; None if unknown) of the running call, by name.
        plan: of the running fit, as all callbacks left it; None before.
        validates: whether the running fit validates, if not after every epoch.
        called_last: whether the hooks are called after those of callbacks that do not set it, as those who
            save a run do: what they save is then complete.

    Examples:
        >>> class PrintLoss(Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         print(f"epoch {epoch}: {logs['loss']:.3f}")
    """

    validates = False
    called_last = False
    plan: Plan | None = None

    def __init__(self) -> None:
        self.model: Any = None  # easyflax.Model; models import train, so the type cannot be named here
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Receives the model before the first hook."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receives `params` before the first hook."""
        self.params = params

    def configure(self, plan: Plan) -> Plan:
        """Returns what `fit` is to do; called once, after `set_model`, before anything is compiled.

        Args:
            plan: the data, epochs, and what the compiled step does besides; as the callbacks before this one
                left it. Return it, or another one made by `dataclasses.replace(plan, ...)` or `plan.adding`.
        """
        return plan

    def state_dict(self) -> dict[str, Any]:
        """Returns what this callback needs to go on where it is, if the run is resumed from a checkpoint.

        Returns:
            numbers, strings, lists and dicts by string of them, and arrays.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets what `state_dict` returned; called after `on_train_begin` of a run that is resumed.

        Args:
            state: numbers may come back as NumPy scalars.
        """

    def params_to_save(self) -> Mapping[str, Any] | None:
        """Returns parameters to save in place of the model's, such as their averages, by path."""
        return None

    def next_batch_needed(self, batch: int) -> int | None:
        """Says when hooks of batches are needed next: what comes before that may be done in one go.

        The hooks are then called with the number of the first and of the last of several batches, and maybe
        more often than is asked for. Callbacks that do not override them are not asked.

        Args:
            batch: the number, in its epoch, evaluation or prediction, of the batch that comes next.

        Returns:
            after which batch, this one or a later one, the hook of its end has to be called: by default this
            one. None if any time will do.
        """
        return batch

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called once at the start of `fit`."""

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called once at the end of `fit`, with the logs of the last epoch; not after an exception."""

    def on_exception(self, exception: BaseException) -> None:
        """Called instead of `on_train_end` when an exception, such as KeyboardInterrupt, ends `fit`.

        The model holds the weights of the last whole step. What this hook raises itself becomes a note on
        `exception`, which goes on to the caller of `fit`.
        """

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called at the start of an epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called at the end of an epoch, after validation, with training and `val_` logs."""

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called before a training step; calls `on_batch_begin`."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called after a training step, which may still be running on the device; calls `on_batch_end`."""
        self.on_batch_end(batch, logs=logs)

    def on_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called at the start of an evaluation, also of the validation within `fit`."""

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called at the end of an evaluation, with its results."""

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called before an evaluation step."""

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called after an evaluation step."""

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called at the start of a prediction."""

    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Called at the end of a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called before a prediction step."""

    def on_predict_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Called after a prediction step, with `{"outputs": ...}`, the predictions for the batch."""
