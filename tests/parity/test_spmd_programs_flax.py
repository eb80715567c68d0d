"""Programs for many devices as people write them, here and on flax.nnx: stacked layers, pmap, shard_map."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from tests.parity.flax_oracle import assert_same_state, assert_same_tree

MESH = jax.make_mesh((2, 4), ("fsdp", "tp"), axis_types=(AxisType.Auto,) * 2)
DATA = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
X = np.linspace(-1, 1, 8 * 2 * 4, dtype="float32").reshape(8, 2, 4)


def make_block(lib: Any, rngs: Any) -> Any:
    class Block(lib.Module):
        def __init__(self) -> None:
            init = lib.initializers.lecun_normal()
            first = lib.with_partitioning(init, ("embed", "mlp"))
            second = lib.with_partitioning(init, ("mlp", "embed"))
            self.first = lib.Linear(4, 8, kernel_init=first, rngs=rngs)
            self.norm = lib.BatchNorm(8, rngs=rngs)
            self.drop = lib.Dropout(0.1, rngs=rngs)
            self.second = lib.Linear(8, 4, kernel_init=second, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.second(self.drop(self.norm(jnp.tanh(self.first(x)))))

    with lib.use_eager_sharding(False):
        return Block()


def stages_of_a_pipeline(lib: Any) -> Any:
    """Two nested vmaps over a function that returns a split module."""

    def stage(rngs: Any) -> Any:
        return lib.split(make_block(lib, rngs), lib.Param, ...)

    def over(name: str, f: Any, **options: Any) -> Any:
        return lib.vmap(f, out_axes=(None, 0, 0), transform_metadata={lib.PARTITION_NAME: name}, **options)

    keys = jax.random.split(jax.random.key(0), 6).reshape(3, 2)
    make = over("repeats", over("layers", stage, spmd_axis_name="fsdp"))
    with jax.set_mesh(MESH):
        graphdef, params, rest = make(lib.Rngs(params=keys, dropout=keys))
    return lib.merge(graphdef, params, rest), params["first"]["kernel"].out_sharding


def layers_stacked_along_another_axis(lib: Any) -> Any:
    make = lib.vmap(
        lambda rngs: make_block(lib, rngs),
        out_axes=lib.StateAxes({lib.Param: 1, ...: 0}),
        axis_name="layers",
        transform_metadata={lib.PARTITION_NAME: "layers"},
    )
    layers = make(lib.Rngs(params=0, dropout=1).split(3))
    return layers, lib.get_partition_spec(lib.state(layers))["first"]["kernel"].get_value()


def model_made_by_jax_jit_under_rules(lib: Any) -> Any:
    def make(key: Any) -> Any:
        init = lib.with_partitioning(lib.initializers.lecun_normal(), ("embed", "mlp"))
        return lib.Linear(8, 8, kernel_init=init, rngs=lib.Rngs(key))

    with jax.set_mesh(MESH), lib.logical_axis_rules((("embed", ("fsdp", "tp")), ("mlp", None))):
        linear = jax.jit(make)(jax.random.key(0))
    return linear, linear.kernel.sharding.spec


def make_training(lib: Any) -> Any:
    model = lib.Linear(4, 2, rngs=lib.Rngs(0))
    optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.Param)
    return lib.Dict(model=model, optimizer=optimizer, metrics=lib.metrics.Average())


def training_with_pmap(lib: Any) -> Any:
    everything = make_training(lib)
    axes = lib.StateAxes({(lib.Param, lib.OptState, lib.metrics.MetricState): None})

    @lib.pmap(in_axes=(axes, None, 0, None), out_axes=(axes, 0), axis_name="devices", donate_argnums=(0, 1))
    def step(model: Any, others: Any, x: Any, scale: Any) -> Any:
        loss, grads = lib.value_and_grad(lambda model: (model(x) ** 2).mean() * scale)(model)
        others["optimizer"].update(model, jax.lax.pmean(grads, "devices"))
        others["metrics"].update(values=jax.lax.pmean(loss, "devices"))
        return model, loss

    others = {"optimizer": everything.optimizer, "metrics": everything.metrics}
    for _ in range(3):
        model, losses = step(everything.model, others, X, 2)
    return everything, (losses, model is everything.model)


def training_with_shard_map(lib: Any) -> Any:
    everything = make_training(lib)

    @lib.jit(donate_argnums=(0, 1))
    def step(model: Any, optimizer: Any, x: Any) -> Any:
        @lib.shard_map(mesh=DATA, in_specs=(P(), P(), P("data")), out_specs=P("data"))
        def update(model: Any, optimizer: Any, x: Any) -> Any:
            def loss(model: Any) -> Any:
                return (model(x) ** 2).mean(), model(x).mean()[None]

            grads, means = lib.grad(loss, has_aux=True)(model)
            optimizer.update(model, jax.lax.pmean(grads, "data"))
            return means

        return update(model, optimizer, x)

    step = lib.cached_partial(step, everything.model, everything.optimizer)
    return everything, [step(X) for _ in range(2)]


def gradients_from_shard_map(lib: Any) -> Any:
    model = make_block(lib, lib.Rngs(0))

    @lib.jit
    @lib.shard_map(
        mesh=DATA, in_specs=(P(), P("data")), out_specs=(P(), P()), axis_names={"data"}, check_vma=False
    )
    def step(model: Any, batch: Any) -> Any:
        def mean_square(model: Any) -> Any:
            return (model(batch["x"]) ** 2).mean()

        params = lib.DiffState(0, lib.Param)
        loss, grads = lib.value_and_grad(mean_square, argnums=params)(model)
        return jax.lax.pmean(loss, "data"), jax.tree.map(lambda g: jax.lax.pmean(g, "data"), grads)

    return model, step(model, {"x": X})


PROGRAMS = [
    stages_of_a_pipeline,
    layers_stacked_along_another_axis,
    model_made_by_jax_jit_under_rules,
    training_with_pmap,
    training_with_shard_map,
    gradients_from_shard_map,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_for_many_devices_end_in_the_same_state(program):
    (ours, mine), (theirs, other) = program(nnx), program(flax_nnx)
    assert_same_state(ours, theirs, rtol=1e-5)
    if isinstance(mine, (tuple, P)) and not any(isinstance(part, jax.Array) for part in mine):
        assert mine == other
    else:
        assert_same_tree(mine, other, rtol=1e-5)
