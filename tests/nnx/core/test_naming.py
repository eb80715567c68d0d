"""How errors name a module: by the path that it was called through."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx
from easyflax.nnx.core.naming import asking_module, describe


class Probe(nnx.Module):
    """Returns how it is named."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.ones(2))

    def __call__(self) -> str:
        return describe(self)


class Stage(nnx.Module):
    def __init__(self, probe: Probe) -> None:
        self.probes = [nnx.Dict(main=probe)]

    def __call__(self) -> str:
        return self.probes[0].main()


class Model(nnx.Module):
    def __init__(self) -> None:
        self.probe = Probe()
        self.stages = {"first": Stage(Probe()), "second": Stage(Probe())}

    def __call__(self) -> str:
        return self.stages["second"]()


def test_layers_in_lists_and_dicts_are_named_by_their_keys() -> None:
    assert Model()() == "Probe 'stages.second.probes.0.main'"


def test_a_layer_called_by_itself_is_named_where_the_model_is_a_local_variable() -> None:
    model = Model()
    assert model.probe() == "Probe 'probe'"
    assert Probe()() == "Probe"


def test_a_shared_layer_is_named_by_the_path_it_was_called_through() -> None:
    model = Model()
    model.stages["second"].probes[0].main = model.probe
    model.stages["first"].probes[0].main = model.probe
    assert model() == "Probe 'stages.second.probes.0.main'"


def test_any_argument_may_hold_the_layer() -> None:
    def second(x: Any, model: Model) -> str:
        return model.probe()

    def keyword(x: Any, *, model: Model) -> str:
        return model.probe()

    def packed(*args: Any, **kwargs: Any) -> str:
        return (*args, *kwargs.values())[-1].probe()

    def listed(layers: list[Any]) -> str:
        return layers[1]()

    assert second(1, Model()) == "Probe 'probe'"
    assert keyword(1, model=Model()) == "Probe 'probe'"
    assert packed(1, Model()) == packed(1, model=Model()) == "Probe 'probe'"
    assert listed([nnx.relu, Probe()]) == "Probe '1'"


def _scan(f: Any) -> Any:
    return nnx.scan(lambda x, layer: f(layer, x), in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=2)


def _seen(transform: Any) -> Any:
    """A layer that is called under `transform` in a model, and the names that it was seen under."""
    names: list[str] = []

    def note(probe: Probe, x: Any) -> Any:
        names.append(probe())
        return x

    class Outer(nnx.Module):
        def __init__(self) -> None:
            self.inner = nnx.Dict(probe=Probe())

        def __call__(self, x: Any) -> Any:
            return transform(note)(self.inner.probe, x)

    return Outer(), names


@pytest.mark.parametrize(
    "transform",
    [
        nnx.jit,
        nnx.remat,
        lambda f: nnx.vmap(f, in_axes=(0, 0)),
        lambda f: lambda layer, x: _scan(f)(x, layer),
        lambda f: nnx.grad(lambda layer, x: f(layer, x).sum()),
        lambda f: lambda layer, x: nnx.eval_shape(f, layer, x),
        lambda f: lambda layer, x: nnx.cond(True, f, f, layer, x),
        lambda f: nnx.jit(nnx.jit(f)),
    ],
    ids=["jit", "remat", "vmap", "scan", "grad", "eval_shape", "cond", "jit in jit"],
)
def test_a_layer_inside_of_a_transform_is_named_by_its_path_in_the_whole_model(transform: Any) -> None:
    model, names = _seen(transform)
    model(jnp.ones(2))
    assert set(names) == {"Probe 'inner.probe'"}


def test_inside_of_jax_transforms_a_layer_is_named_too() -> None:
    model = Model()
    names = []
    jax.jit(lambda x: names.append(model()) or x)(1.0)
    assert names == ["Probe 'stages.second.probes.0.main'"]


def test_cycles_end() -> None:
    model = Model()
    model.probe.owner = model
    assert model() == "Probe 'stages.second.probes.0.main'"
    assert model.probe() == "Probe 'probe'"


def test_a_missing_stream_is_told_with_the_layer_that_asks() -> None:
    with pytest.raises(AttributeError, match=r"Linear: No RngStream named 'params' .* are \['dropout'\]"):
        nnx.Linear(2, 3, rngs=nnx.Rngs(dropout=0))
    model = nnx.Dict(drop=nnx.Dropout(0.5))
    with pytest.raises(KeyError, match=r"Dropout 'drop': No RngStream named 'dropout' found in Rngs"):
        model.drop(jnp.ones(3), rngs=nnx.Rngs(params=0))
    assert asking_module() is None
