"""The names of axes in the metadata of variables, inside and outside of vmap and scan."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from easyflax import nnx

LAYERS = {nnx.PARTITION_NAME: "layers", "nickname": "nick"}
KEYS = jax.random.split(jax.random.key(0), 5)


@pytest.fixture(autouse=True)
def _no_mesh():
    with nnx.use_eager_sharding(False):
        yield


class Block(nnx.Module):
    def __init__(self, rngs, seen=None):
        hooks = {}
        if seen is not None:
            hooks["on_add_axis"] = lambda _, index, name: seen.append(("add", index, name))
            hooks["on_remove_axis"] = lambda _, index, name: seen.append(("remove", index, name))
        init = nnx.with_metadata(
            nnx.initializers.lecun_normal(), sharding=("din", "dout"), nickname=("in", "out"), **hooks
        )
        self.linear = nnx.Linear(3, 3, kernel_init=init, rngs=rngs)
        self.calls = nnx.Cache(jnp.array(0), sharding=())

    def __call__(self, x):
        assert self.linear.kernel.out_sharding == ("din", "dout")
        assert self.linear.kernel.nickname == ("in", "out")
        self.calls += 1
        return self.linear(x)


def make_blocks(seen=None, **axes):
    return nnx.vmap(lambda key: Block(nnx.Rngs(key), seen), transform_metadata=LAYERS, **axes)(KEYS)


def test_vmap_names_the_new_axis_of_variables_that_are_made_inside():
    blocks = make_blocks()
    assert blocks.linear.kernel.shape == (5, 3, 3)
    assert blocks.linear.kernel.out_sharding == ("layers", "din", "dout")
    assert blocks.linear.kernel.nickname == ("nick", "in", "out")
    assert not blocks.linear.bias.has_metadata("out_sharding")
    assert blocks.calls.out_sharding == ("layers",)


def test_the_axis_may_be_unsharded_and_elsewhere():
    axes = nnx.StateAxes({nnx.Param: 1, ...: None})
    make = nnx.vmap(
        lambda key: Block(nnx.Rngs(key)), out_axes=axes, transform_metadata={nnx.PARTITION_NAME: None}
    )
    blocks = make(KEYS)
    assert blocks.linear.kernel.out_sharding == ("din", None, "dout")
    assert blocks.calls.out_sharding == ()


def test_an_initializer_that_is_mapped_names_the_axes_of_what_it_sets():
    class Stack(nnx.Module):
        @nnx.vmap(in_axes=(0, 0), transform_metadata=LAYERS)
        def __init__(self, key):
            self.block = Block(nnx.Rngs(key))

    assert Stack(KEYS).block.linear.kernel.out_sharding == ("layers", "din", "dout")


def test_vmap_shows_mapped_variables_as_slices_and_keeps_their_names():
    blocks = make_blocks()
    forward = nnx.vmap(lambda block, x: block(x), in_axes=(0, None), transform_metadata=LAYERS)
    assert forward(blocks, jnp.ones(3)).shape == (5, 3)
    assert blocks.linear.kernel.out_sharding == ("layers", "din", "dout")
    assert blocks.calls.value.tolist() == [1] * 5


def test_variables_that_are_not_mapped_keep_their_names_inside():
    block = Block(nnx.Rngs(0))
    axes = nnx.StateAxes({nnx.Cache: 0, ...: None})
    block.calls.set_metadata(out_sharding=("layers",))
    block.calls.value = jnp.zeros(5, int)
    nnx.vmap(lambda block, x: block(x), in_axes=(axes, 0), transform_metadata=LAYERS)(block, jnp.ones((5, 3)))
    assert block.calls.value.tolist() == [1] * 5
    assert block.calls.out_sharding == ("layers",)


def test_scan_shows_slices_and_hooks_run_on_the_way_in_and_out():
    seen = []
    blocks = make_blocks(seen)
    assert seen == [("add", 0, "layers")]
    forward = nnx.scan(
        lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry, transform_metadata=LAYERS
    )
    for _ in range(2):
        assert forward(blocks, jnp.ones(3)).shape == (3,)
    assert seen == [("add", 0, "layers"), ("remove", 0, "layers"), ("add", 0, "layers")]
    assert blocks.linear.kernel.out_sharding == ("layers", "din", "dout")
    assert blocks.calls.value.tolist() == [2] * 5


def test_scan_names_the_axis_of_stacked_outputs_and_leaves_carried_modules_alone():
    block = Block(nnx.Rngs(0))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), transform_metadata=LAYERS)
    def make(block, key):
        block(jnp.ones(3))
        return block, Block(nnx.Rngs(key))

    same, blocks = make(block, KEYS)
    assert same is block
    assert block.linear.kernel.out_sharding == ("din", "dout")
    assert blocks.linear.kernel.out_sharding == ("layers", "din", "dout")


def test_a_method_that_is_scanned_sees_its_module_as_a_slice():
    class Stack(nnx.Module):
        def __init__(self):
            self.blocks = make_blocks()

        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry, transform_metadata=LAYERS)
        def __call__(self, x):
            return self.blocks(x)

    stack = Stack()
    assert stack(jnp.ones(3)).shape == (3,)
    assert stack.blocks.linear.kernel.out_sharding == ("layers", "din", "dout")


def test_partition_specs_stay_partition_specs():
    def make(key):
        return nnx.Param(jax.random.normal(key, (2,)), sharding=P("in"))

    made = nnx.vmap(make, transform_metadata=LAYERS)(KEYS)
    assert made.out_sharding == P("layers", "in")
    nnx.vmap(lambda v: None, transform_metadata=LAYERS)(made)
    assert made.out_sharding == P("layers", "in")


def test_a_mapped_axis_of_another_name_is_an_error():
    blocks = make_blocks()
    forward = nnx.vmap(
        lambda block, x: block(x), in_axes=(0, None), transform_metadata={nnx.PARTITION_NAME: "experts"}
    )
    with pytest.raises(
        ValueError, match=r"(?s)Expected 'experts' at axis 0 .*got 'layers'.*same transform_metadata"
    ):
        forward(blocks, jnp.ones(3))
    with pytest.raises(ValueError, match="PARTITION_NAME among its keys"):
        nnx.vmap(lambda block: None, transform_metadata={"nickname": "nick"})(blocks)


@pytest.mark.parametrize("partition", ["layers", None])
def test_the_decorator_adjusts_metadata_around_a_plain_call(partition):
    param = nnx.Param(jnp.array(0), sharding=(partition, "dout"))

    @nnx.transform_metadata(in_axes=0, out_axes=1, partition=partition)
    def f(param):
        assert param.out_sharding == ("dout",)
        param[...] += 1
        return nnx.Param(jnp.array(10), sharding=("dmid", "dout"))

    assert f(param).out_sharding == ("dmid", partition, "dout")
    assert param.out_sharding == (partition, "dout")
    assert param.value == 1


def test_the_decorator_works_under_the_transforms_of_jax():
    @jax.vmap
    @nnx.transform_metadata(partition="layers")
    def make(key):
        return Block(nnx.Rngs(key))

    blocks = make(KEYS)
    assert blocks.linear.kernel.out_sharding == ("layers", "din", "dout")


def test_the_decorator_puts_the_names_back_when_the_function_fails():
    param = nnx.Param(jnp.array(0), sharding=("layers", "dout"))

    @nnx.transform_metadata(partition="layers")
    def f(param):
        raise KeyError("no")

    with pytest.raises(KeyError):
        f(param=param)
    assert param.out_sharding == ("layers", "dout")
