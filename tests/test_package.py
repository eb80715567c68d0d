"""What is listed, what lies in the checkout and what is installed are the same."""

import tomllib
from pathlib import Path

import pytest

import easyflax
import easyflax.callbacks

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}


def packages_in(folder: Path, name: str) -> set[str]:
    """The dotted names of all packages under `folder`, without following links."""
    found = {name} if (folder / "__init__.py").is_file() else set()
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink() and child.name != "__pycache__":
            found |= packages_in(child, f"{name}.{child.name}")
    return found


def test_the_listed_packages_are_the_folders():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    folders = packages_in(ROOT / "easyflax", "easyflax")
    folders |= packages_in(ROOT / "callbacks", "easyflax.callbacks")
    assert sorted(listed) == sorted(folders)


def test_no_folder_with_modules_lacks_its_init_file():
    for top in ("easyflax", "callbacks"):
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module.parent


def test_callbacks_in_the_checkout_is_a_link_to_the_top_level_folder():
    link = ROOT / "easyflax" / "callbacks"
    assert link.is_symlink()
    assert link.readlink() == Path("../callbacks")


def test_the_imported_callbacks_are_those_of_the_checkout():
    installed = Path(easyflax.callbacks.__file__).parent
    assert python_files(installed) == python_files(ROOT / "callbacks")


def test_the_data_files_of_the_package_are_declared():
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    data = {path for path in (ROOT / "easyflax").rglob("*") if path.suffix not in {".py", ".pyc", ".md"}}
    data = {path for path in data if path.is_file() and "__pycache__" not in path.parts}
    matched = set()
    for package, patterns in declared.items():
        folder = ROOT / package.replace(".", "/")
        matched |= {path for pattern in patterns for path in folder.glob(pattern)}
    assert data == matched


def test_the_version_is_that_of_the_newest_entry_in_the_changelog():
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0].split()[1] == easyflax.__version__


@pytest.mark.parametrize(
    "name", ["jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "grain", "rich", "tqdm"]
)
def test_every_runtime_dependency_has_a_lower_bound(name):
    requirements = PROJECT["project"]["dependencies"]
    assert any(requirement.startswith(f"{name}>=") for requirement in requirements)
