"""Every optimizer of optax through `nnx.Optimizer` gives the bits of optax on a dict of arrays."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from easyflax import nnx

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))

# All that optax and optax.contrib make optimizers by; what needs more than a learning rate is made here.
MADE = {
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=0),
    "polyak_sgd": lambda: optax.polyak_sgd(0.1),
    "mechanize": lambda: contrib.mechanize(optax.adam(0.1)),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau(patience=1)),
    "schedule_free": lambda: contrib.schedule_free(optax.sgd(0.1), 0.1),
    "sam": lambda: contrib.sam(optax.sgd(0.1), contrib.normalize(), sync_period=2),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.1), every_k_schedule=2),
    "masked": lambda: optax.masked(optax.adam(0.1), lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(optax.linear_schedule(0.1, 0.0, 3)),
    "line_search": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_zoom_linesearch(max_linesearch_steps=5)
    ),
}
NAMES = (
    "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lbfgs "
    "lion nadam nadamw novograd optimistic_adam_v2 optimistic_gradient_descent radam rmsprop rprop sgd "
    "sign_sgd signum sm3 yogi acprop ademamix adopt cocob dadapt_adamw dog dowg galore madgrad momo "
    "momo_adam muon prodigy schedule_free_adamw schedule_free_sgd simplified_ademamix sophia "
)
TAKES = {  # what `update` of some takes besides
    **dict.fromkeys(["lbfgs", "line_search"], ("value", "grad", "value_fn")),
    **dict.fromkeys(["polyak_sgd", "momo", "momo_adam", "reduce_on_plateau"], ("value",)),
    "sophia": ("obj_fn",),
}


def _transformation(name: str) -> Any:
    if name in MADE:
        return MADE[name]()
    make = getattr(optax, name, None) or getattr(contrib, name, None)
    if make is None:
        pytest.skip(f"optax {optax.__version__} has no {name}")
    return make(0.1) if "learning_rate" in inspect.signature(make).parameters else make()


def _loss(model: nnx.Linear) -> jax.Array:
    return (model(X) ** 2).mean()


SLOW = {"lbfgs", "line_search", "mechanize", "muon", "noisy_sgd"}  # to compile


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in [*MADE, *NAMES.split()]],
)
def test_an_optimizer_of_optax_gives_the_bits_of_plain_optax(name: str) -> None:
    tx, takes = _transformation(name), TAKES.get(name, ())
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model)
    plain = nnx.to_pure_dict(state)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def plain_loss(params: Any) -> jax.Array:
        return _loss(nnx.merge(graphdef, nnx.State(params)))

    @jax.jit
    def plain_step(params: Any, opt_state: Any) -> Any:
        value, grads = jax.value_and_grad(plain_loss)(params)
        extra = {"value": value, "grad": grads, "value_fn": plain_loss, "obj_fn": plain_loss}
        updates, opt_state = tx.update(grads, opt_state, params, **{key: extra[key] for key in takes})
        return optax.apply_updates(params, updates), opt_state

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        value, grads = nnx.value_and_grad(_loss)(model)
        extra = {"value": value, "grad": grads, "value_fn": plain_loss, "obj_fn": plain_loss}
        optimizer.update(model, grads, **{key: extra[key] for key in takes})

    opt_state = tx.init(plain)
    for _ in range(2):
        plain, opt_state = plain_step(plain, opt_state)
        step(model, optimizer)
    for got, expected in ((nnx.state(model), plain), (optimizer.opt_state, opt_state)):
        for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(_bits(mine), _bits(theirs))


def _bits(value: Any) -> np.ndarray:
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if is_key else value)
