"""The names that users may rely on are pinned here: changing one is a decision, not an accident."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import easyflax

PUBLIC = [
    "DTypePolicy",
    "FloatDTypePolicy",
    "Function",
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Operation",
    "Optimizer",
    "Regularizer",
    "RematScope",
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "apply",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "data",
    "datasets",
    "distribution",
    "dtype_policies",
    "enable_compilation_cache",
    "errors",
    "initializers",
    "interop",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "nnx",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "remat",
    "saving",
    "tree",
    "utils",
    "version",
]


def test_the_public_names_of_easyflax_are_these():
    assert sorted(easyflax.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert hasattr(easyflax, name)


def test_nothing_else_public_lies_in_the_root_namespace():
    subpackages = {path.stem for path in Path(easyflax.__path__[0]).iterdir()}
    extra = {name for name in vars(easyflax) if not name.startswith("_")} - set(PUBLIC) - subpackages
    assert not extra


def packages() -> list[str]:
    found = pkgutil.walk_packages(easyflax.__path__, "easyflax.")
    return ["easyflax"] + [module.name for module in found if module.ispkg]


@pytest.mark.parametrize("name", packages())
def test_every_name_in_all_exists_and_public_functions_and_classes_have_a_docstring(name):
    package = importlib.import_module(name)
    assert package.__doc__ or not hasattr(package, "__all__")
    for public in getattr(package, "__all__", []):
        value = getattr(package, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"
