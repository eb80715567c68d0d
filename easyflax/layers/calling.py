"""How a model calls the modules in it: the mode where it is told, masks from one layer to the next."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.interop.flax_nnx import FlaxModule, refresh_mirrors, sync_mirrors
from easyflax.layers.call_context import current_training
from easyflax.layers.layer import Layer

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
    if not isinstance(function, Layer):
        called = (
            call_plain(function, args, kwargs)
            if isinstance(function, nnx.Module)
            else function(*args, **kwargs)
        )
        return called, None
    if masks is None:
        return function.call_with_mask(*args, **kwargs)
    named = _masks_by_name(function, kwargs, masks)
    first = named.pop("mask", kwargs.get("mask"))
    if _holds_arrays((args[1:], kwargs)):
        # As in Keras: with several arrays each mask has the name of its argument, or goes to the output only.
        outputs = function(*args, **{**kwargs, **named})
        return outputs, function.compute_mask(args[0] if args else None, first)
    return function.call_with_mask(*args, **{**kwargs, **named, "mask": first})


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


def _masks_by_name(layer: Layer, kwargs: dict[str, Any], masks: Any) -> dict[str, Any]:
    """Returns the masks of the arguments under the names that `call` has for them: that of the first argument
    is `mask`, that of an argument `value` is `value_mask`. A mask that was passed goes before."""
    arg_masks, kwarg_masks = masks
    names = list(inspect.signature(layer.call).parameters)
    by_name = {**dict(zip(names, arg_masks)), **kwarg_masks}
    named = {f"{name}_mask": mask for name, mask in by_name.items() if f"{name}_mask" in names}
    found = {"mask": arg_masks[0] if arg_masks else None, **named}
    return {name: mask for name, mask in found.items() if _any(mask) and kwargs.get(name) is None}


def _holds_arrays(tree: Any) -> bool:
    return any(hasattr(leaf, "shape") for leaf in jax.tree.leaves(tree))


def _any(mask: Any) -> bool:
    return bool(jax.tree.leaves(mask))
