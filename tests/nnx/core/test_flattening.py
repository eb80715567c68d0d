import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


def make_model():
    model = nnx.Dict(b=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), a=jnp.ones(2), layers=nnx.List([nnx.Param(1)]))
    model.again = model.b
    return model


def test_flat_leaves_are_in_the_order_of_their_paths_and_go_back():
    model = make_model()
    graphdef, flat = nnx.flatten(model)
    assert isinstance(flat, nnx.FlatState)
    assert flat.paths == (("a",), ("again", "bias"), ("again", "kernel"), ("layers", 0))
    assert graphdef == nnx.graphdef(model)
    for leaves in (flat, flat.to_nested_state(), nnx.flatten(model, with_paths=False)[1]):
        new = nnx.unflatten(graphdef, leaves)
        assert new.again is new.b
        assert new.b.kernel is model.b.kernel
        assert new.a is model.a


def test_a_list_of_values_becomes_new_variables():
    graphdef, leaves = nnx.flatten(make_model(), with_paths=False)
    new = nnx.unflatten(graphdef, jax.tree.map(jnp.zeros_like, nnx.as_pure(leaves)))
    assert type(new.b.kernel) is nnx.Param
    assert not new.b.kernel.value.any()


def test_variables_are_copied_on_request():
    model = make_model()
    new = nnx.unflatten(*nnx.flatten(model), copy_variables=True)
    assert new.b.kernel is not model.b.kernel


def test_single_variables_and_arrays_have_an_empty_path():
    variable, array = nnx.Param(1), jnp.ones(2)
    assert nnx.flatten(variable)[1].paths == ((),)
    assert nnx.unflatten(*nnx.flatten(variable)) is variable
    assert nnx.unflatten(*nnx.flatten(array, with_paths=False)) is array


def test_missing_leaves_are_an_error():
    graphdef, leaves = nnx.flatten(make_model(), with_paths=False)
    with pytest.raises(ValueError, match="got 3 leaves, expected the 4 of this graphdef"):
        nnx.unflatten(graphdef, leaves[:-1])
