"""The optimizer against flax.nnx: the same numbers, paths and kinds over several steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, assert_same_tree, make_both

X = jax.random.normal(jax.random.key(1), (5, 2))
Y = jnp.ones((5, 3))


def _model(lib: Any) -> Any:
    rngs = lib.Rngs(0)
    return lib.Sequential(
        lib.Linear(2, 4, rngs=rngs), lib.BatchNorm(4, rngs=rngs), lib.relu, lib.Linear(4, 3, rngs=rngs)
    )


def _loss(model: Any) -> jax.Array:
    return ((model(X) - Y) ** 2).mean()


def _large(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)


def _labels(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "vector", tree)


TRANSFORMATIONS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(1e-2),
    "schedule": lambda: optax.adam(optax.cosine_decay_schedule(1e-2, 10)),
    "clipped_adamw": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(1e-2, mask=_large)),
    "injected": lambda: optax.inject_hyperparams(optax.rmsprop)(1e-2, momentum=0.5),
    "partitioned": lambda: optax.multi_transform(
        {"matrix": optax.lion(1e-2), "vector": optax.sgd(0.1)}, _labels
    ),
    "accumulated": lambda: optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2).gradient_transformation(),
    "lookahead_free": lambda: optax.contrib.schedule_free_sgd(0.1),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_three_steps_give_the_numbers_of_flax(name: str) -> None:
    def train(lib: Any) -> Any:
        model = _model(lib)
        optimizer = lib.Optimizer(model, TRANSFORMATIONS[name](), wrt=lib.Param)
        updates = [optimizer.update(model, lib.grad(_loss)(model)) for _ in range(3)]
        return model, optimizer, updates

    (model, optimizer, updates), (flax_model, flax_optimizer, flax_updates) = make_both(train)
    assert_same_tree(updates, flax_updates)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_the_older_spelling_is_the_model_and_optimizer_of_flax() -> None:
    ours = nnx.Optimizer(_model(nnx), optax.adam(1e-2))
    named = nnx.ModelAndOptimizer(_model(nnx), optax.adam(1e-2), wrt=nnx.Param)
    theirs = flax_nnx.ModelAndOptimizer(_model(flax_nnx), optax.adam(1e-2))
    for _ in range(2):
        for optimizer in (ours, named):
            optimizer.update(nnx.grad(_loss)(optimizer.model))
        theirs.update(flax_nnx.grad(_loss)(theirs.model))
    assert_same_state(ours, theirs)
    assert_same_state(named, theirs)


def test_jitted_steps_give_the_numbers_of_flax() -> None:
    def train(lib: Any) -> Any:
        model = _model(lib)
        optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.Param)

        @lib.jit
        def step(model: Any, optimizer: Any) -> jax.Array:
            loss, grads = lib.value_and_grad(_loss)(model)
            optimizer.update(model, grads)
            return loss

        return [step(model, optimizer) for _ in range(3)], model, optimizer

    (losses, model, optimizer), (flax_losses, flax_model, flax_optimizer) = make_both(train)
    assert_same_tree(losses, flax_losses)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_a_part_of_the_model_is_updated_as_in_flax() -> None:
    def train(lib: Any) -> Any:
        model = _model(lib)
        head = lib.All(lib.Param, lib.PathContains(3))
        optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=head)
        optimizer.update(model, lib.grad(_loss, argnums=lib.DiffState(0, head))(model))
        optimizer.update(model, lib.grad(_loss)(model))  # more gradients than are to be used
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_keyword_arguments_reach_the_transformation_as_in_flax() -> None:
    def train(lib: Any) -> Any:
        model = lib.Linear(2, 3, rngs=lib.Rngs(0))
        graphdef = lib.graphdef(model)
        tx = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=8))
        optimizer = lib.Optimizer(model, tx, wrt=lib.Param)
        for _ in range(2):
            loss, grads = lib.value_and_grad(_loss)(model)
            optimizer.update(
                model, grads, value=loss, grad=grads, value_fn=lambda state: _loss(lib.merge(graphdef, state))
            )
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_sharding_metadata_reaches_the_optimizer_as_in_flax() -> None:
    def make(lib: Any) -> Any:
        metadata = {"optimizer_sharding": ("data", None), "role": "kernel"}
        model = lib.Linear(2, 3, kernel_metadata=metadata, rngs=lib.Rngs(0))
        optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.Param)
        return dict(optimizer.opt_state[0].mu["kernel"].get_metadata())

    with jax.set_mesh(jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])):  # flax wants one
        ours, theirs = make_both(make)
    assert ours == {key: theirs[key] for key in ("out_sharding", "role")}


def test_an_optimizer_is_split_and_merged_as_in_flax() -> None:
    def train(lib: Any) -> Any:
        optimizer = lib.ModelAndOptimizer(_model(lib), optax.adam(1e-2))
        graphdef, params, rest = lib.split(optimizer, lib.Param, ...)
        optimizer = lib.merge(graphdef, params, rest)
        optimizer.update(lib.grad(_loss)(optimizer.model))
        return optimizer, optimizer.model(X)

    (ours, y), (theirs, flax_y) = make_both(train)
    assert_same(y, flax_y)
    assert_same_state(ours, theirs)


def _low_precision(lib: Any) -> Any:
    rngs = lib.Rngs(0)
    options = {"param_dtype": jnp.bfloat16, "dtype": jnp.bfloat16, "rngs": rngs}
    return lib.Sequential(lib.Linear(2, 4, **options), lib.relu, lib.Linear(4, 3, **options))


def _tied(lib: Any) -> Any:
    rngs = lib.Rngs(0)
    layer = lib.Linear(2, 2, rngs=rngs)
    return lib.Sequential(layer, lib.relu, layer, lib.Linear(2, 3, rngs=rngs))


@pytest.mark.parametrize("make", [_low_precision, _tied], ids=["bfloat16", "shared"])
@pytest.mark.parametrize(
    "tx",
    [
        lambda: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 5)),
        lambda: optax.chain(optax.adam(1e-2, mu_dtype=jnp.float32), optax.contrib.reduce_on_plateau()),
        pytest.param(lambda: optax.contrib.muon(1e-2), marks=pytest.mark.slow),
    ],
    ids=["scheduled", "plateau", "muon"],
)
def test_other_models_and_transformations_give_the_numbers_of_flax(make: Any, tx: Any) -> None:
    def train(lib: Any) -> Any:
        model = make(lib)
        optimizer = lib.Optimizer(model, tx(), wrt=lib.Param)

        @lib.jit
        def step(model: Any, optimizer: Any) -> None:
            loss, grads = lib.value_and_grad(_loss)(model)
            optimizer.update(model, grads, value=loss)

        for _ in range(2):
            step(model, optimizer)
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_a_learning_rate_set_between_jitted_steps_acts_as_in_flax() -> None:
    def train(lib: Any) -> Any:
        model = _model(lib)
        tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
        optimizer = lib.Optimizer(model, tx, wrt=lib.Param)
        step = lib.jit(lambda model, optimizer: optimizer.update(model, lib.grad(_loss)(model)) and None)
        for rate in (0.1, 0.0, 0.5):
            optimizer.opt_state.hyperparams["learning_rate"][...] = jnp.float32(rate)
            step(model, optimizer)
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


@pytest.mark.parametrize("filters", ["kinds", "function", "not"])
def test_filters_of_other_kinds_select_as_in_flax(filters: str) -> None:
    def train(lib: Any) -> Any:
        model = _model(lib)
        wrt = {
            "kinds": (lib.Param, lib.BatchStat),
            "function": lambda path, value: path[-1] in ("kernel", "scale"),
            "not": lib.All(lib.Param, lib.Not(lib.PathContains(3))),
        }[filters]
        optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=wrt)
        for _ in range(2):
            optimizer.update(model, lib.grad(_loss, argnums=lib.DiffState(0, wrt))(model))
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)


def test_low_rank_additions_are_trained_alone_as_in_flax() -> None:
    def train(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        base = lib.Linear(2, 3, rngs=rngs)
        model = lib.LoRA(2, 2, 3, base_module=base, rngs=rngs)
        optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.LoRAParam)
        for wrt in (lib.LoRAParam, lib.LoRAParam, lib.Param):
            optimizer.update(model, lib.grad(_loss, argnums=lib.DiffState(0, wrt))(model))
        return model, optimizer

    (model, optimizer), (flax_model, flax_optimizer) = make_both(train)
    assert_same_state(model, flax_model)
    assert_same_state(optimizer, flax_optimizer)
