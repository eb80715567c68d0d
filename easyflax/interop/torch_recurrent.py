"""PyTorch's counterparts of recurrent layers.

A cell has `weight_ih` and `bias_ih` for the input, and `weight_hh` and `bias_hh` for the hidden state, each
with its gates one above the other. `torch.nn.LSTM`, `GRU` and `RNN` add `_l0`, `_l1`, ... for the layers and
`_reverse` for the way back. Here an `nnx.RNN` is a layer with one cell, an `nnx.Bidirectional` has one for
each way, and an `nnx.Sequential` of these is one PyTorch module with several layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import easyflax.nnx as nnx
from easyflax.interop.torch_rules import Child, Rule, conversion_of, rule, torch_conversion

__all__: list[str] = []

Has = Callable[[str], bool]

_CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell)
_BIASES = ("bias_ih", "bias_hh")


@torch_conversion(nnx.OptimizedLSTMCell)
def _optimized_lstm_cell(layer: nnx.OptimizedLSTMCell, _: Has) -> Iterator[Rule]:
    """`torch.nn.LSTMCell`: the gates are input, forget, cell, output on both sides."""
    yield from _dense_rules(layer)


@torch_conversion(nnx.SimpleCell)
def _simple_cell(layer: nnx.SimpleCell, _: Has) -> Iterator[Rule]:
    """`torch.nn.RNNCell`."""
    if layer.residual:
        raise ValueError("a SimpleCell with residual=True has no counterpart in PyTorch")
    yield from _dense_rules(layer)


@torch_conversion(nnx.LSTMCell)
def _lstm_cell(_layer: nnx.LSTMCell, _: Has) -> Iterator[Rule]:
    """`torch.nn.LSTMCell`, with a `Linear` for each gate here."""
    gates = ("i", "f", "g", "o")
    inputs, hiddens = [tuple(f"{_attribute(side, gate)}.kernel" for gate in gates) for side in "ih"]
    yield rule(inputs, "weight_ih", _split_kernels, _join_kernels)
    yield rule(hiddens, "weight_hh", _split_kernels, _join_kernels)
    yield rule(
        tuple(f"h{gate}.bias" for gate in gates),
        _BIASES,
        lambda ih, hh: np.split(_sum(ih, hh), 4),
        lambda *biases: _as_second(np.concatenate(biases)),
    )


def _attribute(side: str, gate: str) -> str:
    return "if_" if side + gate == "if" else side + gate


def _split_kernels(weight: np.ndarray) -> list[np.ndarray]:
    return [part.T for part in np.split(weight, 4)]


def _join_kernels(*kernels: np.ndarray) -> np.ndarray:
    return np.concatenate([kernel.T for kernel in kernels])


@torch_conversion(nnx.GRUCell)
def _gru_cell(layer: nnx.GRUCell, _: Has) -> Iterator[Rule]:
    """`torch.nn.GRUCell`: the gates are reset, update, new on both sides.

    PyTorch has a second bias inside of the reset gate's product, which ours has only if the user gave
    `dense_h` one.
    """
    yield from _dense_rules(layer, _sum_of_gru)


def _sum_of_gru(ih: np.ndarray, hh: np.ndarray) -> np.ndarray:
    if np.any(np.split(hh, 3)[2]):
        raise ValueError(
            "'bias_hh' of PyTorch's GRU is not zero for the new gate, where a GRUCell has no bias: the reset "
            "gate is multiplied with it. Give the cell one before loading, with cell.dense_h = nnx.Linear("
            "hidden_features, 3 * hidden_features, rngs=rngs)"
        )
    return _sum(ih, hh)


def _dense_rules(cell: Any, add: Callable[..., np.ndarray] | None = None) -> Iterator[Rule]:
    """The rules of a cell with a `Linear` for the input and one for the hidden state.

    Args:
        cell: the cell.
        add: makes one bias of PyTorch's two.
    """
    yield rule("dense_i.kernel", "weight_ih", np.transpose, np.transpose)
    yield rule("dense_h.kernel", "weight_hh", np.transpose, np.transpose)
    on_input, on_hidden = cell.dense_i.bias is not None, cell.dense_h.bias is not None
    if on_input and on_hidden:
        yield rule("dense_i.bias", "bias_ih")
        yield rule("dense_h.bias", "bias_hh")
    elif on_input:
        yield rule("dense_i.bias", _BIASES, add or _sum, _as_first)
    elif on_hidden:
        yield rule("dense_h.bias", _BIASES, add or _sum, _as_second)


def _sum(ih: np.ndarray, hh: np.ndarray) -> np.ndarray:
    return ih.astype(np.promote_types(ih.dtype, np.float32)) + hh


def _as_first(bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bias, np.zeros_like(bias)


def _as_second(bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros_like(bias), bias


@torch_conversion(nnx.RNN)
def _rnn(layer: nnx.RNN, has: Has) -> Iterator[Rule]:
    """`torch.nn.LSTM`, `GRU` or `RNN` with one layer."""
    if _is_recurrent(layer):
        yield from _rules_inside(layer.cell, has, "cell", lambda name: f"{name}_l0")


@torch_conversion(nnx.Bidirectional)
def _bidirectional(layer: nnx.Bidirectional, has: Has) -> Iterator[Rule]:
    """The same with `bidirectional=True`."""
    if _is_recurrent(layer):
        yield from _rules_inside(layer.forward_rnn, has, "forward_rnn", str)
        yield from _rules_inside(layer.backward_rnn, has, "backward_rnn", lambda name: f"{name}_reverse")


@torch_conversion(nnx.Sequential)
def _sequential(layer: nnx.Sequential, has: Has) -> Iterator[Rule | Child]:
    """`torch.nn.Sequential`, which has its layers under their positions; or, if all that have weights are
    recurrent, `torch.nn.LSTM`, `GRU` or `RNN` with as many layers."""
    layers = [(position, item) for position, item in enumerate(layer.layers) if _has_weights(item)]
    if not layers or not all(_is_recurrent(item) for _, item in layers):
        yield Child("layers", "")
        return
    for number, (position, item) in enumerate(layers):
        suffix = f"_l{number}"
        yield from _rules_inside(
            item, has, f"layers.{position}", lambda name, suffix=suffix: name.replace("_l0", suffix)
        )


def _is_recurrent(layer: Any) -> bool:
    """Whether it is a layer of `torch.nn.LSTM`, `GRU` or `RNN`, for one way or for both."""
    if isinstance(layer, nnx.Bidirectional):
        ways = (layer.forward_rnn, layer.backward_rnn)
        return all(isinstance(way, nnx.RNN) and _is_recurrent(way) for way in ways)
    return isinstance(layer, nnx.RNN) and isinstance(layer.cell, _CELLS)


def _has_weights(layer: Any) -> bool:
    return isinstance(layer, nnx.Module) and bool(nnx.to_flat_state(nnx.state(layer, nnx.Param)))


def _rules_inside(part: Any, has: Has, ours: str, theirs: Callable[[str], str]) -> Iterator[Rule]:
    """The rules of a part of a layer as rules of the layer.

    Args:
        part: a module with a conversion.
        has: for it.
        ours: its path in the layer.
        theirs: from its names in PyTorch to those of the layer.
    """
    convert = conversion_of(part)
    for entry in convert(part, has) if convert else ():
        if isinstance(entry, Rule):
            paths = tuple(f"{ours}.{path}" for path in entry.ours)
            yield entry._replace(ours=paths, theirs=tuple(map(theirs, entry.theirs)))
