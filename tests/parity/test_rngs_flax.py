"""Random streams against flax.nnx: equal seeds give equal keys, in the same order, with the same counts."""

from __future__ import annotations

from typing import Any

import jax
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, make_both

SEEDS = {
    "default": lambda lib: lib.Rngs(3),
    "named": lambda lib: lib.Rngs(params=1, dropout=2),
    "both": lambda lib: lib.Rngs(3, dropout=2),
    "key": lambda lib: lib.Rngs(jax.random.key(5)),
    "raw key": lambda lib: lib.Rngs(params=jax.random.PRNGKey(5), dropout=1),
    "mapping": lambda lib: lib.Rngs({"params": 1, "dropout": jax.random.key(9)}),
    "stream": lambda lib: lib.Rngs(lib.Rngs(4, params=6).params),
}


@pytest.mark.parametrize("name", SEEDS)
def test_streams_give_the_keys_of_flax_in_order(name: str) -> None:
    ours, theirs = make_both(SEEDS[name])
    assert_same_state(ours, theirs)
    for stream in ("params", "dropout", "params", "dropout", "dropout"):
        assert_same(getattr(ours, stream)(), getattr(theirs, stream)())
        assert_same(ours[stream](), theirs[stream]())
    assert_same_state(ours, theirs)
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)


def test_the_default_stream_is_called_as_in_flax() -> None:
    ours, theirs = make_both(lambda lib: lib.Rngs(0))
    for _ in range(3):
        assert_same(ours(), theirs())


@pytest.mark.parametrize(
    "sizes", [4, (2, 3), {"params": 2, "dropout": None}, {"dropout": (2, 2), ...: 3}], ids=str
)
def test_splitting_gives_the_keys_of_flax(sizes: Any) -> None:
    ours, theirs = make_both(lambda lib: lib.Rngs(params=1, dropout=2))
    split, flax_split = ours.split(sizes), theirs.split(sizes)
    assert_same_state(split, flax_split)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("sizes", [4, (2, 3), {"params": 2}], ids=str)
def test_broadcasting_gives_the_keys_of_flax(sizes: Any) -> None:
    ours, theirs = make_both(lambda lib: lib.Rngs(params=1, dropout=2).broadcast(sizes))
    assert_same_state(ours, theirs)


def test_forking_gives_the_keys_of_flax() -> None:
    ours, theirs = make_both(lambda lib: lib.Rngs(params=1, dropout=2))
    ours.params()
    theirs.params()
    fork, flax_fork = ours.fork(), theirs.fork()
    assert_same_state(fork, flax_fork)
    assert_same(ours.dropout.fork()(), theirs.dropout.fork()())
    assert_same_state(ours, theirs)


def test_layers_share_a_stream_in_the_order_of_flax() -> None:
    def make(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        layers = [
            lib.Dropout(0.5, rngs=rngs),
            lib.Linear(2, 3, rngs=rngs),
            lib.Dropout(0.5, rngs=rngs.dropout),
        ]
        return lib.List(layers), rngs

    (ours, rngs), (theirs, flax_rngs) = make_both(make)
    assert_same_state(ours, theirs)
    assert_same_state(rngs, flax_rngs)
    assert isinstance(ours[0].rngs, nnx.RngStream)
    assert isinstance(theirs[0].rngs, flax_nnx.RngStream)


@pytest.mark.parametrize("how", ["key", "stream", "rngs"])
def test_dropout_takes_keys_at_the_call_as_in_flax(how: str) -> None:
    x = jax.numpy.ones((4, 5))

    def call(lib: Any) -> Any:
        rngs = lib.Rngs(0, dropout=3)
        given = {"key": jax.random.key(8), "stream": rngs.dropout, "rngs": rngs}[how]
        layer = lib.Dropout(0.5)
        return layer(x, rngs=given), layer(x, rngs=given), rngs

    (*ours, rngs), (*theirs, flax_rngs) = make_both(call)
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other)
    assert_same_state(rngs, flax_rngs)


def test_random_draws_are_those_of_flax() -> None:
    ours, theirs = make_both(lambda lib: lib.Rngs(0, params=1))
    for draw in (
        lambda rngs: rngs.normal((2, 3)),
        lambda rngs: rngs.params.uniform((2,)),
        lambda rngs: rngs.lecun_normal()((3, 4)),
        lambda rngs: rngs.params.bernoulli(0.5, (4,)),
        lambda rngs: rngs.permutation(5),
    ):
        assert_same(draw(ours), draw(theirs))
    assert_same_state(ours, theirs)
