"""Where files are kept that could be made or fetched again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]

_HOME_VARIABLE = "EASYFLAX_HOME"


def cache_folder() -> Path:
    """Returns the folder of easyflax: `$EASYFLAX_HOME`, or else one in the user's cache folder."""
    if home := os.environ.get(_HOME_VARIABLE):
        return Path(home).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "easyflax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "easyflax"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "easyflax"
