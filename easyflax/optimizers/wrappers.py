"""Transformations around others: clipping, weight decay, accumulation of gradients, averages of parameters.

Each takes an optax transformation (an `ef.optimizers` object is one) and returns one. They keep the state
that they wrap as it is, inside of theirs, so the learning rate can be read and set through them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.arguments import check_at_least, check_share
from easyflax.optimizers.parted import PartedState, merged, part
from easyflax.optimizers.transforms import clip_each_by_norm

__all__ = [
    "AverageState",
    "DecayState",
    "ScaleState",
    "accumulating",
    "averaged",
    "clipping",
    "decayed",
    "finalized",
    "unscaled",
    "with_average",
    "with_clipping",
]

Transformation = optax.GradientTransformationExtraArgs


def with_clipping(
    optimizer: optax.GradientTransformation,
    *,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
) -> Transformation:
    """Returns `optimizer` for gradients that are clipped before, in one of three ways.

    Args:
        optimizer: an optax transformation or an `ef.optimizers` object.
        clipnorm: the largest L2 norm of each gradient array.
        clipvalue: the largest absolute value of each gradient element.
        global_clipnorm: the largest L2 norm of all gradients together.

    Raises:
        ValueError: a bound is negative, or more than one kind of clipping is asked for.

    Examples:
        >>> import jax.numpy as jnp
        >>> tx = with_clipping(optax.sgd(1.0), clipvalue=0.5)
        >>> updates, _ = tx.update({"w": jnp.array([0.1, -3.0])}, tx.init({"w": jnp.zeros(2)}))
        >>> updates["w"].tolist()
        [-0.10000000149011612, 0.5]
    """
    clips = clipping("with_clipping", clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
    return optax.with_extra_args_support(_chain(*clips, optimizer))


def with_average(optimizer: optax.GradientTransformation, momentum: float = 0.99) -> Transformation:
    """Returns `optimizer` with a running average of the parameters in its state, which `finalized` returns.

    Args:
        optimizer: an optax transformation or an `ef.optimizers` object.
        momentum: share of the old average in the new one.

    Raises:
        ValueError: `momentum` is not between 0 and 1.
    """
    check_share("with_average", momentum=momentum)
    return averaged(optimizer, momentum)


def finalized(params: Any, opt_state: Any) -> Any:
    """Returns the parameters that training ends with: their average if the state holds one, else `params`.

    Args:
        params: the parameters, nested as the optimizer saw them.
        opt_state: the state of an optimizer with `use_ema=True`, or of any other.

    Raises:
        ValueError: the average is of other parameters.
    """
    found = [node for node in jax.tree.leaves(opt_state, is_leaf=_is_average) if _is_average(node)]
    if not found:
        return params
    if isinstance(found[-1], PartedState):
        return _finalized_parts(params, found[-1])
    average = found[-1].average
    shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (params, average))
    if shapes != expected:
        raise ValueError(
            f"finalized: got {len(jax.tree.leaves(params))} parameters, expected those that the state holds "
            f"the average of, {len(jax.tree.leaves(average))}, nested in the same way. Pass the parameters "
            "as the optimizer's update gets them."
        )
    return average


def clipping(owner: str, **bounds: float | None) -> list[optax.GradientTransformation]:
    """Returns the clipping that the bounds ask for, a list of one transformation or of none.

    As in Keras, a bound of zero asks for none.

    Raises:
        ValueError: a bound is negative, or several are given.
    """
    check_at_least(owner, 0, **bounds)
    given = {name: value for name, value in bounds.items() if value is not None}
    if len(given) > 1:
        raise ValueError(
            f"{owner}: {' and '.join(f'{name}={value}' for name, value in given.items())} were given, "
            "expected at most one kind of clipping. Keep one of them."
        )
    makers = {
        "clipnorm": clip_each_by_norm,
        "clipvalue": optax.clip,
        "global_clipnorm": optax.clip_by_global_norm,
    }
    return [makers[name](value) for name, value in given.items() if value > 0]


class ScaleState(NamedTuple):
    """State of `unscaled`."""

    scale: jax.Array  # () float32
    inner_state: Any


def unscaled(optimizer: optax.GradientTransformation, scale: float) -> Transformation:
    """Returns `optimizer` for gradients of a loss that was multiplied by `scale`, which its state tells."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> ScaleState:
        return ScaleState(jnp.asarray(scale, jnp.float32), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, ScaleState]:
        grads = jax.tree.map(lambda grad: (grad / scale).astype(grad.dtype), updates)
        updates, inner_state = inner.update(grads, state.inner_state, params, **extra)
        return updates, ScaleState(state.scale, inner_state)

    return Transformation(init, update)


def accumulating(optimizer: optax.GradientTransformation, steps: int) -> Transformation:
    """Returns `optimizer` for the mean of the gradients of `steps` steps; steps between change nothing."""
    return optax.with_extra_args_support(optax.MultiSteps(optimizer, steps).gradient_transformation())


class DecayState(NamedTuple):
    """State of `decayed`: a rate for each array if they differ, and the state of the rule."""

    rates: Any
    inner_state: Any


def decayed(
    rule: optax.GradientTransformation,
    learning_rate: Any,
    weight_decay: float | None,
    rates: Any = None,
) -> Transformation:
    """Returns `rule` after each parameter has lost `learning_rate * weight_decay` of itself.

    The decay stands beside the rest of the update, no momentum and no preconditioner sees it. A rule that
    looks at parameters sees them after the decay.

    Args:
        rule: from gradients to updates.
        learning_rate: of this step.
        weight_decay: the share, if it is the same for all.
        rates: else a function from parameters to their shares, an array with one for each array.

    Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    def init(params: Any) -> DecayState:
        return DecayState(None if rates is None else rates(params), rule.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, DecayState]:
        leaves, structure = jax.tree.flatten(needed(params, "weight decay"))
        shares = [weight_decay] * len(leaves) if state.rates is None else list(state.rates)
        losses = structure.unflatten(
            [(-learning_rate * share * leaf).astype(leaf.dtype) for share, leaf in zip(shares, leaves)]
        )
        smaller = optax.apply_updates(params, losses)
        updates, inner = optax.with_extra_args_support(rule).update(
            updates, state.inner_state, smaller, **extra
        )
        updates = jax.tree.map(lambda update, loss: update + loss.astype(update.dtype), updates, losses)
        return updates, DecayState(state.rates, inner)

    return Transformation(init, update)


class AverageState(NamedTuple):
    """State of `averaged`: steps so far, the average of the parameters, and the state inside."""

    count: jax.Array
    average: Any
    inner_state: Any


def averaged(
    optimizer: optax.GradientTransformation,
    momentum: float,
    overwrite_every: int | None = None,
    steps_per_update: int = 1,
) -> Transformation:
    """Returns `optimizer` with a running average of the parameters after each step.

    Args:
        optimizer: any transformation.
        momentum: share of the old average in the new one; the first average is the parameters themselves.
        overwrite_every: after so many updates the parameters are set to the average; None for never.
        steps_per_update: how many steps the optimizer accumulates gradients over.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> AverageState:
        average = jax.tree.map(lambda param: jnp.array(param, copy=True), params)
        return AverageState(jnp.zeros((), jnp.int32), average, optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        params = needed(params, "their average")
        updates, inner = optimizer.update(updates, state.inner_state, params, **extra)
        done = state.count // steps_per_update
        share = jnp.where(done == 0, 0.0, momentum)
        after = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, new: (share * old + (1 - share) * new).astype(old.dtype), state.average, after
        )
        if overwrite_every is not None:
            is_due = (done + 1) % overwrite_every == 0
            updates = jax.tree.map(
                lambda update, mean, param: jnp.where(is_due, mean - param, update).astype(update.dtype),
                updates,
                average,
                params,
            )
        return updates, AverageState(jnp.asarray(optax.safe_increment(state.count)), average, inner)

    return Transformation(init, update)


def needed(params: Any, what: str) -> Any:
    """Returns the parameters, which `update` was called with.

    Raises:
        ValueError: it was called without.
    """
    if params is None:
        raise ValueError(
            f"update was called without params, expected them for {what}. Call "
            "optimizer.update(grads, state, params)."
        )
    return params


def _finalized_parts(params: Any, state: PartedState) -> Any:
    leaves, structure = jax.tree.flatten(params)
    pairs = zip(state.members, state.states, strict=True)
    return structure.unflatten(
        merged([finalized(part(leaves, mine), inner) for mine, inner in pairs], state.members)
    )


def _is_average(node: Any) -> bool:
    return isinstance(node, AverageState | PartedState)


def _chain(*transformations: optax.GradientTransformation) -> optax.GradientTransformation:
    return transformations[0] if len(transformations) == 1 else optax.chain(*transformations)
