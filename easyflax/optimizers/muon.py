"""Muon: momentum of matrices made orthogonal, and AdamW for all else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from easyflax.optimizers.arguments import check_at_least, check_count, check_share
from easyflax.optimizers.base import Optimizer
from easyflax.optimizers.named_params import Row, array_rows
from easyflax.optimizers.transforms import adam_correction, map_to_several

__all__ = ["Muon"]


class MuonState(NamedTuple):
    """What `Muon` remembers; the velocity of what is not updated by AdamW is empty."""

    count: jax.Array  # () int32
    momentum: Any
    velocity: Any


class Muon(Optimizer):
    """The momentum of each matrix with its singular values set to about one; AdamW for other parameters.

    AdamW updates what does not have two axes, embeddings, and what `exclude_layers` names; the output layer
    should be among it.

    Args:
        learning_rate: see `Optimizer`.
        adam_beta_1: see `Adam`.
        adam_beta_2: likewise.
        adam_weight_decay: weight decay of what AdamW updates.
        epsilon: see `Adam`.
        weight_decay: of the matrices.
        clipnorm: see `Optimizer`, as the following ones.
        clipvalue: likewise.
        global_clipnorm: likewise.
        use_ema: likewise.
        ema_momentum: likewise.
        ema_overwrite_frequency: likewise.
        loss_scale_factor: likewise.
        gradient_accumulation_steps: likewise.
        name: likewise.
        exclude_layers: regular expressions; what has one in its path is updated by AdamW.
        exclude_embeddings: whether AdamW updates what has "embedding" in its path.
        muon_a: coefficient of the Newton-Schulz iteration, of the matrix.
        muon_b: likewise, of its third power.
        muon_c: likewise, of its fifth power.
        adam_lr_ratio: the learning rate of AdamW, as a multiple.
        momentum: share of the old momentum in the new one.
        ns_steps: iterations.
        nesterov: whether the gradient counts as taken where the momentum leads.
        rms_rate: size of the update of a matrix, as a multiple of the root of its longer side; None for size
            one.
        **unknown: none; a name that is not among these is refused.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025,
    https://arxiv.org/abs/2502.16982
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **unknown: Any,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **unknown,
        )
        check_share("Muon", adam_beta_1=adam_beta_1, adam_beta_2=adam_beta_2, momentum=momentum)
        check_at_least(
            "Muon", 0, adam_weight_decay=adam_weight_decay, epsilon=epsilon, adam_lr_ratio=adam_lr_ratio
        )
        check_count("Muon", ns_steps=ns_steps)
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = epsilon
        self.exclude_layers = tuple(exclude_layers or ())
        self.exclude_embeddings = exclude_embeddings
        self.muon_a = muon_a
        self.muon_b = muon_b
        self.muon_c = muon_c
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.ns_steps = ns_steps
        self.nesterov = nesterov
        self.rms_rate = rms_rate

    def rule(self, learning_rate: jax.Array) -> optax.GradientTransformation:
        def init(params: Any) -> MuonState:
            arrays, structure = jax.tree.flatten(params)
            velocity = [
                jnp.zeros_like(array) if self._is_for_adam(row) else jnp.zeros((0,), array.dtype)
                for array, row in zip(arrays, array_rows(params), strict=True)
            ]
            momentum = jax.tree.map(jnp.zeros_like, params)
            return MuonState(jnp.zeros((), jnp.int32), momentum, structure.unflatten(velocity))

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
            del params
            count = jnp.asarray(optax.safe_increment(state.count))

            def one(grad: Any, momentum: Any, velocity: Any) -> tuple[Any, ...]:
                if velocity.shape == grad.shape:
                    rate = learning_rate * self.adam_lr_ratio
                    direction, momentum, velocity = self._adam(grad, momentum, velocity, count)
                else:
                    rate = learning_rate
                    direction, momentum = self._muon(grad, momentum)
                return (-rate * direction).astype(grad.dtype), momentum, velocity

            updates, *means = map_to_several(3, one, updates, state.momentum, state.velocity)
            return updates, MuonState(count, *means)

        return optax.GradientTransformation(init, update)

    def _adam(self, grad: Any, momentum: Any, velocity: Any, count: Any) -> tuple[Any, Any, Any]:
        momentum = momentum + (grad - momentum) * (1 - self.adam_beta_1)
        velocity = velocity + (jnp.square(grad) - velocity) * (1 - self.adam_beta_2)
        correction = adam_correction(self.adam_beta_1, self.adam_beta_2, count).astype(grad.dtype)
        return momentum * correction / (jnp.sqrt(velocity) + self.epsilon), momentum, velocity

    def _muon(self, grad: Any, momentum: Any) -> tuple[Any, Any]:
        momentum = self.momentum * momentum + grad
        direction = self._orthogonal(grad + self.momentum * momentum if self.nesterov else momentum)
        if self.rms_rate is not None:
            direction = direction * (max(grad.shape) ** 0.5 * self.rms_rate)
        return direction, momentum

    def _orthogonal(self, matrix: Any) -> Any:
        """Sets the singular values to about one, by a Newton-Schulz iteration of fifth order."""
        is_tall = matrix.shape[0] > matrix.shape[1]
        x = matrix.T if is_tall else matrix
        x = x / (jnp.linalg.norm(x) + 1e-7)  # singular values of at most one
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x.T if is_tall else x

    def _is_for_adam(self, row: Row) -> bool:
        if jnp.ndim(row.array) != 2 or (self.exclude_embeddings and "embedding" in row.path.lower()):
            return True
        return any(re.search(pattern, row.path) for pattern in self.exclude_layers)

    # -- weight decay, which differs between the two

    @property
    def _decays(self) -> bool:
        return self.weight_decay is not None or self.adam_weight_decay is not None

    @property
    def _decays_by_name(self) -> bool:
        return True

    def _weight_decay_of(self, row: Row) -> float:
        return (self.adam_weight_decay if self._is_for_adam(row) else self.weight_decay) or 0.0
