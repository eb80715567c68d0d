import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(3))
        self.rngs = rngs
        self.name = "block"
        self.plain = [self.linear]


def test_children_are_modules_streams_and_variables_in_order_of_names():
    block = Block(nnx.Rngs(0))
    assert [name for name, _ in nnx.iter_children(block)] == ["drop", "linear", "rngs", "scale"]
    assert dict(nnx.iter_children(block))["scale"] is block.scale
    assert [name for name, _ in nnx.iter_module_children(block)] == ["drop", "linear"]


def test_containers_have_children_too():
    block = Block(nnx.Rngs(0))
    assert list(nnx.iter_children([1, block, block.scale])) == [(1, block), (2, block.scale)]
    assert list(nnx.iter_module_children({"b": block, "a": block.scale})) == [("b", block)]
    assert list(nnx.iter_children(nnx.state(block.linear))) == [
        ("bias", block.linear.bias),
        ("kernel", block.linear.kernel),
    ]


@pytest.mark.parametrize("function", [nnx.iter_children, nnx.iter_module_children])
def test_what_has_no_children_is_an_error(function):
    with pytest.raises(ValueError, match="Got a int, expected something that has children"):
        list(function(3))


def test_duplicates_are_shared_modules_variables_and_arrays():
    block, array = Block(nnx.Rngs(0)), jnp.ones(2)
    block.tied = block.scale
    block.first, block.second = array, array
    block.itself = block
    assert sorted(nnx.find_duplicates(block)) == [
        [(), ("itself",)],
        [("first",), ("second",)],
        [("linear",), ("plain", 0)],
        [("scale",), ("tied",)],
    ]
    assert nnx.find_duplicates(block, only=nnx.Param) == [[("scale",), ("tied",)]]
    assert nnx.find_duplicates(nnx.clone(block.linear)) == []


def test_set_attributes_knows_what_is_set_on_the_class():
    class Mode(nnx.Module):
        fast = False

    model = nnx.Dict(a=Mode(), rngs=nnx.Rngs(0))
    model.set_attributes(fast=True)
    assert model.a.fast
    assert not Mode.fast
    with pytest.raises(ValueError, match=r"has the attributes \['slow'\].* there are \['fast'\]"):
        model.set_attributes(slow=True)  # random streams answer to any name, but are no modules


def test_metadata_is_set_on_the_selected_variables():
    block = Block(nnx.Rngs(0))
    nnx.set_metadata(block, only=nnx.Param, decay=0.5)
    nnx.set_metadata([block], seen=True)
    assert block.linear.kernel.get_metadata() == {"decay": 0.5, "seen": True}
    assert block.rngs.default.key.get_metadata() == {"tag": "default", "seen": True}


def test_metadata_is_not_set_from_another_trace():
    block = Block(nnx.Rngs(0))
    with pytest.raises(nnx.TraceContextError, match="Cannot change a Param"):
        jax.jit(lambda: nnx.set_metadata(block, only=nnx.Param, decay=1))()
