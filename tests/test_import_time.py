import subprocess
import sys

import pytest

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
