"""What `compile` asks of an optimizer besides its own arguments."""

from __future__ import annotations

from typing import Any

from easyflax.optimizers.arguments import check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.loss_scale import LossScaleOptimizer
from easyflax.optimizers.optax_optimizer import OptaxOptimizer
from easyflax.optimizers.wrappers import clipping

__all__ = ["with_options", "with_scaled_loss"]


def with_options(
    optimizer: Optimizer,
    *,
    owner: str = "with_options",
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
    ema: float | None = None,
) -> Optimizer:
    """Returns an optimizer of the same settings that clips gradients, or keeps an average of the parameters.

    Args:
        optimizer: without these options itself; it stays as it is.
        owner: begins the messages.
        clipnorm: see `Optimizer`.
        clipvalue: likewise.
        global_clipnorm: likewise.
        ema: share of the old average in the new one.

    Returns:
        `optimizer` itself, if no option is given; else another object of its class, without a state. Where
        the class keeps its rule to itself, an `OptaxOptimizer` over it. Of a `LossScaleOptimizer` the inner
        one gets the options: it sees the gradients as they are.

    Raises:
        TypeError: an option is no number.
        ValueError: it is out of range, given twice, or the optimizer has it already.
    """
    clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
    clipping(owner, **clips)
    given: dict[str, Any] = {name: value for name, value in clips.items() if value is not None}
    if ema is not None:
        check_share(owner, ema=ema)
        given |= {"use_ema": True, "ema_momentum": ema}
    if not given:
        return optimizer
    if isinstance(optimizer, LossScaleOptimizer):
        return optimizer.with_inner(lambda inner: with_options(inner, owner=owner, ema=ema, **clips))
    _check_has_none(owner, optimizer, given)
    changed = optimizer.without_state()
    if type(optimizer)._make_transformation not in _HEEDING:
        changed = OptaxOptimizer(changed.transformation)
    for name, value in given.items():
        setattr(changed, name, value)
    return changed


def with_scaled_loss(optimizer: Optimizer) -> LossScaleOptimizer:
    """Returns a `LossScaleOptimizer` over an optimizer, or the optimizer if it is one."""
    if isinstance(optimizer, LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


# What makes transformations that heed the options that all optimizers share.
_HEEDING = (Optimizer._make_transformation, OptaxOptimizer._make_transformation)


def _check_has_none(owner: str, optimizer: Optimizer, given: dict[str, Any]) -> None:
    kinds = (("clipnorm", "clipvalue", "global_clipnorm"), ("use_ema",))
    for names in kinds:
        own = [name for name in names if getattr(optimizer, name)]
        asked = [name for name in names if name in given]
        if own and asked:
            name = "ema" if asked[0] == "use_ema" else asked[0]
            raise ValueError(
                f"{owner}: {name} was given, and the optimizer {type(optimizer).__name__} has {own[0]}="
                f"{getattr(optimizer, own[0])}, expected one of them. Leave one out."
            )
