import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
import easyflax.utils as utils
from easyflax.layers import Dense, Input
from easyflax.layers.symbolic import apply
from easyflax.models import Model, Sequential

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def _edges(text):
    return [tuple(edge) for edge in re.findall(r'"([^"]+)" -> "([^"]+)"', text)]


def _box(text, name):
    line = next(line for line in text.splitlines() if line.strip().startswith(f'"{name}" ['))
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", line)]


def _siamese():
    left, right = Input((4,), name="left"), Input((4,), name="right")
    tower = Sequential([Dense(5, activation="relu"), Dense(3)], name="tower")
    return Model({"l": left, "r": right}, apply(jnp.concatenate, [tower(left), tower(right)], axis=-1))


def test_a_sequential_is_a_line_of_boxes():
    model = Sequential([Input((4,)), Dense(8), nnx.relu, Dense(3, name="head")])
    text = utils.model_to_dot(model)
    assert text.startswith("digraph {\n")
    assert text.endswith("}\n")
    assert _edges(text) == [("dense", "relu"), ("relu", "head")]
    assert [_box(text, name) for name in ("dense", "relu", "head")] == [["Dense"], ["relu"], ["Dense"]]


def test_boxes_say_what_is_asked_for():
    model = Sequential([Input((4,)), Dense(8, activation="relu"), Dense(3, name="head")])
    model.layers[1].trainable = False
    text = utils.model_to_dot(
        model, True, True, True, "LR", dpi=50, show_layer_activations=True, show_trainable=True
    )
    assert _box(text, "dense") == [
        "dense (Dense)",
        "activation: relu",
        "in: (None, 4)",
        "out: (None, 8)",
        "dtype: float32",
        "trainable",
    ]
    assert _box(text, "head")[-1] == "frozen"
    assert 'rankdir="LR", dpi=50, splines="ortho"' in text


def test_shared_models_are_one_box_with_an_edge_for_each_call():
    edges = [("left", "tower"), ("right", "tower"), ("tower", "concatenate"), ("tower", "concatenate")]
    assert sorted(_edges(utils.model_to_dot(_siamese()))) == edges


def test_models_within_models_are_framed_with_edges_to_what_is_inside():
    text = utils.model_to_dot(_siamese(), expand_nested=True)
    assert 'subgraph "cluster_tower" {' in text
    assert sorted(_edges(text)) == [
        ("left", "tower/dense"),
        ("right", "tower/dense"),
        ("tower/dense", "tower/dense_1"),
        ("tower/dense_1", "concatenate"),
        ("tower/dense_1", "concatenate"),
    ]


def test_frames_within_frames_and_several_ends():
    a, b = Input((2,), name="a"), Input((2,), name="b")
    core = Model([a, b], [Dense(2, name="on_a")(a), Dense(2, name="on_b")(b)], name="core")
    x = Input((2,), name="x")
    middle = Model(x, core([x, x])[1], name="middle")
    y = Input((2,), name="y")
    edges = _edges(utils.model_to_dot(Model(y, Dense(1, name="out")(middle(y))), expand_nested=True))
    assert sorted(edges) == [
        ("middle/core/a", "middle/core/on_a"),
        ("middle/core/b", "middle/core/on_b"),
        ("middle/core/on_b", "out"),
        ("middle/x", "middle/core/a"),
        ("middle/x", "middle/core/b"),
        ("y", "middle/x"),
    ]


def test_modules_that_say_in_python_what_they_call_are_one_box():
    assert _box(utils.model_to_dot(Model(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))), "linear") == ["Linear"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"plot_model: Sequential 'sequential'.*has no weights yet"):
        utils.plot_model(Sequential([Dense(3)]))
    with pytest.raises(TypeError, match=r"plot_model: got ndarray, expected a model"):
        utils.plot_model(np.ones(3))


def test_the_input_of_dot_is_written_without_dot(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    model = _siamese()
    assert utils.plot_model(model, tmp_path / "model.dot") is None
    assert (tmp_path / "model.dot").read_text() == utils.model_to_dot(model)
    with pytest.raises(
        ImportError, match=r"no program 'dot'.*apt-get install graphviz.*to_file='model\.dot'"
    ):
        utils.plot_model(model, tmp_path / "model.png")


@needs_dot
@pytest.mark.slow
@pytest.mark.parametrize(("ending", "begin"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_pictures_are_written(ending, begin, tmp_path):
    path = tmp_path / f"model{ending}"
    utils.plot_model(_siamese(), path, show_shapes=True, show_layer_names=True, expand_nested=True, dpi=60)
    assert path.read_bytes().startswith(begin)


@needs_dot
def test_an_unknown_format_is_refused_with_the_words_of_dot(tmp_path):
    with pytest.raises(ValueError, match=r"dot could not write .*model\.abc.*Format: \"abc\" not recognized"):
        utils.plot_model(_siamese(), tmp_path / "model.abc")
