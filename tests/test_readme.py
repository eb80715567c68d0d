"""The README tells the truth: its code runs and its commands are the ones that CI uses."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_code_in_the_readme_runs_and_learns_the_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["accuracy"] > 0.93
    assert scope["logits"].shape == (355, 10)
    assert list(tmp_path.iterdir()), "the weights were saved"


def test_the_readme_has_exactly_two_set_up_commands_of_one_line_each():
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")
        assert command.count("\n") == 1
