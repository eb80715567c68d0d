"""Calls the hooks of several callbacks in order, and only those that somebody overrides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import Parameter
from typing import Any

from easyflax.errors import NonFiniteLossError
from easyflax.train.callback import Callback
from easyflax.train.history import History
from easyflax.train.logs import BatchLogs, plain_logs
from easyflax.train.plan import Plan, checked_plan
from easyflax.train.progress import Progress

Callbacks = Callback | Iterable[Any] | None
Logs = Mapping[str, Any] | None

_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
_SAVE_POINTS = ("on_train_batch_end", "on_epoch_end")
# The base class's hook of the first name calls that of the second, so overriding either one counts.
_ALSO = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class CallbackList(Callback):
    """Several callbacks as one, for `fit` and for training loops of one's own.

    Each hook calls that of all callbacks, in order, with one dict of logs that they share: sorted by name, a
    copy of what was given, numbers and scalar arrays as Python floats.

    Args:
        callbacks: a callback, a list of them (lists in it are flattened), or None.
        add_history: appends a `History` if there is none.
        add_progbar: appends a `ProgbarLogger` if there is none.
        model: given to each by `set_model`; its `history` becomes that of the list.
        **params: given to each by `set_params`; the progress bar reads `verbose`, `epochs` and `steps`.

    Raises:
        TypeError: an entry is no `Callback`.

    Attributes:
        callbacks: the callbacks in the order in which they are called.

    Examples:
        >>> callbacks = CallbackList(add_history=True, epochs=2, steps=1)
        >>> callbacks.on_train_begin()
        >>> for epoch in range(2):
        ...     callbacks.on_epoch_begin(epoch)
        ...     callbacks.on_epoch_end(epoch, {"loss": 1 / (epoch + 1)})
        >>> callbacks.on_train_end()
        >>> callbacks.history.history
        {'loss': [1.0, 0.5]}
    """

    def __init__(
        self,
        callbacks: Callbacks = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        super().__init__()
        self.callbacks = list_of_callbacks(callbacks)
        self._heard: dict[str, tuple[Callable[..., None], ...]] = {}
        self._heard_of_batches: dict[str, list[Callback]] = {}
        self._epoch: int | None = None  # that runs
        if add_history and self.history is None:
            self.callbacks.append(History())
        if add_progbar and not any(isinstance(callback, Progress) for callback in self.callbacks):
            self.callbacks.append(Progress())
        self.set_model(model)
        self.set_params(params)

    @property
    def history(self) -> History | None:
        """The last `History` of the list, if there is one."""
        found = [callback for callback in self.callbacks if isinstance(callback, History)]
        return found[-1] if found else None

    def append(self, callback: Callback) -> None:
        """Adds a callback at the end, and gives it model and params."""
        for added in list_of_callbacks(callback):
            self.callbacks.append(added)
            if self.model is not None:
                added.set_model(self.model)
            if self.params:
                added.set_params(self.params)
            added.validates = self.validates
        self._heard.clear()
        self._heard_of_batches.clear()

    def set_model(self, model: Any) -> None:
        """Gives all callbacks the model, unless it is None."""
        if model is None:
            return
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives all callbacks the params, unless they are empty."""
        self.params = params
        for callback in self.callbacks if params else []:
            callback.set_params(params)

    def set_validates(self, validates: bool) -> None:
        """Tells all callbacks whether the fit validates, after some epoch at least."""
        self.validates = validates
        for callback in self.callbacks:
            callback.validates = validates

    def next_needed(self, kind: str, batch: int) -> int | None:
        """Returns after which batch hooks are needed next by callbacks that say so, None for any time.

        Args:
            kind: "train", "test" or "predict".
            batch: the number of the batch that comes next.
        """
        needed = [one.next_batch_needed(batch) for one in self._of_batches(kind) if not _needs_each(one)]
        known = [number for number in needed if number is not None]
        return max(min(known), batch) if known else None

    def need_each(self, kind: str) -> bool:
        """Says whether a callback overrides hooks of batches, and does not say when it needs them."""
        return any(map(_needs_each, self._of_batches(kind)))

    def _of_batches(self, kind: str) -> list[Callback]:
        if kind not in self._heard_of_batches:
            begins, ends = (self._overriding(f"on_{kind}_batch_{when}") for when in ("begin", "end"))
            self._heard_of_batches[kind] = begins + [one for one in ends if one not in begins]
        return self._heard_of_batches[kind]

    def listens_to(self, name: str) -> bool:
        """Says whether any callback overrides the hook."""
        return bool(self._hooks(name))

    def configure(self, plan: Plan) -> Plan:
        """Returns what the callbacks, one after the other, make of the plan of a fit.

        Raises:
            TypeError: one of them returns something else, or has a hook that cannot be called as hooks are.
        """
        for name in _HOOKS:
            for callback in self._overriding(name):
                _check_takes_arguments(callback, name)
        for callback in self.callbacks:
            plan = checked_plan(callback.configure(plan), callback)
        for callback in self.callbacks:
            callback.plan = plan
        return plan

    @contextmanager
    def on_screen(self) -> Iterator[None]:
        """Lets what is printed in the block stand above the progress; ends the progress however it ends."""
        with ExitStack() as stack:
            for callback in self.callbacks:
                if isinstance(callback, Progress):
                    stack.enter_context(callback.on_screen())
            yield

    @contextmanager
    def told_of_exceptions(self) -> Iterator[None]:
        """Calls `on_exception` with what the block raises, and lets it go on."""
        try:
            yield
        except BaseException as exception:
            self.on_exception(exception)
            raise

    # -- the hooks

    def on_train_begin(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_train_begin", logs)

    def on_train_end(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_train_end", logs)

    def on_exception(self, exception: BaseException) -> None:
        """Calls the hook of all callbacks; what one of them raises becomes a note on `exception`."""
        for hook in self._hooks("on_exception"):
            try:
                hook(exception)
            except Exception as another:
                exception.add_note(f"{hook.__qualname__} raised as well: {another!r}")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._epoch = epoch
        self._call("on_epoch_begin", logs, epoch)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_epoch_end", logs, epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_train_batch_end", batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_batch_begin", batch, logs)

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_batch_end", batch, logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_test_begin", logs)

    def on_test_end(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_test_end", logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_test_batch_end", batch, logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_predict_begin", logs)

    def on_predict_end(self, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call("on_predict_end", logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks."""
        self._call_for_batch("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook of all callbacks; the outputs in the logs stay as they are."""
        hooks = self._hooks("on_predict_batch_end")
        self._call_all("on_predict_batch_end", hooks, batch, logs)

    def _call(self, name: str, logs: Logs, *args: Any) -> None:
        hooks = self._hooks(name)
        if hooks:
            self._call_all(name, hooks, *args, plain_logs(logs))

    def _call_for_batch(self, name: str, batch: int, logs: Logs) -> None:
        hooks = self._hooks(name)
        if hooks:
            shared = logs if isinstance(logs, BatchLogs) else plain_logs(logs)
            self._call_all(name, hooks, batch, shared)

    def _call_all(self, name: str, hooks: tuple[Callable[..., None], ...], *args: Any) -> None:
        called = 0
        try:
            for hook in hooks:
                hook(*args)
                called += 1
        except NonFiniteLossError:  # says all itself, and whoever reads logs may be the one to find it
            raise
        except BaseException as error:
            callback = self._overriding(name)[called]
            if isinstance(error, Exception):
                error.add_note(
                    f"Raised by the callback {type(callback).__name__} in {name}{self._place(name, args)}."
                )
            if name in _SAVE_POINTS:
                self._save_before(callback, name, hooks, args, error)
            raise

    def _save_before(
        self, raising: Callback, name: str, hooks: tuple[Callable[..., None], ...], args: Any, error: Any
    ) -> None:
        """Lets callbacks save that stand in the list before the one that raised, though called after it.

        All others are called before, as the saved run will not call them at this point again.
        """
        callbacks = self._overriding(name)
        before = self.callbacks[: self.callbacks.index(raising)]
        savers = [one for one in before if one.called_last]
        if raising.called_last or not savers:
            return
        for callback, hook in list(zip(callbacks, hooks, strict=True))[callbacks.index(raising) + 1 :]:
            if callback.called_last and callback not in savers:
                continue
            try:
                hook(*args)
            except Exception as another:
                error.add_note(f"{type(callback).__name__} raised as well: {another!r}")

    def _place(self, name: str, args: tuple[Any, ...]) -> str:
        """Says where in the run a hook was called."""
        if "_epoch_" in name:
            return f" of epoch {args[0] + 1}"
        epoch = f" of epoch {self._epoch + 1}" if "train_batch" in name and self._epoch is not None else ""
        return f", batch {args[0] + 1}{epoch}" if "_batch_" in name else epoch

    def _hooks(self, name: str) -> tuple[Callable[..., None], ...]:
        if name not in self._heard:
            found = [getattr(callback, name) for callback in self._overriding(name)]
            self._heard[name] = tuple(map(_with_logs_second, found) if "_batch_" in name else found)
        return self._heard[name]

    def _overriding(self, name: str) -> list[Callback]:
        found = [callback for callback in self.callbacks if overrides(callback, name)]
        return sorted(found, key=lambda callback: callback.called_last)


def _needs_each(callback: Callback) -> bool:
    return getattr(callback.next_batch_needed, "__func__", None) is Callback.next_batch_needed


def _with_logs_second(hook: Callable[..., None]) -> Callable[..., None]:
    """Returns a hook of batches that takes its logs in second place.

    Keras passes them by name to these hooks, and only to these, so some take them by name alone.
    """
    kinds = [parameter.kind for parameter in inspect.signature(hook).parameters.values()]
    if sum(kind in _BY_PLACE for kind in kinds) != 1 or Parameter.VAR_POSITIONAL in kinds:
        return hook
    return lambda batch, logs: hook(batch, logs=logs)


def _check_takes_arguments(callback: Callback, name: str) -> None:
    hook, expected = getattr(callback, name), inspect.signature(getattr(Callback, name))
    names = [one for one in expected.parameters if one != "self"]
    try:
        found = inspect.signature(hook)
        try:
            found.bind(*names)
        except TypeError:
            found.bind(*names[:-1], **{names[-1]: None})
    except TypeError:
        raise TypeError(
            f"{type(callback).__name__}.{name} takes {found}, expected ({', '.join(names)}), as all hooks of "
            "that name are called. Write it so; logs=None where it is not used."
        ) from None
    except ValueError:  # of built-in functions nothing is known
        return


def overrides(callback: Callback, name: str) -> bool:
    """Says whether `callback` has a hook of its own under `name`, in its class or as an attribute."""
    names = (name, _ALSO[name]) if name in _ALSO else (name,)
    return any(
        getattr(getattr(callback, each), "__func__", None) is not getattr(Callback, each) for each in names
    )


def list_of_callbacks(callbacks: Callbacks) -> list[Callback]:
    """Returns `callbacks` as a flat list, checked.

    Raises:
        TypeError: an entry is no `Callback`.
        ValueError: one object stands in it twice.
    """
    flat = [] if callbacks is None else _flat(callbacks)
    for number, callback in enumerate(flat):
        if any(callback is other for other in flat[:number]):
            raise ValueError(
                f"callbacks holds the same {type(callback).__name__} object twice, expected each once, since "
                "its hooks would run twice. Leave one out, or make two objects."
            )
    return flat


def _flat(callbacks: Any) -> list[Callback]:
    if isinstance(callbacks, CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, Callback):
        return [callbacks]
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, str | Mapping):
        return [callback for entry in callbacks for callback in _flat(entry)]
    if isinstance(callbacks, type):
        advice = "Add the parentheses."
    elif callable(callbacks):
        advice = "Derive a class from easyflax.callbacks.Callback, or pass LambdaCallback(on_epoch_end=...)."
    else:
        advice = "Derive it from easyflax.callbacks.Callback."
    raise TypeError(f"callbacks holds {callbacks!r}, expected instances of Callback. {advice}")
