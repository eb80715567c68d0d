"""Calls the hooks of several callbacks in order, and only those that somebody overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from easyflax.train.callback import Callback

_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
# The base class's hook of the first name calls that of the second, so overriding either one counts.
_ALSO = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}


class CallbackList:
    """The callbacks of one `fit`, `evaluate` or `predict`.

    Args:
        callbacks: a callback, a list of them, or None.
        model: given to each by `set_model`.
        params: given to each by `set_params`.

    Raises:
        TypeError: an entry is no `Callback`.
    """

    def __init__(
        self, callbacks: Callback | Iterable[Callback] | None, *, model: Any, params: dict[str, Any]
    ):
        self.callbacks = list_of_callbacks(callbacks)
        for callback in self.callbacks:
            callback.set_params(params)
            callback.set_model(model)
        self._hooks = {name: self._overriding(name) for name in _HOOKS}

    def _overriding(self, name: str) -> tuple[Callable[..., None], ...]:
        return tuple(getattr(callback, name) for callback in self.callbacks if overrides(callback, name))

    def listens_to(self, name: str) -> bool:
        """Says whether any callback overrides the hook."""
        return bool(self._hooks[name])

    def call(self, name: str, *args: Any) -> None:
        """Calls the hook of every callback that overrides it."""
        for hook in self._hooks[name]:
            hook(*args)

    @contextmanager
    def told_of_exceptions(self) -> Iterator[None]:
        """Calls `on_exception` with what the block raises, and lets it go on."""
        try:
            yield
        except BaseException as exception:
            for hook in self._hooks["on_exception"]:
                try:
                    hook(exception)
                except Exception as another:
                    exception.add_note(f"{hook.__qualname__} raised as well: {another!r}")
            raise

    def train_batch_begin(self, batch: int) -> None:
        """Calls `on_train_batch_begin`."""
        for hook in self._hooks["on_train_batch_begin"]:
            hook(batch, {})

    def train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Calls `on_train_batch_end`."""
        for hook in self._hooks["on_train_batch_end"]:
            hook(batch, logs)


def overrides(callback: Callback, name: str) -> bool:
    """Says whether `callback` has a hook of its own under `name`, in its class or as an attribute."""
    names = (name, _ALSO[name]) if name in _ALSO else (name,)
    return any(
        getattr(getattr(callback, each), "__func__", None) is not getattr(Callback, each) for each in names
    )


def list_of_callbacks(callbacks: Callback | Iterable[Callback] | None) -> list[Callback]:
    """Returns `callbacks` as a list, checked."""
    if callbacks is None:
        return []
    listed = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for callback in listed:
        if not isinstance(callback, Callback):
            advice = (
                "Add the parentheses."
                if isinstance(callback, type)
                else "Derive it from easyflax.callbacks.Callback."
            )
            raise TypeError(f"callbacks holds {callback!r}, expected instances of Callback. {advice}")
    return listed
