"""The project's chores: `nox -l` lists them, `nox -s lint tests-3.11` runs some, `nox` runs the usual ones.

Where everything is installed already (`pip install -e ".[dev]"`), `nox --no-venv --no-install -s lint` makes
no environment of its own; .ci/run does so.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "tests", "docs", "examples"]
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]

# Run from a folder that is not the checkout, so that only the installed package can be imported.
INSTALLED = """
from pathlib import Path
import easyflax, easyflax.callbacks
folder = Path(easyflax.__file__).parent
assert "site-packages" in folder.parts, folder
assert Path(easyflax.callbacks.__file__).parent == folder / "callbacks"
assert not (folder / "callbacks").is_symlink()
assert (folder / "py.typed").is_file()
(x_train, y_train), (x_test, y_test) = easyflax.datasets.load_digits()
assert len(x_train) + len(x_test) == 1797
print("easyflax", easyflax.__version__, "works from", folder)
"""


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, with the newest versions of everything."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python="3.11")
def thorough(session: nox.Session) -> None:
    """The tests, with all cases of those that the usual run samples."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", "--thorough", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The tests, with the lowest version of each runtime dependency that pyproject.toml allows.

    Without tests/parity: the flax that fits an old jax is old too, and no oracle for the newest.
    """
    session.install("uv")
    bounds = Path(session.create_tmp()) / "lowest.txt"
    resolve = ["uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct", "pyproject.toml"]
    session.run(*resolve, "--python-version", str(session.python), "--output-file", str(bounds))
    session.install("-e", ".[test]", "-c", str(bounds))
    session.run("pytest", "-n", "auto", "--ignore=tests/parity", *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Style, format, types and the direction of imports."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("pyright")
    session.run("lint-imports")


@nox.session(python="3.11")
def examples(session: nox.Session) -> None:
    """Every example, in its short form."""
    session.install("-e", ".")
    for script in sorted((ROOT / "examples").glob("*.py")):
        session.run("python", str(script.relative_to(ROOT)), "--quick")


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The examples in the docstrings."""
    session.install("-e", ".[test]")
    session.run("pytest", "--doctest-modules", "easyflax", *session.posargs)


@nox.session(python="3.11")
def bench(session: nox.Session) -> None:
    """The measurements, one at a time and with nothing else running; `nox -s bench -- --quick` in short."""
    session.install("-e", ".[test,interop]")
    for script in sorted((ROOT / "tests" / "bench").glob("bench_*.py")):
        session.run("python", str(script.relative_to(ROOT)), *session.posargs)


@nox.session(python="3.11")
def build(session: nox.Session) -> None:
    """The wheel and the source archive, each installed and tried from another folder."""
    session.install("build")
    folder = Path(session.create_tmp()).resolve()
    dist = Path(tempfile.mkdtemp(dir=folder))
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.install(str(wheel))
    session.chdir(dist)
    session.run("python", "-c", INSTALLED)
    session.install("--force-reinstall", "--no-deps", str(sdist))
    session.run("python", "-c", INSTALLED)
