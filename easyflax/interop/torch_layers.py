"""PyTorch's counterparts of single layers: maps, convolutions, embeddings, norms.

PyTorch keeps features first: a Linear weight is `(out, in)`, a Conv weight `(out, in / groups, *kernel)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import easyflax.nnx as nnx
from easyflax.interop.torch_rules import Child, Rule, rule, torch_conversion

__all__: list[str] = []

Has = Callable[[str], bool]


def bias_rules(layer: Any) -> Iterator[Rule]:
    """Yields the rule for a layer's bias, if it has one."""
    if layer.bias is not None:
        yield rule("bias", "bias")


@torch_conversion(nnx.Linear)
def _linear(layer: nnx.Linear, _: Has) -> Iterator[Rule]:
    """`torch.nn.Linear`."""
    yield rule("kernel", "weight", np.transpose, np.transpose)
    yield from bias_rules(layer)


@torch_conversion(nnx.LinearGeneral)
def _linear_general(layer: nnx.LinearGeneral, _: Has) -> Iterator[Rule]:
    """`torch.nn.Linear` between the flattened axes."""
    if layer.batch_axis:
        raise ValueError("a LinearGeneral with batch axes has no counterpart in PyTorch")
    features, out = math.prod(layer.in_features), math.prod(layer.out_features)
    shape = (*layer.in_features, *layer.out_features)
    yield rule(
        "kernel",
        "weight",
        lambda weight: weight.T.reshape(shape),
        lambda kernel: kernel.reshape(features, out).T,
    )
    if layer.bias is not None:
        yield rule(
            "bias", "bias", lambda bias: bias.reshape(layer.out_features), lambda bias: bias.reshape(out)
        )


@torch_conversion(nnx.Conv)
def _conv(layer: nnx.Conv, _: Has) -> Iterator[Rule]:
    """`torch.nn.Conv1d`, `Conv2d`, `Conv3d`: neither side flips the kernel."""
    yield rule("kernel", "weight", _features_last, _features_first)
    yield from bias_rules(layer)


@torch_conversion(nnx.ConvTranspose)
def _conv_transpose(layer: nnx.ConvTranspose, _: Has) -> Iterator[Rule]:
    """`torch.nn.ConvTranspose1d`, `ConvTranspose2d`, `ConvTranspose3d`, whose weight is `(in, out, *kernel)`.

    It is the transpose of a convolution and so flips the kernel, as ours does with `transpose_kernel`, where
    the kernel is that of the convolution: `(*kernel, out, in)`.
    """
    if layer.transpose_kernel:
        yield rule("kernel", "weight", _features_last, _features_first)
    else:
        yield rule(
            "kernel",
            "weight",
            lambda weight: _flipped(np.moveaxis(weight, (0, 1), (-2, -1))),
            lambda kernel: np.moveaxis(_flipped(kernel), (-2, -1), (0, 1)),
        )
    yield from bias_rules(layer)


def _flipped(kernel: np.ndarray) -> np.ndarray:
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))


def _features_last(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (0, 1), (-1, -2))


def _features_first(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


@torch_conversion(nnx.Embed)
def _embed(_layer: nnx.Embed, _: Has) -> Iterator[Rule]:
    """`torch.nn.Embedding`."""
    yield rule("embedding", "weight")


@torch_conversion(nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm)
def _norm(layer: Any, _: Has) -> Iterator[Rule]:
    """`torch.nn.LayerNorm`, `GroupNorm`, and `InstanceNorm` with `affine=True`."""
    if layer.scale is not None:
        yield rule("scale", "weight")
    yield from bias_rules(layer)


@torch_conversion(nnx.RMSNorm)
def _rms_norm(layer: nnx.RMSNorm, _: Has) -> Iterator[Rule]:
    """`torch.nn.RMSNorm`."""
    if layer.scale is not None:
        yield rule("scale", "weight")


@torch_conversion(nnx.BatchNorm)
def _batch_norm(layer: nnx.BatchNorm, _: Has) -> Iterator[Rule]:
    """`torch.nn.BatchNorm1d`, `BatchNorm2d`, `BatchNorm3d`; it also counts batches, which we do not."""
    yield from _norm(layer, _)
    yield rule("mean", "running_mean")
    yield rule("var", "running_var")
    yield rule((), "num_batches_tracked")


@torch_conversion(nnx.PReLU)
def _prelu(_layer: nnx.PReLU, _: Has) -> Iterator[Rule]:
    """`torch.nn.PReLU` with one slope for all features."""
    yield rule("negative_slope", "weight", lambda weight: weight.reshape(()), lambda slope: slope.reshape(1))


@torch_conversion(nnx.WeightNorm, nnx.SpectralNorm)
def _reparametrized(layer: Any, _: Has) -> Iterator[Rule]:
    """Nothing: PyTorch keeps its factors apart, and here the product stands in the layer itself."""
    raise ValueError(
        f"a {type(layer).__name__} keeps other numbers than PyTorch's. There, call "
        "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight'); here, load into the layer "
        "before wrapping it"
    )


@torch_conversion(nnx.LoRA)
def _lora(_layer: nnx.LoRA, _: Has) -> Iterator[Rule | Child]:
    """The names of PEFT, in the files of its adapters."""
    yield rule("lora_a", "lora_A.weight", np.transpose, np.transpose)
    yield rule("lora_b", "lora_B.weight", np.transpose, np.transpose)
    yield Child("base_module", "base_layer")


@torch_conversion(nnx.LoRALinear)
def _lora_linear(layer: nnx.LoRALinear, _: Has) -> Iterator[Rule | Child]:
    """A `torch.nn.Linear` with an adapter beside its weight."""
    yield from _linear(layer, _)
    yield Child("lora", "")
