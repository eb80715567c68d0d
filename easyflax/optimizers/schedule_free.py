"""Schedule-free optimizers: an average of the steps in the place of a falling learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from easyflax.optimizers.arguments import CommonArguments, check_at_least, check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.parts import as_inner
from easyflax.optimizers.transforms import in_float32, map_to_several
from easyflax.optimizers.wrappers import needed
from easyflax.serialization import deserialize, serialize

__all__ = ["ScheduleFree", "ScheduleFreeAdamW"]


class ScheduleFreeState(NamedTuple):
    """What `ScheduleFreeAdamW` remembers."""

    count: jax.Array  # () int32
    fast: Any  # the parameters as the steps alone would have them
    velocity: Any


class ScheduleFreeAdamW(Optimizer):
    """AdamW at a constant rate, averaged over all steps.

    Gradients are taken between the average and the fast parameters, which the steps are done on. That is
    what the model holds, as in Keras; the average, which is better to evaluate and to deploy, is
    `evaluation_params(params, state)`.

    Args:
        learning_rate: see `Optimizer`.
        beta_1: how near to the average gradients are taken.
        beta_2: share of the old mean square in the new one.
        epsilon: added to the root of the mean square.
        warmup_steps: for so many steps the rate rises.
        **common: see `Optimizer`.

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        check_share("ScheduleFreeAdamW", beta_1=beta_1, beta_2=beta_2)
        check_at_least("ScheduleFreeAdamW", 0, epsilon=epsilon, warmup_steps=warmup_steps)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.warmup_steps = warmup_steps

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        def init(params: Any) -> ScheduleFreeState:
            fast = jax.tree.map(lambda param: jnp.array(param, copy=True), params)
            return ScheduleFreeState(jnp.zeros((), jnp.int32), fast, jax.tree.map(jnp.zeros_like, params))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ScheduleFreeState]:
            beta_2 = in_float32(self.beta_2)
            count = jnp.asarray(optax.safe_increment(state.count))
            step = count.astype(jnp.float32)
            warmth = jnp.minimum(step / self.warmup_steps, 1) if self.warmup_steps else 1

            def one(grad: Any, param: Any, fast: Any, velocity: Any) -> tuple[Any, Any, Any]:
                velocity = velocity + (jnp.square(grad) - velocity) * (1 - beta_2)
                root = jnp.sqrt(velocity / (1 - beta_2**step)) + self.epsilon
                average = self._average(param, fast)
                fast = fast - learning_rate * warmth * grad / root
                average = (1 - 1 / step) * average + 1 / step * fast
                new = (1 - self.beta_1) * fast + self.beta_1 * average
                dtype = param.dtype
                return (new - param).astype(dtype), fast.astype(dtype), velocity.astype(dtype)

            params = needed(params, "ScheduleFreeAdamW")
            updates, fast, velocity = map_to_several(3, one, updates, params, state.fast, state.velocity)
            return updates, ScheduleFreeState(count, fast, velocity)

        return optax.GradientTransformation(init, update)

    def evaluation_params(self, params: Any, opt_state: Any) -> Any:
        """Returns the average over the steps.

        Args:
            params: the parameters, nested as `update` gets them.
            opt_state: the state.
        """
        state = _only(opt_state, ScheduleFreeState)
        return jax.tree.map(self._average, params, state.fast)

    def _average(self, param: Any, fast: Any) -> Any:
        return ((param - (1 - self.beta_1) * fast) / self.beta_1).astype(param.dtype)


class ScheduleFree(Optimizer):
    """Any optimizer without a momentum at a constant rate, averaged over its steps.

    Args:
        inner_optimizer: does the steps; its learning rate is that of this optimizer.
        beta_1: how near to the average gradients are taken.
        weight_lr_power: steps weigh in the average by the largest rate so far to this power.
        name: see `Optimizer`.

    Raises:
        TypeError: `inner_optimizer` is no `ef.optimizers` object.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.optimizers import SGD
        >>> optimizer = ScheduleFree(SGD(0.5))
        >>> params = {"w": jnp.ones(1)}
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update({"w": jnp.ones(1)}, state, params)
        >>> optimizer.evaluation_params({"w": params["w"] + updates["w"]}, state)["w"].tolist()
        [0.5]

    Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        beta_1: float = 0.9,
        weight_lr_power: float = 2.0,
        name: str | None = None,
    ):
        inner = as_inner("ScheduleFree", inner_optimizer)
        super().__init__(inner._learning_rate, name=name)
        check_share("ScheduleFree", beta_1=beta_1)
        self._inner = inner
        self.beta_1 = beta_1
        self.weight_lr_power = weight_lr_power

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        return optax.contrib.schedule_free(
            self._inner._whole_rule(learning_rate), learning_rate, self.beta_1, self.weight_lr_power
        )

    def evaluation_params(self, params: Any, opt_state: Any) -> Any:
        """Returns the average over the steps.

        Args:
            params: the parameters, nested as `update` gets them.
            opt_state: the state.
        """
        state = _only(opt_state, optax.contrib.ScheduleFreeState)
        return optax.contrib.schedule_free_eval_params(state, params)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        self._inner.exclude_from_weight_decay(var_list, var_names)

    def get_config(self) -> dict[str, Any]:
        inner = self._inner.without_state()
        inner._learning_rate = self._rate_setting()
        return {
            "name": self.name,
            "inner_optimizer": serialize(inner),
            "beta_1": self.beta_1,
            "weight_lr_power": self.weight_lr_power,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        config = dict(config)
        inner = config.pop("inner_optimizer")
        return cls(deserialize(inner, custom_objects) if isinstance(inner, Mapping) else inner, **config)


def _only(opt_state: Any, kind: type) -> Any:
    """Returns the part of the state that is of this kind.

    Raises:
        ValueError: there is none.
    """
    found = [
        node
        for node in jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
        if isinstance(node, kind)
    ]
    if not found:
        raise ValueError(
            "evaluation_params got the state of another optimizer, expected that of this one. Pass what init "
            "or update returned."
        )
    return found[0]
