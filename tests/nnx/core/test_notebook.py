"""Showing values in notebooks, and elsewhere."""

import builtins
import sys
import types

import jax.numpy as jnp
import pytest

from easyflax import nnx

pytestmark = pytest.mark.filterwarnings(
    "ignore:jax.ArrayRef:DeprecationWarning"
)  # treescope asks older jax for it


class Layer(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.zeros((3, 4)), note="a")
        self.stat = nnx.BatchStat(jnp.zeros(2))
        self.width = 4
        self._hidden = "not shown"


def test_display_prints_outside_of_notebooks(capsys):
    nnx.display(Layer(), nnx.graphdef(Layer()))
    out = capsys.readouterr().out
    assert out.startswith("Layer( # Param: 12 (48 B)")
    assert "GraphDef(1 nodes, 2 variables, 0 arrays)" in out


def in_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=object))


def test_display_uses_treescope_in_notebooks(monkeypatch, capsys):
    treescope = pytest.importorskip("treescope")
    in_notebook(monkeypatch)
    shown = []
    monkeypatch.setattr(treescope, "display", lambda value, **_: shown.append(value))
    model = Layer()
    nnx.display(model)
    assert shown == [model]
    assert capsys.readouterr().out == ""


def test_display_prints_in_notebooks_without_treescope(monkeypatch, capsys):
    in_notebook(monkeypatch)
    plain_import = builtins.__import__

    def without_treescope(name, *args, **kwargs):
        if name == "treescope":
            raise ImportError(name)
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_treescope)
    nnx.display(Layer())
    assert capsys.readouterr().out.startswith("Layer(")


# -- what Treescope makes of them


@pytest.fixture
def rendered():
    treescope = pytest.importorskip("treescope")
    return lambda value: treescope.render_to_text(value).split("\n")


def test_modules_are_rendered_with_what_they_hold(rendered):
    lines = rendered(Layer())
    assert lines[:2] == ["Layer( # Param: 12 (48 B), BatchStat: 2 (8 B)", "  kernel=Param( # 12 (48 B)"]
    assert lines[-3:] == ["  stat=BatchStat(value=<jax.Array([0., 0.], dtype=float32)>),", "  width=4,", ")"]
    assert "    note='a'," in lines


def test_what_is_shared_is_rendered_once_with_its_path_at_the_other_places(rendered):
    model = nnx.Dict(a=nnx.List([nnx.Param(1)]))
    model.b, model.tied, model.me = model.a, model.a[0], model
    assert rendered(model) == [
        "Dict({",
        "  'a': List([Param(value=1)]),",
        "  'b': List(...), # same as a",
        "  'tied': Param(...), # same as a/0",
        "  'me': Dict(...), # same as the root",
        "})",
    ]


def test_each_of_several_models_is_rendered_for_itself(rendered):
    model = nnx.List([nnx.Param(1)])
    assert rendered([model, nnx.state(model)]) == ["[List([Param(value=1)]), State({0: Param(value=1)})]"]


def test_of_many_siblings_the_first_and_last_are_rendered(rendered):
    lines = rendered(nnx.state(nnx.List([nnx.Param(i) for i in range(100)])))
    assert lines[5:8] == ["  4: Param(value=4),", "  90 more,", "  95: Param(value=95),"]
    assert len(lines) == 13


def test_tracers_and_abstract_models_are_rendered(rendered):
    assert "ShapeDtypeStruct(shape=(3, 4)" in "".join(rendered(nnx.eval_shape(Layer)))
    texts = []
    nnx.jit(lambda model: texts.extend(rendered(model)))(Layer())
    assert "float32[3,4]" in "".join(texts)


def test_values_of_every_sort_are_rendered(rendered):
    model = nnx.Dict(layer=Layer(), rngs=nnx.Rngs(0))
    for value in (model, nnx.state(model), model.layer.kernel, nnx.graphdef(model), {"a": [model]}):
        assert type(value).__name__ in "".join(rendered(value)) or isinstance(value, dict)
