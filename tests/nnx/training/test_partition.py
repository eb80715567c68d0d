from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax import nnx

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))


def _model() -> nnx.Sequential:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
    )


def _loss(model: Any) -> jax.Array:
    return (model(X) ** 2).mean()


def _values(node: Any, *filters: Any) -> dict[Any, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in nnx.to_flat_state(nnx.state(node, *filters))}


TRANSFORMS = {
    nnx.PathContains("bias"): lambda: optax.sgd(0.1),
    nnx.PathContains(0): lambda: None,
    nnx.Param: lambda: optax.adam(1e-2),
}


def _made() -> dict[Any, Any]:
    return {filter: make() for filter, make in TRANSFORMS.items()}


@pytest.mark.parametrize("old_spelling", [False, True])
def test_each_variable_is_updated_by_the_first_filter_that_matches(old_spelling: bool) -> None:
    model = _model()
    tx = nnx.multi_transform(_made())
    optimizer = nnx.Optimizer(model, tx) if old_spelling else nnx.Optimizer(model, tx, wrt=nnx.Param)
    parts = {
        "bias": nnx.PathContains("bias"),
        "rest": nnx.All(nnx.Param, nnx.Not(nnx.PathContains(0)), nnx.Not(nnx.PathContains("bias"))),
    }
    other = _model()
    separate = [
        nnx.Optimizer(other, optax.sgd(0.1), wrt=nnx.All(nnx.Param, parts["bias"])),
        nnx.Optimizer(other, optax.adam(1e-2), wrt=parts["rest"]),
    ]
    for _ in range(2):
        grads = nnx.grad(_loss)(model)
        optimizer.update(grads) if old_spelling else optimizer.update(model, grads)
        grads = nnx.grad(_loss)(other)
        for one in separate:
            one.update(other, grads)
    got, expected = _values(model), _values(other)
    for path, value in expected.items():
        np.testing.assert_array_equal(got[path], value)


def test_frozen_variables_keep_their_bits_and_take_no_memory() -> None:
    model = _model()
    model.layers[0].kernel[...] = jnp.array([[-0.0, 0.0, jnp.nan], [1.0, -1.0, 1e-30]])
    before = np.asarray(model.layers[0].kernel[...]).tobytes()
    tx = nnx.multi_transform([(nnx.PathContains(0), None), (..., optax.adamw(0.1))])
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.grad(_loss)(model)) and None)
    step(model, optimizer)
    optimizer.update(model, nnx.grad(_loss)(model))
    assert np.asarray(model.layers[0].kernel[...]).tobytes() == before
    trained = sum(leaf.size for _, leaf in nnx.to_flat_state(nnx.state(model, nnx.PathContains(2))))
    trained += sum(leaf.size for _, leaf in nnx.to_flat_state(nnx.state(model.layers[1], nnx.Param)))
    moments = nnx.state(optimizer, nnx.OptVariable)
    assert sum(leaf.size for leaf in jax.tree.leaves(moments)) == 2 * trained


def test_pairs_may_have_filters_that_are_no_keys() -> None:
    tx = nnx.multi_transform([([nnx.BatchStat, nnx.PathContains("kernel")], optax.sgd(0.1)), (..., None)])
    model = _model()
    before = _values(model)
    nnx.Optimizer(model, tx, wrt=nnx.Param).update(model, nnx.grad(_loss)(model))
    changed = {path for path, value in _values(model, nnx.Param).items() if (value != before[path]).any()}
    assert changed == {("layers", 0, "kernel"), ("layers", 2, "kernel")}


@pytest.mark.parametrize("kinds", [True, False])
def test_optax_alone_takes_it_on_a_state(kinds: bool) -> None:
    params = nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    tx = nnx.multi_transform({nnx.PathContains("bias"): optax.sgd(1.0), ...: optax.sgd(2.0)})
    params = params if kinds else nnx.as_pure(params)
    state = tx.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, after = jax.jit(tx.update)(ones, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    values = nnx.to_pure_dict(updates)
    assert (float(values["bias"][0]), float(values["kernel"][0, 0])) == (-1.0, -2.0)


def test_arguments_reach_each_part_and_trees_are_cut_to_it() -> None:
    seen: list[Any] = []

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.append((len(jax.tree.leaves(extra["grad"])), extra["value"]))
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)  # type: ignore[arg-type]
    model = _model()
    optimizer = nnx.Optimizer(
        model, nnx.multi_transform({nnx.PathContains(2): spy, ...: None}), wrt=nnx.Param
    )
    grads = nnx.grad(_loss)(model)
    optimizer.update(model, grads, grad=grads, value=3.0)
    assert seen == [(2, 3.0)]


def test_states_of_parts_are_found_by_position_and_set_under_jit() -> None:
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    sgd = optax.inject_hyperparams(optax.sgd)
    tx = nnx.multi_transform({nnx.PathContains("bias"): sgd(0.1), ...: sgd(0.5)})
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(lambda model, optimizer: optimizer.update(model, nnx.grad(_loss)(model)))
    step(model, optimizer)
    graphdef, state = nnx.split(optimizer)
    optimizer = nnx.merge(graphdef, state)
    rates = [optimizer.opt_state.inner_states[i].inner_state.hyperparams["learning_rate"] for i in (0, 1)]
    np.testing.assert_allclose([rate[...] for rate in rates], [0.1, 0.5])
    rates[1][...] = jnp.float32(0.0)
    before = model.kernel[...], model.bias[...]
    step(model, optimizer)
    assert bool((model.kernel[...] == before[0]).all())
    assert bool((model.bias[...] != before[1]).all())


def test_fit_and_a_loop_by_hand_do_the_same() -> None:
    y = jnp.asarray(np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32))
    net, by_hand = _model(), _model()
    model = ef.Model(net)
    model.compile(optimizer=nnx.multi_transform(_made()), loss="mse")
    model.fit(X, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    optimizer = nnx.Optimizer(by_hand, nnx.multi_transform(_made()), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        grads = nnx.grad(lambda model: ((model(X) - y) ** 2).mean())(model)
        optimizer.update(model, grads)

    for _ in range(2):
        step(by_hand, optimizer)
    got, expected, start = _values(net, nnx.Param), _values(by_hand, nnx.Param), _values(_model(), nnx.Param)
    for path, value in expected.items():
        np.testing.assert_allclose(got[path], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["layers", 0, "kernel"], start["layers", 0, "kernel"])
    assert (got["layers", 2, "kernel"] != start["layers", 2, "kernel"]).any()


def test_labels_by_path_of_optax_see_the_nesting_of_the_model_in_fit() -> None:
    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: (
                "head" if path[:2] == tuple(map(jax.tree_util.DictKey, ("layers", 2))) else "rest"
            ),
            params,
        )

    net = _model()
    before = _values(net)
    model = ef.Model(net)
    tx = optax.multi_transform({"head": optax.sgd(0.1), "rest": optax.set_to_zero()}, labels)
    model.compile(optimizer=tx, loss="mse")
    model.fit(X, jnp.ones((8, 1)), epochs=1, verbose=0)
    changed = {path for path, value in _values(net, nnx.Param).items() if (value != before[path]).any()}
    assert changed == {("layers", 2, "bias"), ("layers", 2, "kernel")}


# -- errors


def test_a_variable_that_no_filter_matches_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"got 'layers\.0\.kernel' \(Param\), which none of the filters .* matches.*Add a"
    ):
        nnx.Optimizer(
            _model(), nnx.multi_transform({nnx.PathContains("bias"): optax.sgd(0.1)}), wrt=nnx.Param
        )


def test_plain_arrays_have_no_kind_to_match() -> None:
    with pytest.raises(ValueError, match=r"got 'w' \(plain array, which only filters by path match\)"):
        nnx.multi_transform({nnx.Param: optax.sgd(0.1)}).init({"w": jnp.ones(2)})


@pytest.mark.parametrize("filters", [(nnx.PathContains("nothing"), ...), (nnx.Param, nnx.PathContains(0))])
def test_a_filter_without_a_variable_is_told(filters: Any) -> None:
    tx = nnx.multi_transform([(filter, optax.sgd(0.1)) for filter in filters])
    with pytest.raises(ValueError, match=r"PathContains\(.*, which matches no variable that those before it"):
        nnx.Optimizer(_model(), tx, wrt=nnx.Param)


def test_an_ellipsis_may_be_left_without_a_variable() -> None:
    nnx.Optimizer(
        _model(), nnx.multi_transform({nnx.Param: optax.sgd(0.1), ...: optax.sgd(0.1)}), wrt=nnx.Param
    )


def test_an_ellipsis_stands_last() -> None:
    with pytest.raises(ValueError, match=r"it matches everything.*Put it last"):
        nnx.multi_transform({...: None, nnx.Param: optax.sgd(0.1)})


@pytest.mark.parametrize("tx", [optax.sgd, "sgd", 0.1])
def test_what_is_no_transformation_is_told(tx: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"multi_transform got for the filter .*Param'> the \w+ .*, expected an optax transf.* Call",
    ):
        nnx.multi_transform({nnx.Param: tx})


def test_what_is_no_pair_is_told() -> None:
    with pytest.raises(TypeError, match=r"multi_transform got \w+ .*, expected pairs of a filter and an opt"):
        nnx.multi_transform([nnx.Param, optax.sgd(0.1)])  # type: ignore[list-item]
