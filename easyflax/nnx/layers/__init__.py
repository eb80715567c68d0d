"""Layers: modules with parameters, and the functions on arrays that they compute with.

Each file holds one family: the mathematics as functions of arrays (`linear`, `conv`, `embed`, `moments`,
`normalize`, `dropout`, `pool`), and the modules that own the parameters. Other front-ends stand on the same
functions. Equal seeds give the parameters that Flax NNX gives.
"""

from __future__ import annotations

from easyflax.nnx.layers import initializers
from easyflax.nnx.layers.activations import (
    PReLU,
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    log_softmax,
    logmeanexp,
    logsumexp,
    mish,
    one_hot,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
    tanh,
)
from easyflax.nnx.layers.attention import dot_product_attention
from easyflax.nnx.layers.attention_masks import combine_masks, make_attention_mask, make_causal_mask
from easyflax.nnx.layers.batch_norm import BatchNorm
from easyflax.nnx.layers.bidirectional import Bidirectional
from easyflax.nnx.layers.conv import Conv
from easyflax.nnx.layers.conv_lstm import ConvLSTMCell
from easyflax.nnx.layers.conv_transpose import ConvTranspose
from easyflax.nnx.layers.einsum import Einsum
from easyflax.nnx.layers.embedding import Embed
from easyflax.nnx.layers.group_norm import GroupNorm
from easyflax.nnx.layers.gru import GRUCell
from easyflax.nnx.layers.initializers import Initializer
from easyflax.nnx.layers.instance_norm import InstanceNorm
from easyflax.nnx.layers.linear import Linear
from easyflax.nnx.layers.linear_general import LinearGeneral
from easyflax.nnx.layers.lora import LoRA, LoRALinear, LoRAParam
from easyflax.nnx.layers.lstm import LSTMCell, OptimizedLSTMCell
from easyflax.nnx.layers.multi_head_attention import MultiHeadAttention
from easyflax.nnx.layers.normalization import LayerNorm, RMSNorm
from easyflax.nnx.layers.pooling import avg_pool, max_pool, min_pool, pool
from easyflax.nnx.layers.recurrent import RNN
from easyflax.nnx.layers.recurrent_cells import RNNCellBase, SimpleCell
from easyflax.nnx.layers.sequential import Sequential
from easyflax.nnx.layers.spectral_norm import SpectralNorm
from easyflax.nnx.layers.stochastic import Dropout
from easyflax.nnx.layers.weight_norm import WeightNorm

__all__ = [
    "RNN",
    "BatchNorm",
    "Bidirectional",
    "Conv",
    "ConvLSTMCell",
    "ConvTranspose",
    "Dropout",
    "Einsum",
    "Embed",
    "GRUCell",
    "GroupNorm",
    "Initializer",
    "InstanceNorm",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "LoRA",
    "LoRALinear",
    "LoRAParam",
    "MultiHeadAttention",
    "OptimizedLSTMCell",
    "PReLU",
    "RMSNorm",
    "RNNCellBase",
    "Sequential",
    "SimpleCell",
    "SpectralNorm",
    "WeightNorm",
    "avg_pool",
    "celu",
    "combine_masks",
    "dot_product_attention",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "initializers",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "make_attention_mask",
    "make_causal_mask",
    "max_pool",
    "min_pool",
    "mish",
    "one_hot",
    "pool",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]
