"""Runs contenders in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

FILES = {
    "handwritten_lean": "raw JAX",
    "handwritten": "raw JAX, weights by jax.random",
    "keras_fit": "keras",
    "easyflax_fit": "easyflax",
}
BASELINE, OURS = "raw JAX", "easyflax"
# What would make processes of contenders differ from those of users.
_LEFT_OUT = "PYTHONDONTWRITEBYTECODE", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"


def run_child(file: str, model: str, steps: int, batch_size: int = 32, **environment: str) -> int:
    """Trains with a contender in a process of its own; returns the most memory that it held, in bytes."""
    clean = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    script = str(Path(__file__).with_name("child.py"))
    command = [sys.executable, script, file, model, str(steps), str(batch_size)]
    result = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return int(result.stdout.split()[-1])


def installed() -> Mapping[str, str]:
    """Returns the names of the contenders that can run here, by their files; says which cannot."""
    if find_spec("keras"):
        return FILES
    print("keras_fit is left out: keras is not installed.\n")
    return {file: name for file, name in FILES.items() if file != "keras_fit"}
