"""The measurements run, in their short form, and print the table that they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent / "bench"
FILES = "handwritten", "scanned_epoch", "easyflax_fit", "no_such_contender"


@pytest.mark.slow
def test_bench_fit_prints_a_table_a_model_with_speeds_and_goals():
    command = [sys.executable, BENCH / "bench_fit.py", "--quick", "--models", "tiny_mlp,deep_mlp"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    result = subprocess.run(
        [*command, "--contenders", ",".join(FILES)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    out = result.stdout
    assert out.count("no_such_contender is left out") == 2
    assert re.search(
        r"^\| tiny_mlp, an epoch of 256 steps \| median us a step \| quartiles \| speed", out, re.M
    )
    assert re.search(r"^\| deep_mlp, an epoch of 64 steps \|", out, re.M)
    assert (
        len(re.findall(r"^\| hand-written loop \| [\d.,]+ \| [\d.,]+ to [\d.,]+ \| 1\.00 \|  \|$", out, re.M))
        == 2
    )
    assert (
        len(
            re.findall(r"^\| epoch in one scan \| [\d.,]+ \| [\d.,]+ to [\d.,]+ \| [\d.]+ \|  \|$", out, re.M)
        )
        == 2
    )
    assert re.search(
        r"^\| easyflax fit \|.*\| at least 3 of hand-written loop, speed: [\d.]+, (met|\*\*missed\*\*); "
        r"at least 0\.9 of epoch in one scan, speed: [\d.]+, (met|\*\*missed\*\*) \|$",
        out,
        re.M,
    )
