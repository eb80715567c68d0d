"""Variables: values, kinds, metadata, hooks, arithmetic, trace levels."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.core.variables import (
    give_back,
    is_lent,
    lend,
    reading_params_as,
    reading_params_through,
)

# -- the value


def test_all_spellings_of_reading_and_writing_reach_the_same_value():
    v = nnx.Param(jnp.zeros(3))
    v.value = jnp.ones(3)
    np.testing.assert_array_equal(v[...], [1, 1, 1])
    v[...] = jnp.full(3, 2.0)
    np.testing.assert_array_equal(v.value, [2, 2, 2])
    v.set_value(jnp.full(3, 3.0))
    np.testing.assert_array_equal(v.get_value(), [3, 3, 3])
    v.raw_value = jnp.full(3, 4.0)
    np.testing.assert_array_equal(v.raw_value, [4, 4, 4])
    v.set_raw_value(jnp.full(3, 5.0))
    np.testing.assert_array_equal(v.get_raw_value(), [5, 5, 5])


def test_an_indexed_assignment_keeps_shape_and_dtype():
    v = nnx.Param(jnp.zeros((2, 3), jnp.float32))
    v[0, 1] = 7
    v[1] = jnp.arange(3)
    np.testing.assert_array_equal(v.value, [[0, 7, 0], [0, 1, 2]])
    v[...] = 1
    assert v.shape == (2, 3)
    assert v.dtype == jnp.float32
    np.testing.assert_array_equal(v.value, np.ones((2, 3)))


def test_an_assignment_of_the_whole_value_may_change_shape_and_dtype():
    v = nnx.Param(jnp.zeros(3))
    v.value = jnp.ones((2, 2), jnp.int32)
    assert v.shape == (2, 2)
    assert v.dtype == jnp.int32


def test_an_indexed_assignment_of_another_shape_is_refused():
    v = nnx.Param(jnp.zeros(3))
    with pytest.raises(ValueError, match="broadcasting"):
        v[...] = jnp.ones(4)


def test_reading_at_an_index_reads_a_part():
    v = nnx.Param(jnp.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(v[1, :2], [3, 4])
    np.testing.assert_array_equal(v.get_value(index=0), [0, 1, 2])


def test_a_variable_can_be_assigned_from_another_one():
    a, b = nnx.Param(jnp.zeros(2)), nnx.BatchStat(jnp.ones(2))
    a.value = b
    np.testing.assert_array_equal(a.value, [1, 1])
    assert isinstance(a.value, jax.Array)


def test_the_value_may_be_any_pytree():
    v = nnx.Variable({"a": jnp.ones(2)})
    v["b"] = jnp.zeros(1)
    assert sorted(v.value) == ["a", "b"]
    del v["a"]
    assert sorted(v.value) == ["b"]
    nothing = nnx.Variable(None)
    assert nothing.value is None


def test_a_container_that_was_read_can_be_changed_without_changing_the_variable():
    v = nnx.Variable({"a": [1, 2]})
    v.value["a"].append(3)
    assert v.value == {"a": [1, 2]}


def test_attributes_of_the_value_are_attributes_of_the_variable():
    v = nnx.Param(jnp.ones((2, 3)))
    assert (v.shape, v.ndim, v.size, v.T.shape) == ((2, 3), 2, 6, (3, 2))
    assert float(v.sum()) == 6
    assert v.at[0, 0].set(5)[0, 0] == 5


def test_an_attribute_that_neither_variable_nor_value_has_raises():
    with pytest.raises(AttributeError, match="flavour"):
        _ = nnx.Param(jnp.ones(2)).flavour


# -- kinds and metadata


def test_metadata_is_read_as_attributes_and_set_by_name():
    v = nnx.Param(jnp.ones(2), note="a", rank=1)
    assert (v.note, v.rank, v.get_metadata("note"), v.has_metadata("rank")) == ("a", 1, "a", True)
    v.note = "b"
    v.set_metadata("rank", 2)
    assert v.get_metadata() == {"note": "b", "rank": 2}
    v.set_metadata(note="c", extra=(1,))
    assert v.get_metadata() == {"note": "c", "rank": 2, "extra": (1,)}
    v.set_metadata({"only": 1})
    assert v.get_metadata() == {"only": 1}
    v.del_metadata("only")
    assert v.get_metadata() == {}
    assert v.get_metadata("only", default=None) is None
    with pytest.raises(KeyError):
        v.get_metadata("only")


def test_metadata_can_be_deleted_as_an_attribute():
    v = nnx.Param(jnp.ones(2), note="a")
    del v.note
    assert not v.has_metadata("note")
    with pytest.raises(AttributeError, match="Param has no metadata 'note' to delete"):
        del v.note


def test_what_the_class_defines_cannot_be_set_as_metadata():
    v = nnx.Param(jnp.ones(2))
    with pytest.raises(AttributeError, match=r"Cannot set 'copy' of a Param.*set its value with"):
        v.copy = 3


def test_set_metadata_refuses_mixed_arguments():
    with pytest.raises(TypeError, match="set_metadata got 1 positional and 1 keyword arguments"):
        nnx.Param(jnp.ones(2)).set_metadata("note", other=1)


def test_older_names_of_the_sharding_are_understood():
    for name in ("sharding", "sharding_names", "out_sharding"):
        v = nnx.Param(jnp.ones(2), **{name: ("data",), "eager_sharding": False})
        assert v.out_sharding == v.sharding_names == ("data",)
    assert nnx.Param(jnp.ones(2)).sharding_names is None


def test_a_kind_is_the_class():
    class Mask(nnx.Variable):
        pass

    assert Mask(1).type is Mask
    assert nnx.Param(1).var_type is nnx.Param
    assert issubclass(nnx.Perturbation, nnx.Intermediate)


def test_copies_share_nothing_and_keep_kind_and_metadata():
    v = nnx.BatchStat(jnp.ones(2), note="a")
    for other in (v.copy(), v.replace(), v.to_state(), copy.copy(v), copy.deepcopy(v)):
        assert type(other) is nnx.BatchStat
        assert other.get_metadata() == {"note": "a"}
        other[...] = 5
        other.note = "b"
    np.testing.assert_array_equal(v.value, [1, 1])
    assert v.note == "a"


def test_copy_takes_another_value_and_more_metadata():
    v = nnx.Param(jnp.ones(2), note="a").copy(jnp.zeros(3), more=1)
    np.testing.assert_array_equal(v.value, [0, 0, 0])
    assert v.get_metadata() == {"note": "a", "more": 1}


def test_copy_from_takes_value_and_metadata_of_the_same_kind_only():
    a, b = nnx.Param(jnp.zeros(2)), nnx.Param(jnp.ones(2), note="b")
    a.copy_from(b)
    a.copy_from(a)
    np.testing.assert_array_equal(a.value, [1, 1])
    assert a.note == "b"
    with pytest.raises(ValueError, match="copy_from got a BatchStat, expected a Param"):
        a.copy_from(nnx.BatchStat(1))


def test_update_from_state_takes_value_and_metadata():
    a = nnx.Param(jnp.zeros(2), note="a")
    a.update_from_state(nnx.Param(jnp.ones(2), note="b"))
    assert (a.value.tolist(), a.note) == ([1, 1], "b")


def test_variables_survive_pickling():
    v = pickle.loads(pickle.dumps(nnx.BatchStat(np.arange(3), note="a")))
    assert (type(v), v.value.tolist(), v.note) == (nnx.BatchStat, [0, 1, 2], "a")
    v.value = 4  # it belongs to the trace level that is running
    assert v.value == 4


def test_a_variable_is_a_pytree_of_its_value():
    v = nnx.Param(jnp.ones(2), note="a")
    doubled = jax.tree.map(lambda x: x * 2, v)
    assert (type(doubled), doubled.note, doubled.value.tolist()) == (nnx.Param, "a", [2, 2])
    [(path, _)] = jax.tree_util.tree_leaves_with_path(v)
    assert jax.tree_util.keystr(path) == ".value"
    assert jax.tree.structure(v) != jax.tree.structure(nnx.BatchStat(jnp.ones(2), note="a"))
    assert jax.tree.structure(v) != jax.tree.structure(nnx.Param(jnp.ones(2), note="b"))


# -- hooks


def test_hooks_given_as_metadata_run_on_creating_reading_and_writing():
    v = nnx.Param(
        jnp.array(1.0),
        on_create_value=lambda _, value: value + 10,
        on_get_value=lambda _, value: value * 2,
        on_set_value=lambda _, value: value - 1,
    )
    assert (float(v.raw_value), float(v.value)) == (11, 22)
    v.value = jnp.array(5.0)
    assert (float(v.raw_value), float(v[...])) == (4, 8)
    v.raw_value = jnp.array(3.0)  # without hooks
    assert float(v.raw_value) == 3


def test_several_hooks_run_in_order():
    v = nnx.Param(jnp.array(1.0), on_get_value=(lambda _, x: x + 1, lambda _, x: x * 10))
    assert float(v.value) == 20


def test_hooks_may_be_methods_of_a_subclass():
    class Positive(nnx.Param):
        def on_get_value(self, value):
            return jnp.exp(value)

        def on_set_value(self, value):
            return jnp.log(value)

    v = Positive(jnp.array(0.0))
    assert float(v.value) == 1
    v.value = jnp.array(5.0)
    np.testing.assert_allclose(v.value, 5.0, rtol=1e-6)
    np.testing.assert_allclose(v.raw_value, np.log(5.0), rtol=1e-6)


def test_a_subclass_may_override_how_values_are_created_read_and_written():
    class Doubled(nnx.Variable):
        def create_value(self, value):
            return value * 2

        def get_value(self, **kwargs):
            return super().get_value(**kwargs) + 1

        def set_value(self, value, **kwargs):
            super().set_value(value * 100, **kwargs)

    v = Doubled(jnp.array(1.0))
    assert float(v.value) == 3
    v[...] = 2.0
    assert (float(v.raw_value), float(v[...])) == (200, 201)


def test_axis_hooks_are_told_index_and_name():
    seen = []
    v = nnx.Param(
        jnp.ones(2),
        on_add_axis=lambda variable, index, name: seen.append(("add", variable, index, name)),
        on_remove_axis=lambda variable, index, name: seen.append(("remove", variable, index, name)),
    )
    v.add_axis(0, "layers")
    v.remove_axis(1, None)
    assert [entry[0] for entry in seen] == ["add", "remove"]
    assert all(entry[1] is v for entry in seen)
    assert [entry[2:] for entry in seen] == [(0, "layers"), (1, None)]


def test_with_metadata_initializers_hand_metadata_and_hooks_to_the_variable():
    init = nnx.with_metadata(
        nnx.initializers.ones_init(), role="scale", on_get_value=lambda _, value: value * 3
    )
    v = nnx.Param(init(jax.random.key(0), (2,), jnp.float32), more=1)
    assert (v.role, v.more, v.value.tolist(), v.raw_value.tolist()) == ("scale", 1, [3, 3], [1, 1])


# -- trace levels


def test_a_variable_cannot_be_changed_from_inside_a_transform_that_it_was_not_passed_to():
    v = nnx.Param(jnp.ones(3))

    def change(x):
        v[...] = x
        return x

    for transform in (jax.jit, nnx.jit, jax.grad, jax.vmap):
        argument = jnp.ones(3) if transform is jax.vmap else 1.0
        with pytest.raises(nnx.TraceContextError, match=r"Cannot change a Param of shape \(3,\) here"):
            transform(change)(argument)
    assert v.value.tolist() == [1, 1, 1]
    with pytest.raises(nnx.TraceContextError, match="Pass the module that holds it"):
        jax.jit(lambda x: v.set_metadata(note=1))(1.0)


def test_a_variable_from_outside_can_be_read_inside_a_transform():
    v = nnx.Param(jnp.ones(3))
    np.testing.assert_array_equal(jax.jit(lambda x: v * x)(2.0), [2, 2, 2])


def test_a_variable_made_inside_a_transform_can_be_changed_there():
    @jax.jit
    def f(x):
        v = nnx.Param(x)
        v += 1
        return v.value

    assert f(1.0) == 2


def test_the_value_of_an_unpacked_pytree_belongs_to_the_level_inside():
    @jax.jit
    def f(v):
        v[...] = v * 2
        return v

    v = nnx.Param(jnp.ones(2))
    assert f(v).value.tolist() == [2, 2]
    assert v.value.tolist() == [1, 1]


# -- lending


class _Vault:
    """Keeps the values of lent variables."""

    def __init__(self, *variables):
        self.variables, self.fetched = variables, 0
        self.values = [v.value for v in variables]
        lend(variables, self)

    def fetch(self):
        self.fetched += 1
        for variable, value in zip(self.variables, self.values, strict=True):
            give_back(variable, value)


def test_reading_a_lent_variable_brings_all_values_home():
    a, b = nnx.Param(jnp.ones(2)), nnx.Param(jnp.zeros(2))
    vault = _Vault(a, b)
    assert is_lent(a)
    assert is_lent(b)
    assert a.value.tolist() == [1, 1]
    assert (vault.fetched, is_lent(a), is_lent(b)) == (1, False, False)


@pytest.mark.parametrize("write", ["set_value", "set_raw_value"])
def test_writing_to_a_lent_variable_brings_the_others_home_first(write):
    a, b = nnx.Param(jnp.ones(2)), nnx.Param(jnp.zeros(2))
    vault = _Vault(a, b)
    getattr(a, write)(jnp.full(2, 7.0))
    assert (vault.fetched, is_lent(a), is_lent(b)) == (1, False, False)
    assert (a.value.tolist(), b.value.tolist()) == ([7, 7], [0, 0])


def test_a_kept_traversal_sees_what_was_lent_and_given_back():
    model = nnx.Dict(a=nnx.Param(jnp.ones(2)), b=nnx.Param(jnp.ones(2)))
    total = nnx.jit(lambda m: m.a + m.b)
    total(model)
    vault = _Vault(model.a, model.b)
    vault.values = [jnp.full(2, 10.0), jnp.full(2, 20.0)]
    assert total(model).tolist() == [30, 30]
    assert vault.fetched == 1


def test_updating_a_model_whose_variables_are_lent_keeps_the_other_values():
    model = nnx.Dict(a=nnx.Param(jnp.ones(2)), b=nnx.Param(jnp.ones(2)))
    vault = _Vault(model.a, model.b)
    nnx.update(model, {"a": jnp.zeros(2)})
    assert vault.fetched == 1
    assert (model.a.value.tolist(), model.b.value.tolist()) == ([0, 0], [1, 1])


# -- names of kinds


def test_kinds_have_collection_names():
    assert nnx.variable_type_from_name("params") is nnx.Param
    assert nnx.variable_name_from_type(nnx.BatchStat) == "batch_stats"


def test_new_kinds_can_be_registered_once():
    @nnx.register_variable_name("test_masks")
    class Mask(nnx.Variable):
        pass

    assert nnx.variable_type_from_name("test_masks") is Mask
    with pytest.raises(ValueError, match="'test_masks' is registered for Mask, so it cannot name Param"):
        nnx.register_variable_name("test_masks", nnx.Param)
    nnx.register_variable_name("test_masks", nnx.Cache, overwrite=True)
    assert nnx.variable_type_from_name("test_masks") is nnx.Cache


def test_unknown_names_and_kinds_are_refused_unless_registering_is_allowed():
    class Unnamed(nnx.Variable):
        pass

    with pytest.raises(ValueError, match=r"Unknown variable collection 'param'.*Did you mean 'params'"):
        nnx.variable_type_from_name("param")
    with pytest.raises(ValueError, match="Unnamed has no collection name"):
        nnx.variable_name_from_type(Unnamed)
    assert nnx.variable_name_from_type(Unnamed, allow_register=True) == "Unnamed"
    made = nnx.variable_type_from_name("test_made", base=nnx.Param, allow_register=True)
    assert issubclass(made, nnx.Param)
    assert nnx.variable_type_from_name("test_made") is made


def test_the_error_says_where_a_variable_is_that_cannot_be_changed():
    inner = nnx.Dict(table={"a": [nnx.Param(jnp.ones(2))]})
    model = nnx.Dict(layers=nnx.List([0, inner]))
    model.itself = model
    for variable, place in (
        (inner.table["a"][0], "'layers/1/table/a/0' of a Dict"),
        (nnx.RngKey(1), None),
    ):
        where = r"shape \(.*\) here" + (rf" \({place}\)" if place else "") + ": it was made outside"
        with pytest.raises(nnx.TraceContextError, match=where):
            jax.jit(lambda x, v=variable: v.set_value(x))(jnp.ones(2))
    assert model.layers[1] is inner


def test_an_abstract_variable_has_no_value_to_compute_with():
    model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="Got a Param of an abstract model, which has a shape and a dtype"):
        model.kernel[...]
    with pytest.raises(
        TypeError, match=r"but no value, expected one with an array.*\nGive the model its values"
    ):
        model(jnp.ones(2))
    nnx.update(model, nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    assert model(jnp.ones(2)).shape == (3,)


def test_parameters_are_read_through_a_function_after_they_were_cast_and_stored_as_they_are():
    param, statistic = nnx.Param(jnp.ones(2)), nnx.BatchStat(jnp.ones(2))
    seen = []

    def through(array):
        seen.append(array.dtype)
        return 3 * array

    with reading_params_through(through), reading_params_as(jnp.bfloat16):
        assert param[...].tolist() == param.get_value().tolist() == [3, 3]
        assert statistic[...].tolist() == param.get_raw_value().tolist() == [1, 1]
    assert set(seen) == {jnp.dtype("bfloat16")}
    assert param[...].tolist() == [1, 1]
