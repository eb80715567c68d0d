"""`ImageLayer`: base class of the layers that change images, whatever form these are given in.

Subclasses see one form only, `(batch, height, width, channels)` in the layer's compute dtype. What is random
is drawn once a call and then applied to the images, and to the masks and labels that come with them.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.layer import Layer

__all__ = ["ImageLayer", "check_choice", "pair_of_values", "rescale_values"]

DataFormat = Literal["channels_last", "channels_first"]
Shape = tuple[int, ...]  # (batch, height, width, channels)
ValueRange = tuple[float, float]

_RANDOM_PARTS = ("images", "labels", "segmentation_masks")


class ImageLayer(Layer):
    """Base class of the layers that change images.

    A call takes one image, a batch of them, or a dict with `"images"` and, where wanted, `"labels"` and
    `"segmentation_masks"`, which are changed alike.

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        **kwargs: see `Layer`.
    """

    built: bool = True
    keeps_integers: bool = False  # the output has the dtype of the input, also where that is no floating one

    def __init__(self, *, data_format: DataFormat | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_choice(
            self, "data_format", data_format or "channels_last", ("channels_last", "channels_first")
        )

    # -- what subclasses define

    def draw(self, shape: Shape, training: bool) -> Any:  # noqa: ARG002  what subclasses look at
        """Returns what `transform` and the others are given as `drawn`; None leaves everything as it is."""
        return ()

    def transform(self, images: jax.Array, drawn: Any) -> jax.Array:
        """Returns the changed images.

        Args:
            images: `(batch, height, width, channels)`.
            drawn: what `draw` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method transform(images, drawn). Define it.")

    def transform_masks(self, masks: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        """Returns the segmentation masks, `(batch, height, width, 1)`, that go with the changed images."""
        return masks

    def transform_labels(self, labels: jax.Array, drawn: Any) -> jax.Array:  # noqa: ARG002
        """Returns the labels, the batch first, that go with the changed images."""
        return labels

    # -- calling

    def call(self, data: Any, training: bool = True) -> Any:
        """Returns the changed images, or the dict with what is in it changed alike.

        Args:
            data: an image `(height, width, channels)`, a batch `(batch, height, width, channels)`, or a dict
                of `"images"` and, where wanted, `"labels"` and `"segmentation_masks"`. The channels come
                before the height with "channels_first".
            training: whether what is random is active.

        Raises:
            ValueError: the images have neither three nor four axes, or the dict has another entry.
        """
        parts = data if isinstance(data, dict) else {"images": data}
        self._check_parts(parts)
        is_single = jnp.ndim(parts["images"]) == 3
        batches = {name: self._as_batch(name, part, is_single) for name, part in parts.items()}
        drawn = self.draw(batches["images"].shape, training)
        if drawn is not None:
            batches = self._transformed(batches, drawn)
        results = {name: self._as_given(name, batch, is_single) for name, batch in batches.items()}
        return results if isinstance(data, dict) else results["images"]

    def _transformed(self, batches: dict[str, jax.Array], drawn: Any) -> dict[str, jax.Array]:
        methods = {
            "images": self.transform,
            "labels": self.transform_labels,
            "segmentation_masks": self.transform_masks,
        }
        return {name: methods[name](batch, drawn) for name, batch in batches.items()}

    def _check_parts(self, parts: dict[str, Any]) -> None:
        unknown = [name for name in parts if name not in _RANDOM_PARTS]
        if unknown or "images" not in parts:
            raise ValueError(
                f"{type(self).__name__} '{self.name}': got a dict with {sorted(parts)}, expected "
                "'images' and, "
                "where wanted, 'labels' and 'segmentation_masks'. Take the rest, such as bounding boxes, out."
            )
        if jnp.ndim(parts["images"]) not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': got images of shape {jnp.shape(parts['images'])}, "
                "expected three axes for one image or four for a batch. Reshape them."
            )

    def _as_batch(self, name: str, part: Any, is_single: bool) -> jax.Array:
        batch = jnp.asarray(part)
        if name == "images" and not self.keeps_integers:
            batch = batch.astype(self.compute_dtype)
        batch = batch[None] if is_single else batch
        return jnp.moveaxis(batch, 1, -1) if self._has_channels_first(name, batch) else batch

    def _as_given(self, name: str, batch: jax.Array, is_single: bool) -> jax.Array:
        batch = jnp.moveaxis(batch, -1, 1) if self._has_channels_first(name, batch) else batch
        return batch[0] if is_single else batch

    def _has_channels_first(self, name: str, batch: jax.Array) -> bool:
        return name != "labels" and self.data_format == "channels_first" and batch.ndim == 4


def check_choice(layer: Layer, argument: str, value: Any, known: tuple[str, ...]) -> Any:
    """Returns `value` if it is one of the `known`.

    Raises:
        ValueError: it is not.
    """
    if value not in known:
        raise ValueError(
            f"{type(layer).__name__}: {argument} is {value!r}, expected one of {list(known)}. Choose "
            "from these."
        )
    return value


def pair_of_values(layer: Layer, value_range: Any) -> ValueRange:
    """Returns the two ends of a value range, the lower one first.

    Raises:
        ValueError: they are not two numbers.
    """
    if not isinstance(value_range, tuple | list) or len(value_range) != 2:
        raise ValueError(
            f"{type(layer).__name__}: value_range is {value_range!r}, expected two numbers. Pass the "
            "lowest and the highest value that a pixel can have, such as (0, 255)."
        )
    low, high = sorted(value_range)
    return low, high


def rescale_values(images: jax.Array, source: ValueRange, target: ValueRange) -> jax.Array:
    """Maps the value range `source` linearly onto `target`."""
    if tuple(source) == tuple(target):
        return images
    (low, high), (new_low, new_high) = np.asarray(source, float), np.asarray(target, float)
    return (images - low) / (high - low) * (new_high - new_low) + new_low
