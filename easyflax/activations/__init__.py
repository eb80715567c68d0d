"""Activation functions under Keras's names, and `get`, which finds them by name."""

from __future__ import annotations

from easyflax.activations.functions import celu as celu
from easyflax.activations.functions import elu as elu
from easyflax.activations.functions import exponential as exponential
from easyflax.activations.functions import gelu as gelu
from easyflax.activations.functions import glu as glu
from easyflax.activations.functions import hard_shrink as hard_shrink
from easyflax.activations.functions import hard_sigmoid as hard_sigmoid
from easyflax.activations.functions import hard_silu as hard_silu
from easyflax.activations.functions import hard_swish as hard_swish
from easyflax.activations.functions import hard_tanh as hard_tanh
from easyflax.activations.functions import leaky_relu as leaky_relu
from easyflax.activations.functions import linear as linear
from easyflax.activations.functions import log_sigmoid as log_sigmoid
from easyflax.activations.functions import log_softmax as log_softmax
from easyflax.activations.functions import mish as mish
from easyflax.activations.functions import relu as relu
from easyflax.activations.functions import relu6 as relu6
from easyflax.activations.functions import selu as selu
from easyflax.activations.functions import sigmoid as sigmoid
from easyflax.activations.functions import silu as silu
from easyflax.activations.functions import soft_shrink as soft_shrink
from easyflax.activations.functions import softmax as softmax
from easyflax.activations.functions import softplus as softplus
from easyflax.activations.functions import softsign as softsign
from easyflax.activations.functions import sparse_plus as sparse_plus
from easyflax.activations.functions import sparse_sigmoid as sparse_sigmoid
from easyflax.activations.functions import sparsemax as sparsemax
from easyflax.activations.functions import squareplus as squareplus
from easyflax.activations.functions import swish as swish
from easyflax.activations.functions import tanh as tanh
from easyflax.activations.functions import tanh_shrink as tanh_shrink
from easyflax.activations.functions import threshold as threshold
from easyflax.activations.registry import deserialize as deserialize
from easyflax.activations.registry import get as get
from easyflax.activations.registry import serialize as serialize

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]
