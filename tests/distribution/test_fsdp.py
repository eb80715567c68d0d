import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.distribution import FSDP, DataParallel


def _spec(shape, dtype=jnp.float32, **options):
    return tuple(FSDP(**options).sharding_of(jax.ShapeDtypeStruct(shape, dtype)).spec)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((1024, 512), ("data",)),
        ((512, 1024), (None, "data")),
        ((512, 512), ("data",)),
        ((1021, 512), (None, "data")),
        ((3, 3, 512, 520), (None, None, None, "data")),
        ((1021, 513), ()),
        ((128, 127), ()),
        ((128, 128), ("data",)),
        ((2**20,), ("data",)),
        ((0, 2**20), ()),
        ((), ()),
    ],
    ids=str,
)
def test_large_arrays_are_split_along_the_longest_axis_that_divides_evenly(shape, spec):
    assert _spec(shape) == spec


def test_the_smallest_array_that_is_split_has_min_size_bytes():
    assert _spec((64, 64), min_size=2**14) == ("data",)
    assert _spec((64, 64), jnp.bfloat16, min_size=2**14) == ()
    assert _spec((64, 64), min_size=2**14 + 1) == ()


def test_keys_of_random_streams_are_whole():
    keys = jax.random.split(jax.random.key(0), 2**16)
    assert FSDP().sharding_of(keys).is_fully_replicated


def test_rows_of_batches_are_split_as_in_data_parallelism():
    batch = {"x": np.ones((16, 512, 512), np.float32)}
    split, expected = (layout.put_batch(batch)["x"].sharding for layout in (FSDP(), DataParallel()))
    assert split.is_equivalent_to(expected, 3)


STATE = {"w": np.ones((256, 512), np.float32), "b": np.ones(512, np.float32)}


def test_each_device_holds_its_part_of_what_is_put():
    layout = FSDP()
    placed = layout.put_state(STATE)
    assert {shard.data.shape for shard in placed["w"].addressable_shards} == {(256, 64)}
    assert {shard.data.shape for shard in placed["b"].addressable_shards} == {(512,)}
    specs = layout.specs_of_state(STATE)
    for name, spec in specs.items():
        assert spec.sharding.is_equivalent_to(placed[name].sharding, spec.ndim)


def test_results_of_jit_lie_where_the_state_does():
    layout = FSDP()
    step = layout.jit(lambda state: {"w": state["w"] @ state["w"].T, "b": state["b"] * 2, "n": 3.0})
    out = step(layout.put_state(STATE))
    assert out["w"].sharding == layout.sharding_of(out["w"])
    assert out["w"].addressable_shards[0].data.shape == (32, 256)
    assert out["b"].sharding.is_fully_replicated
    assert float(out["n"]) == 3.0
    assert step._cache_size() == 1


def test_a_donated_state_is_updated_in_its_parts_and_compiled_once():
    layout = FSDP()
    step = layout.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=(0,))
    source = layout.put_state(STATE)
    state = layout.copy_to_devices(source)
    for _ in range(3):
        before, state = state, step(state)
        assert before["w"].is_deleted()
    assert step._cache_size() == 1
    np.testing.assert_array_equal(state["w"], 4 * np.ones((256, 512)))
    np.testing.assert_array_equal(source["w"], STATE["w"])


def test_arrays_stay_split_when_they_come_home():
    layout = FSDP()
    placed = layout.put_state(STATE)
    assert layout.bring_home(placed) is placed
    copy = layout.copy_home(placed)
    assert copy["w"].sharding == placed["w"].sharding
    np.testing.assert_array_equal(copy["w"], STATE["w"])


def test_on_one_device_nothing_is_placed():
    layout = FSDP(jax.devices()[:1])
    assert layout.put_state(STATE) is STATE
    assert layout.specs_of_state(STATE)["w"].sharding is None


@pytest.mark.parametrize("min_size", [0, -1, 1.5, True])
def test_a_min_size_that_is_no_positive_integer_is_an_error(min_size):
    with pytest.raises(ValueError, match=r"FSDP: min_size is .*, expected bytes, an integer of at least 1"):
        FSDP(min_size=min_size)


def test_no_devices_is_an_error():
    with pytest.raises(ValueError, match=r"FSDP: devices is empty, expected at least one"):
        FSDP([])
