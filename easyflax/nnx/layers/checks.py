"""What layers check of their arguments and inputs before they compute.

All checks look at static shapes and dtypes only: they work while tracing and cost nothing in a compiled
function.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.naming import describe
from easyflax.nnx.core.rngs import Rngs

__all__ = ["check_axis", "check_features", "check_mask", "check_rngs", "check_sizes", "describe"]


def check_features(
    layer: Module,
    inputs: Any,
    features: int,
    *,
    argument: str,
    axis: int = -1,
    spatial_axes: int = 0,
    name: str = "an input",
) -> None:
    """Checks the size of `inputs` along `axis`, and that it has `spatial_axes` axes besides.

    Args:
        layer: named in the error.
        inputs: what the layer was called with.
        features: the size that its parameters expect.
        argument: the constructor's argument that decides it, for the advice.
        axis: where the features are.
        spatial_axes: how many axes there must be besides that one.
        name: what the layer calls `inputs`, where it takes several.

    Raises:
        ValueError: `inputs` has too few axes, or another size along `axis`.
    """
    shape = np.shape(inputs)
    sizes = ["..."] + ["size"] * spatial_axes + [str(features)]
    layout = f"({', '.join(sizes)})" if axis == -1 else f"with {features} along axis {axis}"
    needed = max(spatial_axes + 1, axis + 1 if axis >= 0 else -axis)
    if len(shape) < needed:
        raise ValueError(
            f"{describe(layer)}: got {name} of shape {shape}, expected at least {needed} axes, {layout}.\n"
            "Reshape the input, or add the missing axes, for example x[None] for a batch or x[..., None] for "
            "features."
        )
    if shape[axis] != features:
        place = "its last axis" if axis == -1 else f"axis {axis}"
        raise ValueError(
            f"{describe(layer)}: got {name} of shape {shape} with {shape[axis]} features in {place}, "
            f"expected {layout}.\nPass inputs of that shape, or rebuild the layer with "
            f"{argument}={shape[axis]}."
        )


def check_sizes(layer: Module, **sizes: Any) -> None:
    """Checks constructor arguments that must be positive integers.

    Raises:
        TypeError: one is no integer.
        ValueError: one is zero or negative.
    """
    for name, size in sizes.items():
        try:
            value = operator.index(size)
        except TypeError:
            raise TypeError(
                f"{type(layer).__name__}: got {name}={size!r} of type {type(size).__name__}, expected a "
                f"positive integer. Pass {name} as an int."
            ) from None
        if value < 1:
            raise ValueError(
                f"{type(layer).__name__}: got {name}={value}, expected a positive integer. Pass {name} of at "
                "least 1."
            )


def check_axis(layer: Module, **axes: Any) -> None:
    """Checks constructor arguments that must be one axis.

    Raises:
        TypeError: one is no integer.
    """
    for name, axis in axes.items():
        if not isinstance(axis, (int, np.integer)):
            raise TypeError(
                f"{type(layer).__name__}: got {name}={axis!r} of type {type(axis).__name__}, expected an "
                f"integer. Pass one axis as {name}, for example -1 for the last."
            )


def check_rngs(layer: Module, rngs: Any, *, needed: bool = True) -> None:
    """Checks that no seed or key, and nothing else, was given where `nnx.Rngs` is expected.

    Args:
        layer: named in the error.
        rngs: what it was given.
        needed: whether keys will be drawn; if not, None will do.

    Raises:
        TypeError: `rngs` has no random streams.
    """
    if not isinstance(rngs, Rngs) and not hasattr(rngs, "params") and (needed or rngs is not None):
        raise TypeError(
            f"{type(layer).__name__}: got rngs of type {type(rngs).__name__}, expected nnx.Rngs. "
            "Wrap the seed or key, or begin with one: rngs=nnx.Rngs(0)."
        )


def check_mask(layer: Module, inputs: Any, mask: Any) -> None:
    """Checks that `mask`, if there is one, broadcasts to the shape of `inputs`.

    Raises:
        ValueError: it does not.
    """
    if mask is None:
        return
    try:
        fits = np.broadcast_shapes(np.shape(mask), np.shape(inputs)) == np.shape(inputs)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{describe(layer)}: got a mask of shape {np.shape(mask)} for an input of shape "
            f"{np.shape(inputs)}, expected a shape that broadcasts to the input's. Add axes of size 1, for "
            "example mask[:, None] for one entry a row."
        )
