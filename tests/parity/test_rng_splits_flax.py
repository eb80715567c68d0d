"""The random streams of whole models, split, forked and reseeded, here and in flax.nnx: equal to the bit."""

from typing import Any

import jax.numpy as jnp
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_state, assert_same_tree, make_both


def make_model(lib: Any) -> Any:
    class Block(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.linear = lib.Linear(4, 4, rngs=rngs)
            self.drop = lib.Dropout(0.5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.drop(self.linear(x))

    class Model(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.blocks = lib.List([Block(rngs) for _ in range(2)])
            self.rngs = rngs
            self.again = self.blocks[1].drop

    return Model(lib.Rngs(0, dropout=1, noise=2))


def keys(lib: Any, node: Any) -> Any:
    """The values of all random state, by path."""
    return lib.to_pure_dict(lib.state(node, lib.RngState))


SPLITS = {
    "all": {"splits": 3},
    "a shape": {"splits": (2, 3)},
    "by tag": {"splits": 3, "only": "dropout"},
    "squeezed": {"splits": 1, "squeeze": True},
}


@pytest.mark.parametrize("options", SPLITS.values(), ids=SPLITS)
def test_split_rngs(options: dict[str, Any]):
    def program(lib: Any) -> Any:
        model = make_model(lib)
        backups = lib.split_rngs(model, **options)
        split = keys(lib, model)
        lib.restore_rngs(backups)
        return split, keys(lib, model)

    assert_same_tree(program(nnx), program(flax_nnx))


@pytest.mark.filterwarnings("ignore:The .split. argument of .fork.:DeprecationWarning")
@pytest.mark.parametrize("split", [None, 2, {"dropout": 3}, {"noise": (2, 2), "dropout": None}], ids=str)
def test_fork_rngs(split: Any):
    def program(lib: Any) -> Any:
        model = make_model(lib)
        with lib.fork_rngs(model, split=split):
            forked = keys(lib, model)
        return forked, keys(lib, model)

    assert_same_tree(program(nnx), program(flax_nnx))


RULES = {
    "split": {"split": 3},
    "split some, fork the rest": {"split": {"noise": 2}, "fork": ...},
    "split all goes before forking some": {"split": 2, "fork": "dropout"},
    "broadcast": {"broadcast": {"dropout": (2, 3)}},
    "fork by several filters": {"fork": ["noise", "dropout"]},
    "only": {"split": 2, "only": "dropout"},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_with_rngs(rules: dict[str, Any]):
    def program(lib: Any) -> Any:
        model = make_model(lib)
        options = {} if lib is nnx else {"graph": True, "graph_updates": False}
        return keys(lib, lib.with_rngs(model, **rules, **options)), keys(lib, model)

    assert_same_tree(program(nnx), program(flax_nnx))


def test_reseed():
    def program(lib: Any) -> Any:
        model = make_model(lib)
        lib.reseed(model, dropout=5, noise=6)
        scalar = keys(lib, model)
        lib.split_rngs(model, splits=2, only="dropout")
        lib.reseed(model, dropout=7, policy="match_shape")
        return scalar, keys(lib, model)

    assert_same_tree(program(nnx), program(flax_nnx))


def test_an_ensemble_is_made_and_run_alike():
    def program(lib: Any) -> Any:
        class Net(lib.Module):
            def __init__(self, rngs: Any) -> None:
                self.linear = lib.Linear(3, 4, rngs=rngs)
                self.drop = lib.Dropout(0.5, rngs=rngs)

            def __call__(self, x: Any) -> Any:
                return self.drop(self.linear(x))

        @lib.split_rngs(splits=3)
        @lib.vmap(in_axes=0, out_axes=0)
        def make(rngs: Any) -> Any:
            return Net(rngs)

        @lib.vmap(in_axes=(0, None), out_axes=0)
        def forward(net: Any, x: Any) -> Any:
            return net(x)

        rngs = lib.Rngs(0, dropout=1)
        net = make(rngs)
        return forward(net, jnp.ones((2, 3))), net, rngs

    (out, net, rngs), (flax_out, flax_net, flax_rngs) = make_both(program)
    assert_same_tree(out, flax_out)
    assert_same_state(net, flax_net)
    assert_same_state(rngs, flax_rngs)
