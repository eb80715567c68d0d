"""`nnx.shard_map`: shards of arguments and variables, changes carried out, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx

MESH = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def lies_as(value, *spec):
    return value.sharding.is_equivalent_to(NamedSharding(MESH, P(*spec)), value.ndim)


class MLP(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(2, 64, use_bias=False, rngs=nnx.Rngs(0))
        self.second = nnx.Linear(64, 3, use_bias=False, rngs=nnx.Rngs(1))
        self.calls = nnx.Cache(jnp.array(0))

    def __call__(self, x):
        self.calls += 1
        return self.second(nnx.relu(self.first(x)))


X = jnp.linspace(-1, 1, 64).reshape(32, 2)


def test_data_parallelism_shards_the_batch_and_replicates_the_model():
    model, reference = MLP(), MLP()

    @nnx.shard_map(mesh=MESH, in_specs=(P(), P("data")), out_specs=P("data"))
    def forward(model, x):
        assert x.shape == (16, 2)
        return model(x)

    y = forward(model, X)
    np.testing.assert_allclose(y, reference(X), rtol=1e-5)
    assert lies_as(y, "data")
    assert lies_as(model.first.kernel)
    assert model.calls == 1


def by_filter():
    return {
        lambda path, value: path[-2:] == ("first", "kernel"): P(None, "model"),
        lambda path, value: path[-2:] == ("second", "kernel"): P("model", None),
        ...: P(),
    }


SPECS = {"first": {"kernel": P(None, "model")}, "second": {"kernel": P("model", None)}, "calls": P()}


@pytest.mark.parametrize(
    "specs",
    [nnx.StateSharding(by_filter()), nnx.StateSharding(nnx.State(SPECS)), nnx.State(SPECS)],
    ids=["filters", "state in StateSharding", "state"],
)
def test_tensor_parallelism_gives_each_variable_its_spec(specs):
    model, reference = MLP(), MLP()

    @nnx.shard_map(mesh=MESH, in_specs=(specs, P("data")), out_specs=P("data"))
    def forward(model, x):
        assert model.first.kernel.shape == (2, 16)
        assert model.second.kernel.shape == (16, 3)
        return jax.lax.psum(model(x), "model")

    np.testing.assert_allclose(forward(model, X), reference(X), atol=1e-5)
    assert lies_as(model.first.kernel, None, "model")
    assert lies_as(model.second.kernel, "model")
    assert model.calls == 1


def test_partition_specs_of_a_model_are_specs_of_an_argument():
    with jax.set_mesh(MESH):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
        linear = nnx.Linear(2, 8, kernel_init=init, use_bias=False, rngs=nnx.Rngs(0))
    specs = nnx.get_partition_spec(nnx.state(linear))
    shapes = []
    f = nnx.shard_map(
        lambda linear: shapes.append(linear.kernel.shape), mesh=MESH, in_specs=(specs,), out_specs=None
    )
    f(linear)
    assert shapes == [(2, 2)]


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("jit", [lambda f: f, nnx.jit])
def test_training_averages_gradients_over_the_data(jit):
    def step(model, optimizer, x, reduce):
        grads = nnx.grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, jax.tree.map(reduce, grads))

    sharded = nnx.shard_map(
        lambda model, optimizer, x: step(model, optimizer, x, lambda g: jax.lax.pmean(g, "data")),
        mesh=MESH,
        in_specs=(P(), P(), P("data")),
        out_specs=None,
        check_vma=False,
    )
    sharded = jit(sharded)
    pairs = []
    for f in (sharded, lambda *args: step(*args, lambda g: g)):
        model = MLP()
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        for _ in range(2):
            f(model, optimizer, X)
        pairs.append((model.first.kernel.value, model.calls.value, optimizer.step.value))
    for ours, expected in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_changes_of_values_and_structure_are_carried_out():
    model = MLP()
    kernel = model.first.kernel.value

    specs = nnx.StateSharding(by_filter())

    @nnx.shard_map(mesh=MESH, in_specs=(specs, P("data")), out_specs=(P("data"), specs))
    def change(model, x):
        model.first.kernel[...] *= 2
        model.total = nnx.Cache(jax.lax.psum(x.sum(), "data"))
        del model.second
        return x + 1, model

    y, same = change(model, X)
    assert same is model
    np.testing.assert_allclose(y, X + 1)
    np.testing.assert_allclose(model.first.kernel.value, 2 * kernel)
    np.testing.assert_allclose(model.total.value, X.sum(), atol=1e-5)
    assert not hasattr(model, "second")


def test_modules_are_made_inside_with_the_specs_of_the_output():
    def make():
        linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        linear.kernel.value = linear.kernel + jax.lax.axis_index("model")
        return linear

    specs = nnx.StateSharding({nnx.PathContains("kernel"): P("model"), ...: P()})
    linear = nnx.shard_map(make, mesh=MESH, in_specs=(), out_specs=specs)()
    assert linear.kernel.shape == (8, 3)
    assert lies_as(linear.kernel, "model")
    assert linear.bias.shape == (3,)


def test_it_can_be_differentiated():
    model = MLP()
    forward = nnx.shard_map(
        lambda model, x: model(x), mesh=MESH, in_specs=(P(), P("data")), out_specs=P("data")
    )
    grads = nnx.grad(lambda model, x: (forward(model, x) ** 2).sum())(model, X)
    expected = nnx.grad(lambda model, x: (model(x) ** 2).sum())(MLP(), X)
    np.testing.assert_allclose(grads["first"]["kernel"].value, expected["first"]["kernel"].value, rtol=1e-4)
    assert model.calls == 1


def test_it_may_be_manual_over_some_axes_only():
    @nnx.jit
    @nnx.shard_map(mesh=MESH, in_specs=(P(), P("data")), out_specs=P("data"), axis_names={"data"})
    def forward(model, x):
        assert x.shape == (16, 2)
        return jax.lax.with_sharding_constraint(
            model(x), NamedSharding(jax.sharding.get_abstract_mesh(), P())
        )

    model = MLP()
    assert forward(model, X).shape == (32, 3)
    assert model.calls == 1


def test_the_mesh_may_be_the_active_one():
    model = MLP()
    forward = nnx.shard_map(lambda model, x: model(x), in_specs=(P(), P("data")), out_specs=P("data"))
    with jax.set_mesh(MESH):
        assert forward(model, X).shape == (32, 3)


def test_keyword_arguments_have_the_specs_of_their_places_or_are_replicated():
    def f(model, x, *, scale):
        return model(x) * scale.value

    f = nnx.shard_map(f, mesh=MESH, in_specs=(P(), P("data")), out_specs=P("data"))
    scale = nnx.Variable(jnp.array(2.0))
    assert f(MLP(), x=X, scale=scale).shape == (32, 3)
    assert lies_as(scale)


def test_one_spec_is_for_all_arguments_and_none_replicates():
    total = nnx.shard_map(
        lambda a, b: jax.lax.psum((a.value + b).sum(), "data"), mesh=MESH, in_specs=P("data"), out_specs=P()
    )
    assert total(nnx.Variable(jnp.ones(4)), jnp.ones(4)) == 8
    same = nnx.shard_map(lambda a, b: a.value * b, mesh=MESH, in_specs=(None, None), out_specs=None)
    assert same(nnx.Variable(jnp.ones(4)), jnp.ones(4)).shape == (4,)


def test_bound_methods_replicate_their_module():
    class Model(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

        def forward(self, x):
            return self.linear(x)

    assert nnx.shard_map(Model().forward, mesh=MESH, in_specs=P("data"), out_specs=P("data"))(X).shape == (
        32,
        3,
    )


def test_variables_made_with_sharding_metadata_inside_are_shards():
    def make(x):
        return nnx.Param(x, sharding=("data",))

    made = nnx.shard_map(make, mesh=MESH, in_specs=P("data"), out_specs=P("data"))(jnp.arange(4.0))
    assert made.value.tolist() == [0, 1, 2, 3]
    assert made.out_sharding == ("data",)


def test_a_spec_that_does_not_fit_names_the_variable():
    def f(model):
        pass

    def mapped(specs):
        return nnx.shard_map(f, mesh=MESH, in_specs=(specs,), out_specs=None)

    with pytest.raises(
        ValueError, match=r"argument 0, 'first/kernel' of shape \(2, 64\), but axis 0 .*no multiple"
    ):
        mapped(nnx.StateSharding({nnx.PathContains("first"): P("model"), ...: P()}))(MLP())
    with pytest.raises(ValueError, match=r"argument 0, 'calls' of shape \(\), but it names 1 axes"):
        mapped(P("data"))(MLP())
    with pytest.raises(
        ValueError, match=r"argument 0, 'calls' of shape \(\), but 'rows' is not an axis of the mesh"
    ):
        mapped(P("rows"))(MLP())
    with pytest.raises(ValueError, match="StateSharding has no filter for the Cache at 'calls'"):
        mapped(nnx.StateSharding({nnx.Param: P()}))(MLP())
    with pytest.raises(ValueError, match="in_specs of length 1 for 2 positional arguments"):
        mapped(P())(MLP(), MLP())


def test_a_replicated_variable_that_differs_between_devices_is_an_error_that_names_it():
    @nnx.shard_map(mesh=MESH, in_specs=(P(), P("data")), out_specs=None)
    def change(model, x):
        model.calls[...] = model.calls + x.sum().astype(int)

    with pytest.raises(
        ValueError, match=r"(?s)gave 'calls' a value that differs along the mesh axes \['data'\].*psum"
    ):
        change(MLP(), X)


def test_shared_variables_must_agree_in_their_specs():
    linear = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
    f = nnx.shard_map(lambda a, b: None, mesh=MESH, in_specs=(P("data"), P()), out_specs=None)
    with pytest.raises(
        ValueError, match=r"the same Param has sharding P.*data.* in argument 0, .* in argument 1"
    ):
        f(linear, linear)
