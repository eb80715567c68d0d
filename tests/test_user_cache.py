from pathlib import Path

import pytest

from easyflax.user_cache import cache_folder


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.cache/easyflax"),
        ("linux", {"XDG_CACHE_HOME": "/var/cache/me"}, "/var/cache/me/easyflax"),
        ("linux", {"EASYFLAX_HOME": "/data/easyflax", "XDG_CACHE_HOME": "/var/cache/me"}, "/data/easyflax"),
        ("linux", {"EASYFLAX_HOME": "~/data"}, "~/data"),
        ("darwin", {}, "~/Library/Caches/easyflax"),
        ("win32", {"LOCALAPPDATA": "/appdata"}, "/appdata/easyflax"),
        ("win32", {}, "~/AppData/Local/easyflax"),
    ],
)
def test_the_cache_folder_follows_the_platform_and_the_environment(
    monkeypatch, tmp_path, platform, variables, expected
):
    for name in ("EASYFLAX_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == Path(expected.replace("~", str(tmp_path)))
