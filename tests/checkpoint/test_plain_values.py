"""What is saved beside the model comes back as it was, and only plain values do."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax.checkpoint import CheckpointWriter, newest
from easyflax.checkpoint.plain_values import decode, encode
from easyflax.errors import CheckpointError


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": 1, "b": [True, 2.5, "text", None], "c": {}},
        {0: 4, 8: "x", (1, 2): "tuple"},
        {"$": "array", "of": "0"},
        (1, (2.0, [3])),
        {"inf": [math.inf, -math.inf]},
        0.1 + 0.2,
        b"\x00\xff",
        2**70,
    ],
    ids=["none", "nested", "keys", "tag", "tuples", "infinite", "float", "bytes", "large"],
)
def test_plain_values_come_back_of_the_same_types(value):
    plain, arrays = encode(value)
    assert arrays == {}
    back = decode(json.loads(json.dumps(plain, allow_nan=False)), {})
    assert back == value
    assert str(back) == str(value)  # also the types inside


def test_nan_comes_back():
    assert math.isnan(decode(json.loads(json.dumps(encode([math.nan])[0], allow_nan=False)), {})[0])


@pytest.mark.parametrize("value", [{1, 2}, object, optax.EmptyState()], ids=["set", "class", "named tuple"])
def test_what_is_not_plain_is_refused_with_its_place(value):
    with pytest.raises(TypeError, match=r"The state\['a'\]\[1\] is a .*, expected numbers, text, lists"):
        encode({"a": [0, value]})


def test_a_run_is_saved_beside_the_model_and_restored_with_it(tmp_path):
    run = {
        "epoch": 3,
        "callbacks": [["EarlyStopping", {"best": math.inf, "weights": {"w": jnp.arange(3.0)}}]],
        "rows": np.array([1, 2], np.int16),
        "key": jax.random.key(2),
        "empty": jnp.zeros((0, 2)),
        "nan": np.float32(np.nan),
    }
    tree = {"params": {"w": jnp.ones(2)}}
    with CheckpointWriter() as writer:
        writer.save(tmp_path, tree, step=1, run=run)
    template = {"params": {"w": jnp.zeros(2)}}
    restored, back = newest(tmp_path).restore_with_run(template)
    np.testing.assert_array_equal(restored["params"]["w"], 1)
    assert (back["epoch"], back["callbacks"][0][1]["best"]) == (3, math.inf)
    np.testing.assert_array_equal(back["callbacks"][0][1]["weights"]["w"], [0, 1, 2])
    assert (back["rows"].dtype, back["rows"].tolist()) == (np.int16, [1, 2])
    assert back["key"] == run["key"]
    assert back["empty"].shape == (0, 2)
    assert np.isnan(back["nan"])
    np.testing.assert_array_equal(newest(tmp_path).restore(template)["params"]["w"], 1)


def test_the_run_does_not_stand_in_for_an_array_of_the_model(tmp_path):
    with CheckpointWriter() as writer:
        writer.save(tmp_path, {"w": jnp.ones(2)}, step=1, run={"more": jnp.ones(3)})
    with pytest.raises(CheckpointError, match="'run/0' is missing"):
        newest(tmp_path).restore({"w": jnp.ones(2), "run": {"0": jnp.ones(3)}})


def test_a_checkpoint_without_a_run_gives_none(tmp_path):
    with CheckpointWriter() as writer:
        writer.save(tmp_path, {"w": jnp.ones(2)}, step=1)
    assert newest(tmp_path).restore_with_run({"w": jnp.zeros(2)})[1] is None
