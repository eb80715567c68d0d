"""`nnx.eval_shape`: abstract modules, nothing computed, nothing changed."""

import functools

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


class Model(nnx.Module):
    def __init__(self, rngs, features=4):
        self.linear = nnx.Linear(3, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.half = nnx.Param(jnp.zeros(features, jnp.bfloat16))
        self.features = features
        self.again = self.linear

    def __call__(self, x):
        return self.drop(self.norm(self.linear(x)))


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), nnx.to_pure_dict(nnx.state(tree)))


def test_a_module_made_inside_is_abstract():
    abstract = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(abstract)))
    assert shapes(abstract) == shapes(Model(nnx.Rngs(0)))
    assert nnx.graphdef(abstract) == nnx.graphdef(Model(nnx.Rngs(0)))
    assert abstract.again is abstract.linear
    assert abstract.features == 4


def test_arguments_are_passed_on():
    rngs = nnx.Rngs(0)
    abstract = nnx.eval_shape(functools.partial(Model, features=7), rngs=rngs)
    assert abstract.linear.kernel.shape == (3, 7)
    assert int(rngs.default.count.value) == 0


def test_an_abstract_module_is_a_template_to_merge_into():
    abstract, model = nnx.eval_shape(lambda: Model(nnx.Rngs(0))), Model(nnx.Rngs(0))
    graphdef, _ = nnx.split(abstract)
    merged = nnx.merge(graphdef, nnx.state(model))
    assert merged.linear.kernel is model.linear.kernel
    nnx.update(abstract, nnx.state(model))
    assert abstract(jnp.ones((2, 3))).shape == (2, 4)


def test_outputs_are_abstract_and_the_model_is_not_changed():
    model = Model(nnx.Rngs(0))
    mean, count = model.norm.mean.value, model.drop.rngs.count.value
    out = nnx.eval_shape(lambda model, x: {"y": model(x)}, model, jnp.ones((2, 3)))
    assert (out["y"].shape, type(out["y"])) == ((2, 4), jax.ShapeDtypeStruct)
    assert model.norm.mean.value is mean
    assert model.drop.rngs.count.value is count
    assert nnx.eval_shape(lambda x: x * 2, jax.ShapeDtypeStruct((3,), jnp.int8)).dtype == jnp.int8


def test_a_module_that_is_passed_and_returned_comes_back_as_an_abstract_copy():
    model = Model(nnx.Rngs(0))

    def f(model):
        model.more = nnx.Param(jnp.ones(5))
        return model

    abstract = nnx.eval_shape(f, model)
    assert abstract is not model
    assert not hasattr(model, "more")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(abstract)))
    assert isinstance(model.linear.kernel.value, jax.Array)
    assert abstract.more.shape == (5,)


def test_methods_of_a_module_can_be_evaluated():
    model = Model(nnx.Rngs(0))
    assert nnx.eval_shape(model.__call__, jnp.ones((2, 3))).shape == (2, 4)


def test_abstract_modules_can_be_evaluated_further():
    abstract = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert nnx.eval_shape(lambda model, x: model(x), abstract, x).shape == (2, 4)


class Rotary(nnx.Module):
    def __init__(self, rngs):
        self.frequencies = jnp.arange(3.0)
        self.tables = nnx.data({"sin": jnp.zeros(3)})
        self.scale = nnx.Param(jax.random.normal(rngs.params(), (3,)))

    def __call__(self, x):
        return x * self.frequencies * self.scale + self.tables["sin"]


def test_arrays_that_are_attributes_stay_data_in_an_abstract_module():
    abstract = nnx.eval_shape(lambda: Rotary(nnx.Rngs(0)))
    real = Rotary(nnx.Rngs(0))
    assert isinstance(abstract.frequencies, jax.ShapeDtypeStruct)
    assert nnx.graphdef(abstract) == nnx.graphdef(real)
    assert nnx.eval_shape(lambda m, x: m(x), abstract, jnp.ones((2, 3))).shape == (2, 3)
    merged = nnx.merge(nnx.graphdef(abstract), nnx.state(real))
    assert (merged(jnp.ones(3)) == real(jnp.ones(3))).all()


def test_errors_of_the_function_are_those_of_the_function():
    with pytest.raises(ValueError, match="stop"):
        nnx.eval_shape(lambda: (_ for _ in ()).throw(ValueError("stop")))


def test_modules_from_outside_may_be_returned():
    model = nnx.Dict(a=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), x=jnp.ones(2))
    model.b = model.a
    abstract, same = nnx.eval_shape(lambda: (model, model.a))
    assert abstract is not model
    assert abstract.a is abstract.b is same
    assert abstract.a.kernel.value == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert isinstance(model.a.kernel.value, jax.Array)
