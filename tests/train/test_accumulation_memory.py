"""Gradients are added into the buffers where they wait: XLA's own account of a step shows no copy of them."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import easyflax as ef
from easyflax import layers
from easyflax.data import Batch
from easyflax.distribution import DataParallel
from easyflax.train.additions import StepShape
from easyflax.train.specs import specs
from easyflax.train.step import accumulate_step, apply_step

LAYERS, WIDTH, ROWS = 8, 256, 4
KERNEL = WIDTH * WIDTH * 4  # bytes of one layer's kernel, and of its gradient
X = np.zeros((2 * ROWS, WIDTH), np.float32)


def _accumulating():
    """Returns the objective and the state of a fit that accumulates gradients, for `LAYERS` kernels."""
    model = ef.Sequential([ef.Input((WIDTH,)), *(layers.Dense(WIDTH, use_bias=False) for _ in range(LAYERS))])
    one = DataParallel(jax.devices()[:1])
    model.compile("adam", "mse", gradient_accumulation_steps=2, distribution=one)
    found = []

    class Look(ef.callbacks.Callback):
        def on_train_begin(self, logs=None):
            session = self.model._session
            found.append((session.steps.objective, specs(session.state)))

    model.fit(X, X, batch_size=ROWS, verbose=0, callbacks=[Look()])
    objective, state = found[0]
    return replace(objective, shape=StepShape(accumulates=True)), state


def _bytes(step, *arguments):
    memory = jax.jit(step, donate_argnums=0).lower(*arguments).compile().memory_analysis()
    taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return taken - memory.alias_size_in_bytes


@pytest.mark.slow
def test_a_step_holds_the_gradients_that_wait_once_and_those_of_a_few_layers():
    objective, state = _accumulating()
    batch = specs(Batch(X[:ROWS], X[:ROWS]))

    def one(state, given):
        batch, is_last = given
        state, logs = accumulate_step(objective, state, batch)
        return jax.lax.cond(is_last, partial(apply_step, objective), lambda state: state, state), logs

    def several(state, batches, are_last):
        return jax.lax.scan(one, state, (batches, are_last))

    batches = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((6, *leaf.shape), leaf.dtype), batch)
    are_last = jax.ShapeDtypeStruct((6,), bool)
    whole = 4 * LAYERS * KERNEL  # parameters, two moments of Adam, the gradients that wait
    assert whole < _bytes(partial(accumulate_step, objective), state, batch) < whole + 4 * KERNEL
    assert whole < _bytes(partial(apply_step, objective), state) < whole + KERNEL / 2
    assert whole < _bytes(several, state, batches, are_last) < whole + 4 * KERNEL
