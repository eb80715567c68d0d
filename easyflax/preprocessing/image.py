"""Images between files, PIL and NumPy."""

from __future__ import annotations

from easyflax.utils.images import array_to_img as array_to_img
from easyflax.utils.images import img_to_array as img_to_array
from easyflax.utils.images import load_img as load_img
from easyflax.utils.images import save_img as save_img

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img"]
