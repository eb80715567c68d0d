"""What layers inside of a call know of the call around them: whether it is training, and where losses go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from easyflax.layers.loss_term import collecting_losses, is_collecting

__all__ = ["around_call", "current_training"]

_training: ContextVar[bool | None] = ContextVar("_training", default=None)


def current_training() -> bool | None:
    """Returns the `training` that a layer around was called with; None where none was given."""
    return _training.get()


def around_call(training: Any) -> AbstractContextManager[None]:
    """Passes `training`, if given, on to the layers inside; the outermost call begins to collect losses."""
    if training is None and is_collecting():
        return nullcontext()
    return _outer_call(training)


@contextmanager
def _outer_call(training: Any) -> Iterator[None]:
    token = None if training is None else _training.set(training)
    try:
        with nullcontext() if is_collecting() else collecting_losses():
            yield
    finally:
        if token is not None:
            _training.reset(token)
