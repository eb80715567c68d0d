"""How modules, variables, states and structures are shown."""

import builtins
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.core.display import count


class Layer(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.zeros((3, 4)), note="a")
        self.stat = nnx.BatchStat(jnp.zeros(2))
        self.width = 4
        self._hidden = "not shown"


def test_a_module_is_shown_with_its_attributes_and_what_each_kind_holds():
    assert repr(Layer()).split("\n") == [
        "Layer( # Param: 12 (48 B), BatchStat: 2 (8 B)",
        "  kernel=Param( # 12 (48 B)",
        "    value=Array(shape=(3, 4), dtype=float32),",
        "    note='a'",
        "  ),",
        "  stat=BatchStat( # 2 (8 B)",
        "    value=Array([0., 0.], dtype=float32)",
        "  ),",
        "  width=4",
        ")",
    ]


def test_large_sizes_are_rounded_and_written_with_separators():
    model = nnx.Dict(w=nnx.Param(jax.ShapeDtypeStruct((1000, 1500), jnp.float32)))
    assert repr(model).startswith("Dict( # Param: 1,500,000 (6.0 MB)")


def test_shared_modules_are_shown_in_full_and_cycles_by_name():
    model = nnx.Dict(a=nnx.Dict(n=1))
    model.b = model.a
    model.me = model
    assert repr(model).split("\n") == [
        "Dict(",
        "  a=Dict(",
        "    n=1",
        "  ),",
        "  b=Dict(",
        "    n=1",
        "  ),",
        "  me=Dict(...)",
        ")",
    ]


def test_cycles_through_any_container_end():
    model = nnx.Dict()
    model.list, model.tuple, model.dict = [model], (model,), {"x": model}
    text = repr(model)
    assert "  list=[\n    Dict(...)\n  ]" in text
    assert "  dict={\n    'x': Dict(...)\n  }" in text


def test_plain_containers_are_shown_over_several_lines():
    model = nnx.Dict(items=[nnx.Dict(n=1), 2], table={"x": nnx.Param(1)}, empty=[], none={})
    assert repr(model).split("\n") == [
        "Dict(",
        "  items=[",
        "    Dict(",
        "      n=1",
        "    ),",
        "    2",
        "  ],",
        "  table={",
        "    'x': Param(",
        "      value=1",
        "    )",
        "  },",
        "  empty=[],",
        "  none={}",
        ")",
    ]


def test_states_and_variables_are_shown():
    state = nnx.state(Layer(), nnx.BatchStat)
    assert repr(state).split("\n") == [
        "State({",
        "  'stat': BatchStat( # 2 (8 B)",
        "    value=Array([0., 0.], dtype=float32)",
        "  )",
        "})",
    ]
    assert repr(nnx.Param(1)) == str(nnx.Param(1)) == f"{nnx.Param(1)}" == "Param(\n  value=1\n)"
    assert repr(nnx.Dict()) == "Dict()"


def test_models_can_be_shown_anywhere():
    abstract = nnx.eval_shape(Layer)
    assert "value=ShapeDtypeStruct(shape=(3, 4), dtype=float32)" in repr(abstract)
    texts = []

    @nnx.jit
    def f(model):
        texts.append(repr(model))
        return model.kernel + 1

    f(Layer())
    assert "float32[3,4]" in texts[0] or "shape=(3, 4)" in texts[0]
    numpy = nnx.Dict(a=np.ones((3, 4)), k=nnx.Rngs(0))
    assert "shape=(3, 4)" in repr(numpy)
    assert "key<fry>" in repr(numpy)


def test_a_model_whose_arrays_were_donated_can_still_be_shown():
    model = Layer()
    clone = nnx.clone(model)
    nnx.jit(lambda m: m.stat + 1, donate_argnums=0)(model)
    assert clone.stat.value.is_deleted()
    assert "shape=(3, 4)" in repr(clone)


def test_structures_are_shown_a_line_for_each_module_and_variable():
    model = nnx.Dict(layer=Layer(), array=jnp.ones(2), n=3)
    model.shared = model.layer
    assert repr(nnx.graphdef(model)).split("\n") == [
        "GraphDef(2 nodes, 2 variables, 1 arrays)",
        "  (root): Dict(n=3)",
        "  array: array",
        "  layer: Layer(_hidden='not shown', width=4)",
        "  layer/kernel: Param",
        "  layer/stat: BatchStat",
    ]


def test_counting_takes_all_arrays_of_a_tree():
    assert count({"a": jnp.ones((2, 3)), "b": jnp.ones(4, jnp.bfloat16), "c": "text"}) == (10, 32)


# -- display


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


@pytest.mark.filterwarnings("ignore:jax.ArrayRef:DeprecationWarning")  # treescope asks an older jax for it
def test_treescope_renders_modules_variables_and_states():
    treescope = pytest.importorskip("treescope")
    model = nnx.Dict(layer=Layer())
    for value in (model, nnx.state(model), model.layer.kernel):
        text = treescope.render_to_text(value)
        assert type(value).__name__ in text
        assert "kernel" in text or isinstance(value, nnx.Variable)
