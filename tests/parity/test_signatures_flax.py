"""Every layer and function of `flax.nnx.nn` by its signature: names, order, kinds and defaults of the
parameters of constructors, calls and methods, and the attributes of a layer that was made."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import make_both

# By "layer.method.parameter" or "layer.attribute": what is not as in Flax, and why.
DIFFERENCES: dict[str, str] = {}


def _public(lib: Any) -> dict[str, Any]:
    """The names of flax.nnx that the modules of `flax.nnx.nn` define, and pooling."""
    homes = ("flax.nnx.nn.", "flax.linen.pooling")  # and Sequential, in a module of other things
    return {
        name: getattr(lib, name, None)
        for name, value in sorted(vars(flax_nnx).items())
        if not name.startswith("_")
        and ((getattr(value, "__module__", None) or "").startswith(homes) or name == "Sequential")
    }


def _callables(name: str, value: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    if not inspect.isclass(value):
        yield name, value
        return
    for member, function in vars(value).items():
        is_public = not member.startswith("_") or member in ("__init__", "__call__")
        is_field = member in inspect.get_annotations(value)
        if is_public and not is_field and inspect.isfunction(function):
            yield f"{name}.{member}", function


THEIRS = dict(pair for name, value in _public(flax_nnx).items() for pair in _callables(name, value))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _is_same_default(parameter: str, ours: Any, theirs: Any) -> bool:
    if ours is theirs:
        return True
    if parameter.endswith("_init") and callable(theirs):
        draws = [init(jax.random.key(0), (3, 4, 5), "float32") for init in (ours, theirs)]
        return np.array_equal(*draws)
    if (inspect.isfunction(ours) and inspect.isfunction(theirs)) or (
        inspect.isclass(ours) and inspect.isclass(theirs)
    ):
        return ours.__qualname__ == theirs.__qualname__
    if type(ours).__module__.startswith("easyflax"):  # a filter, of which each library has its own
        return type(ours).__name__ == type(theirs).__name__ and vars(ours) == vars(theirs)
    return ours == theirs


@pytest.mark.parametrize("path", sorted(THEIRS))
def test_signatures_are_those_of_flax(path: str) -> None:
    name, *member = path.split(".")
    found = getattr(nnx, name)
    ours, theirs = _parameters(getattr(found, *member) if member else found), _parameters(THEIRS[path])
    extra = [parameter for parameter in DIFFERENCES if parameter.rpartition(".")[0] == path]
    names = [parameter for parameter in ours if f"{path}.{parameter}" not in extra]
    assert names == [parameter for parameter in theirs if f"{path}.{parameter}" not in extra]
    for parameter in names:
        mine, other = ours[parameter], theirs[parameter]
        assert mine.kind == other.kind, parameter
        same = _is_same_default(parameter, mine.default, other.default)
        assert same, (parameter, mine.default, other.default)


MODULES = [module.name for module in pkgutil.iter_modules(flax_nnx.nn.__path__)]
# Converts the paddings of Flax's own convolutions; `layers.conv_options.canonical_padding` is ours.
NOT_HERE = {"linear.canonicalize_padding"}


@pytest.mark.parametrize("name", MODULES)
def test_modules_have_the_names_that_are_defined_in_those_of_flax(name: str) -> None:
    theirs = importlib.import_module(f"flax.nnx.nn.{name}")
    ours = importlib.import_module(f"easyflax.nnx.nn.{name}")
    defined = {
        member
        for member, value in vars(theirs).items()
        if not member.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith((theirs.__name__, "jax."))
    } | set(getattr(theirs, "__all__", ()))
    expected = {member for member in defined if f"{name}.{member}" not in NOT_HERE}
    assert expected <= set(vars(ours))


LAYERS: dict[str, tuple[Any, ...]] = {
    "BatchNorm": (3,),
    "Conv": (3, 4, 2),
    "ConvTranspose": (3, 4, 2),
    "Dropout": (0.5,),
    "Einsum": ("ab,bc->ac", (3, 4)),
    "Embed": (3, 4),
    "GRUCell": (3, 4),
    "GroupNorm": (4, 2),
    "InstanceNorm": (3,),
    "LSTMCell": (3, 4),
    "LayerNorm": (3,),
    "Linear": (3, 4),
    "LinearGeneral": (3, 4),
    "LoRA": (3, 2, 4),
    "MultiHeadAttention": (2, 4),
    "OptimizedLSTMCell": (3, 4),
    "RMSNorm": (3,),
    "SimpleCell": (3, 4),
}


def _attributes(layer: Any) -> set[str]:
    return {name for name in vars(layer) if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_attributes_are_those_of_flax(name: str) -> None:
    ours, theirs = make_both(lambda lib: getattr(lib, name)(*LAYERS[name], rngs=lib.Rngs(0)))
    extra = {path.rpartition(".")[2] for path in DIFFERENCES if path.rpartition(".")[0] == name}
    assert _attributes(ours) - extra <= _attributes(theirs)
    for attribute in _attributes(theirs) - extra:
        mine, other = getattr(ours, attribute), getattr(theirs, attribute)
        if isinstance(mine, (int, float, str, bool, tuple, type(None))):
            assert mine == other, attribute


def test_every_layer_of_flax_is_in_the_table_of_attributes() -> None:
    wrappers_and_bases = {"Bidirectional", "LoRALinear", "LoRAParam", "PReLU", "RNN", "RNNCellBase"}
    wrappers_and_bases |= {"Sequential", "SpectralNorm", "WeightNorm"}
    layers = {name for name, value in _public(flax_nnx).items() if inspect.isclass(value)}
    assert layers - wrappers_and_bases == set(LAYERS)
