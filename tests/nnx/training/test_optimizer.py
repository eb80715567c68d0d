from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))


def _model() -> nnx.Sequential:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
    )


def _loss(model: Any) -> jax.Array:
    return (model(X) ** 2).mean()


def test_sgd_takes_the_gradient_times_the_rate_off() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    kernel, grads = model.kernel[...], nnx.grad(_loss)(model)
    updates = optimizer.update(model, grads)
    np.testing.assert_allclose(model.kernel[...], kernel - 0.1 * grads.kernel[...], rtol=1e-6)
    np.testing.assert_allclose(updates["kernel"], -0.1 * grads.kernel[...], rtol=1e-6)


def test_it_agrees_with_plain_optax_on_plain_arrays() -> None:
    model = _model()
    model.eval()
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-2))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params = nnx.to_pure_dict(params)
    opt_state = tx.init(params)

    @jax.jit
    def plain_step(params: Any, opt_state: Any) -> Any:
        grads = jax.grad(lambda params: _loss(nnx.merge(graphdef, params, rest)))(params)
        changes, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        optimizer.update(model, nnx.grad(_loss)(model))

    for _ in range(3):
        params, opt_state = plain_step(params, opt_state)
        step(model, optimizer)
    got = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, params)


def test_the_older_spelling_holds_the_model() -> None:
    model = _model()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1))
    assert optimizer.model is model
    assert optimizer.wrt is nnx.Param
    before = _loss(model)
    optimizer.update(nnx.grad(_loss)(model))
    assert float(_loss(model)) < float(before)


def test_the_older_spelling_takes_the_model_at_the_call_too() -> None:
    model = _model()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1))
    optimizer.update(model, nnx.grad(_loss)(model))
    assert int(optimizer.step[...]) == 1


def test_the_newer_spelling_holds_no_model() -> None:
    optimizer = nnx.Optimizer(_model(), optax.sgd(0.1), wrt=nnx.Param)
    assert not hasattr(optimizer, "model")
    assert not list(nnx.to_flat_state(nnx.state(optimizer, nnx.Param)))


def test_its_state_is_variables_that_know_what_they_are() -> None:
    optimizer = nnx.Optimizer(_model(), optax.adam(1e-2), wrt=nnx.Param)
    kinds = {path: type(leaf) for path, leaf in nnx.to_flat_state(nnx.state(optimizer, nnx.OptState))}
    assert kinds["step",] is nnx.OptState
    assert kinds["opt_state", 0, "count"] is nnx.OptArray
    assert kinds["opt_state", 0, "mu", "layers", 2, "kernel"] is nnx.OptVariable
    assert len(kinds) == len(jax.tree.leaves(nnx.state(optimizer)))
    assert (optimizer.step.dtype, int(optimizer.step[...])) == (jnp.uint32, 0)


def test_only_what_wrt_selects_is_updated() -> None:
    model = _model()
    head = nnx.All(nnx.Param, nnx.PathContains(2))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=head)
    first, last = model.layers[0].kernel[...], model.layers[2].kernel[...]
    optimizer.update(model, nnx.grad(_loss, argnums=nnx.DiffState(0, head))(model))
    np.testing.assert_array_equal(model.layers[0].kernel[...], first)
    assert bool((model.layers[2].kernel[...] != last).all())


def test_gradients_may_be_a_state_of_plain_arrays() -> None:
    models = _model(), _model()
    for model, plain in zip(models, (False, True)):
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        grads = nnx.grad(_loss)(model)
        is_variable = lambda leaf: isinstance(leaf, nnx.Variable)  # noqa: E731
        arrays = jax.tree.map(lambda leaf: leaf[...], grads, is_leaf=is_variable)
        optimizer.update(model, arrays if plain else grads)
    np.testing.assert_array_equal(*(model.layers[0].kernel[...] for model in models))


@pytest.mark.parametrize("holds_model", [True, False])
def test_jitted_steps_equal_eager_ones(holds_model: bool) -> None:
    def train(transform: Any) -> Any:
        model = _model()
        if holds_model:
            optimizer = nnx.Optimizer(model, optax.adam(1e-2))
        else:
            optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

        def step(model: Any, optimizer: Any) -> Any:
            loss, grads = nnx.value_and_grad(_loss)(model)
            optimizer.update(grads) if holds_model else optimizer.update(model, grads)
            return loss

        step = transform(step)
        losses = [float(step(model, optimizer)) for _ in range(3)]
        return losses, model.layers[0].kernel[...], int(optimizer.step[...])

    for got, expected in zip(train(nnx.jit), train(lambda f: f), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_a_merged_optimizer_goes_on_where_it_was() -> None:
    model = _model()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2))
    optimizer.update(nnx.grad(_loss)(model))
    graphdef, state = nnx.split(optimizer)
    copy = nnx.merge(graphdef, jax.tree.map(jnp.copy, state))
    for one in (optimizer, copy):
        one.update(nnx.grad(_loss)(one.model))
    np.testing.assert_array_equal(copy.model.layers[0].kernel[...], optimizer.model.layers[0].kernel[...])
    assert copy.model.layers[0] is not model.layers[0]


def test_keyword_arguments_reach_the_transformation() -> None:
    seen: dict[str, Any] = {}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.update(extra)
        return updates, state

    tx = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    model = _model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = nnx.grad(_loss)(model)
    optimizer.update(model, grads, value=jnp.array(2.0), rate=nnx.Variable(jnp.array(3.0)), grad=grads)
    assert float(seen["value"]) == 2.0
    assert isinstance(seen["rate"], jax.Array)
    assert isinstance(seen["grad"]["layers"][0]["kernel"], jax.Array)


def test_an_injected_learning_rate_can_be_set() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), wrt=nnx.Param)
    optimizer.opt_state.hyperparams["learning_rate"][...] = jnp.array(0.0)
    kernel = model.kernel[...]
    optimizer.update(model, nnx.grad(_loss)(model))
    np.testing.assert_array_equal(model.kernel[...], kernel)


def test_metadata_of_a_parameter_goes_with_its_state() -> None:
    metadata = {"optimizer_sharding": ("data", None), "role": "kernel"}
    model = nnx.Linear(2, 3, kernel_metadata=metadata, rngs=nnx.Rngs(0))
    with nnx.use_eager_sharding(False):
        moment = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param).opt_state[0].mu["kernel"]
    assert moment.get_metadata() == {"out_sharding": ("data", None), "role": "kernel"}


# -- errors


def test_gradients_alone_need_an_optimizer_that_holds_the_model() -> None:
    model = _model()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    with pytest.raises(
        TypeError, match=r"Optimizer\.update got one argument, expected the model and the gradients: .* Call"
    ):
        optimizer.update(nnx.grad(_loss)(model))


@pytest.mark.parametrize("count", [0, 3])
def test_update_takes_one_or_two_arguments(count: int) -> None:
    optimizer = nnx.Optimizer(_model(), optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"Optimizer\.update\(\) (missing|takes)"):
        optimizer.update(*[None] * count)


def test_programs_for_several_versions_see_that_update_takes_the_model() -> None:
    assert (
        "model" in inspect.signature(nnx.Optimizer(_model(), optax.sgd(0.1), wrt=nnx.Param).update).parameters
    )


def test_gradients_of_other_variables_are_told() -> None:
    model = _model()
    head = nnx.All(nnx.Param, nnx.PathContains(2))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    grads = nnx.grad(_loss, argnums=nnx.DiffState(0, head))(model)
    with pytest.raises(
        ValueError,
        match=r"got gradients without 'layers\.0\.bias'.*, expected exactly those that wrt selects\. Pass",
    ):
        optimizer.update(model, grads)


def test_gradients_of_another_shape_are_told() -> None:
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    grads = nnx.vmap(nnx.grad(lambda model, x: model(x).sum()), in_axes=(None, 0))(model, X)
    with pytest.raises(
        ValueError, match=r"got gradients of shape \(8, 3\) for 'bias', expected \(3,\)\. Reduce or reshape"
    ):
        nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param).update(model, grads)


def test_a_filter_that_matches_nothing_is_told() -> None:
    with pytest.raises(
        ValueError,
        match=r"Optimizer got wrt=.*BatchStat'>, which matches no variable of the Linear, .*\(Param\)",
    ):
        nnx.Optimizer(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), optax.sgd(0.1), wrt=nnx.BatchStat)


@pytest.mark.parametrize(("tx", "shown"), [(optax.adam, "adam"), (0.1, "0.1"), ("adam", "'adam'")])
def test_what_is_no_transformation_is_told(tx: Any, shown: str) -> None:
    with pytest.raises(
        TypeError, match=rf"Optimizer got as tx the \w+ {shown}, expected an optax transformation.* Call"
    ):
        nnx.Optimizer(_model(), tx, wrt=nnx.Param)


# -- filters, kinds of gradients, dtypes


@pytest.mark.parametrize(
    "wrt",
    [
        nnx.Param,
        (nnx.Param, nnx.BatchStat),
        nnx.PathContains("bias"),
        nnx.All(nnx.Param, nnx.Not(nnx.PathContains(0))),
        lambda path, value: isinstance(value, nnx.Param) and path[-1] == "kernel",
        ...,
    ],
    ids=["kind", "kinds", "path", "all_but", "function", "everything"],
)
def test_any_filter_selects_what_is_updated(wrt: Any) -> None:
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=wrt)
    before = nnx.clone(nnx.state(model))
    optimizer.update(model, nnx.grad(_loss, argnums=nnx.DiffState(0, wrt))(model))
    selected = {path for path, _ in nnx.to_flat_state(nnx.state(model, wrt))}
    for (path, old), (_, new) in zip(
        nnx.to_flat_state(before), nnx.to_flat_state(nnx.state(model)), strict=True
    ):
        assert bool((old[...] == new[...]).all()) == (path not in selected), path


def test_frozen_variables_cost_no_memory_in_the_optimizer() -> None:
    model = _model()
    head = nnx.All(nnx.Param, nnx.Not(nnx.PathContains(0)))
    moments = nnx.Optimizer(model, optax.adam(0.1), wrt=head).opt_state
    paths = {path for path, _ in nnx.to_flat_state(nnx.state(moments))}
    assert not any("layers" in path and 0 in path[path.index("layers") :] for path in paths)


@pytest.mark.parametrize(
    "convert", [nnx.to_pure_dict, nnx.as_pure, lambda grads: grads], ids=["dicts", "arrays", "state"]
)
def test_gradients_may_be_a_state_or_nested_dicts(convert: Any) -> None:
    model, other = _model(), _model()
    for one, converted in ((model, False), (other, True)):
        optimizer = nnx.Optimizer(one, optax.adam(1e-2), wrt=nnx.Param)
        grads = nnx.grad(_loss)(one)
        optimizer.update(one, convert(grads) if converted else grads)
    np.testing.assert_array_equal(other.layers[0].kernel[...], model.layers[0].kernel[...])


def test_a_shared_parameter_is_updated_once() -> None:
    layer = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    model = nnx.Sequential(layer, layer)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    before, grads = layer.kernel[...], nnx.grad(_loss)(model)
    optimizer.update(model, grads)
    assert model.layers[0] is model.layers[1]
    assert len(jax.tree.leaves(optimizer.opt_state)) == 1
    np.testing.assert_allclose(layer.kernel[...], before - 0.1 * grads.layers[0].kernel[...], rtol=1e-6)


def test_parameters_keep_a_low_precision() -> None:
    model = nnx.Linear(2, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    tx = optax.adam(optax.linear_schedule(0.1, 0.0, 5), mu_dtype=jnp.float32)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, nnx.grad(_loss)(model))
    assert model.kernel.dtype == jnp.bfloat16
    assert optimizer.opt_state[0].mu["kernel"].dtype == jnp.float32


# -- under jit, and between runs


def test_a_learning_rate_changes_between_steps_without_a_new_compilation() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    traces = 0

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        nonlocal traces
        traces += 1
        optimizer.update(model, nnx.grad(_loss)(model))

    step(model, optimizer)
    kernel = model.kernel[...]
    for rate, moves in ((0.0, False), (0.5, True)):
        optimizer.opt_state[1].hyperparams["learning_rate"][...] = jnp.float32(rate)
        step(model, optimizer)
        assert bool((model.kernel[...] != kernel).any()) == moves
    assert traces == 1


def test_arrays_are_donated_and_the_optimizer_goes_on() -> None:
    models = _model(), _model()
    for model, options in zip(models, ({}, {"donate_argnums": (0, 1)}), strict=True):
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        step = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.grad(_loss)(model)), **options)
        moment = optimizer.opt_state[0].mu.layers[0].kernel[...]
        for _ in range(2):
            step(model, optimizer)
        assert moment.is_deleted() == bool(options)
        assert int(optimizer.step[...]) == 2
    np.testing.assert_array_equal(*(model.layers[0].kernel[...] for model in models))


@pytest.mark.parametrize("through", ["update", "pure_dict"])
def test_a_saved_state_restores_another_optimizer(through: str) -> None:
    model, other = _model(), _model()
    tx = optax.MultiSteps(optax.adamw(optax.cosine_decay_schedule(0.1, 10)), every_k_schedule=2)
    optimizer, restored = (nnx.Optimizer(one, tx, wrt=nnx.Param) for one in (model, other))
    for _ in range(3):
        optimizer.update(model, nnx.grad(_loss)(model))
    for source, target in ((model, other), (optimizer, restored)):
        state = nnx.state(source)
        if through == "pure_dict":
            saved = jax.tree.map(np.asarray, nnx.to_pure_dict(state))
            state = nnx.state(target)
            nnx.replace_by_pure_dict(state, saved)
        nnx.update(target, jax.tree.map(jnp.array, state))
    for one, by in ((model, optimizer), (other, restored)):
        by.update(one, nnx.grad(_loss)(one))
    np.testing.assert_array_equal(other.layers[0].kernel[...], model.layers[0].kernel[...])
    assert int(restored.step[...]) == 4
