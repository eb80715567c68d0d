"""`nnx.pmap`: one device for each entry of an axis."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx

KEYS = jax.random.split(jax.random.key(0), 8)
X = jnp.linspace(-1, 1, 8 * 4 * 3).reshape(8, 4, 3)
STATE_AXES = nnx.StateAxes({(nnx.Param, nnx.RngState): 0, ...: None})


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 2, rngs=rngs)
        self.calls = nnx.Cache(jnp.array(0))

    def __call__(self, x):
        self.calls += 1
        return self.linear(x)


def make_blocks():
    return nnx.pmap(lambda key: Block(nnx.Rngs(key)))(KEYS)


def test_modules_are_made_one_on_each_device():
    blocks = make_blocks()
    assert blocks.linear.kernel.shape == (8, 3, 2)
    assert {shard.data.shape for shard in blocks.linear.kernel.value.addressable_shards} == {(1, 3, 2)}
    expected = nnx.vmap(lambda key: Block(nnx.Rngs(key)))(KEYS)
    np.testing.assert_array_equal(blocks.linear.kernel.value, expected.linear.kernel.value)


def test_changes_are_carried_out_and_it_traces_once():
    blocks = make_blocks()
    traces = []

    @nnx.pmap
    def forward(block, x):
        traces.append(1)
        return block(x)

    for _ in range(4):
        y = forward(blocks, X)
    assert len(traces) <= 2  # once in newer versions of jax
    assert blocks.calls.value.tolist() == [4] * 8
    np.testing.assert_allclose(y, jnp.einsum("bni,bio->bno", X, blocks.linear.kernel.value), atol=1e-6)


def test_axes_by_filter_replicate_parts_of_a_module():
    block = Block(nnx.Rngs(0))
    block.calls.value = jnp.zeros(8, int)
    forward = nnx.pmap(lambda block, x: block(x), in_axes=(nnx.StateAxes({nnx.Cache: 0, ...: None}), 0))
    y = forward(block, x=X)
    np.testing.assert_allclose(y, block.linear(X), atol=1e-6)
    assert block.linear.kernel.shape == (3, 2)
    assert block.calls.value.tolist() == [1] * 8


def test_other_axes_and_trees_of_arguments():
    block = Block(nnx.Rngs(0))

    @nnx.pmap(in_axes=({"block": None, "x": 1}, None), out_axes=(1, None))
    def forward(inputs, scale):
        return inputs["block"].linear(inputs["x"]) * scale, scale

    y, scale = forward({"block": block, "x": jnp.swapaxes(X, 0, 1)}, 2.0)
    np.testing.assert_allclose(jnp.swapaxes(y, 0, 1), 2 * block.linear(X), atol=1e-5)
    assert scale == 2


def test_collectives_work_over_the_named_axis():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    reference = nnx.clone((model, optimizer), arrays=True)

    def step(model, optimizer, x, reduce=lambda g: g):
        grads = nnx.grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, jax.tree.map(reduce, grads))

    parallel = nnx.pmap(
        lambda *args: step(*args, lambda g: jax.lax.pmean(g, "batch")),
        axis_name="batch",
        in_axes=(None, None, 0),
        out_axes=None,
    )
    for _ in range(2):
        parallel(model, optimizer, X)
        step(*reference, X)
    np.testing.assert_allclose(model.kernel.value, reference[0].kernel.value, rtol=1e-5)
    assert optimizer.step.value == 2


def test_axis_size_counts_where_no_argument_is_mapped():
    make = nnx.pmap(lambda: Block(nnx.Rngs(0)), axis_size=4)
    assert make().linear.kernel.shape == (4, 3, 2)
    out = nnx.pmap(lambda block: block.linear.kernel.value, in_axes=None, axis_size=2)(Block(nnx.Rngs(0)))
    assert out.shape == (2, 3, 2)


def test_devices_can_be_chosen():
    devices = jax.devices()[6:]
    out = nnx.pmap(lambda x: x + 1, devices=devices)(jnp.ones(2))
    assert out.devices() == set(devices)
    assert nnx.pmap(lambda x: x + 1, backend="cpu")(jnp.ones(2)).tolist() == [2, 2]


def test_static_arguments_are_constants():
    @nnx.pmap(static_broadcasted_argnums=1, in_axes=(0, None, None))
    def f(x, mode, block):
        assert mode in ("a", "b")
        return x if mode == "a" else block.linear(x)

    block = Block(nnx.Rngs(0))
    np.testing.assert_array_equal(f(X, "a", block), X)
    np.testing.assert_allclose(f(X, "b", block), block.linear(X), atol=1e-6)


def test_donated_arrays_are_gone_and_their_values_come_back():
    blocks = make_blocks()
    kernel = blocks.linear.kernel.value
    before = np.asarray(kernel)
    forward = nnx.pmap(lambda block, x: block(x), donate_argnums=0)
    forward(blocks, X)
    assert kernel.is_deleted()
    np.testing.assert_array_equal(blocks.linear.kernel.value, before)
    assert blocks.calls.value.tolist() == [1] * 8


def test_structure_may_change_and_modules_may_be_returned():
    blocks = make_blocks()

    @nnx.pmap
    def change(block, x):
        block.extra = nnx.Cache(x.sum())
        del block.calls
        return block.linear, nnx.Param(x)

    linear, param = change(blocks, X)
    assert linear is blocks.linear
    assert blocks.extra.shape == (8,)
    assert not hasattr(blocks, "calls")
    np.testing.assert_array_equal(param.value, X)


def test_metadata_names_the_axis():
    init = nnx.with_partitioning(nnx.initializers.ones_init(), ("in", "out"), eager_sharding=False)

    @nnx.pmap(transform_metadata={nnx.PARTITION_NAME: "devices"})
    def make(key):
        return nnx.Linear(3, 2, kernel_init=init, rngs=nnx.Rngs(key))

    @nnx.pmap(in_axes=(0, 0), transform_metadata={nnx.PARTITION_NAME: "devices"})
    def forward(linear, x):
        assert linear.kernel.out_sharding == ("in", "out")
        return linear(x)

    linear = make(KEYS)
    assert linear.kernel.out_sharding == ("devices", "in", "out")
    assert forward(linear, X).shape == (8, 4, 2)
    assert linear.kernel.out_sharding == ("devices", "in", "out")


def test_random_streams_are_split_for_each_device():
    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 10, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, deterministic=False, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.linear(x))

    rngs = nnx.Rngs(0)
    make = nnx.split_rngs(splits=2)(nnx.pmap(Noisy, in_axes=(STATE_AXES,), out_axes=STATE_AXES))
    model = make(rngs)
    assert model.linear.kernel.shape == (2, 3, 10)
    forward = nnx.pmap(lambda model, x: model(x), in_axes=(STATE_AXES, 0))
    x = jnp.ones((2, 1, 3))
    assert not jnp.allclose(forward(model, x), forward(model, x))


def test_bound_methods_map_their_arguments():
    block = Block(nnx.Rngs(0))
    np.testing.assert_allclose(nnx.pmap(block.linear.__call__)(X), block.linear(X), atol=1e-6)


def test_axes_that_do_not_fit_are_named():
    blocks = make_blocks()
    forward = nnx.pmap(lambda block, x: block(x))
    with pytest.raises(
        ValueError, match=r"different sizes: size 8 in argument 0, 'calls', size 4 in argument 1; exp"
    ):
        forward(blocks, X[:4])
    with pytest.raises(
        ValueError, match=r"argument 0, 'calls' of shape \(\) to map over axis 0, which it does not"
    ):
        forward(Block(nnx.Rngs(0)), X)
    with pytest.raises(ValueError, match=r"different sizes: axis_size=4, size 8 in argument 0"):
        nnx.pmap(lambda x: x, axis_size=4)(X)
    with pytest.raises(ValueError, match=r"size 16 in argument 0, and 8 devices, expected one for each"):
        nnx.pmap(lambda x: x)(jnp.ones(16))
    with pytest.raises(ValueError, match="pmap got in_axes of length 1 for 2 positional arguments"):
        nnx.pmap(lambda block, x: block(x), in_axes=(0,))(blocks, X)
    with pytest.raises(ValueError, match="the same Param has axis 0 in argument 0, 'bias' and axis None"):
        nnx.pmap(lambda a, b: None, in_axes=(0, None))(blocks.linear, blocks.linear)


def test_errors_of_the_function_itself_come_through():
    @nnx.pmap
    def f(x):
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        f(X)
