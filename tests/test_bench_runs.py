"""The measurements run, in their short form, and print the table that they promise."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent / "bench"
FILES = "handwritten", "scanned_epoch", "easyflax_fit", "no_such_contender"


def test_a_table_has_medians_quartiles_and_goals_judged_by_ratios_within_a_round():
    report = runpy.run_path(str(BENCH / "report.py"))
    goal = report["Goal"]
    values = {"slow": [4.0, 2.0, 8.0], "fast": [1.0, 1.0, 2.0]}
    goals = [
        goal("fast", "at least", 4, "slow"),
        goal("fast", "at most", 0.4),
        goal("fast", "at most", 1, "gone"),
    ]
    lines = report["table"](values, "slow", "run", unit="ms", per=2, goals=goals).splitlines()
    assert lines[0] == "| run | median ms | quartiles | speed, slow = 1 | goal |"
    assert lines[2] == "| slow | 2,000 | 1,500 to 3,000 | 1.00 |  |"
    assert lines[3] == (
        "| fast | 500 | 500 to 750 | 4.00 | at least 4 of slow, speed: 4.00, met; "
        "at most 0.4: 500.00, **missed**; at most 1 of gone: not measured |"
    )
    shares = report["table"](values, "fast", "peak", unit="s", ratio="share").splitlines()
    assert shares[2] == "| slow | 4 | 3 to 6 | 4.00 |  |"


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
