"""How a model calls the modules in it: in the mode that it is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import FlaxModule, refresh_mirrors, sync_mirrors
from easyflax.layers.call_context import current_training
from easyflax.layers.dtypes import cast_floating
from easyflax.layers.layer import Layer
from easyflax.nnx.core.variables import reading_dtype

__all__ = ["call_in_model", "call_plain", "mode_arguments"]


def call_in_model(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what a module or function returns.

    Layers build themselves, and know whether they are in training; a plain module is told so where the model
    was, in the way that it understands.
    """
    if isinstance(function, nnx.Module) and not isinstance(function, Layer):
        return call_plain(function, args, kwargs)
    return function(*args, **kwargs)


def mode_arguments(module: Any, training: bool) -> dict[str, bool]:
    """Returns the mode, by the names under which the module's `__call__` takes it."""
    known = inspect.signature(type(module).__call__).parameters
    modes = {"training": training, "train": training, "deterministic": not training}
    return {name: mode for name, mode in modes.items() if name in known}


def call_plain(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a module that is no layer, in the mode of `training=` or of the layer around, else as it is.

    Another mode than its own is set on new module objects over the same variables.
    """
    if (dtype := reading_dtype()) is not None:  # computes like the model around
        args, kwargs = cast_floating((args, kwargs), dtype)
    training = kwargs.get("training")
    training = current_training() if training is None else training
    if training is None:
        return module(*args, **kwargs)
    modes = {"deterministic": not training, "use_running_average": not training}
    mirrors = refresh_mirrors(module) if isinstance(module, FlaxModule) else []
    in_mode = nnx.with_attributes(module, raise_if_not_found=False, **modes)
    others = {name: value for name, value in kwargs.items() if name != "training"}
    outputs = in_mode(*args, **{**mode_arguments(module, training), **others})
    sync_mirrors(mirrors)
    return outputs
