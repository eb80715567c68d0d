import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.distribution import DataParallel


@pytest.fixture(params=[1, 8])
def layout(request):
    return DataParallel(jax.devices()[: request.param])


def test_all_local_devices_are_used_by_default():
    assert DataParallel().num_devices == len(jax.local_devices()) == 8


def test_rows_are_split_where_they_divide_and_replicated_where_not():
    layout = DataParallel()
    split = layout.put_batch({"x": np.ones((16, 3), np.float32)})["x"]
    whole = layout.put_batch({"x": np.ones((13, 3), np.float32)})["x"]
    assert {shard.data.shape for shard in split.addressable_shards} == {(2, 3)}
    assert {shard.data.shape for shard in whole.addressable_shards} == {(13, 3)}


def test_on_one_device_batches_are_left_to_jit():
    batch = {"x": np.ones((4, 3))}
    assert DataParallel(jax.devices()[:1]).put_batch(batch) is batch


def test_another_single_device_is_used_when_it_is_named():
    layout = DataParallel(jax.devices()[3:4])
    assert layout.put_batch(np.ones(4)).devices() == {jax.devices()[3]}
    assert layout.copy_to_devices(jnp.ones(4)).devices() == {jax.devices()[3]}


def test_a_copied_state_may_be_donated_without_harm_to_the_callers_arrays(layout):
    state = {"w": jnp.arange(3.0), "key": jax.random.key(1), "weak": jnp.asarray(1.0)}
    placed = layout.copy_to_devices(state)
    layout.jit(lambda tree: jax.tree.map(jnp.copy, tree), donate_argnums=(0,))(placed)
    assert placed["w"].is_deleted()
    assert state["w"].tolist() == [0, 1, 2]
    assert not placed["weak"].weak_type


def test_arrays_come_home_to_one_device(layout):
    placed = layout.copy_to_devices({"w": jnp.arange(3.0), "key": jax.random.key(1)})
    home = layout.copy_home(placed)
    assert home["w"].tolist() == [0, 1, 2]
    assert len(home["w"].devices()) == len(home["key"].devices()) == 1
    assert jax.random.key_data(home["key"]).tolist() == jax.random.key_data(jax.random.key(1)).tolist()


def test_results_are_on_every_device():
    layout = DataParallel()
    total = layout.jit(lambda x: x.sum())(layout.put_batch(np.ones(16, np.float32)))
    assert len(total.sharding.device_set) == 8
    assert total == 16


def test_only_simulated_devices_bound_the_steps_in_flight():
    assert DataParallel().steps_in_flight == 4
    assert DataParallel(jax.devices()[:1]).steps_in_flight is None


def test_no_devices_is_an_error():
    with pytest.raises(ValueError, match=r"devices is empty, expected at least one\. Pass jax\.devices\(\)"):
        DataParallel([])
