"""The precision of a running step: what `compile(precision=)` asks for, and where in a model it begins.

    with running_in(DTypePolicy("mixed_bfloat16")):
        model(x)              # computed in bfloat16, returned in float32

Within such a block, layers that were given no dtype of their own follow its policy instead of theirs. The
outermost call of a model or layer reads parameters in the compute dtype, and casts its outputs to float32.
What a layer does then is what it does under a mixed policy of its own, see `Layer`: parameters are read in
the compute dtype, stored as they are, and so are the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import easyflax.nnx as nnx
from easyflax.layers.dtypes import DTypePolicy, cast_floating
from easyflax.layers.weighted import Weighted
from easyflax.nnx.core.variables import is_half_or_single, reading_dtype, reading_params_as

__all__ = ["begins_here", "call_in_precision", "reading_in", "running_in", "running_policy", "store_params"]


class _Running(NamedTuple):
    policy: DTypePolicy
    has_begun: bool = False  # within the outermost call


_running: ContextVar[_Running | None] = ContextVar("easyflax_precision", default=None)


def running_in(policy: DTypePolicy | None) -> AbstractContextManager[None]:
    """Makes a policy that of the block; None leaves every layer to its own."""
    return nullcontext() if policy is None else _entered(_Running(policy))


@contextmanager
def _entered(running: _Running) -> Iterator[None]:
    token = _running.set(running)
    try:
        yield
    finally:
        _running.reset(token)


def running_policy() -> DTypePolicy | None:
    """Returns the policy of the step that is running, if it has one."""
    running = _running.get()
    return None if running is None else running.policy


def begins_here() -> bool:
    """Says whether a call that is made now is the outermost one of a step with a policy."""
    running = _running.get()
    return running is not None and not running.has_begun


def call_in_precision(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, casts_inputs: bool = False
) -> Any:
    """Calls a function as the outermost call of a step: parameters are read in the dtype of its policy.

    Args:
        function: what to call.
        args: its arguments.
        kwargs: likewise.
        casts_inputs: whether it does not do that itself, as layers do.

    Returns:
        what it returned, floating arrays in float32; within another call, or where no policy is running, as
        they are.
    """
    running = _running.get()
    if running is None or running.has_begun:
        return function(*args, **kwargs)
    dtype = running.policy.compute
    if casts_inputs:
        args, kwargs = cast_floating((args, kwargs), dtype)
    with _entered(running._replace(has_begun=True)), reading_params_as(dtype):
        return cast_floating(function(*args, **kwargs), "float32")


def reading_in(policy: DTypePolicy, *, autocast: bool) -> AbstractContextManager[None]:
    """Has parameters read in the compute dtype of a layer for the time of its call, if they are stored in
    another one; `autocast=False` has them read as they are."""
    dtype = policy.compute if autocast and policy.compute != policy.variable else None
    return nullcontext() if dtype == reading_dtype() else reading_params_as(dtype)


def store_params(module: nnx.Module, policy: DTypePolicy) -> bool:
    """Stores the parameters of a module in the dtype of a policy, but those of layers with a dtype of their
    own; says whether any was stored in another one."""
    nodes = [node for _, node in nnx.iter_graph(module)]
    owners = [node for node in nodes if isinstance(node, Weighted) and getattr(node, "_has_own_dtype", False)]
    kept = {id(one) for owner in owners for _, one in nnx.iter_graph(owner) if isinstance(one, nnx.Param)}
    changed = False
    for param in nodes:
        if not isinstance(param, nnx.Param) or id(param) in kept:
            continue
        value = param.get_raw_value()
        if is_half_or_single(value) and value.dtype != policy.variable:
            param.set_raw_value(value.astype(policy.variable))
            changed = True
    return changed
