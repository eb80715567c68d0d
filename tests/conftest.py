"""Settings that must be in the environment before jax is first imported, and which cases are run."""

import os
from collections import defaultdict
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PARITY = Path(__file__).resolve().parent / "parity"

os.environ["JAX_PLATFORMS"] = "cpu"
# Eight devices are simulated, so that every test of the trainer also tests its sharding.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
)
# Compiled programs are shared between the worker processes and kept from one run to the next.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Cases that the usual run takes of each test in tests/parity, where the mark `sampled` says no other number.
_PARITY_CASES = 3


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="run all cases, not a sample of the costly ones")


def pytest_collection_modifyitems(config, items):
    """Leaves out cases of costly tests, the same ones each time, unless tests were asked for by name."""
    if config.getoption("--thorough") or any("::" in argument for argument in config.args):
        return
    cases = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for group in cases.values() for item in group} - {
        item for group in cases.values() for item in _sample(group)
    }
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _sample(cases):
    """Returns the cases of one test that the usual run takes: the first, the last, and evenly between."""
    mark = cases[0].get_closest_marker("sampled")
    if mark is None and _PARITY not in cases[0].path.parents:
        return cases
    number = min(len(cases), _PARITY_CASES if mark is None else mark.args[0])
    if number < 2:
        return cases[:number]
    return [cases[round(i * (len(cases) - 1) / (number - 1))] for i in range(number)]
