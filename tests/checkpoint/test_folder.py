"""Checkpoints: bit for bit, verified, never cast; the newest whole one is found behind damaged ones."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax.checkpoint import CheckpointWriter, checkpoints_in, newest
from easyflax.errors import CheckpointError


def _tree(scale=1.0):
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {
        "layers/0/kernel": jax.device_put(scale * jnp.arange(16.0), rows),
        "half": jnp.full(3, scale, jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
    }
    return {
        "params": params,
        "other": {"rng": jax.random.key(3), "keys": jax.random.split(jax.random.key(1, impl="rbg"), 2)},
        "opt_state": optax.adam(1e-3).init(params),
        "counters": {"step": jnp.int32(scale), "host": np.arange(3, dtype=np.int64)},
    }


def _plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _assert_equal(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(tree), jax.tree.leaves(expected)):
        assert type(got) is type(want)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(_plain(got), _plain(want))
        if isinstance(want, jax.Array):
            assert got.sharding == want.sharding


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints: scale 1 at step 10, and scale 2 at step 20."""
    with CheckpointWriter() as writer:
        writer.save(tmp_path / "run", _tree(1.0), step=10, metadata={"epoch": 1})
        writer.save(tmp_path / "run", _tree(2.0), step=20, metadata={"epoch": 2})
    return tmp_path / "run"


def test_a_tree_comes_back_bit_for_bit_on_the_same_devices(folder):
    checkpoint = newest(folder)
    assert (checkpoint.step, checkpoint.metadata) == (20, {"epoch": 2})
    _assert_equal(checkpoint.restore(_tree()), _tree(2.0))


def test_a_checkpoint_can_be_named_itself(folder):
    first, _ = checkpoints_in(folder)
    _assert_equal(newest(first).restore(_tree()), _tree(1.0))


def test_an_abstract_template_says_where_the_arrays_go(folder):
    template = _tree()
    kernel = template["params"]["layers/0/kernel"]
    one = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    template["params"]["layers/0/kernel"] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype, sharding=one)
    restored = newest(folder).restore(template)["params"]["layers/0/kernel"]
    assert restored.sharding == one
    np.testing.assert_array_equal(restored, 2 * np.arange(16.0))


def test_arrays_may_be_donated_or_changed_while_they_are_written(tmp_path):
    tree = {"device": jnp.arange(100_000.0), "host": np.arange(100_000)}
    with CheckpointWriter() as writer:
        writer.save(tmp_path, tree, step=1)
        tree["host"][:] = -1
        tree["device"] = jax.jit(lambda array: array * 0 - 1, donate_argnums=0)(tree["device"])
    restored = newest(tmp_path).restore(tree)
    np.testing.assert_array_equal(restored["device"], np.arange(100_000.0))
    np.testing.assert_array_equal(restored["host"], np.arange(100_000))


def test_the_newest_is_the_one_saved_last_whatever_its_step(folder):
    with CheckpointWriter() as writer:
        writer.save(folder, _tree(3.0), step=5)
    assert newest(folder).step == 5


def test_what_a_checkpoint_replaces_goes_when_it_is_complete(folder, monkeypatch):
    old = checkpoints_in(folder)
    with CheckpointWriter() as writer:
        writer.save(folder, _tree(3.0), step=30, replaces=old)
    assert [path.name for path in checkpoints_in(folder)] == ["000003-step30"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("easyflax.checkpoint.writer.write_manifest", full)
    writer = CheckpointWriter()
    writer.save(folder, _tree(4.0), step=40, replaces=checkpoints_in(folder))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    with pytest.warns(
        UserWarning, match=r"000004-step40 cannot be used: it has no MANIFEST.json .*Using 000003-step30"
    ):
        _assert_equal(newest(folder).restore(_tree()), _tree(3.0))


def test_what_a_killed_save_left_goes_with_the_next_one(folder):
    (folder / "000007-step70" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    with CheckpointWriter() as writer:
        writer.save(folder, _tree(3.0), step=80)
    assert [path.name for path in checkpoints_in(folder)] == [
        "000001-step10",
        "000002-step20",
        "000008-step80",
    ]


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


DAMAGES = {
    "flip": (_flip, "was changed"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes, not"),
    "delete": (lambda path: path.unlink(), "is missing"),
    "add": (lambda path: path.with_name("stranger").write_bytes(b"x"), "is not in the manifest"),
    "link": (_link, "is no regular file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_both_are_named(folder, damage):
    do, reason = DAMAGES[damage]
    do(max((path for path in (folder / "000002-step20").rglob("d/*")), key=lambda path: path.stat().st_size))
    pattern = f"000002-step20 cannot be used: its file .*{reason}.*Using 000001-step10 instead"
    with pytest.warns(UserWarning, match=pattern):
        checkpoint = newest(folder)
    _assert_equal(checkpoint.restore(_tree()), _tree(1.0))


def test_a_flipped_byte_in_any_file_is_found(folder):
    last = folder / "000002-step20"
    files = [path for path in last.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        _flip(path)
        with pytest.warns(UserWarning, match="000002-step20 cannot be used"):
            assert newest(folder).step == 10
        path.write_bytes(content)
    assert newest(folder).step == 20


def test_a_folder_that_leads_elsewhere_is_not_followed(folder):
    state = folder / "000002-step20" / "state"
    state.rename(folder / "moved")
    state.symlink_to(folder / "moved")
    with pytest.warns(UserWarning, match="its folder 'state' is a link"):
        assert newest(folder).step == 10


@pytest.mark.parametrize("content", [b"", b"{}", b'{"body":{},"sha256":"0"}', b"[1]", b"\xff"])
def test_a_changed_manifest_is_as_good_as_none(folder, content):
    (folder / "000002-step20" / "MANIFEST.json").write_bytes(content)
    with pytest.warns(UserWarning, match="000002-step20 cannot be used"):
        assert newest(folder).step == 10


def test_an_empty_folder_is_not_taken_for_a_checkpoint(folder):
    (folder / "7").mkdir()
    assert newest(folder).step == 20
    (folder / "000009-step90").mkdir()
    with pytest.warns(UserWarning, match="its save did not finish"):
        assert newest(folder).step == 20


def test_without_a_whole_checkpoint_the_error_says_what_is_there(folder):
    with pytest.raises(
        CheckpointError, match=r"nothing: there is no such folder, expected a folder that ModelCh"
    ):
        newest(folder / "nothing")
    with pytest.raises(CheckpointError, match=r"it holds no checkpoint, .*Pass one of its folders: run\."):
        newest(folder.parent)
    for path in checkpoints_in(folder):
        (path / "MANIFEST.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"000002-step20 cannot be used.*000001-step10 cannot be used.*train anew"
    ):
        newest(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half": jnp.zeros(3)}, "'params/half' is bfloat16[3], not float32[3]"),
        ({"half": jnp.zeros(4, jnp.bfloat16)}, "'params/half' is bfloat16[3], not bfloat16[4]"),
        ({"new": jnp.zeros(4)}, "'params/new' is missing"),
        ({"half": jax.ShapeDtypeStruct((3,), jnp.int16)}, "'params/half' is bfloat16[3], not int16[3]"),
    ],
)
def test_nothing_is_cast_and_nothing_left_out(folder, change, message):
    template = _tree()
    template["params"] |= change
    with pytest.raises(CheckpointError, match=re.escape(message) + ".*Build and compile the model as it was"):
        newest(folder).restore(template)


def test_keys_of_another_generator_and_unknown_arrays_are_refused(folder):
    template = _tree()
    template["other"]["rng"] = jax.random.key(0, impl="rbg")
    with pytest.raises(
        CheckpointError, match=re.escape("'other/rng' is key<threefry2x32>[2], not key<rbg>[4]")
    ):
        newest(folder).restore(template)
    del template["opt_state"], template["other"]
    with pytest.raises(
        CheckpointError, match=r"is not part of the model; .* and \d+ more; expected the arrays"
    ):
        newest(folder).restore(template)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_kept_and_replaces_nothing(folder, value):
    tree = _tree(3.0)
    tree["params"]["half"] = tree["params"]["half"].at[1].set(value)
    writer = CheckpointWriter()
    writer.save(folder, tree, step=30, replaces=checkpoints_in(folder))
    with pytest.warns(
        UserWarning, match=r"000003-step30 was not kept: NaN or infinite values in params/half, expected"
    ):
        writer.close()
    assert [path.name for path in checkpoints_in(folder)] == ["000001-step10", "000002-step20"]


def test_an_infinity_that_an_optimizer_starts_from_is_kept(tmp_path):
    tree = {"params": {"w": jnp.ones(2)}, "opt_state": {"best": jnp.float32(jnp.inf)}}
    with CheckpointWriter() as writer:
        writer.save(tmp_path, tree, step=1)
    assert np.isinf(newest(tmp_path).restore(tree)["opt_state"]["best"])


def test_what_cannot_be_saved_is_refused_at_once(tmp_path):
    writer = CheckpointWriter()
    with pytest.raises(TypeError, match=r"'counters/step' is int, expected an array.*save it as metadata"):
        writer.save(tmp_path, {"counters": {"step": 3}}, step=1)
    with pytest.raises(ValueError, match="Two arrays are named 'a/b', expected one for each name"):
        writer.save(tmp_path, {"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, step=1)
    with pytest.raises(ValueError, match="Out of range float values"):
        writer.save(tmp_path, {"a": jnp.ones(1)}, step=1, metadata={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        CheckpointWriter().save(tmp_path / "file" / "run", {"a": jnp.ones(1)}, step=1)


_SAVE_UNTIL_KILLED = """
import sys
import jax.numpy as jnp
from easyflax.checkpoint import CheckpointWriter, checkpoints_in
from pathlib import Path

folder = Path(sys.argv[1])
writer = CheckpointWriter()
for step in range(1, 10_000):
    old = checkpoints_in(folder)[:-1]
    writer.save(folder, {"w": jnp.full(200_000, step, jnp.int32)}, step=step, replaces=old)
    print(step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(tmp_path, seed):
    command = [sys.executable, "-c", _SAVE_UNTIL_KILLED, str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"JAX_PLATFORMS": "cpu"}, text=True
    )
    begun = 0
    for line in process.stdout:
        begun = int(line)
        if begun == 5 + seed:
            break
    time.sleep(0.004 * seed)  # the next save is under way
    process.send_signal(signal.SIGKILL)
    begun = max([begun, *map(int, process.communicate()[0].split())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it walked back, when it did
        checkpoint = newest(tmp_path)
    # The save that the kill met is lost, and the one that had only begun.
    assert checkpoint.step >= begun - 2
    restored = checkpoint.restore({"w": jnp.zeros(200_000, jnp.int32)})["w"]
    np.testing.assert_array_equal(restored, np.full(200_000, checkpoint.step))
    with CheckpointWriter() as writer:
        writer.save(tmp_path, {"w": restored}, step=checkpoint.step)
    assert not list(tmp_path.rglob("*orbax-checkpoint-tmp*"))
