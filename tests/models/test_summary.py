import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers import Dense, Embedding, Input, Layer
from easyflax.layers.specs import ArraySpec
from easyflax.layers.symbolic import apply
from easyflax.models import Model, Sequential
from easyflax.models.measures import Measures, specs_of_rows
from easyflax.models.summary import layer_rows


class Block(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(3))
        self.parts = [nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)]

    def __call__(self, x):
        for part in self.parts:
            x = part(x)
        return {"y": x * self.scale, "mean": x.mean()}


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.dropout = nnx.Linear(4, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.block = Block(rngs)

    def __call__(self, x):
        return self.block(self.dropout(nnx.relu(self.first(x))))


def _siamese():
    left, right = Input((4,), name="left"), Input((4,), name="right")
    tower = Dense(3, name="tower")
    return Model([left, right], apply(jnp.concatenate, [tower(left), tower(right)], axis=-1) * 2)


def _params(row):
    return sum(one.get_value().size for one in row.weights)


def _text(model, *args, **kwargs):
    texts = []
    model.summary(*args, print_fn=texts.append, **kwargs)
    assert len(texts) == 1
    return texts[0]


# -- rows


def test_modules_have_a_row_for_what_is_theirs_under_their_path():
    module = Net()
    rows = layer_rows(module, Measures(module, specs_of_rows((7, 4))))
    assert [(row.name, row.kind, row.output, _params(row)) for row in rows] == [
        ("first", "Linear", (None, 7, 3), 15),
        ("dropout", "Dropout", (None, 7, 3), 0),
        ("block", "Block", {"y": (None, 7, 3), "mean": ()}, 3),
        ("block.parts.0", "Linear", (None, 7, 3), 12),
        ("block.parts.1", "BatchNorm", (None, 7, 3), 12),
    ]


def test_rows_come_in_the_order_of_the_calls_where_it_is_known():
    class Backwards(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.a, self.b, self.unused = (nnx.Linear(2, 2, rngs=rngs) for _ in range(3))

        def __call__(self, x):
            return self.a(self.b(x))

    module = Backwards()
    assert [row.name for row in layer_rows(module)] == ["a", "b", "unused"]
    measures = Measures(module, specs_of_rows((2,)))
    assert [row.name for row in layer_rows(module, measures)] == ["b", "a", "unused"]


def test_a_sequential_has_a_row_for_each_layer_and_function_without_any_call():
    model = Sequential([Input((4,)), Dense(8), nnx.relu, Dense(3, name="head")])
    assert [(row.name, row.kind, row.output, _params(row), row.sources) for row in layer_rows(model)] == [
        ("dense", "Dense", (None, 8), 40, ()),
        ("relu", "function", (None, 8), 0, ()),
        ("head", "Dense", (None, 3), 27, ()),
    ]


def test_a_model_with_branches_tells_what_is_connected_and_shows_shared_layers_once():
    found = [(row.name, row.output, _params(row), row.sources) for row in layer_rows(_siamese())]
    assert found == [
        ("left", (None, 4), 0, ()),
        ("right", (None, 4), 0, ()),
        ("tower", (None, 3), 15, ("left", "right")),
        ("concatenate", (None, 6), 0, ("tower[0][0]", "tower[1][0]")),
        ("mul", (None, 6), 0, ("concatenate",)),
    ]


def test_functions_that_are_called_twice_are_two_rows():
    x = Input((4,))
    rows = layer_rows(Model(x, (x + 1) + (x + 2)))
    assert [row.name for row in rows] == ["input_layer", "add", "add_1", "add_2"]
    assert rows[-1].sources == ("add", "add_1")


def test_models_within_models_are_one_row_until_they_are_expanded():
    inner = Sequential([Input((4,)), Dense(5), Sequential([Dense(4)], name="core")], name="inner")
    model = Sequential([Input((4,)), inner])
    assert [(row.name, _params(row)) for row in layer_rows(model)] == [("inner", 49)]
    rows = layer_rows(model, expand_nested=True)
    assert [(row.name, row.depth, row.output) for row in rows] == [
        ("inner", 0, (None, 4)),
        ("dense", 1, (None, 5)),
        ("core", 1, (None, 4)),
        ("dense", 2, (None, 4)),
    ]


def test_modules_in_a_sequential_are_expanded_under_their_paths():
    model = Sequential([Input((3,)), Block(nnx.Rngs(0))])
    rows = layer_rows(model, expand_nested=True)
    assert [(row.name, row.depth, row.output) for row in rows] == [
        ("block", 0, {"y": (None, 3), "mean": ()}),
        ("parts.0", 1, (None, 3)),
        ("parts.1", 1, (None, 3)),
    ]


def test_a_model_with_call_shows_its_layers_by_name_and_models_as_one_row():
    class Pair(Model):
        def __init__(self):
            super().__init__()
            self.tower = _siamese()
            self.out = Dense(2)

        def call(self, inputs):
            return self.out(self.tower([inputs, inputs]))

    model = Pair()
    model.build((None, 4))
    rows = layer_rows(model, Measures(model, specs_of_rows((4,))))
    assert [(row.name, row.output, _params(row)) for row in rows] == [
        ("functional", (None, 6), 15),
        ("dense", (None, 2), 14),
    ]


def test_axes_of_any_size_are_found_by_a_call_with_two_sizes():
    module = nnx.Embed(10, 3, rngs=nnx.Rngs(0))
    specs = specs_of_rows(ArraySpec((None,), "int32"))
    assert layer_rows(module, Measures(module, specs))[0].output == (None, None, 3)


def test_a_copy_of_a_model_between_symbolic_values_shows_what_it_holds():
    rows = layer_rows(nnx.clone(_siamese()))
    assert {row.name for row in rows} == {"layers.left", "layers.right", "layers.tower"}


def test_looking_for_shapes_leaves_the_model_and_its_classes_alone():
    module = Net()
    before, state = (
        nnx.Linear.__call__,
        jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param))),
    )
    layer_rows(module, Measures(module, specs_of_rows((4,)), with_flops=True))
    assert nnx.Linear.__call__ is before
    assert "__call__" in vars(Block)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, nnx.to_pure_dict(nnx.state(module, nnx.Param))))
    with pytest.raises(ValueError, match=r"(?s)Linear .first.: got an input.* stand for free axes"):
        layer_rows(module, Measures(module, specs_of_rows((5,))))
    assert nnx.Linear.__call__ is before


# -- operations


def test_flops_are_two_for_each_weight_of_a_product_and_one_for_each_sum():
    model = Sequential([Input((4,)), Dense(8), Dense(3, use_bias=False)])
    rows = layer_rows(model, Measures(model.trained_module, with_flops=True))
    assert [row.flops for row in rows] == [2 * 4 * 8 + 8, 2 * 8 * 3]
    text = _text(model, flops=True)
    assert "FLOPs for one row: 120" in text
    assert "│    72 │" in text


def test_flops_of_a_shared_layer_are_those_of_one_call_and_the_total_counts_all():
    text = _text(_siamese(), flops=True)
    assert "FLOPs for one row: 60" in text  # twice 2 * 4 * 3 + 3, and the product with 2
    assert "│    27 │" in text


def test_flops_of_models_within_models():
    x = Input((4,))
    tower = Sequential([Dense(3, use_bias=False), Dense(2, use_bias=False)], name="tower")
    model = Model(x, tower(x))
    measures = Measures(model.trained_module, with_flops=True)
    assert [row.flops for row in layer_rows(model, measures, expand_nested=True)] == [None, 36, 24, 12]


def test_flops_need_sizes():
    model = Sequential([Input((None, 4)), Dense(3)])
    with pytest.raises(
        ValueError, match=r"flops=True without sizes for all axes.*Pass for example input_shape"
    ):
        model.summary(flops=True)
    assert "FLOPs for one row: 135" in _text(model, (5, 4), flops=True)


# -- the text


def test_the_printed_table(capsys):
    model = Model(Net())
    model.summary(input_shape=(4,))
    printed = capsys.readouterr().out
    assert 'Model: "net"' in printed
    assert "(None, 3)" in printed
    assert "Total params: 42 (168 B)" in printed
    assert "Trainable params: 36 (144 B)" in printed
    assert "Non-trainable params: 6 (24 B)" in printed
    assert "Connected" not in printed


def test_frozen_layers_are_counted_and_shown():
    model = Sequential([Input((4,)), Dense(8), nnx.relu, Dense(3)])
    model.layers[0].trainable = False
    text = _text(model, show_trainable=True)
    marks = [line.split("│")[4].strip() for line in text.splitlines() if "(Dense)" in line or "(func" in line]
    assert marks == ["N", "-", "Y"]
    assert "Trainable params: 27" in text
    assert "Non-trainable params: 40" in text


def test_the_optimizer_is_counted_once_there_was_training():
    model = Sequential([Input((4,)), Dense(3)])
    model.compile("adam", "mse")
    assert "Optimizer" not in _text(model)
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    text = _text(model)
    assert "Total params: 15 " in text
    count = int(text.split("Optimizer params: ")[1].split()[0])
    assert 30 < count < 36, "two moments, and some counters"


@pytest.mark.parametrize("width", [50, 80, 120])
def test_lines_are_as_long_as_wanted(width):
    model = Sequential(
        [Input((4,)), Dense(3, name="a_layer_with_quite_a_long_name_that_fills_more_than_a_line")]
    )
    lines = _text(model, line_length=width, show_trainable=True, flops=True).splitlines()
    assert max(map(len, lines)) <= width
    assert all(line[-1] in "┓┃┩│┘" for line in lines if line[0] in "┏┃┡│└")


def test_a_range_of_layers():
    model = Sequential(
        [Input((4,)), Dense(3, name="a"), Dense(3, name="b1"), Dense(3, name="b2"), Dense(3, name="c")]
    )
    text = _text(model, layer_range=("a", "b."))
    assert [name for name in ("a", "b1", "b2", "c") if f" {name} (" in text] == ["a", "b1", "b2"]
    assert "Total params: 51" in text
    with pytest.raises(ValueError, match=r"layer_range holds 'x', expected .* 'a', 'b1', 'b2', 'c'"):
        model.summary(layer_range=("x", "c"))
    with pytest.raises(ValueError, match=r"layer_range is 'a', expected two names or patterns"):
        model.summary(layer_range="a")


def test_shapes_are_those_of_the_data_last_seen():
    model = Model(nnx.Embed(10, 3, rngs=nnx.Rngs(0)))
    assert "?" in _text(model)
    model.predict(np.zeros((6, 5), np.int32), verbose=0)
    assert "(None, 5, 3)" in _text(model)


def test_a_model_without_weights_is_built_for_the_shape_or_refused():
    model = Sequential([Dense(3), Dense(2)])
    with pytest.raises(
        ValueError, match=r"summary: Sequential 'sequential'.*has no weights yet.*build\(input_shape\)"
    ):
        model.summary()
    assert "Total params: 23" in _text(model, (4,))
    words = Sequential([Embedding(10, 3)])
    assert "(None, 7, 3)" in _text(words, jax.ShapeDtypeStruct((7,), "int32"))


def test_outputs_in_any_nesting():
    class Split(Layer):
        def call(self, inputs):
            return {"halves": [inputs[:, :2], inputs[:, 2:]], "pair": (inputs, inputs.sum())}

    text = _text(Sequential([Input((4,)), Split()]), line_length=120)
    assert "{halves: [(None, 2), (None, 2)], pair: ((None, 4), ())}" in text


def test_nested_input_shapes():
    specs = specs_of_rows({"a": (2, 3), "b": [(None,)]})
    assert specs["a"].shape == (None, 2, 3)
    assert specs["b"][0].shape == (None, None)


@pytest.mark.parametrize("shape", [4, (0,), "4", ("4",)])
def test_input_shapes_must_be_shapes(shape):
    with pytest.raises(
        ValueError, match=r"summary: input_shape holds .*expected the shape of one row\. Pass"
    ):
        Model(Net()).summary(input_shape=shape)
