"""Callbacks of plain functions, by decorators that are called as the hooks are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from easyflax.train.callback import Callback

__all__ = [
    "on_batch_begin",
    "on_batch_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_exception",
    "on_predict_batch_begin",
    "on_predict_batch_end",
    "on_predict_begin",
    "on_predict_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
]


class _FunctionCallback(Callback):
    """A function as the callback whose one hook it is; still callable as it was."""

    def __init__(self, hook: str, function: Callable[..., Any]):
        super().__init__()
        base = inspect.signature(getattr(Callback, hook))
        known = [name for name in base.parameters if name != "self"]
        taken = _names(hook, function, [*known, "model"])
        self.function = function

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> None:
            given = {**dict(zip(known, args, strict=False)), **kwargs, "model": self.model}
            function(**{name: given[name] for name in taken})

        called.__signature__ = base  # type: ignore[attr-defined]  # functions have it, says inspect
        del called.__wrapped__
        setattr(self, hook, called)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _names(hook: str, function: Callable[..., Any], known: list[str]) -> list[str]:
    """Returns the names of what a function takes.

    Raises:
        TypeError: it is no function, or takes something else.
    """
    if not callable(function):
        raise TypeError(f"@{hook} got {function!r}, expected a function. Write it above `def`.")
    names = list(inspect.signature(function).parameters)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise TypeError(
            f"@{hook}: the function takes {', '.join(map(repr, unknown))}, expected any of "
            f"{', '.join(map(repr, known))}. Arguments are passed by these names."
        )
    return names


def _decorator(hook: str) -> Callable[[Callable[..., Any]], _FunctionCallback]:
    def decorate(function: Callable[..., Any]) -> _FunctionCallback:
        return _FunctionCallback(hook, function)

    decorate.__name__ = decorate.__qualname__ = hook
    decorate.__doc__ = (
        f"Makes a callback of a function that is called as `Callback.{hook}` is.\n\n"
        "    Args:\n"
        "        function: takes any of that hook's arguments, and `model`, by their names.\n"
    )
    return decorate


on_train_begin = _decorator("on_train_begin")
on_train_end = _decorator("on_train_end")
on_exception = _decorator("on_exception")
on_epoch_begin = _decorator("on_epoch_begin")
on_epoch_end = _decorator("on_epoch_end")
on_train_batch_begin = _decorator("on_train_batch_begin")
on_train_batch_end = _decorator("on_train_batch_end")
on_batch_begin = _decorator("on_batch_begin")
on_batch_end = _decorator("on_batch_end")
on_test_begin = _decorator("on_test_begin")
on_test_end = _decorator("on_test_end")
on_test_batch_begin = _decorator("on_test_batch_begin")
on_test_batch_end = _decorator("on_test_batch_end")
on_predict_begin = _decorator("on_predict_begin")
on_predict_end = _decorator("on_predict_end")
on_predict_batch_begin = _decorator("on_predict_batch_begin")
on_predict_batch_end = _decorator("on_predict_batch_end")
