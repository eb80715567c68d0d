"""Recurrent layers, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.bidirectional import (
    Bidirectional,
)
from easyflax.nnx.layers.conv_lstm import (
    ConvLSTMCell,
)
from easyflax.nnx.layers.gru import (
    GRUCell,
)
from easyflax.nnx.layers.lstm import (
    LSTMCell,
    OptimizedLSTMCell,
)
from easyflax.nnx.layers.recurrent import (
    RNN,
    RNNBase,
)
from easyflax.nnx.layers.recurrent_cells import (
    RNNCellBase,
    SimpleCell,
    default_bias_init,
    default_kernel_init,
    modified_orthogonal,
)
from easyflax.nnx.layers.sequences import (
    flip_sequences,
)

__all__ = [
    "RNN",
    "Bidirectional",
    "ConvLSTMCell",
    "GRUCell",
    "LSTMCell",
    "OptimizedLSTMCell",
    "RNNBase",
    "RNNCellBase",
    "SimpleCell",
    "default_bias_init",
    "default_kernel_init",
    "flip_sequences",
    "modified_orthogonal",
]
