"""Losses scaled up so that gradients in float16 do not vanish, by a scale that finds its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.arguments import check_at_least, check_count
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.parts import Part, as_inner
from easyflax.optimizers.wrappers import ScaleState
from easyflax.serialization import deserialize, serialize

__all__ = ["LossScaleOptimizer", "LossScaleState", "leaves_steps_out", "loss_scale"]

# What Keras writes into configurations besides, and has no effect.
_WRITTEN_BY_KERAS = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "dynamic": True,
}


class LossScaleState(NamedTuple):
    """State of `LossScaleOptimizer`."""

    step_counter: jax.Array  # () int32, finite steps since the scale last changed
    dynamic_scale: jax.Array  # () float32
    inner_state: Any


def loss_scale(opt_state: Any) -> jax.Array | None:
    """Returns what the loss of the next step shall be multiplied by, as the state says; None for nothing.

    Args:
        opt_state: of a `LossScaleOptimizer`, of an optimizer with `loss_scale_factor`, or of any other.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_scaled)
    for node in filter(_is_scaled, nodes):
        return node.dynamic_scale if isinstance(node, LossScaleState) else node.scale
    return None


def leaves_steps_out(opt_state: Any) -> jax.Array | bool:
    """Returns whether a step whose gradients are infinite or NaN is left out, with hope for the next one: the
    scale of the loss is found by itself, and is not as small as 1 yet.

    Args:
        opt_state: of any optimizer.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_scaled)
    scales = [node.dynamic_scale for node in nodes if isinstance(node, LossScaleState)]
    return scales[0] >= 1.0 if scales else False


def _is_scaled(node: Any) -> bool:
    return isinstance(node, LossScaleState | ScaleState)


class LossScaleOptimizer(Optimizer):
    """Another optimizer for gradients of a scaled loss, as training in float16 needs it.

    The loss is multiplied by a scale (`scale_loss`), the gradients are divided by it. Where a gradient is
    infinite or NaN, the step is left out and the scale halved; after `dynamic_growth_steps` finite steps it
    is doubled. `iterations` counts the steps that were not left out.

    Args:
        inner_optimizer: updates the parameters. It should do the clipping and all else, too.
        initial_scale: what the scale begins with.
        dynamic_growth_steps: see above.
        name: see `Optimizer`.
        **kwargs: none; what Keras writes into configurations besides is taken with its default only.

    Raises:
        TypeError: `inner_optimizer` is no optimizer, or an argument is unknown.
        ValueError: a value is out of range, or belongs to the inner optimizer.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.optimizers import SGD
        >>> optimizer = LossScaleOptimizer(SGD(1.0), initial_scale=8.0)
        >>> state = optimizer.init({"w": jnp.zeros(1)})
        >>> updates, state = optimizer.update({"w": jnp.array([4.0])}, state)
        >>> updates["w"].tolist()
        [-0.5]
        >>> updates, state = optimizer.update({"w": jnp.array([jnp.inf])}, state)
        >>> updates["w"].tolist(), float(optimizer.loss_scale(state))
        ([0.0], 4.0)

    Source: Micikevicius et al. 2018, section 3.2, https://arxiv.org/abs/1710.03740
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        for key, default in _WRITTEN_BY_KERAS.items():
            if kwargs.pop(key, default) != default:
                raise ValueError(
                    f"LossScaleOptimizer got {key}, expected it at the inner optimizer. Pass it there, as in "
                    f"LossScaleOptimizer(Adam({key}=...))."
                )
        super().__init__(0.0, name=name, **kwargs)
        check_at_least("LossScaleOptimizer", 0, initial_scale=initial_scale)
        check_count("LossScaleOptimizer", dynamic_growth_steps=dynamic_growth_steps)
        self._inner = as_inner("LossScaleOptimizer", inner_optimizer)
        self._inner.loss_scale_factor = None  # else gradients would be divided twice
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps

    @property
    def inner_optimizer(self) -> Optimizer:
        """The optimizer inside; its state is a part of the state of this one."""
        if not self._has_state:
            return self._inner
        part = Part(
            self,
            lambda state: state.inner_state,
            lambda state, inner: state._replace(inner_state=inner),
            self._held_tree,
        )
        return self._inner.attached(part)

    def with_inner(self, change: Callable[[Optimizer], Optimizer]) -> LossScaleOptimizer:
        """Returns another one of these settings without a state, over what `change` makes of the inner
        one."""
        twin = self.without_state()
        twin._inner = change(self._inner)
        return twin

    # -- what it computes

    def _make_transformation(self) -> optax.GradientTransformationExtraArgs:
        inner = self._inner.transformation

        def init(params: Any) -> LossScaleState:
            scale = jnp.asarray(self.initial_scale, jnp.float32)
            return LossScaleState(jnp.zeros((), jnp.int32), scale, inner.init(params))

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, LossScaleState]:
            finite = [jnp.all(jnp.isfinite(grad)) for grad in jax.tree.leaves(updates)]
            is_finite = jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)
            grads = jax.tree.map(lambda grad: (grad / state.dynamic_scale).astype(grad.dtype), updates)
            updates, inner_state = inner.update(grads, state.inner_state, params, **extra)
            updates = jax.tree.map(lambda new: jnp.where(is_finite, new, jnp.zeros_like(new)), updates)
            inner_state = jax.tree.map(
                lambda new, old: jnp.where(is_finite, new, old), inner_state, state.inner_state
            )
            return updates, LossScaleState(*self._next_scale(state, is_finite), inner_state)

        return optax.GradientTransformationExtraArgs(init, update)

    def _next_scale(self, state: Any, is_finite: Any) -> tuple[Any, Any]:
        grows = is_finite & (state.step_counter == self.dynamic_growth_steps - 1)
        factor = jnp.where(is_finite, jnp.where(grows, 2.0, 1.0), 0.5)
        counter = jnp.where(is_finite & ~grows, state.step_counter + 1, 0)
        scale = state.dynamic_scale * factor
        return counter.astype(jnp.int32), jnp.where(jnp.isfinite(scale), scale, state.dynamic_scale)

    def loss_scale(self, opt_state: Any = None) -> Any:
        if opt_state is None and self._has_state:
            opt_state = self._opt_state()
        if opt_state is None:
            return jnp.asarray(self.initial_scale, jnp.float32)
        return opt_state.dynamic_scale

    @property
    def dynamic_scale(self) -> jax.Array:
        """What the loss of the next step is multiplied by, `()`."""
        return self.loss_scale()

    @property
    def step_counter(self) -> jax.Array:
        """Finite steps since the scale last changed, `()`."""
        return self._opt_state().step_counter if self._has_state else jnp.zeros((), jnp.int32)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        self._inner.exclude_from_weight_decay(var_list, var_names)

    # -- what is the inner optimizer's

    def _schedule(self) -> Any:
        return self._inner._schedule()

    def _initial_rate(self) -> Any:
        return self._inner._initial_rate()

    def _set_initial_rate(self, rate: Any) -> None:
        self._inner._set_initial_rate(rate)

    @property
    def _steps(self) -> Any:
        return self.inner_optimizer._steps if self._has_state else 0

    @property
    def _accumulated(self) -> int:
        return self._inner._accumulated

    @property
    def keeps_average(self) -> bool:
        return self._inner.keeps_average

    # -- configuration

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "inner_optimizer": serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        config = dict(config)
        inner = config.pop("inner_optimizer")
        return cls(deserialize(inner, custom_objects) if isinstance(inner, Mapping) else inner, **config)
