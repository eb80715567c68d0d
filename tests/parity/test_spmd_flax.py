"""The same programs with sharding metadata and meshes, here and on flax.nnx."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx as flax_nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_state


def make_mesh(kind: AxisType = AxisType.Auto) -> Any:
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))


def make_model(lib: Any, **metadata: Any) -> Any:
    class Model(lib.Module):
        def __init__(self, rngs: Any) -> None:
            init = lib.with_partitioning(lib.initializers.lecun_normal(), (None, "hidden"), **metadata)
            self.first = lib.Linear(8, 8, kernel_init=init, rngs=rngs)
            self.second = lib.Param(
                lib.initializers.normal()(rngs.params(), (8, 4)), out_sharding=("hidden", None)
            )

        def __call__(self, x: Any) -> Any:
            return jnp.tanh(self.first(x)) @ self.second[...]

    return Model(lib.Rngs(0))


RULES = (("hidden", "model"),)


def created_eagerly(lib: Any, mesh: Any) -> Any:
    return make_model(lib)


def created_under_jit(lib: Any, mesh: Any) -> Any:
    return lib.jit(lambda: make_model(lib))()


def created_by_constraint(lib: Any, mesh: Any) -> Any:
    @lib.jit
    def create() -> Any:
        model = make_model(lib)
        state = lib.state(model)
        lib.update(model, jax.lax.with_sharding_constraint(state, lib.get_partition_spec(state)))
        return model

    with lib.use_eager_sharding(False):
        return create()


def optimizer_state(lib: Any, mesh: Any) -> Any:
    return lib.Optimizer(make_model(lib, optimizer_sharding=("model", None)), optax.adam(1e-3), wrt=lib.Param)


def trained(lib: Any, mesh: Any) -> Any:
    model = make_model(lib)
    optimizer = lib.Optimizer(model, optax.adam(1e-3), wrt=lib.Param)
    x = jax.device_put(jnp.linspace(0, 1, 32).reshape(4, 8), NamedSharding(mesh, P("data", None)))

    @lib.jit
    def step(model: Any, optimizer: Any, x: Any) -> Any:
        loss, grads = lib.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    for _ in range(3):
        step(model, optimizer, x)
    return lib.Dict(model=model, optimizer=optimizer)


def placed_by_named_sharding(lib: Any, mesh: Any) -> Any:
    with lib.use_eager_sharding(False):
        model = make_model(lib)
    state = lib.state(model)
    lib.update(model, jax.device_put(state, lib.get_named_sharding(state, mesh)))
    return model


def stacked_layers(lib: Any, mesh: Any) -> Any:
    layers = {lib.PARTITION_NAME: "data"}

    class Block(lib.Module):
        def __init__(self, rngs: Any) -> None:
            init = lib.with_partitioning(lib.initializers.lecun_normal(), (None, "hidden"))
            self.linear = lib.Linear(8, 8, kernel_init=init, rngs=rngs)
            self.calls = lib.Cache(jnp.array(0))

    class Stack(lib.Module):
        @lib.vmap(in_axes=(0, 0), transform_metadata=layers)
        def __init__(self, key: Any) -> None:
            self.block = Block(lib.Rngs(key))

        @lib.scan(in_axes=(0, lib.Carry), out_axes=lib.Carry, transform_metadata=layers)
        def __call__(self, x: Any) -> Any:
            assert self.block.linear.kernel.out_sharding == (None, "hidden")
            self.block.calls[...] += 1
            return jnp.tanh(self.block.linear(x))

    stack = Stack(jax.random.split(jax.random.key(0), 4))
    stack.output = lib.Cache(stack(jnp.ones((4, 8))))
    state = lib.state(stack)
    lib.update(stack, jax.device_put(state, lib.get_named_sharding(state, mesh)))
    return stack


def shard_by_filter(lib: Any, mesh: Any) -> Any:
    return lib.StateSharding(
        {
            lib.PathContains("kernel"): NamedSharding(mesh, P("data", "model")),
            ...: NamedSharding(mesh, P()),
        }
    )


def jit_with_shardings(lib: Any, mesh: Any) -> Any:
    model = lib.BatchNorm(8, rngs=lib.Rngs(0))
    model.linear = lib.Linear(8, 8, rngs=lib.Rngs(1))
    sharding, rows = shard_by_filter(lib, mesh), NamedSharding(mesh, P("data"))

    @lib.jit(in_shardings=(sharding, rows), out_shardings=rows)
    def forward(model: Any, x: Any) -> Any:
        return model(model.linear(x))

    model.output = lib.Cache(forward(model, jnp.linspace(0, 1, 32).reshape(4, 8)))
    return model


def jit_with_output_shardings(lib: Any, mesh: Any) -> Any:
    return lib.jit(lambda: lib.Linear(8, 8, rngs=lib.Rngs(1)), out_shardings=shard_by_filter(lib, mesh))()


def jit_with_a_state_of_shardings(lib: Any, mesh: Any) -> Any:
    with lib.use_eager_sharding(False):
        model = make_model(lib)
    sharding = lib.StateSharding(lib.get_named_sharding(lib.state(model), mesh))
    lib.jit(lambda model: None, in_shardings=(sharding,))(model)
    return model


def shard_map_with_data_parallelism(lib: Any, mesh: Any) -> Any:
    model = make_plain_model(lib)

    @lib.shard_map(mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    def forward(model: Any, x: Any) -> Any:
        model.calls[...] += 1
        return model(x)

    model.output = lib.Cache(forward(model, jnp.linspace(0, 1, 32).reshape(4, 8)))
    return model


def shard_map_with_tensor_parallelism(lib: Any, mesh: Any) -> Any:
    model = make_plain_model(lib)
    specs = lib.StateSharding(
        {
            lambda path, value: path == ("first", "kernel"): P(None, "model"),
            lambda path, value: path == ("first", "bias"): P("model"),
            lambda path, value: path == ("second",): P("model", None),
            ...: P(),
        }
    )

    @lib.shard_map(mesh=mesh, in_specs=(specs, P("data", None)), out_specs=P("data", None))
    def forward(model: Any, x: Any) -> Any:
        model.first.bias[...] += 1
        return jax.lax.psum(model(x), "model")

    model.output = lib.Cache(forward(model, jnp.linspace(0, 1, 32).reshape(4, 8)))
    return model


def make_plain_model(lib: Any) -> Any:
    with lib.use_eager_sharding(False):
        model = make_model(lib)
    model.calls = lib.Cache(jnp.array(0))
    return model


def pmapped(lib: Any, mesh: Any) -> Any:
    axes = lib.StateAxes({(lib.Param, lib.RngState): 0, ...: None})

    class Block(lib.Module):
        def __init__(self, rngs: Any) -> None:
            self.linear = lib.Linear(3, 4, rngs=rngs)
            self.drop = lib.Dropout(0.5, rngs=rngs)
            self.shared = lib.Cache(jnp.array(2.0))

        def __call__(self, x: Any) -> Any:
            x = self.drop(self.linear(x)) * self.shared[...]
            return jax.lax.psum(x, "i")

    @lib.split_rngs(splits=4)
    @lib.pmap(in_axes=(axes,), out_axes=axes, axis_size=4)
    def make(rngs: Any) -> Any:
        return Block(rngs)

    @lib.pmap(in_axes=(axes, 1), out_axes=1, axis_name="i")
    def forward(block: Any, x: Any) -> Any:
        block.linear.bias[...] += 1
        return block(x)

    block = make(lib.Rngs(0))
    block.output = lib.Cache(forward(block, jnp.linspace(0, 1, 24).reshape(2, 4, 3)))
    return block


# They place arrays from one device on a mesh; were one active, arrays would lie on it already.
WITHOUT_A_MESH = [
    jit_with_shardings,
    jit_with_output_shardings,
    jit_with_a_state_of_shardings,
    shard_map_with_data_parallelism,
    shard_map_with_tensor_parallelism,
    pmapped,
]

PROGRAMS = [
    stacked_layers,
    created_eagerly,
    created_under_jit,
    created_by_constraint,
    optimizer_state,
    trained,
    placed_by_named_sharding,
]


def layouts(values: Any) -> list[Any]:
    return [value.sharding.devices_indices_map(value.shape) for value in jax.tree.leaves(values)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_variables_have_the_same_values_metadata_and_layout(program):
    results = []
    for lib in (nnx, flax_nnx):
        mesh = make_mesh()
        with jax.set_mesh(mesh), lib.logical_axis_rules(RULES):
            results.append(program(lib, mesh))
    ours, theirs = results
    assert_same_state(ours, theirs, rtol=1e-6)
    assert layouts(nnx.state(ours)) == layouts(flax_nnx.state(theirs))


@pytest.mark.parametrize("program", WITHOUT_A_MESH, ids=lambda program: program.__name__)
def test_transforms_that_place_variables_place_them_alike(program):
    results = []
    for lib in (nnx, flax_nnx):
        with lib.logical_axis_rules(RULES):
            results.append(program(lib, make_mesh()))
    ours, theirs = results
    assert_same_state(ours, theirs, rtol=1e-6)
    assert layouts(nnx.state(ours)) == layouts(flax_nnx.state(theirs))


def without_trailing_nones(value: Any) -> tuple[Any, ...]:
    spec = tuple(value.sharding.spec)
    while spec and spec[-1] is None:
        spec = spec[:-1]
    return spec


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_partition_specs_and_abstract_models_are_the_same(kind):
    results = []
    for lib in (nnx, flax_nnx):
        mesh = make_mesh(kind)
        with lib.logical_axis_rules(RULES):
            _, abstract = lib.get_abstract_model(lambda lib=lib: make_model(lib), mesh)
            with jax.set_mesh(mesh):
                shapes = lib.state(lib.eval_shape(lambda lib=lib: make_model(lib)))
            specs = jax.tree.leaves(lib.get_partition_spec(abstract))
            found = [
                [(x.shape, x.dtype, without_trailing_nones(x)) for x in jax.tree.leaves(t)]
                for t in (abstract, shapes)
            ]
            meshes = [x.sharding.mesh for x in jax.tree.leaves(abstract)]
        results.append((specs, found, meshes))
    assert results[0] == results[1]


@pytest.mark.parametrize("names", [("hidden", None), ("model", None, None)])
def test_what_flax_refuses_is_refused(names):
    for lib in (nnx, flax_nnx):
        with jax.set_mesh(make_mesh()), pytest.raises(ValueError):
            lib.Param(jnp.ones((8, 8)), out_sharding=names)
        with pytest.raises(ValueError):
            lib.Param(jnp.ones((8, 8)), out_sharding=("model", None))


def test_the_decorator_changes_the_same_metadata():
    results = []
    for lib in (nnx, flax_nnx):

        @lib.transform_metadata(in_axes=0, out_axes=1, partition="din")
        def f(v: Any, lib: Any = lib) -> Any:
            v[...] += 1
            assert v.out_sharding == ("dout",)
            return lib.Param(jnp.array(10), out_sharding=("dmid", "dout"), eager_sharding=False)

        v = lib.Param(jnp.array(0), out_sharding=("din", "dout"), eager_sharding=False)
        results.append((f(v).out_sharding, v.out_sharding, int(v[...])))
    assert results[0] == results[1]


def test_axes_are_added_and_removed_alike():
    results = []
    for lib in (nnx, flax_nnx):
        param = lib.Param(jnp.ones(()), out_sharding=("a",), nick=("b",), eager_sharding=False)
        seen = []
        for change in (lib.spmd.add_axis, lib.spmd.add_axis, lib.spmd.remove_axis):
            change(param, 1, {lib.PARTITION_NAME: "layers", "nick": "n"})
            seen.append((param.out_sharding, param.nick))
        results.append(seen)
    assert results[0] == results[1]
