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
    log_sigmoid,
    log_softmax,
    logsumexp,
    one_hot,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    standardize,
    swish,
    tanh,
)
from easyflax.nnx.layers.batch_norm import BatchNorm
from easyflax.nnx.layers.conv import Conv
from easyflax.nnx.layers.conv_transpose import ConvTranspose
from easyflax.nnx.layers.embedding import Embed
from easyflax.nnx.layers.initializers import Initializer
from easyflax.nnx.layers.linear import Linear
from easyflax.nnx.layers.linear_general import LinearGeneral
from easyflax.nnx.layers.normalization import GroupNorm, LayerNorm, RMSNorm
from easyflax.nnx.layers.pooling import avg_pool, max_pool, min_pool, pool
from easyflax.nnx.layers.sequential import Sequential
from easyflax.nnx.layers.stochastic import Dropout

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Embed",
    "GroupNorm",
    "Initializer",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "PReLU",
    "RMSNorm",
    "Sequential",
    "avg_pool",
    "celu",
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
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "max_pool",
    "min_pool",
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
    "standardize",
    "swish",
    "tanh",
]
