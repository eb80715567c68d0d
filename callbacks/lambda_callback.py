"""A callback of functions, for what is not worth a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.errors import unknown_name_message
from easyflax.train.callback import Callback

__all__ = ["LambdaCallback"]

_HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


class LambdaCallback(Callback):
    """Calls functions as hooks, with the arguments that hooks get.

    Args:
        on_epoch_begin: `(epoch, logs)`.
        on_epoch_end: `(epoch, logs)`.
        on_train_begin: `(logs)`.
        on_train_end: `(logs)`.
        on_train_batch_begin: `(batch, logs)`.
        on_train_batch_end: `(batch, logs)`.
        **kwargs: any other hook of `Callback`, by its name.

    Raises:
        TypeError: there is no such hook, or it is no function.

    Examples:
        >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
        >>> callback.on_epoch_end(3, {"loss": 0.5})
        3 0.5
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for name, function in given.items():
            if name not in _HOOKS:
                raise TypeError(f"LambdaCallback: {unknown_name_message('hook', name, _HOOKS)}")
            if function is None:
                continue
            if not callable(function):
                raise TypeError(
                    f"LambdaCallback: {name} is {function!r}, expected a function. Pass for example "
                    f"{name}=lambda {'epoch, logs' if 'epoch' in name else 'logs'}: print(logs)."
                )
            setattr(self, name, function)
