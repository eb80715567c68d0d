"""Images between files, PIL and NumPy; PIL is imported when one of these is called."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img"]

_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_GRAY_MODES = ("L", "I;16", "I")
_INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest")


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Any:
    """Returns an image of PIL.

    Args:
        x: `(height, width, channels)`, or with the channels first; 1, 3 or 4 channels.
        data_format: "channels_last", the default, or "channels_first".
        scale: whether the smallest and the largest value become 0 and 255; else the values lie between these.
        dtype: that the values are scaled in; float32 by default.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the shape is another one, or `data_format` unknown.
    """
    image = _pil_image()
    x = np.array(x, dtype or "float32")
    if x.ndim != 3:
        raise ValueError(
            f"array_to_img: x has shape {x.shape}, expected (height, width, channels). Pass one image."
        )
    if _is_channels_first("array_to_img", data_format):
        x = x.transpose(1, 2, 0)
    if scale:
        x = x - x.min()
        x = x / (x.max() or 1) * 255
    channels = x.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(
            f"array_to_img: x has {channels} channels, expected 1, 3 or 4. Choose some of them, or pass "
            "data_format='channels_first' if they are the first axis."
        )
    if channels == 1:
        return image.fromarray(x[:, :, 0].astype("int32" if x.max() > 255 else "uint8"))
    return image.fromarray(x.astype("uint8"))


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """Returns an image of PIL as an array, `(height, width, channels)`.

    Args:
        img: the image.
        data_format: "channels_last", the default, or "channels_first".
        dtype: of the array; float32 by default.

    Raises:
        ValueError: it has another number of axes, or `data_format` is unknown.
    """
    x = np.asarray(img, dtype or "float32")
    if x.ndim not in (2, 3):
        raise ValueError(
            f"img_to_array: the image has shape {x.shape}, expected two or three axes. Pass one image."
        )
    x = x[:, :, None] if x.ndim == 2 else x
    return x.transpose(2, 0, 1) if _is_channels_first("img_to_array", data_format) else x


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Returns the image in a file, as one of PIL.

    Args:
        path: of the file, or an `io.BytesIO` with its bytes.
        color_mode: "grayscale", "rgb" or "rgba".
        target_size: height and width to resize to.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
        keep_aspect_ratio: whether the middle of the image, in the shape of `target_size`, is resized.

    Raises:
        ImportError: Pillow is not installed.
        TypeError: `path` is something else.
        ValueError: `color_mode` or `interpolation` is unknown.
    """
    image = _pil_image()
    _check_one_of("color_mode", color_mode, _MODES)
    _check_one_of("interpolation", interpolation, _INTERPOLATIONS)
    if not isinstance(path, io.BytesIO | os.PathLike | str | bytes):
        raise TypeError(
            f"load_img: path is a {type(path).__name__}, expected a path or an io.BytesIO. Pass the name of "
            "the file."
        )
    with image.open(path) as opened:
        img = opened.copy()
    is_gray = color_mode == "grayscale" and img.mode in _GRAY_MODES
    img = img if is_gray else img.convert(_MODES[color_mode])
    if target_size is None or img.size == (target_size[1], target_size[0]):
        return img
    box = _middle(img.size, target_size) if keep_aspect_ratio else None
    return img.resize(
        (target_size[1], target_size[0]), getattr(image.Resampling, interpolation.upper()), box=box
    )


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Writes an array as an image.

    Args:
        path: of the file, or a file that is open for writing.
        x: see `array_to_img`.
        data_format: likewise.
        file_format: such as "png"; by default the ending of `path` says it.
        scale: see `array_to_img`.
        **kwargs: for `PIL.Image.Image.save`.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the shape does not fit, or the format is unknown.
    """
    if file_format is None and isinstance(path, str | os.PathLike):
        file_format = Path(path).suffix[1:]
    file_format = {"jpg": "jpeg"}.get((file_format or "").lower(), file_format)
    img = array_to_img(x, data_format, scale)
    if img.mode == "RGBA" and (file_format or "").lower() == "jpeg":
        warnings.warn("save_img: JPEG has no transparency, the fourth channel is left out.", stacklevel=2)
        img = img.convert("RGB")
    img.save(path, format=file_format or None, **kwargs)


def _pil_image() -> Any:
    try:
        from PIL import Image  # slow to import, and not needed elsewhere
    except ImportError:
        raise ImportError(
            "Images are read and written by Pillow, which is not installed. Run pip install pillow."
        ) from None
    return Image


def _middle(size: tuple[int, int], target_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the largest part in the middle with the sides' ratio."""
    width, height = size
    target_height, target_width = target_size
    part_height = min(height, width * target_height // target_width)
    part_width = min(width, height * target_width // target_height)
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def _is_channels_first(owner: str, data_format: str | None) -> bool:
    if data_format not in (None, "channels_first", "channels_last"):
        raise ValueError(
            f"{owner}: data_format is {data_format!r}, expected 'channels_last' or 'channels_first'. Leave "
            "it out for channels last."
        )
    return data_format == "channels_first"


def _check_one_of(argument: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(
            f"load_img: {argument} is {value!r}, expected one of {', '.join(map(repr, known))}. Pass one of "
            "them."
        )
