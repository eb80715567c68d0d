"""The modules of Flax that programs import names from, and names that were given up."""

import importlib

import pytest

from easyflax import nnx

MODULES = ["filterlib", "graph", "graphlib", "helpers", "module", "object", "pytreelib", "rnglib", "statelib"]
MODULES += ["traversals", "variablelib"]
LAYERS = ["activations", "initializers", "linear", "lora", "normalization", "recurrent", "stochastic"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_shares_its_names_with_nnx(name):
    module = importlib.import_module(f"easyflax.nnx.{name}")
    assert getattr(nnx, name) is module
    for public in module.__all__:
        assert getattr(module, public) is getattr(nnx, public, getattr(module, public))
    assert module.__doc__


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_of_layers_has_those_of_nnx(name):
    module = importlib.import_module(f"easyflax.nnx.nn.{name}")
    assert getattr(nnx.nn, name) is module
    for public in module.__all__:
        assert getattr(module, public) is getattr(nnx, public, getattr(module, public))


def test_variable_state_is_a_variable_by_another_name():
    with pytest.warns(DeprecationWarning, match=r"use nnx\.Variable"):
        assert nnx.VariableState is nnx.Variable
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        nnx.nothing  # noqa: B018
