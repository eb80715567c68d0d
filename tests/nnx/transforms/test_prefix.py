import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Weighted(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(rngs.normal((4, 2, 3)))
        self.seen = nnx.BatchStat(jnp.array(0))

    def __call__(self, x):
        return x @ self.weight[...]


def test_axes_by_filter_are_for_the_modules_of_a_call():
    model = Weighted(nnx.Rngs(0))
    axes = nnx.prefix(model, {nnx.Param: 0, ...: None})
    assert axes == nnx.StateAxes({nnx.Param: 0, ...: None})
    y = nnx.vmap(lambda model, x: model(x), in_axes=(axes, None))(model, jnp.ones(2))
    np.testing.assert_allclose(y, model.weight.value.sum(axis=1), rtol=1e-6)


def test_axes_by_function_see_paths_from_the_whole():
    models = [Weighted(nnx.Rngs(0)), Weighted(nnx.Rngs(1))]
    seen = []

    def rule(path, leaf):
        seen.append(path)
        return 0 if path[0] == 1 and isinstance(leaf, nnx.Param) else None

    first, second = nnx.prefix(models, rule)
    assert seen == [(0, "seen"), (0, "weight"), (1, "seen"), (1, "weight")]
    weights = nnx.vmap(lambda a, b: a.weight.sum() + b.weight.sum(), in_axes=(first, second))(*models)
    expected = models[0].weight.value.sum() + models[1].weight.value.sum(axis=(1, 2))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_filters_by_path_begin_at_the_whole_too():
    tree = {"a": Weighted(nnx.Rngs(0)), "b": (nnx.Param(jnp.ones(4)), jnp.ones(4), 3)}
    axes = nnx.prefix(tree, {nnx.PathContains("a"): None, ...: 0})
    assert axes["b"] == (0, 0, 0)
    assert axes["a"].map_prefix(("weight",), tree["a"].weight) is None


def test_axes_for_outputs_may_be_taken_from_an_example():
    out_axes = nnx.prefix(Weighted(nnx.Rngs(0)), {nnx.Param: 0, ...: None})
    make = nnx.vmap(Weighted, in_axes=0, out_axes=out_axes)
    model = make(nnx.Rngs(0).fork(split=5))
    assert model.weight.shape == (5, 4, 2, 3)
    assert model.seen.shape == ()


def test_what_no_filter_matches_is_an_error_with_its_path():
    with pytest.raises(
        ValueError, match="No filter matched the BatchStat at '0/seen', expected one for each"
    ):
        nnx.prefix([Weighted(nnx.Rngs(0))], {nnx.Param: 0})
