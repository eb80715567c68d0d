"""Writes event files for TensorBoard, by TensorBoard's own package and without TensorFlow."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["EventWriter", "require_tensorboard"]

_BUCKETS = 30  # of a histogram, as TensorFlow has them
_MOST_IMAGES = 3  # of one weight, likewise


def require_tensorboard(owner: str) -> None:
    """Raises unless the tensorboard package is installed.

    Args:
        owner: the callback's name, for the message.

    Raises:
        ImportError: it is not.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{owner} writes with the package tensorboard, which is not installed. Install it by "
            "`pip install tensorboard`."
        ) from error


class EventWriter:
    """The event file of one run, which is a folder; values carry the tags and formats that Keras gives them.

    Args:
        folder: where the file is made.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(os.fspath(folder))

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Adds numbers by tag; what is no number is left out."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for tag, value in values.items():
            number = np.asarray(value)
            if number.shape == () and number.dtype.kind in "biuf":
                self._add(step=step, summary=scalar_pb(tag, number))

    def histogram(self, tag: str, values: Any, step: int) -> None:
        """Adds how the finite ones of some values are spread."""
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        self._add_tensor(tag, _buckets(np.asarray(values, float)), create_summary_metadata(None, None), step)

    def images(self, tag: str, pictures: np.ndarray, step: int) -> None:
        """Adds pictures, `(number, height, width, channels)`, of 1, 3 or 4 channels of bytes."""
        from tensorboard.plugins.image.metadata import create_summary_metadata

        height, width = pictures.shape[1:3]
        encoded = [_png(picture) for picture in pictures[:_MOST_IMAGES]]
        tensor = np.array([str(width).encode(), str(height).encode(), *encoded], object)
        metadata = create_summary_metadata(None, None, converted_to_tensor=True)
        self._add_tensor(tag, tensor, metadata, step)

    def graph(self, nodes: Mapping[str, tuple[str, list[str]]]) -> None:
        """Adds a graph.

        Args:
            nodes: by name, what a node is, and the names of those that it is called on.
        """
        graph = _message("graph", "GraphDef", versions=_message("versions", "VersionDef", producer=22))
        for name, (kind, sources) in nodes.items():
            graph.node.add(name=name, op=kind, input=sources)
        self._add(graph_def=graph.SerializeToString())

    def flush(self) -> None:
        """Waits until all is on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Finishes the file."""
        self._writer.close()

    def _add_tensor(self, tag: str, value: np.ndarray, metadata: Any, step: int) -> None:
        from tensorboard.util.tensor_util import make_tensor_proto

        summary = _message("summary", "Summary")
        summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(value))
        self._add(step=step, summary=summary)

    def _add(self, **content: Any) -> None:
        self._writer.add_event(_message("event", "Event", wall_time=time.time(), **content))


def _message(module: str, name: str, **content: Any) -> Any:
    """Returns a message of one of TensorBoard's protocols."""
    return getattr(import_module(f"tensorboard.compat.proto.{module}_pb2"), name)(**content)


def _buckets(values: np.ndarray) -> np.ndarray:
    """Returns `(buckets, 3)`: from where to where each goes, and how many values are in it."""
    values = values[np.isfinite(values)]
    buckets = np.zeros((_BUCKETS, 3))
    if not values.size:
        return buckets
    counts, edges = np.histogram(values, _BUCKETS)
    if edges[0] == edges[-1] or values.min() == values.max():
        buckets[:, :2] = values.min()
        buckets[-1, 2] = values.size
        return buckets
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image  # which tensorboard needs, too

    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, "png")
    return file.getvalue()
