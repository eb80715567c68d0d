"""PyTorch's counterparts of attention.

    torch.nn.MultiheadAttention        in_proj_weight (3 * embed, embed), or q_proj_weight, k_proj_weight and
                                       v_proj_weight where keys have other sizes; in_proj_bias; out_proj
    most models written by hand        four Linear layers: q_proj, k_proj, v_proj, out_proj

Heads lie one after the other in the output features of each projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import easyflax.nnx as nnx
from easyflax.interop.torch_rules import Child, Rule, rule, torch_conversion

__all__: list[str] = []

_INPUTS = ("query", "key", "value")


@torch_conversion(nnx.MultiHeadAttention)
def _attention(layer: nnx.MultiHeadAttention, has: Callable[[str], bool]) -> Iterator[Rule | Child]:
    """`torch.nn.MultiheadAttention`, or four Linear layers."""
    yield Child("out", "out_proj")
    if has("q_proj.weight"):
        yield from (Child(name, f"{name[0]}_proj") for name in _INPUTS)
        return
    projections = [getattr(layer, name) for name in _INPUTS]
    shapes = [projection.kernel.shape for projection in projections]
    kernels = tuple(f"{name}.kernel" for name in _INPUTS)
    if len(set(shapes)) == 1:
        yield rule(kernels, "in_proj_weight", *_stacked(shapes, axes_in=1))
    else:
        for name, shape in zip(_INPUTS, shapes, strict=True):
            yield rule(f"{name}.kernel", f"{name[0]}_proj_weight", *_stacked([shape], axes_in=1))
    if layer.use_bias:
        biases = tuple(f"{name}.bias" for name in _INPUTS)
        yield rule(biases, "in_proj_bias", *_stacked([shape[1:] for shape in shapes], axes_in=0))


def _stacked(
    shapes: list[tuple[int, ...]], axes_in: int
) -> tuple[Callable[..., Any], Callable[..., np.ndarray]]:
    """Both ways between kernels (or biases, with no input axis) and one weight that has them one above the
    other, with the output features first."""
    sizes = [math.prod(shape[axes_in:]) for shape in shapes]

    def to_ours(weight: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = np.split(weight, np.cumsum(sizes)[:-1])
        return tuple(part.T.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    def to_theirs(*kernels: np.ndarray) -> np.ndarray:
        flat = [
            kernel.reshape(*shape[:axes_in], size).T
            for kernel, shape, size in zip(kernels, shapes, sizes, strict=True)
        ]
        return np.concatenate(flat)

    return to_ours, to_theirs
