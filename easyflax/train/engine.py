"""What a compiled model keeps from one fit to the next: optimizer state, step count, compiled steps.

Between fits the arrays of the model live in the user's module alone. A `Session` takes them over for the time
of a fit and gives them back at its end: at each moment there is one live copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from easyflax.distribution import DataParallel
from easyflax.optimizers import Optimizer
from easyflax.train.additions import StepShape
from easyflax.train.binding import Binding
from easyflax.train.carry_over import carry_over
from easyflax.train.compiled_steps import CompiledSteps
from easyflax.train.dispatch import Form
from easyflax.train.nested_optimizer import nest
from easyflax.train.session import Session
from easyflax.train.specs import specs
from easyflax.train.state import TrainState, start_counters


class Engine:
    """Runs one compiled model on the devices.

    Args:
        optimizer: updates the parameters.
        layout: the devices, and what lies where.

    Attributes:
        session: the running fit, None between fits.
    """

    def __init__(self, optimizer: Optimizer, layout: DataParallel):
        self.optimizer = optimizer
        self.layout = layout
        self.session: Session | None = None
        self._opt_state: Any = None  # between fits; during a fit it is part of the session's state
        self._opt_shapes: Any = None  # the shapes of the model's parameters, trained and frozen
        self._trained: frozenset[str] = frozenset()  # those that the optimizer state is for
        self._steps_done = 0
        self._updates_done = 0

    @contextmanager
    def session_on(
        self,
        binding: Binding,
        steps: CompiledSteps,
        shape: StepShape = StepShape(),  # noqa: B008  immutable
    ) -> Iterator[Session]:
        """Opens a session on the module; at the end, whatever ends it, the module has its arrays back.

        Raises:
            RuntimeError: one is open already.
            ValueError: the module has no parameters that are trained.
        """
        if self.session is not None:
            raise RuntimeError(
                "fit was called within fit of the same model, expected one at a time. Train from a callback "
                "with another model, or after this fit."
            )
        opt_state: Any = ()
        if steps.uses_optimizer:
            _check_trains(binding)
            self._prepare(binding)
            opt_state, self._opt_state = self._opt_state, None
        session = self.session = Session(
            binding, steps, shape, opt_state, self.layout, self._steps_done, self._updates_done
        )
        try:
            yield session
        finally:
            opt_state = session.close()
            self.session = None
            self._steps_done, self._updates_done = session.steps_done, session.updates_done
            if steps.uses_optimizer:
                self._opt_state = opt_state

    def lowered(self, binding: Binding, steps: CompiledSteps, shape: StepShape, batch: Any) -> Any:
        """Returns the training step for batches of a shape as `jax.stages.Lowered`, to be analysed.

        Nothing is computed, and no array made.

        Args:
            binding: the model.
            steps: of the model; not eager ones.
            shape: what callbacks made of the step.
            batch: a `Batch` of arrays or of `jax.ShapeDtypeStruct`s.
        """
        if self.session is None:
            state = self._state_specs(binding, steps, shape)
        else:
            state = specs(self.session.state)
        dispatch = steps.training(shape).dispatch(state)
        packed = self.layout.specs_of_state(jax.eval_shape(dispatch.form.pack, state))
        return dispatch.step.lower(packed, self.layout.specs_of_batch(specs(batch)))

    def _state_specs(self, binding: Binding, steps: CompiledSteps, shape: StepShape) -> TrainState:
        """Returns the shapes and dtypes of the state that a session would begin with."""
        params, other = specs(binding.arrays())
        opt_state: Any = ()
        if steps.uses_optimizer:
            opt_state = jax.eval_shape(nest(self.optimizer.transformation, binding).init, params)
        counters = jax.eval_shape(start_counters, jax.ShapeDtypeStruct((), np.int32))
        metrics = jax.eval_shape(steps.objective.scores.fresh)
        additions = jax.eval_shape(steps.training(shape).start, params) if shape != StepShape() else {}
        return TrainState(params, other, opt_state, metrics, counters, additions)

    # -- the optimizer's state, wherever it is

    def opt_state(self, binding: Binding) -> Any:
        """Returns the optimizer state, made if there is none; in a fit the next step deletes its arrays."""
        if self.session:
            return self.session.state.opt_state
        self._prepare(binding)
        return self._opt_state

    def set_opt_state(self, opt_state: Any, binding: Binding) -> None:
        """Replaces the optimizer state by copies of the arrays of `opt_state`.

        Raises:
            ValueError: it is the state of another optimizer, or for other parameters.
        """
        old = self.opt_state(binding)
        self._check_fits(opt_state, old)
        opt_state = self._copied_where_changed(opt_state, old)
        if self.session:
            self.session.set_opt_state(opt_state)
        else:
            self._opt_state = opt_state

    def _copied_where_changed(self, new: Any, old: Any) -> Any:
        """Returns `new` with copies of those of its arrays that are not in `old` as well."""
        leaves, structure = jax.tree.flatten(new)
        changed = [i for i, (a, b) in enumerate(zip(leaves, jax.tree.leaves(old), strict=True)) if a is not b]
        for i, copy in zip(changed, self.layout.copy_to_devices([leaves[i] for i in changed]), strict=True):
            leaves[i] = copy
        return structure.unflatten(leaves)

    @property
    def steps_done(self) -> int:
        """Training steps since the model was compiled."""
        return self.session.steps_done if self.session else self._steps_done

    @steps_done.setter
    def steps_done(self, step: int) -> None:
        if self.session:
            self.session.set_step(step)
        self._steps_done = step

    @property
    def updates_done(self) -> int:
        """Updates of the parameters since the model was compiled; fewer where several batches make one."""
        return self.session.updates_done if self.session else self._updates_done

    @updates_done.setter
    def updates_done(self, updates: int) -> None:
        if self.session:
            self.session.updates_done = updates
        self._updates_done = updates

    @staticmethod
    def _check_fits(new: Any, old: Any) -> None:
        new_shapes, old_shapes = (jax.tree.map(jax.numpy.shape, state) for state in (new, old))
        if new_shapes != old_shapes:
            raise ValueError(
                f"The optimizer state has {len(jax.tree.leaves(new))} arrays, expected "
                f"{len(jax.tree.leaves(old))} of the structure and shapes that this optimizer has for this "
                f"model. Compile and freeze the model as it was when the state was taken."
            )

    def _prepare(self, binding: Binding) -> None:
        """Sees to it that there is an optimizer state for what `binding` trains."""
        shapes, trained = _shapes(binding), frozenset(binding.params)
        has_changed = self._opt_state is not None and shapes != self._opt_shapes
        # Before the first step it is a model that was built after its learning rate was set.
        if has_changed and self._steps_done:
            warnings.warn(
                "The model's parameters have other names or shapes than in the last fit: the optimizer "
                "starts afresh.",
                stacklevel=2,
            )
            self._opt_state = None
        if self._opt_state is None or has_changed or trained != self._trained:
            new, old = self._new_opt_state(binding), self._opt_state
            self._opt_state = new if old is None else carry_over(old, new)
            self._opt_shapes, self._trained = shapes, trained

    def _new_opt_state(self, binding: Binding) -> Any:
        params = self.layout.put_state(binding.arrays()[0])
        init = jax.jit(nest(self.optimizer.transformation, binding).init)  # traced once for both
        form = Form(jax.eval_shape(init, params))
        packed = self.layout.jit(lambda params: form.pack(init(params)))(params)
        return form.unpack_on_host(packed, self.layout)


def _check_trains(binding: Binding) -> None:
    if not binding.params:
        has = f"{len(binding.frozen)} parameters, all frozen" if binding.frozen else "no parameters"
        raise ValueError(
            f"fit: there is nothing to train, the model has {has}, expected some that are not. Set "
            f"trainable = True on a layer of it, or add one with parameters."
        )


def _shapes(binding: Binding) -> dict[str, Any]:
    variables = {**binding.params, **binding.frozen}
    return {
        name: jax.tree.map(jax.numpy.shape, variable.get_raw_value()) for name, variable in variables.items()
    }
