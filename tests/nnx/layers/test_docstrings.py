"""What the docstring of every layer and layer function has: arguments, results, an example, the paper."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from easyflax.nnx import layers

PUBLIC = {name: getattr(layers, name) for name in layers.__all__}
OURS = {
    name: value
    for name, value in PUBLIC.items()
    if getattr(value, "__module__", "").startswith("easyflax") and callable(value)
}
MODULES = {name: value for name, value in OURS.items() if inspect.isclass(value)}
# Plain parts, which come from no paper.
WITHOUT_SOURCE = {"RNNCellBase", "Sequential", "min_pool", "pool"}
WITHOUT_SOURCE |= {"combine_masks", "make_attention_mask", "make_causal_mask"}
BASES = {"LoRAParam", "RNNCellBase"}  # which take what their own bases take


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(cls).items():
        if inspect.isfunction(value) and (name == "__call__" or not name.startswith("_")):
            yield name, value


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", sorted(set(OURS) - {"LoRAParam"}))
def test_every_layer_and_function_has_an_example_and_its_source(name: str) -> None:
    doc = inspect.getdoc(OURS[name]) or ""
    assert "Examples:\n    >>> " in doc
    assert name in WITHOUT_SOURCE or "Source: " in doc
    assert doc.partition("\n")[0].endswith(".")


@pytest.mark.parametrize("name", sorted(set(OURS) - BASES))
def test_every_argument_is_described(name: str) -> None:
    value = OURS[name]
    described = [(value, value.__init__ if inspect.isclass(value) else value)]
    described += [(method, method) for _, method in _methods(value)] if inspect.isclass(value) else []
    for documented, function in described:
        doc = inspect.getdoc(documented) or ""
        lines = re.findall(r"^    ([\w*, ]+): ", doc, re.MULTILINE)  # "a: what it is", "a, b: what they are"
        known = {name.strip("* ") for line in lines for name in line.split(",")}
        missing = [name for name in _parameters(function) if name not in known]
        assert not missing, (getattr(documented, "__qualname__", name), missing)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if "__call__" in vars(MODULES[name])))
def test_every_call_says_what_it_returns(name: str) -> None:
    doc = inspect.getdoc(vars(MODULES[name])["__call__"]) or ""
    assert doc.startswith("Returns ") or "Returns:" in doc
