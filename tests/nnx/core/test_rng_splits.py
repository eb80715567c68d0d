from typing import Any

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


def same(a: Any, b: Any) -> bool:
    return bool((jax.random.key_data(a) == jax.random.key_data(b)).all())


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.linear(x))


def test_split_keys_are_those_of_the_next_key_of_the_stream():
    rngs = nnx.Rngs(params=0, dropout=1)
    expected = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 5)
    nnx.split_rngs(rngs, splits=5, only="params")
    assert same(rngs.params.key.value, expected)
    assert rngs.params.count.shape == (5,)
    assert not rngs.params.count.value.any()
    assert rngs.dropout.key.shape == ()


def test_restoring_gives_keys_and_counters_back_after_the_draw():
    rngs = nnx.Rngs(0)
    key = rngs.default.key.value
    backups = nnx.split_rngs(rngs, splits=(2, 3))
    assert len(backups) == 1
    assert rngs.default.key.shape == (2, 3)
    nnx.restore_rngs(backups)
    assert same(rngs.default.key.value, key)
    assert int(rngs.default.count.value) == 1


def test_a_block_restores_also_after_an_error():
    rngs = nnx.Rngs(0)
    with pytest.raises(RuntimeError), nnx.split_rngs(rngs, splits=2):
        raise RuntimeError
    assert rngs.default.key.shape == ()


def test_streams_inside_of_modules_and_containers_are_found_once():
    model = Model(nnx.Rngs(0))
    with nnx.split_rngs({"a": model, "b": [model.drop]}, splits=4):
        assert model.drop.rngs is not None
        assert model.drop.rngs.key.shape == (4,)


def test_as_a_decorator_it_holds_for_one_call():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> Model:
        return Model(rngs)

    rngs = nnx.Rngs(0)
    models = make(rngs)
    assert models.linear.kernel.shape == (3, 2, 3)
    assert models.drop.rngs is not None
    assert models.drop.rngs.key.shape == (3,)
    assert rngs.default.key.shape == ()
    assert int(rngs.default.count.value) == 1
    assert not bool((make(rngs).linear.kernel.value == models.linear.kernel.value).any())

    @nnx.split_rngs(splits=2, only="dropout")
    def shapes(x: int, *, rngs: nnx.Rngs) -> Any:
        return x, rngs.params.key.shape, rngs.dropout.key.shape

    assert shapes(1, rngs=nnx.Rngs(params=0, dropout=1)) == (1, (), (2,))


def test_squeezing_keeps_the_shape_of_the_keys():
    rngs = nnx.Rngs(0)
    nnx.split_rngs(rngs, splits=1, squeeze=True)
    expected = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 1)[0]
    assert same(rngs.default.key.value, expected)
    assert rngs.default.count.shape == ()
    with pytest.raises(ValueError, match="squeeze=True and splits=2, expected splits=1"):
        nnx.split_rngs(rngs, splits=2, squeeze=True)
    with pytest.raises(ValueError, match="expected splits=1"):
        nnx.split_rngs(splits=2, squeeze=True)


def test_a_split_survives_jit_and_dropout_differs_over_a_batch():
    model = Model(nnx.Rngs(0))

    @nnx.jit
    def forward(model: Model, x: jax.Array) -> jax.Array:
        axes = nnx.StateAxes({nnx.RngState: 0, ...: None})
        with nnx.split_rngs(model, splits=4):
            return nnx.vmap(lambda model, x: model(x), in_axes=(axes, None))(model, x)

    y = forward(model, jnp.ones((2,)))
    assert len({tuple(row.tolist()) for row in y == 0}) > 1
    assert model.drop.rngs is not None
    assert model.drop.rngs.key.shape == ()
    assert int(model.drop.rngs.count.value) == 1


def test_forking_replaces_keys_by_their_next():
    rngs = nnx.Rngs(params=0, dropout=1)
    expected = jax.random.fold_in(jax.random.key(0), 0)
    with nnx.fork_rngs(rngs):
        assert same(rngs.params.key.value, expected)
        assert int(rngs.params.count.value) == 0
    assert same(rngs.params.key.value, jax.random.key(0))
    assert int(rngs.params.count.value) == 1
    with nnx.fork_rngs(rngs, split=2):
        assert rngs.dropout.key.shape == (2,)
    with nnx.fork_rngs(rngs, split={"params": (2, 2)}):
        assert (rngs.params.key.shape, rngs.dropout.key.shape) == ((2, 2), ())
        assert same(rngs.dropout.key.value, jax.random.key(1))

    @nnx.fork_rngs(split={"params": 3, ...: None})
    def shapes(rngs: nnx.Rngs) -> Any:
        return rngs.params.key.shape, rngs.dropout.key.shape

    assert shapes(rngs) == ((3,), ())


def test_with_rngs_returns_other_streams_and_draws_one_key():
    rngs = nnx.Rngs(params=0, dropout=1, noise=2)
    key = rngs.params.key
    new = nnx.with_rngs(rngs, split={"params": 4, "dropout": (2, 3)}, fork=...)
    assert (new.params.key.shape, new.dropout.key.shape, new.noise.key.shape) == ((4,), (2, 3), ())
    assert same(new.noise.key.value, jax.random.fold_in(jax.random.key(2), 0))
    assert rngs.params.key is key
    assert rngs.params.key.shape == ()
    assert int(rngs.params.count.value) == 1


def test_with_rngs_leaves_what_no_rule_matches():
    rngs = nnx.Rngs(params=0, dropout=1)
    new = nnx.with_rngs(rngs, fork="params")
    assert new.dropout is not rngs.dropout
    assert new.dropout.key is rngs.dropout.key
    only = nnx.with_rngs(rngs, split=4, only="dropout")
    assert (only.params.key.shape, only.dropout.key.shape) == ((), (4,))


def test_with_rngs_broadcasts_and_decorates_and_shares_the_rest():
    model = Model(nnx.Rngs(0))
    new = nnx.with_rngs(model, broadcast=3)
    assert new.linear.kernel is model.linear.kernel
    assert new.drop.rngs is not None
    assert same(new.drop.rngs.key[0], new.drop.rngs.key[2])

    @nnx.with_rngs(split={"params": 4})
    def shapes(rngs: nnx.Rngs, *, more: nnx.Rngs) -> Any:
        return rngs.params.key.shape, more.dropout.key.shape

    assert shapes(nnx.Rngs(params=0), more=nnx.Rngs(dropout=0)) == ((4,), ())


def test_two_rules_for_one_stream_are_an_error_that_names_them():
    rules = r"split='params', fork='params'"
    with pytest.raises(ValueError, match=f"'params' at 'params' matches multiple rules: {rules}"):
        nnx.with_rngs(nnx.Rngs(params=0), split={"params": 4}, fork=["noise", "params"])


def test_reseeding_repeats_the_numbers():
    model, x = Model(nnx.Rngs(0, dropout=42)), jnp.ones((1, 2))
    first = model(x)
    model(x)
    nnx.reseed(model, dropout=42)
    assert (model(x) == first).all()
    nnx.reseed(model, params=1)  # no such stream: nothing changes
    assert model.drop.rngs is not None
    assert int(model.drop.rngs.count.value) == 1


def test_reseeding_several_keys_needs_a_policy():
    rngs = nnx.Rngs(0)
    nnx.split_rngs(rngs, splits=3)
    with pytest.raises(ValueError, match=r"keys of shape \(3,\) at 'default', expected a single key"):
        nnx.reseed(rngs, default=1)
    nnx.reseed(rngs, default=1, policy="match_shape")
    assert same(rngs.default.key.value, jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 3))
    nnx.reseed(rngs, default=1, policy=lambda path, key, shape: key)
    assert rngs.default.key.shape == rngs.default.count.shape == ()
    with pytest.raises(
        ValueError, match=r"policy='other', expected one of \['match_shape', 'scalars_only'\]"
    ):
        nnx.reseed(rngs, default=1, policy="other")  # type: ignore[arg-type]
