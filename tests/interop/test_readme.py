"""The code in the page on moving weights runs, and its table names all layers that have a conversion."""

import re
from pathlib import Path

import pytest

import easyflax.interop
from easyflax.interop import torch_rules

README = (Path(easyflax.interop.__file__).parent / "README.md").read_text()


def test_the_code_runs(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_rules, "_CONVERSIONS", dict(torch_rules._CONVERSIONS))
    scope = {"__name__": "readme"}
    for block in re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "README.md", "exec"), scope)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_table_names_all_layers():
    without_counterpart = {"WeightNorm", "SpectralNorm"}
    of_the_package = {cls for cls in torch_rules._CONVERSIONS if cls.__module__.startswith("easyflax.")}
    listed = {cls.__name__ for cls in of_the_package if f"`{cls.__name__}" in README}
    assert listed == {cls.__name__ for cls in of_the_package} - without_counterpart
