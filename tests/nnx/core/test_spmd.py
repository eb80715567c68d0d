"""Sharding metadata: spellings, rules, sharding at creation, layouts of whole models."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx


def make_mesh(shape=(2, 4), names=("data", "model"), kind=AxisType.Auto):
    size = 1
    for length in shape:
        size *= length
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(names), devices=jax.devices()[:size])


MESH = make_mesh()


class Dot(nnx.Module):
    def __init__(self, rngs, names=("data", "model"), **metadata):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), names, **metadata)
        self.linear = nnx.Linear(8, 8, kernel_init=init, rngs=rngs)

    def __call__(self, x):
        return self.linear(x)


def lies_as(value, *spec, mesh=MESH):
    return value.sharding.is_equivalent_to(NamedSharding(mesh, P(*spec)), value.ndim)


@pytest.mark.parametrize("spelling", ["sharding", "sharding_names", "out_sharding"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_variable_made_under_a_mesh_is_sharded_as_its_metadata_says(spelling, kind):
    mesh = make_mesh(kind=kind)
    with jax.set_mesh(mesh):
        param = nnx.Param(jnp.ones((4, 8)), **{spelling: (None, "model")})
    assert lies_as(param, None, "model", mesh=mesh)
    assert param.out_sharding == param.sharding_names == (None, "model")
    assert param.get_metadata() == {"out_sharding": (None, "model")}


def test_the_sharding_may_be_a_partition_spec_a_named_sharding_or_a_format():
    from jax.experimental.layout import Format, Layout

    value, named = jnp.ones((4, 8)), NamedSharding(MESH, P("data", None))
    with jax.set_mesh(MESH):
        assert lies_as(nnx.Variable(value, out_sharding=P("data", "model")), "data", "model")
    assert nnx.Variable(value, out_sharding=named).sharding == named
    assert nnx.Variable(value, out_sharding=Format(Layout(major_to_minor=(1, 0)), named)).sharding == named


def test_slices_of_an_array_made_outside_of_the_mesh_are_sharded_along_their_own_axes():
    outside = jnp.ones((2, 4, 8))
    with jax.set_mesh(MESH):
        assert lies_as(nnx.Param(outside, sharding=(None, None, "model")), None, None, "model")
        made = nnx.vmap(lambda x: nnx.Param(x, sharding=(None, "model")))(outside)
    assert lies_as(made, None, None, "model")


def test_a_mesh_may_be_given_to_the_variable_itself():
    other = make_mesh((8,), ("all",))
    with jax.set_mesh(MESH):
        param = nnx.Param(jnp.ones((8,)), sharding=("all",), mesh=other)
    assert lies_as(param, "all", mesh=other)


@pytest.mark.filterwarnings("ignore:.*context manager has been deprecated:DeprecationWarning")
def test_the_older_way_of_entering_a_mesh_works_too():
    with MESH:
        param = nnx.Param(jnp.ones((4, 8)), sharding=("data", None))
    assert lies_as(param, "data")


def test_a_variable_with_a_sharding_and_no_mesh_is_an_error_that_names_the_ways_out():
    with pytest.raises(
        ValueError, match=r"(?s)Param of shape \(4, 8\).*no mesh is active.*set_mesh.*eager_sharding"
    ):
        nnx.Param(jnp.ones((4, 8)), sharding=("data", None))


def test_sharding_at_creation_is_turned_off_for_one_variable_or_for_all():
    assert (
        len(nnx.Param(jnp.ones((4, 8)), sharding=("data", None), eager_sharding=False).sharding.device_set)
        == 1
    )
    with nnx.use_eager_sharding(False):
        assert not nnx.using_eager_sharding()
        assert len(nnx.Param(jnp.ones((4, 8)), sharding=("data", None)).sharding.device_set) == 1
        with jax.set_mesh(MESH):
            assert lies_as(nnx.Param(jnp.ones((4, 8)), sharding=("data", None), eager_sharding=True), "data")
    assert nnx.using_eager_sharding()
    nnx.use_eager_sharding(False)
    assert not nnx.using_eager_sharding()
    nnx.use_eager_sharding(True)

    @nnx.use_eager_sharding(False)
    def make():
        return nnx.using_eager_sharding()

    assert nnx.using_eager_sharding()
    assert make() is False
    assert nnx.using_eager_sharding()


def test_empty_metadata_means_no_sharding():
    for empty in (None, (), P()):
        assert len(nnx.Param(jnp.ones(4), out_sharding=empty).sharding.device_set) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("data", "rows"),
            r"'rows' is not an axis of the mesh, which has \['data', 'model'\].*logical_axis_rules",
        ),
        (("data", None, None), r"names 3 axes, and the value has 2"),
        (("data", "data"), r"'data' is named twice"),
        ((None, "model"), r"axis 1 of the value has size 6, which is no multiple of the 4 devices"),
    ],
)
def test_a_sharding_that_does_not_fit_is_an_error_that_says_why(names, message):
    with jax.set_mesh(MESH), pytest.raises(ValueError, match=rf"(?s)Param of shape \(4, 6\).*{message}"):
        nnx.Param(jnp.ones((4, 6)), sharding=names)


def test_a_name_alone_is_no_sharding():
    with pytest.raises(
        ValueError, match=r"out_sharding='model', expected a name for each axis.*\('model',\)"
    ):
        nnx.Param(jnp.ones(4), sharding="model", mesh=MESH)


def test_a_mesh_with_axes_of_both_types_is_refused():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Explicit))
    with pytest.raises(ValueError, match="expected all of them Auto or all Explicit"):
        nnx.Param(jnp.ones((4, 8)), sharding=("data", "model"), mesh=mesh)


def test_rules_translate_aliases_of_the_variable_and_of_the_context():
    with jax.set_mesh(MESH), nnx.logical_axis_rules([("embed", None), ("batch", ["data", "model"])]):
        param = nnx.Param(jnp.ones((8, 8)), sharding=("batch", "embed"))
        own = nnx.Param(jnp.ones((8, 8)), sharding=("rows", "embed"), sharding_rules=(("rows", "data"),))
        assert nnx.get_partition_spec(own).get_raw_value() == P("data", None)
    assert lies_as(param, ("data", "model"))
    assert lies_as(own, "data")
    assert param.out_sharding == ("batch", "embed")


def test_rules_that_contradict_each_other_are_an_error():
    with (
        nnx.logical_axis_rules({"rows": "model"}),
        pytest.raises(ValueError, match=r"sharding_rules translate 'rows' to 'data'.*in force.*'model'"),
    ):
        nnx.Param(jnp.ones((8,)), sharding=("rows",), sharding_rules=(("rows", "data"),), mesh=MESH)


def test_with_partitioning_shards_the_parameters_of_a_layer():
    with jax.set_mesh(MESH):
        model = Dot(nnx.Rngs(0))
    assert lies_as(model.linear.kernel, "data", "model")
    assert lies_as(Dot(nnx.Rngs(0), mesh=MESH).linear.kernel, "data", "model")
    plain = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
    assert (plain.kernel.value == model.linear.kernel.value).all()


@pytest.mark.parametrize("jit", [jax.jit, nnx.jit])
def test_a_model_made_under_jit_comes_out_sharded(jit):
    make = jit(lambda: Dot(nnx.Rngs(0)))
    with jax.set_mesh(MESH):
        assert lies_as(make().linear.kernel, "data", "model")


@pytest.mark.parametrize("eager", [True, False])
def test_a_model_is_made_sharded_by_constraining_its_state(eager):
    @nnx.jit
    def create():
        model = Dot(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        state = nnx.state((model, optimizer))
        constrained = jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state))
        nnx.update((model, optimizer), constrained)
        return model, optimizer

    with jax.set_mesh(MESH), nnx.use_eager_sharding(eager):
        model, optimizer = create()
    assert lies_as(model.linear.kernel, "data", "model")
    assert lies_as(optimizer.opt_state[0].mu["linear"]["kernel"], "data", "model")


@pytest.mark.filterwarnings("ignore:.*context manager has been deprecated:DeprecationWarning")
def test_creation_under_jit_works_with_the_older_way_of_entering_a_mesh():
    @nnx.jit
    def create():
        model = Dot(nnx.Rngs(0))
        state = nnx.state(model)
        nnx.update(model, jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state)))
        return model

    with MESH:
        model = create()
    assert lies_as(model.linear.kernel, "data", "model")


def test_partition_specs_keep_the_tree_and_its_variables():
    with jax.set_mesh(MESH):
        model = Dot(nnx.Rngs(0))
    specs = nnx.get_partition_spec(nnx.state(model))
    assert isinstance(specs["linear"]["kernel"], nnx.Param)
    assert specs["linear"]["kernel"].get_raw_value() == P("data", "model")
    assert specs["linear"]["bias"].get_raw_value() == P()
    assert nnx.get_partition_spec({"x": jnp.ones(2), "y": 3}) == {"x": P(), "y": None}


def test_named_shardings_place_a_state_that_lies_on_one_device():
    with nnx.use_eager_sharding(False):
        model = Dot(nnx.Rngs(0))
    state = nnx.state(model)
    nnx.update(model, jax.device_put(state, nnx.get_named_sharding(state, MESH)))
    assert lies_as(model.linear.kernel, "data", "model")
    assert lies_as(model.linear.bias)


def test_named_shardings_name_the_variable_that_does_not_fit_the_mesh():
    with nnx.use_eager_sharding(False):
        state = nnx.state(Dot(nnx.Rngs(0), names=("embed", "model")))
    with pytest.raises(ValueError, match=r"(?s)'linear/kernel.*' of shape \(8, 8\).*'embed' is not an axis"):
        nnx.get_named_sharding(state, MESH)


@pytest.mark.slow
def test_an_optimizer_inherits_the_layout_of_the_parameters_or_has_its_own():
    with jax.set_mesh(MESH):
        model = Dot(nnx.Rngs(0), optimizer_sharding=("model", None))
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        assert lies_as(optimizer.opt_state[0].mu["linear"]["kernel"], "model", None)
        grads = nnx.grad(lambda model: model(jnp.ones((2, 8))).sum())(model)
        optimizer.update(model, grads)
        factored = nnx.Optimizer(model, optax.adafactor(1e-3, min_dim_size_to_factor=2), wrt=nnx.Param)
        factored.update(model, grads)
        inherited = nnx.Optimizer(Dot(nnx.Rngs(0)), optax.adam(1e-3), wrt=nnx.Param)
    assert lies_as(inherited.opt_state[0].nu["linear"]["kernel"], "data", "model")
    assert inherited.opt_state[0].nu["linear"]["kernel"].out_sharding == ("data", "model")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_get_abstract_model_tells_shapes_and_shardings_of_a_model_that_is_not_made(kind):
    class Tied(nnx.Module):
        def __init__(self):
            self.first = Dot(nnx.Rngs(0))
            self.second = self.first

    graphdef, state = nnx.get_abstract_model(Tied, make_mesh(kind=kind))
    kernel = state["first"]["linear"]["kernel"].get_raw_value()
    assert isinstance(kernel, jax.ShapeDtypeStruct)
    assert lies_as(kernel, "data", "model")
    assert len(jax.tree.leaves(state)) == 2
    restored = jax.tree.map(lambda leaf: jax.device_put(jnp.ones(leaf.shape), leaf.sharding), state)
    model = nnx.merge(graphdef, restored)
    assert model.first is model.second
    assert lies_as(model.first.linear.kernel, "data", "model")


def test_eval_shape_attaches_shardings_from_the_active_mesh_or_that_of_the_variable():
    with jax.set_mesh(MESH):
        model = nnx.eval_shape(lambda: Dot(nnx.Rngs(0)))
    assert model.linear.kernel.sharding.spec == P("data", "model")
    assert model.linear.bias.sharding.spec == P()
    model = nnx.eval_shape(lambda: Dot(nnx.Rngs(0), mesh=MESH))
    assert model.linear.kernel.sharding.spec == P("data", "model")
    assert getattr(model.linear.bias.get_value(), "sharding", None) is None


def test_as_abstract_adds_shardings_to_an_abstract_model():
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(lambda: Dot(nnx.Rngs(0)))
        own = nnx.eval_shape(lambda: nnx.Param(jnp.ones(8), sharding=("data",)))
    own.set_metadata(mesh=MESH)
    with jax.set_mesh(MESH):
        sharded = nnx.as_abstract(model)
    assert sharded.linear.kernel.sharding.spec == P("data", "model")
    assert nnx.as_abstract(own).sharding == NamedSharding(MESH, P("data"))
    assert getattr(model.linear.kernel.get_value(), "sharding", None) is None
    with pytest.raises(ValueError, match=r"(?s)as_abstract got 'linear/kernel'.*no mesh is active.*set_mesh"):
        nnx.abstract_with_sharding(model)


def test_an_abstract_value_carries_the_sharding_from_the_start():
    abstract = nnx.Param(jax.ShapeDtypeStruct((8, 2), jnp.float32), sharding=("model", None), mesh=MESH)
    assert abstract.get_value().sharding == NamedSharding(MESH, P("model", None))


def test_add_axis_and_remove_axis_change_names_and_call_the_hooks():
    seen = []
    param = nnx.Param(
        jnp.ones(()),
        sharding=("in", "out"),
        nicknames=("a", "b"),
        eager_sharding=False,
        on_add_axis=lambda _, index, name: seen.append(("add", index, name)),
        on_remove_axis=lambda _, index, name: seen.append(("remove", index, name)),
    )
    metadata = {nnx.PARTITION_NAME: "layers", "nicknames": "c", "unknown": "d"}
    nnx.spmd.add_axis({"p": param}, 1, metadata)
    assert (param.out_sharding, param.nicknames) == (("in", "layers", "out"), ("a", "c", "b"))
    nnx.spmd.remove_axis(param, 1, metadata)
    assert (param.out_sharding, param.nicknames) == (("in", "out"), ("a", "b"))
    assert seen == [("add", 1, "layers"), ("remove", 1, "layers")]


def test_add_axis_keeps_partition_specs_and_fills_up_short_ones():
    param = nnx.Param(jnp.ones(()), sharding=P("in"), eager_sharding=False)
    assert nnx.spmd.add_axis(param, 2, {nnx.PARTITION_NAME: "layers"}).out_sharding == P("in", None, "layers")


def test_remove_axis_refuses_another_name_and_metadata_without_a_name():
    param = nnx.Param(jnp.ones(()), sharding=("in", "out"), eager_sharding=False)
    with pytest.raises(ValueError, match=r"Expected 'layers' at axis 0 .*got 'in'"):
        nnx.spmd.remove_axis(param, 0, {nnx.PARTITION_NAME: "layers"})
    with pytest.raises(ValueError, match=r"expected nnx\.PARTITION_NAME among its keys"):
        nnx.spmd.add_axis(param, 0, {"nickname": "layers"})
