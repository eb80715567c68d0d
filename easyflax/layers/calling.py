"""How a model calls the modules in it: the mode where it is told, masks from one layer to the next."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import FlaxModule, refresh_mirrors, sync_mirrors
from easyflax.layers.call_context import current_training
from easyflax.layers.layer import Layer
from easyflax.layers.masks import attach_masks, masks_of

__all__ = ["call_in_model", "call_plain", "mode_arguments"]


def call_in_model(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], masks: Any = None
) -> tuple[Any, Any]:
    """Returns what a module or function returns, and the mask that goes with it.

    Args:
        function: layers build themselves, and know whether they are in training; a plain module is told so
            where the model was, in the way that it understands.
        args: its arguments.
        kwargs: likewise.
        masks: for arguments that have masks, `(args, kwargs)` with masks in place of arrays; None if none
            has.
    """
    if isinstance(function, nnx.Module) and not isinstance(function, Layer):
        return call_plain(function, args, kwargs), None
    attach_masks((args, kwargs), masks)
    outputs = function(*args, **kwargs)
    return outputs, masks_of(outputs) if isinstance(function, Layer) else None


def mode_arguments(module: Any, training: bool) -> dict[str, bool]:
    """Returns the mode, by the names under which the module's `__call__` takes it."""
    known = inspect.signature(type(module).__call__).parameters
    modes = {
        "training": training,
        "train": training,
        "deterministic": not training,
        "use_running_average": not training,
    }
    return {name: mode for name, mode in modes.items() if name in known}


def call_plain(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a module that is no layer, in the mode of `training=` or of the layer around, else as it is.

    Another mode than its own is set on new module objects over the same variables.
    """
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
