import dataclasses

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


@nnx.dataclass
class Scale(nnx.Module):
    weight: nnx.Param
    offset: jax.Array = nnx.data(default=0.0)
    names: list = nnx.static(default_factory=list)
    power: int = 1

    def __call__(self, x):
        return x**self.power * self.weight + self.offset


def test_fields_are_data_or_static_as_declared():
    scale = Scale(nnx.Param(jnp.array(2.0)), power=2)
    assert set(nnx.state(scale)) == {"weight", "offset"}
    assert jax.tree.leaves(scale) == [0.0, 2.0]
    assert float(scale(3.0)) == 18.0


def test_a_dataclass_module_keeps_its_repr_and_goes_through_transforms():
    scale = Scale(nnx.Param(jnp.array(2.0)))
    assert repr(scale).startswith("Scale( # Param: 1")

    @nnx.jit
    def step(scale):
        scale.weight[...] += 1
        scale.power = 3
        return scale(2.0)

    scale.names = ("a",)
    assert float(step(scale)) == 24.0
    assert (float(scale.weight), scale.power) == (3.0, 3)
    assert nnx.clone(scale) is not scale


def test_options_and_inheritance_are_those_of_dataclasses():
    @nnx.dataclass(kw_only=True, order=True)
    class Named(Scale):
        name: str

    named = Named(nnx.Param(1.0), name="x")
    assert Named(nnx.Param(1.0), name="w") < named
    assert [field.name for field in dataclasses.fields(named)] == [
        "weight",
        "offset",
        "names",
        "power",
        "name",
    ]


def test_data_in_a_static_field_is_an_error():
    with pytest.raises(ValueError, match="static attribute 'names' of Scale got ArrayImpl"):
        Scale(nnx.Param(1.0), names=[jnp.ones(2)])


def test_has_data_finds_arrays_variables_and_modules():
    weight, layer = nnx.Param(1.0), nnx.Dropout(0.5)
    found = nnx.has_data({"a": [weight, 1], "b": (layer, "text"), "c": jnp.ones(2)})
    assert found[0] is weight
    assert found[1] is layer
    assert len(found) == 3
    assert nnx.has_data([1, "text", None]) == []


def test_check_pytree_finds_what_was_put_into_a_static_list_later():
    scale = Scale(nnx.Param(1.0))
    nnx.check_pytree(scale)
    scale.names.append(jnp.ones(2))
    with pytest.raises(ValueError, match="static attribute 'names' of Scale got ArrayImpl"):
        nnx.check_pytree(scale)
    with pytest.raises(TypeError, match="check_pytree got a dict, expected a module"):
        nnx.check_pytree({})


def test_deleting_an_attribute_forgets_its_mark():
    module = nnx.Module()
    module.a = nnx.data(1)
    del module.a
    module.a = 1
    assert len(nnx.state(module)) == 0
    assert nnx.graphdef(module) == nnx.graphdef(nnx.clone(module))
