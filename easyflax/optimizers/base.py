"""What an optimizer is here: Keras's name and arguments over an optax transformation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

import easyflax.nnx as nnx
from easyflax.naming import snake_case
from easyflax.optimizers import wrappers
from easyflax.optimizers.arguments import (
    argument_names,
    check_at_least,
    check_count,
    check_share,
    refuse_unknown,
)
from easyflax.optimizers.learning_rate import LearningRate, as_learning_rate
from easyflax.optimizers.named_params import Row, array_rows, identity
from easyflax.optimizers.update_step import ByUpdateStep, update_step_rule
from easyflax.serialization import deserialize, serialize

__all__ = ["Optimizer"]


class Optimizer(ByUpdateStep):
    """The base class of all optimizers; its arguments are those that they share.

    An optimizer can be used in three ways.

    *Compiled into a model.* `model.compile(ef.optimizers.Adam(1e-3), ...)`; the model keeps the state.

    *As an optax transformation.* It has `init(params)` and `update(grads, state, params)`, so it may stand in
    `optax.chain`, in `nnx.Optimizer`, in any training loop of JAX. The state holds the learning rate, see
    `ef.optimizers.set_learning_rate`.

    *By itself, with its own state*, in NNX's or in Keras's manner: `optimizer.update(model, grads)` or
    `optimizer.apply(grads, variables)` change the variables in place. The state is made at the first call, or
    by `build`. It consists of variables of the object, so the transforms of `nnx` carry it.

    Args:
        learning_rate: a number, or a function from the step's number to one: an object of
            `ef.optimizers.schedules`, or any optax schedule.
        weight_decay: share of each parameter, times the learning rate, that every step takes away.
        clipnorm: the largest L2 norm of each gradient array.
        clipvalue: the largest absolute value of each gradient element.
        global_clipnorm: the largest L2 norm of all gradients together.
        use_ema: whether to keep a running average of the parameters, with which `fit` ends; see
            `finalize_variable_values`.
        ema_momentum: share of the old average in the new one.
        ema_overwrite_frequency: after so many updates the parameters are set to their average.
        loss_scale_factor: gradients are divided by it; multiply the loss by it with `scale_loss`.
        gradient_accumulation_steps: the parameters are updated once in so many steps, by the mean of the
            gradients. A schedule counts steps, not updates.
        name: for configurations; the class's name in snake case by default.

    Raises:
        TypeError: the learning rate is neither a number nor a function, or an argument is unknown.
        ValueError: a value is out of range, or more than one kind of clipping is asked for.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx, optimizers
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> optimizer = optimizers.SGD(0.1)
        >>> grads = nnx.grad(lambda model: (model(jnp.ones((4, 2))) ** 2).mean())(model)
        >>> optimizer.update(model, grads)
        >>> int(optimizer.iterations), round(float(optimizer.learning_rate), 3)
        (1, 0.1)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ):
        owner = type(self).__name__
        refuse_unknown(type(self), unknown)
        super().__init__(as_learning_rate(learning_rate, owner))
        wrappers.clipping(owner, clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
        check_at_least(owner, 0, weight_decay=weight_decay)
        check_share(owner, ema_momentum=ema_momentum)
        check_count(
            owner,
            ema_overwrite_frequency=ema_overwrite_frequency,
            gradient_accumulation_steps=gradient_accumulation_steps or None,
        )
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.name = name or snake_case(owner)
        self._undecayed: tuple[frozenset[int], str | None] = (frozenset(), None)  # ids, pattern

    # -- as an optax transformation

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        """Returns the transformation from gradients to updates; for subclasses to define.

        A class written for Keras defines `build` and `update_step` instead.
        """
        if type(self).update_step is not Optimizer.update_step:
            return update_step_rule(self, learning_rate)
        raise NotImplementedError(
            f"{type(self).__name__} has no rule, expected one for how gradients become updates. Define "
            "rule(self, learning_rate), which returns an optax transformation."
        )

    @property
    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The optimizer as a plain optax transformation; equal for the same object."""
        return optax.GradientTransformationExtraArgs(self.init, self._optax_update)

    def init(self, params: optax.Params) -> Any:
        """Returns the state for `params`, as optax does; they may be variables, whose names are seen then."""
        return self._make_transformation().init(params)

    def _optax_update(
        self, updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, Any]:
        return self._make_transformation().update(updates, state, params, **extra)

    def _make_transformation(self) -> optax.GradientTransformationExtraArgs:
        inject = optax.inject_hyperparams(self._whole_rule, hyperparam_dtype=jnp.dtype(jnp.float32))
        return inject(learning_rate=self._learning_rate)

    def _whole_rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        """Everything within the count of steps, which the schedule follows."""
        rule = self.rule(learning_rate)
        if self._decays:
            rates = self._decay_rates if self._decays_by_name else None
            rule = wrappers.decayed(rule, learning_rate, self.weight_decay, rates)
        rule = wrappers.with_clipping(
            rule, clipnorm=self.clipnorm, clipvalue=self.clipvalue, global_clipnorm=self.global_clipnorm
        )
        if self._accumulated > 1:
            rule = wrappers.accumulating(rule, self._accumulated)
        if self.loss_scale_factor is not None:
            rule = wrappers.unscaled(rule, self.loss_scale_factor)
        if self.use_ema:
            every = self.ema_overwrite_frequency
            rule = wrappers.averaged(rule, self.ema_momentum, every, self._accumulated)
        return rule

    @property
    def keeps_average(self) -> bool:
        """Whether the state holds a running average of the parameters, which training ends with."""
        return self.use_ema

    @property
    def _accumulated(self) -> int:
        return self.gradient_accumulation_steps or 1

    # -- weight decay

    def exclude_from_weight_decay(
        self,
        var_list: Iterable[nnx.Variable[Any]] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Leaves parameters out of the weight decay; to be called before the state is made.

        Args:
            var_list: these variables.
            var_names: those whose name holds one of these regular expressions, as `["bias"]`. The name of a
                variable is that of the attribute it was made for; of a plain array in nested dicts, its key.

        Raises:
            ValueError: the state is made already.
        """
        if self.built:
            raise ValueError(
                f"{type(self).__name__}.exclude_from_weight_decay was called on an optimizer that is built, "
                "expected one that is not: its state says what decays. Call it before the first update."
            )
        self._undecayed = (frozenset(map(identity, var_list or ())), "|".join(var_names or ()) or None)

    @property
    def _decays(self) -> bool:
        return self.weight_decay is not None

    @property
    def _decays_by_name(self) -> bool:
        return self._undecayed != (frozenset(), None)

    def _weight_decay_of(self, row: Row) -> float:
        """Returns the weight decay of a parameter that is not left out."""
        del row
        return self.weight_decay or 0.0

    def _decay_rates(self, params: Any) -> jax.Array:
        ids, pattern = self._undecayed

        def rate(row: Row) -> float:
            is_left_out = identity(row.leaf) in ids or (pattern and re.search(pattern, row.name))
            return 0.0 if is_left_out else self._weight_decay_of(row)

        return jnp.array([rate(row) for row in array_rows(params)], jnp.float32)

    # -- scaled losses and configuration

    def scale_loss(self, loss: Any, opt_state: Any = None) -> Any:
        """Returns the loss times a scale, which updates divide the gradients by.

        Args:
            loss: any number.
            opt_state: the state of the step, in pure use; by default the state that the optimizer has.
        """
        scale = self.loss_scale(opt_state)
        return loss if scale is None else loss * scale

    def loss_scale(self, opt_state: Any = None) -> Any:
        """Returns what `scale_loss` multiplies by, or None."""
        del opt_state
        return self.loss_scale_factor

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this optimizer again, by Keras's keys; its state is not in it."""
        config: dict[str, Any] = {"name": self.name, "learning_rate": serialize(self._rate_setting())}
        for name in argument_names(type(self)):
            if name not in config and hasattr(self, name):
                value = getattr(self, name)
                config[name] = serialize(list(value) if isinstance(value, tuple) else value)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Returns a new optimizer, without state, from what `get_config` returned, here or in Keras."""
        config = dict(config)
        if isinstance(config.get("learning_rate"), Mapping):
            config["learning_rate"] = deserialize(config["learning_rate"], custom_objects)
        return cls(**config)

    def _rate_setting(self) -> Any:
        """The schedule, or the learning rate as it is now."""
        return self._schedule() or self.learning_rate

    _learning_rate: LearningRate
