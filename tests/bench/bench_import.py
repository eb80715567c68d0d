"""The cost of `import easyflax` in a fresh interpreter, next to `import jax, optax`; 1.15 times is the limit.

Run: `python tests/bench/bench_import.py`. Both are started in turn. The compiled bytecode must be on disk, as
it is after the first import, so PYTHONDONTWRITEBYTECODE is taken out of the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from timing import interleaved, table


def _run(code: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


if __name__ == "__main__":
    statements = ("import jax, optax", "import easyflax")
    contenders = {statement: partial(_run, statement) for statement in statements}
    print(table(interleaved(contenders, rounds=20, calls=1), statements[0], "statement"))
