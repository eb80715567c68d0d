import random as python_random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
import easyflax.random as random


@pytest.fixture(autouse=True)
def _fresh_seed():
    random.set_random_seed(0)


def test_the_global_keys_follow_from_the_seed_and_all_differ():
    def keys(seed):
        random.set_random_seed(seed)
        return [tuple(jax.random.key_data(random.next_key()).tolist()) for _ in range(4)]

    assert keys(5) == keys(5)
    assert len({*keys(5), *keys(6)}) == 8
    assert random.get_global_seed() == 6


def test_the_seed_sets_python_and_numpy_too():
    draws = []
    for _ in range(2):
        random.set_random_seed(3)
        draws.append((python_random.random(), np.random.rand(), random.next_seed(), float(random.normal(()))))  # noqa: NPY002
    assert draws[0] == draws[1]


def test_a_key_can_be_drawn_inside_a_trace_and_leaves_no_tracer_behind():
    with jax.checking_leaks():
        traced = jax.jit(lambda: random.normal((2,)))()
    random.set_random_seed(0)
    np.testing.assert_array_equal(traced, random.normal((2,)))
    assert isinstance(random.next_key(), jax.Array)


class Noisy(nnx.Module):
    def __init__(self):
        self.seeds = random.SeedGenerator(1)

    def __call__(self, x):
        return x + random.normal(x.shape, seed=self.seeds)


def test_a_generator_in_a_module_counts_through_jit():
    eager, compiled, x = Noisy(), Noisy(), jnp.zeros(3)
    call = nnx.jit(lambda module, x: module(x))
    for _ in range(3):
        np.testing.assert_allclose(call(compiled, x), eager(x), rtol=1e-6)
    assert compiled.seeds.state[...].tolist() == [1, 3]
    assert isinstance(nnx.state(compiled, nnx.RngState)["seeds"]["state"], random.SeedState)


def test_generators_without_a_seed_differ_from_each_other_and_follow_the_global_one():
    one, other = random.SeedGenerator(), random.SeedGenerator()
    assert one.state[...].tolist() != other.state[...].tolist()
    random.set_random_seed(0)
    assert random.SeedGenerator().state[...].tolist() == one.state[...].tolist()


def test_a_generator_from_its_configuration_starts_again():
    generator = random.SeedGenerator(4)
    first = random.uniform((2,), seed=generator)
    np.testing.assert_array_equal(
        random.uniform((2,), seed=generator.from_config(generator.get_config())), first
    )


def test_dropout_at_its_ends_drops_nothing_or_all():
    x = jnp.ones(3)
    assert random.dropout(x, 0.0).tolist() == [1.0, 1.0, 1.0]
    assert random.dropout(x, 1.0).tolist() == [0.0, 0.0, 0.0]


def test_shuffle_keeps_the_entries():
    assert sorted(random.shuffle(jnp.arange(9)).tolist()) == list(range(9))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "a"], ids=str)
def test_a_global_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="expected an integer from 0 to"):
        random.set_random_seed(seed)


def test_wrong_seeds_and_dtypes_are_refused():
    with pytest.raises(ValueError, match="SeedGenerator was given seed='a', expected an integer or None"):
        random.SeedGenerator("a")
    with pytest.raises(
        ValueError, match="A seed was given as str, expected an integer, a SeedGenerator or None"
    ):
        random.normal((2,), seed="a")
    with pytest.raises(ValueError, match="uniform was given dtype='int32', expected a floating one"):
        random.uniform((2,), dtype="int32")
    with pytest.raises(ValueError, match="randint was given dtype='float32', expected an integer one"):
        random.randint((2,), 0, 3, dtype="float32")
    with pytest.raises(ValueError, match=r"logits of shape \(3,\), expected \(batch, classes\)"):
        random.categorical(jnp.zeros(3), 2)
