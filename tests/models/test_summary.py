import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.models import Model, Sequential
from easyflax.models.summary import layer_rows, specs_of_rows


class Block(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(3))
        self.parts = [nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)]

    def __call__(self, x):
        for part in self.parts:
            x = part(x)
        return {"y": x * self.scale, "mean": x.mean()}


@pytest.fixture
def model():
    rngs = nnx.Rngs(0)
    return Sequential([nnx.Linear(4, 3, rngs=rngs), nnx.relu, nnx.Dropout(0.5, rngs=rngs), Block(rngs)])


def test_rows_name_layers_with_their_shapes_and_parameters(model):
    rows = layer_rows(model.module, specs_of_rows((7, 4)))
    found = [(row.path, row.kind, row.output, row.parameters, row.trainable) for row in rows]
    assert found == [
        ("layers.0", "Linear", (None, 7, 3), 15, 15),
        ("layers.2", "Dropout", (None, 7, 3), 0, 0),
        ("layers.3", "Block", {"y": (None, 7, 3), "mean": ()}, 3, 3),
        ("layers.3.parts.0", "Linear", (None, 7, 3), 12, 12),
        ("layers.3.parts.1", "BatchNorm", (None, 7, 3), 12, 6),
    ]
    assert sum(row.parameters for row in rows) == model.count_params() == 42
    assert sum(row.num_bytes for row in rows) == 42 * 4


def test_rows_come_in_the_order_of_the_calls_where_it_is_known():
    class Backwards(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.a, self.b, self.unused = (nnx.Linear(2, 2, rngs=rngs) for _ in range(3))

        def __call__(self, x):
            return self.a(self.b(x))

    module = Backwards()
    assert [row.path for row in layer_rows(module)] == ["a", "b", "unused"]
    assert [row.path for row in layer_rows(module, specs_of_rows((2,)))] == ["b", "a", "unused"]


def test_looking_for_shapes_leaves_the_model_and_its_classes_alone(model):
    before, state = (
        nnx.Linear.__call__,
        jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model.module, nnx.Param))),
    )
    layer_rows(model.module, specs_of_rows((4,)))
    assert nnx.Linear.__call__ is before
    assert "__call__" in vars(Block)
    assert jax.tree.all(
        jax.tree.map(np.array_equal, state, nnx.to_pure_dict(nnx.state(model.module, nnx.Param)))
    )


def test_a_class_is_restored_after_an_error(model):
    before = nnx.Linear.__call__
    with pytest.raises(ValueError, match=r"Linear .layers\.0.: got an input"):
        layer_rows(model.module, specs_of_rows((5,)))
    assert nnx.Linear.__call__ is before


def test_the_printed_table(model, capsys):
    model.summary(input_shape=(4,))
    printed = capsys.readouterr().out
    assert "(None, 3)" in printed
    assert "Parameters: 42 (168 B), trainable 36, not trainable 6" in printed


def test_shapes_are_those_of_the_data_last_seen(capsys):
    model = Model(nnx.Embed(10, 3, rngs=nnx.Rngs(0)))
    model.summary()
    assert "output shape" not in capsys.readouterr().out
    model.predict(np.zeros((6, 5), np.int32), verbose=0)
    model.summary()
    assert "(None, 5, 3)" in capsys.readouterr().out


def test_nested_input_shapes():
    specs = specs_of_rows({"a": (2, 3), "b": [()]})
    assert specs["a"].shape == (2, 2, 3)
    assert specs["b"][0].shape == (2,)


@pytest.mark.parametrize("shape", [4, (None, 4), (0,), "4"])
def test_input_shapes_must_be_shapes(model, shape):
    with pytest.raises(
        ValueError, match=r"summary: input_shape holds .*expected the shape of one row\. Pass"
    ):
        model.summary(input_shape=shape)
