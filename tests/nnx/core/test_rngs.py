"""Random streams: which keys they give, how they split, fork and broadcast, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


def data(key):
    return jax.random.key_data(key).tolist()


def nth(seed, n):
    return data(jax.random.fold_in(jax.random.key(seed), n))


def test_the_nth_key_of_a_stream_folds_n_into_its_seed():
    rngs = nnx.Rngs(0, params=1)
    assert [data(rngs.params()) for _ in range(3)] == [nth(1, n) for n in range(3)]
    assert int(rngs.params.count.value) == 3
    assert data(rngs()) == nth(0, 0)


def test_names_without_a_stream_of_their_own_use_the_default():
    rngs = nnx.Rngs(0, params=1)
    assert [data(rngs.dropout()), data(rngs["noise"]()), data(rngs())] == [nth(0, n) for n in range(3)]
    assert data(rngs["params"]()) == nth(1, 0)


@pytest.mark.parametrize(
    "seed",
    [
        7,
        np.int64(7),
        jax.random.key(7),
        jax.random.PRNGKey(7),
        np.asarray(jax.random.PRNGKey(7)),
        nnx.Variable(jax.random.key(7)),
        nnx.RngStream(7, tag="other"),
        {"default": 7},
    ],
    ids=["int", "numpy int", "key", "raw key", "numpy key", "variable", "stream", "mapping"],
)
def test_seeds_come_in_many_forms(seed):
    if not isinstance(seed, nnx.RngStream):
        assert data(nnx.Rngs(seed)()) == nth(7, 0)
    if not isinstance(seed, dict):
        assert data(nnx.Rngs(params=seed).params()) == nth(7, 0)


def test_another_implementation_of_keys_is_kept():
    rngs = nnx.Rngs(jax.random.key(0, impl="rbg"))
    assert jax.random.key_impl(rngs()) == jax.random.key_impl(jax.random.key(0, impl="rbg"))


@pytest.mark.parametrize("seed", ["x", 1.5, True, None, jnp.ones(2)])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match="as the seed of a random stream, expected an integer or a key"):
        nnx.Rngs(params=seed)


def test_missing_streams_are_named():
    rngs = nnx.Rngs(params=1)
    with pytest.raises(AttributeError, match=r"No RngStream named 'dropout' found in Rngs; there are"):
        _ = rngs.dropout
    with pytest.raises(KeyError, match="No RngStream named 'dropout'"):
        rngs["dropout"]
    with pytest.raises(AttributeError, match="No RngStream named 'default'"):
        rngs()


def test_rngs_are_a_collection_of_streams():
    rngs = nnx.Rngs(0, dropout=1)
    assert sorted(rngs) == ["default", "dropout"]
    assert (len(rngs), "dropout" in rngs, "noise" in rngs) == (2, True, False)
    assert dict(rngs.items())["dropout"] is rngs.dropout


def test_keys_and_counts_are_variables_with_the_stream_as_their_tag():
    rngs = nnx.Rngs(0, dropout=1)
    state = nnx.state(rngs, "dropout")
    assert nnx.to_flat_state(state).paths == (("dropout", "count"), ("dropout", "key"))
    keys, counts = nnx.state(rngs, nnx.RngKey, nnx.RngCount)
    assert len(nnx.to_flat_state(keys)) == len(nnx.to_flat_state(counts)) == 2
    assert rngs.dropout.count.dtype == jnp.uint32
    assert {leaf.tag for _, leaf in nnx.to_flat_state(nnx.state(rngs, nnx.RngState))} == {
        "default",
        "dropout",
    }


# -- deriving streams


def test_splitting_draws_one_key_and_makes_several_of_it():
    rngs = nnx.Rngs(0, params=1)
    split = rngs.split(3)
    expected = jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 3)
    assert data(split.params.key.value) == data(expected)
    assert split.params.count.value.tolist() == [0, 0, 0]
    assert int(rngs.params.count.value) == 1


def test_splitting_by_filters_leaves_other_streams_as_they_are():
    rngs = nnx.Rngs(0, params=1, dropout=2)
    split = rngs.split({"params": (2, 3), nnx.RngState: None, ...: None})
    assert split.params.key.shape == split.params.count.shape == (2, 3)
    assert split.dropout.key.shape == ()
    assert data(split.dropout()) == nth(2, 0)


def test_forks_are_independent_of_their_origin():
    rngs = nnx.Rngs(0)
    fork = rngs.fork()
    assert data(fork.default.key.value) == nth(0, 0)
    assert data(fork()) != data(rngs())
    assert int(rngs.default.count.value) == 2
    assert rngs.fork(split=4).default.key.shape == (4,)
    some = nnx.Rngs(0, params=1).fork(split={"params": 2})
    assert (some.params.key.shape, some.default.key.shape) == ((2,), ())


def test_broadcast_streams_have_equal_keys():
    rngs = nnx.Rngs(0, params=1)
    wide = rngs.broadcast({"params": 3})
    assert data(wide.params.key.value) == [nth(1, 0)] * 3
    assert wide.default.key.shape == ()
    assert rngs.broadcast((2, 3)).params.key.shape == (2, 3)


def test_split_streams_give_a_key_for_each_member_under_vmap():
    draw = nnx.vmap(lambda rngs: rngs.normal(()))
    values = draw(nnx.Rngs(0).split(3))
    assert len(set(values.tolist())) == 3
    assert len(set(draw(nnx.Rngs(0).broadcast(3)).tolist())) == 1


def test_a_stream_alone_works_as_well():
    stream = nnx.RngStream(0, tag="x")
    assert data(stream()) == nth(0, 0)
    assert (stream.split(2).key.shape, stream.fork().tag, stream.key.tag) == ((2,), "x", "x")


# -- drawing


def test_functions_of_jax_random_draw_the_key_themselves():
    rngs = nnx.Rngs(0, params=1)
    expected = jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), (2, 3))
    np.testing.assert_array_equal(rngs.normal((2, 3)), expected)
    expected = jax.random.randint(jax.random.fold_in(jax.random.key(1), 0), (4,), 0, 9)
    np.testing.assert_array_equal(rngs.params.randint((4,), 0, 9), expected)


def test_initializers_draw_the_key_themselves():
    init = jax.nn.initializers.lecun_normal()
    expected = init(jax.random.fold_in(jax.random.key(0), 0), (2, 3), jnp.float32)
    np.testing.assert_array_equal(nnx.Rngs(0).lecun_normal()((2, 3), jnp.float32), expected)


# -- with transforms


def test_jit_advances_the_streams_that_it_is_passed():
    rngs = nnx.Rngs(0)
    draw = nnx.jit(lambda rngs: rngs())
    assert [data(draw(rngs)), data(draw(rngs)), data(rngs())] == [nth(0, n) for n in range(3)]


def test_a_stream_that_was_not_passed_cannot_be_drawn_from():
    rngs = nnx.Rngs(0, dropout=1)
    with pytest.raises(nnx.TraceContextError, match=r"The random stream 'dropout' was asked for a key"):
        jax.jit(lambda x: jax.random.normal(rngs.dropout(), ()) + x)(1.0)
    assert int(rngs.dropout.count.value) == 0
    assert data(rngs.dropout()) == nth(1, 0)
