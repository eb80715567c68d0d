"""Modules: attributes as data or static, sow and perturb, modes, trace levels, copies, jax's pytrees."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx


class Scale(nnx.Module):
    def __init__(self, features, name="scale"):
        self.weight = nnx.Param(jnp.ones(features))
        self.offset = jnp.zeros(features)
        self.features = features
        self.name = name

    def __call__(self, x):
        return x * self.weight + self.offset


def data_names(module):
    return sorted(nnx.state(module))


# -- data and static


def test_arrays_variables_and_modules_are_data_and_all_else_is_static():
    module = Scale(3)
    module.inner = Scale(2)
    module.array = np.ones(2)
    assert data_names(module) == ["array", "inner", "offset", "weight"]
    assert [nnx.is_data(v) for v in (jnp.ones(1), np.ones(1), nnx.Param(1), module)] == [True] * 4
    assert [nnx.is_data(v) for v in (1, "a", None, [1], np.float32(1))] == [False] * 5


def test_attributes_can_be_marked_by_hand():
    module = nnx.Dict(count=nnx.data(0), plain=0)
    assert data_names(module) == ["count"]
    module.count = 5  # the mark stays with the name
    assert nnx.state(module).count == 5
    module.count = nnx.static(6)
    assert (data_names(module), module.count) == ([], 6)
    module.plain = nnx.data(7)
    assert data_names(module) == ["plain"]


def test_marks_can_be_declared_at_the_class():
    class Counter(nnx.Module):
        step: nnx.Data[int]
        label: nnx.Static[Any]

        def __init__(self):
            self.step = 3
            self.label = "a"

    class Derived(Counter):
        more: nnx.Data[float]

        def __init__(self):
            super().__init__()
            self.more = 1.5

    assert nnx.to_pure_dict(nnx.state(Counter())) == {"step": 3}
    assert nnx.to_pure_dict(nnx.state(Derived())) == {"step": 3, "more": 1.5}
    assert jax.tree.leaves(Derived()) == [1.5, 3]


def test_dataclass_fields_declare_marks():
    @dataclasses.dataclass
    class Config(nnx.Module):
        width: int
        step: int = nnx.data(default=0)
        label: str = nnx.static(default="a")
        rngs: dataclasses.InitVar[nnx.Rngs | None] = None

        def __post_init__(self, rngs):
            self.kernel = nnx.Param(jnp.ones(self.width))

    module = Config(3)
    assert data_names(module) == ["kernel", "step"]
    assert (module.label, module.width) == ("a", 3)
    assert nnx.jit(lambda m: m.kernel + m.step)(module).tolist() == [1, 1, 1]


def test_what_is_marked_static_must_hold_no_data():
    class Labelled(nnx.Module):
        label: nnx.Static[Any]

        def __init__(self, label):
            self.label = label

    assert Labelled(("a", 1)).label == ("a", 1)
    for value, name in (
        (jnp.ones(2), "ArrayImpl"),
        ([nnx.Param(1)], "Param"),
        ({"x": Labelled(1)}, "Labelled"),
    ):
        with pytest.raises(ValueError, match=f"The static attribute 'label' of Labelled got {name}"):
            Labelled(value)
    with pytest.raises(ValueError, match=r"The static attribute 'a' of Dict got ndarray.*\nMark it"):
        nnx.Dict(a=nnx.static(np.ones(2)))
    with pytest.raises(ValueError, match="The static attribute '0' of List got Param"):
        nnx.List([nnx.static(nnx.Param(1))])


def test_a_value_and_field_options_together_are_refused():
    with pytest.raises(TypeError, match=r"Got both a value and the field options \['default'\]"):
        nnx.data(1, default=2)


def test_a_type_can_be_registered_as_data():
    @nnx.register_data_type
    class Handle:
        pass

    handle = Handle()
    module = nnx.Dict(handle=handle)
    assert nnx.is_data(handle)
    assert nnx.state(module).handle is handle


def test_plain_instances_of_subclasses_without_init_work():
    class Empty(nnx.Module):
        pass

    module = Empty()
    module.w = nnx.Param(1)
    assert nnx.to_pure_dict(nnx.state(module)) == {"w": 1}
    assert issubclass(nnx.Module, nnx.Object)


def test_properties_with_setters_work():
    class Celsius(nnx.Module):
        def __init__(self):
            self._kelvin = nnx.Variable(jnp.array(0.0))

        @property
        def degrees(self):
            return self._kelvin - 273.0

        @degrees.setter
        def degrees(self, value):
            self._kelvin.value = jnp.asarray(value + 273.0)

    module = Celsius()
    module.degrees = 10.0
    assert float(module._kelvin) == 283
    assert nnx.jit(lambda m: m.degrees)(module) == 10


# -- sow and perturb


def test_sown_values_are_collected_until_popped():
    class Layer(nnx.Module):
        def __call__(self, x):
            assert self.sow(nnx.Intermediate, "seen", x)
            return x

    layer = Layer()
    layer(1)
    layer(2)
    assert layer.seen.value == (1, 2)
    assert nnx.to_pure_dict(nnx.pop(layer, nnx.Intermediate)) == {"seen": (1, 2)}
    assert not hasattr(layer, "seen")


def test_sow_takes_its_own_reduction_and_the_name_of_a_kind():
    module = nnx.Dict()
    for value in (3, 4):
        module.sow("intermediates", "total", value, reduce_fn=lambda a, b: a + b, init_fn=lambda: 10)
    assert type(module.total) is nnx.Intermediate
    assert module.total.value == 17


def test_sow_refuses_a_name_that_is_taken():
    module = nnx.Dict(a=1, w=nnx.Param(2))
    with pytest.raises(ValueError, match=r"Dict.sow\('a'\) found a int under that name, expected a Intermed"):
        module.sow(nnx.Intermediate, "a", 1)
    with pytest.raises(ValueError, match=r"Dict.sow\('w'\) found a Param under that name"):
        module.sow(nnx.Intermediate, "w", 1)


def test_the_gradient_of_a_perturbation_is_that_of_the_intermediate_value():
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.array(3.0))

        def __call__(self, x):
            return self.perturb("hidden", x * self.w) ** 2

    model, x = Model(), jnp.array(2.0)
    assert model(x) == 36
    assert model.hidden.value == 0
    grads = nnx.grad(lambda m: m(x), argnums=nnx.DiffState(0, nnx.Perturbation))(model)
    assert grads.hidden.value == 2 * 6  # d(h**2)/dh at h = 6


def test_perturb_refuses_a_name_that_is_taken():
    with pytest.raises(ValueError, match=r"Dict.perturb\('w'\) found a Param under that name"):
        nnx.Dict(w=nnx.Param(1.0)).perturb("w", 1.0)


# -- modes


class Block(nnx.Module):
    def __init__(self):
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.norms = [nnx.BatchNorm(2, rngs=nnx.Rngs(0))]


def test_train_and_eval_reach_all_modules_below():
    block = Block()
    block.eval()
    assert (block.dropout.deterministic, block.norms[0].use_running_average) == (True, True)
    block.train()
    assert (block.dropout.deterministic, block.norms[0].use_running_average) == (False, False)
    block.eval(momentum=0.5)
    assert block.norms[0].momentum == 0.5


def test_set_attributes_sets_what_exists_and_may_select_modules():
    block = Block()
    block.set_attributes(nnx.Dropout, deterministic=True, rate=0.25)
    assert (block.dropout.deterministic, block.dropout.rate) == (True, 0.25)
    assert not hasattr(block.norms[0], "deterministic")
    block.set_attributes(nnx.BatchNorm, rate=0.75, raise_if_not_found=False)
    assert block.dropout.rate == 0.25
    with pytest.raises(ValueError, match=r"No module of this Block .*has the attributes \['speed'\]"):
        block.set_attributes(deterministic=True, speed=1)


# -- iteration


def test_modules_are_iterated_children_first_each_once():
    shared = nnx.Dict()
    module = nnx.Dict(b=shared, a=nnx.Dict(z=nnx.Dict()), c=shared, l=[nnx.Dict()], p=nnx.Param(1))
    expected = [("a", "z"), ("a",), ("b",), ("l", 0), ()]
    assert [path for path, _ in module.iter_modules()] == expected
    assert dict(module.iter_modules())[("b",)] is shared


def test_children_are_the_modules_among_the_attributes():
    module = nnx.Dict(b=nnx.Dict(), a=nnx.Dict(z=nnx.Dict()), n=1)
    assert [(name, child) for name, child in module.iter_children()] == [("a", module.a), ("b", module.b)]


# -- trace levels


def test_a_module_cannot_be_changed_from_inside_a_transform_that_it_was_not_passed_to():
    module = Scale(2)

    def set_it(x):
        module.name = "changed"
        return x

    def delete_it(x):
        del module.name
        return x

    for change in (set_it, delete_it):
        for transform in (jax.jit, nnx.jit, nnx.grad, jax.grad):
            with pytest.raises(nnx.TraceContextError, match=r"Cannot set 'name' of this Scale here"):
                transform(change)(1.0)
    assert module.name == "scale"


def test_a_module_made_inside_a_transform_can_be_changed_there():
    @jax.jit
    def f(x):
        module = Scale(2)
        module.more = x
        return module(module.more)

    assert f(2.0).tolist() == [2, 2]


# -- copies


def test_deep_copies_and_pickles_keep_structure_and_sharing():
    shared = nnx.Dict(n=1, w=nnx.Param(np.ones(2)))
    module = nnx.Dict(a=shared, b=shared, mark=nnx.data(5), plain=[shared])
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other.a is other.b is other.plain[0]
        assert other.a is not shared
        assert type(other.a.w) is nnx.Param
        assert nnx.graphdef(other) == nnx.graphdef(module)
        other.a.n = 2
        other.a.w.value = np.zeros(2)
    assert (shared.n, shared.w.value.tolist()) == (1, [1, 1])


def test_a_module_with_weights_survives_pickling():
    module = Scale(2)
    module.weight = nnx.Param(np.array([1.0, 2.0]))
    module.offset = np.zeros(2)
    again = pickle.loads(pickle.dumps(module))
    assert again(jnp.ones(2)).tolist() == [1, 2]
    again.weight[...] = jnp.ones(2)
    assert module.weight.value.tolist() == [1, 2]


def test_a_shallow_copy_shares_variables_but_not_attributes():
    module = Scale(2)
    other = copy.copy(module)
    other.name = "other"
    assert module.name == "scale"
    assert other.weight is module.weight


# -- jax's pytrees


def test_a_module_is_a_pytree_of_its_data():
    module = Scale(2)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(module)]
    assert paths == [".offset", ".weight.value"]
    tripled = jax.tree.map(lambda x: x * 3, module)
    assert isinstance(tripled, Scale)
    assert (tripled.name, tripled.features) == ("scale", 2)
    assert tripled(jnp.ones(2)).tolist() == [3, 3]
    assert module(jnp.ones(2)).tolist() == [1, 1]


def test_the_structure_of_the_pytree_tells_static_attributes_apart():
    assert jax.tree.structure(Scale(2)) == jax.tree.structure(Scale(2))
    assert jax.tree.structure(Scale(2)) != jax.tree.structure(Scale(2, name="other"))


def test_plain_jax_transforms_take_modules_as_values():
    module = Scale(2)
    assert jax.jit(lambda m, x: m(x))(module, 3.0).tolist() == [3, 3]
    grads = jax.grad(lambda m: m(jnp.array([1.0, 2.0])).sum())(module)
    assert grads.weight.value.tolist() == [1, 2]
    assert jax.eval_shape(lambda m: m(jnp.ones(2)), module).shape == (2,)
    stacked = jax.vmap(lambda key: nnx.Linear(2, 3, rngs=nnx.Rngs(key)))(
        jax.random.split(jax.random.key(0), 4)
    )
    assert stacked.kernel.shape == (4, 2, 3)


def test_marks_survive_a_trip_through_a_pytree():
    module = nnx.Dict(count=nnx.data(1))
    again = jax.tree.map(lambda x: x + 1, module)
    assert nnx.to_pure_dict(nnx.state(again)) == {"count": 2}
    again.count = 7
    assert data_names(again) == ["count"]


# -- first_from


def test_first_from_returns_the_first_that_is_given():
    assert nnx.first_from(None, 0, 1, error_msg="none") == 0
    with pytest.raises(ValueError, match="please pass deterministic"):
        nnx.first_from(None, None, error_msg="please pass deterministic")


class Mixed(nnx.Module):
    def __init__(self):
        self.array = jnp.ones(3)
        self.number = nnx.data(1.0)
        self.weight = nnx.Param(jnp.arange(3.0))
        self.layers = [nnx.Param(jnp.zeros(3))]
        self.static = 2


def test_a_tree_of_axes_in_the_shape_of_a_module_maps_it():
    module = Mixed()
    axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, module, is_leaf=lambda leaf: leaf is None)
    out = jax.vmap(lambda module: module.array + module.weight + module.number, in_axes=(axes,))(module)
    np.testing.assert_array_equal(out, [2, 3, 4])


@pytest.mark.parametrize("value", [0, "text", None, (1, 2), object()])
def test_leaves_stay_leaves_whatever_takes_their_place(value):
    module = Mixed()
    others = jax.tree.map(lambda _: value, module)
    is_leaf = lambda leaf: leaf is value  # noqa: E731
    assert jax.tree.structure(others, is_leaf=is_leaf) == jax.tree.structure(module)
    assert all(leaf is value for leaf in jax.tree.leaves(others, is_leaf=is_leaf))
    again = jax.tree.map(lambda _, leaf: leaf, others, module, is_leaf=is_leaf)
    np.testing.assert_array_equal(again.weight.value, module.weight.value)
    variables = jax.tree.map(lambda _: 0, module, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    assert jax.tree.leaves(variables) == [0, 0, 0, 0]


def test_marks_survive_jax_transforms():
    module = jax.jit(lambda module: module)(Mixed())
    assert isinstance(module.number, jax.Array)
    module.number = 3
    assert "number" in nnx.state(module)
    assert nnx.graphdef(module) == nnx.graphdef(Mixed())


def test_classes_made_with_type_arguments_are_as_without():
    table, weight = nnx.Dict[str, int](a=1), nnx.Param[jax.Array](jnp.ones(2))
    assert dict(table) == {"a": 1}
    assert weight.get_metadata() == {}
    assert nnx.graphdef(nnx.List[int]([1])) == nnx.graphdef(nnx.List([1]))
    optimizer = nnx.Optimizer[Scale](Scale(2), optax.sgd(0.1), wrt=nnx.Param)
    assert nnx.graphdef(optimizer) == nnx.graphdef(nnx.clone(optimizer))


@pytest.mark.parametrize("value", [[nnx.data(1)], (0, nnx.data(1)), {"x": nnx.data(1)}])
def test_marks_belong_on_attributes(value):
    kind = type(value).__name__
    message = rf"'a' of Dict got a {kind} with nnx.data\(...\) inside, expected marks on attributes only"
    with pytest.raises(ValueError, match=message):
        nnx.Dict(a=value)
    with pytest.raises(ValueError, match=rf"'0' of List got a {kind} with nnx.data"):
        nnx.List([value])
    fields = dataclasses.fields(dataclasses.make_dataclass("Point", ["x"]))
    assert nnx.Dict(a=fields).a is fields
