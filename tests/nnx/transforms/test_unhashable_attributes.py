"""Modules that keep a configuration that can be compared but not hashed, as a plain dataclass is."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


@dataclasses.dataclass
class Config:
    factor: float
    names: list[str] = dataclasses.field(default_factory=list)


class Model(nnx.Module):
    def __init__(self, factor: float):
        self.config = Config(factor, ["a"])
        self.w = nnx.Param(jnp.arange(3.0))
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return (self.w[...] * x).sum() * self.config.factor


TRANSFORMED = {
    "jit": (lambda model: nnx.jit(lambda model: model(2.0))(model), 12.0),
    "grad": (lambda model: nnx.grad(lambda model: model(2.0))(model).w[...].sum(), 12.0),
    "vmap": (lambda model: nnx.vmap(Model.__call__, in_axes=(None, 0))(model, jnp.ones(2)).sum(), 12.0),
    "remat": (lambda model: nnx.remat(lambda model: model(2.0))(model), 12.0),
    "cond": (lambda model: nnx.cond(True, lambda model: model(2.0), lambda model: 0.0, model), 12.0),
    "fori_loop": (
        lambda model: nnx.fori_loop(0, 2, lambda i, both: (both[0], both[1] + both[0](1.0)), (model, 0.0))[1],
        12.0,
    ),
    "eval_shape": (lambda model: jnp.ones(nnx.eval_shape(lambda model: model(2.0), model).shape), 1.0),
    "jax.jit": (lambda model: jax.jit(lambda model: model(2.0))(model), 12.0),
}


@pytest.mark.filterwarnings("ignore:nnx.vmap")
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transforms_take_modules_with_such_a_configuration(name):
    run, expected = TRANSFORMED[name]
    assert float(run(Model(2.0))) == expected


def test_equal_configurations_share_a_program_and_others_do_not():
    traces = []

    @nnx.jit
    def run(model):
        traces.append(model.config.factor)
        return model(1.0)

    assert [float(run(model)) for model in (Model(2.0), Model(2.0), Model(3.0), Model(2.0))] == [6, 6, 9, 6]
    assert traces == [2.0, 3.0]
