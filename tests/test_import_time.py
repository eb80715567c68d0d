import subprocess
import sys

import pytest

import easyflax

SLOW_OR_OPTIONAL = ["orbax", "grain", "rich", "tqdm", "flax", "keras", "torch", "tensorflow", "treescope"]


def modules_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.slow
def test_importing_easyflax_loads_no_slow_and_no_optional_package():
    loaded = modules_after("import easyflax")
    assert "jax" in loaded
    assert not loaded & set(SLOW_OR_OPTIONAL)


@pytest.mark.slow
def test_what_stands_above_nnx_is_loaded_when_it_is_used():
    before = "import easyflax, sys; assert 'easyflax.models' not in sys.modules; "
    assert "jax" in modules_after(before + "easyflax.Model; assert 'easyflax.models' in sys.modules")


def test_the_names_to_be_loaded_are_listed_and_others_are_unknown():
    assert {"Model", "callbacks", "nnx"} <= set(dir(easyflax))
    with pytest.raises(AttributeError, match="module 'easyflax' has no attribute 'Modell'"):
        _ = easyflax.Modell
