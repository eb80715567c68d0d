import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import easyflax as ef

OPTIONS = [
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
]


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """A process in which nobody has said anything about caches yet."""
    before = {option: getattr(jax.config, option) for option in OPTIONS}
    for option in OPTIONS:
        monkeypatch.delenv(option.upper(), raising=False)
    monkeypatch.setenv("EASYFLAX_HOME", str(tmp_path / "home"))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    for option, value in before.items():
        jax.config.update(option, value)
    compilation_cache.reset_cache()


def compile_once(number: float) -> None:
    """Compiles a program that no other test compiles."""
    jax.jit(lambda x: x * number)(np.float32(1))


def programs(folder: str | Path) -> int:
    return len(list(Path(folder).glob("*-cache")))


def test_programs_are_kept_in_the_folder_of_the_user(unset, tmp_path):
    compile_once(0.11)  # what ran before does not matter
    folder = ef.enable_compilation_cache()
    assert folder == str(tmp_path / "home" / "compiled") == jax.config.jax_compilation_cache_dir
    assert programs(folder) == 0
    compile_once(0.12)
    assert programs(folder) == 1


def test_calling_it_again_changes_nothing_and_another_folder_takes_over(unset, tmp_path):
    first = ef.enable_compilation_cache(tmp_path / "first")
    compile_once(0.21)
    assert ef.enable_compilation_cache() == ef.enable_compilation_cache(first) == first
    compile_once(0.22)
    second = ef.enable_compilation_cache(tmp_path / "second")
    compile_once(0.23)
    assert (programs(first), programs(second)) == (2, 1)


def test_a_folder_that_jax_was_told_of_is_kept_and_so_are_settings_of_the_environment(
    unset, tmp_path, monkeypatch
):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1000.0)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1000")
    assert ef.enable_compilation_cache() == str(tmp_path)
    compile_once(0.31)
    assert programs(tmp_path) == 0


def test_an_address_is_left_to_jax(unset):
    assert ef.enable_compilation_cache("gs://bucket/folder") == "gs://bucket/folder"
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/folder"


def test_the_programs_that_were_not_used_for_longest_are_removed(unset, tmp_path):
    for age, name in enumerate(["new-cache", "old-cache", "older-cache", "oldest.txt"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "older-cache", (2e9, 1e9))  # read since
    ef.enable_compilation_cache(tmp_path, max_bytes=None)
    assert programs(tmp_path) == 3
    ef.enable_compilation_cache(tmp_path, max_bytes=200)
    assert {path.name for path in tmp_path.iterdir()} == {"new-cache", "older-cache", "oldest.txt"}
    ef.enable_compilation_cache(tmp_path, max_bytes=0)
    assert programs(tmp_path) == 0
    with pytest.raises(ValueError, match="max_bytes is -1, expected 0 or more"):
        ef.enable_compilation_cache(tmp_path, max_bytes=-1)


def test_a_folder_that_cannot_be_written_to_is_an_error(unset, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=r"nothing can be written to the folder.*Pass another one.*file"):
            ef.enable_compilation_cache(folder)
    assert jax.config.jax_compilation_cache_dir is None


PROGRAM = """
import sys
import jax, numpy as np
import easyflax as ef
count = dict.fromkeys(["/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"], 0)
def listen(event, **_):
    if event in count:
        count[event] += 1
jax.monitoring.register_event_listener(listen)
ef.enable_compilation_cache(sys.argv[1])
model = ef.Sequential([ef.Input((3,)), ef.layers.Dense(2)])
model.compile("sgd", "mse", metrics=["mae"])
model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
model.evaluate(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
model.predict(np.ones((4, 3)), verbose=0)
print(*count.values())
"""


@pytest.mark.slow
def test_the_second_start_of_a_program_compiles_nothing(tmp_path):
    def run() -> list[int]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert result.stderr == ""
        return [int(number) for number in result.stdout.split()]

    names = {option.upper() for option in OPTIONS}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    hits, misses = run()
    assert misses > 0
    assert run() == [hits + misses, 0]
