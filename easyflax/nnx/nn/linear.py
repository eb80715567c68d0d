"""Linear maps, convolutions and embeddings, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.conv import (
    Conv,
)
from easyflax.nnx.layers.conv_transpose import (
    ConvTranspose,
)
from easyflax.nnx.layers.einsum import (
    Einsum,
)
from easyflax.nnx.layers.embedding import (
    Embed,
    default_embed_init,
)
from easyflax.nnx.layers.linear import (
    Linear,
    default_bias_init,
    default_kernel_init,
)
from easyflax.nnx.layers.linear_general import (
    LinearGeneral,
)

__all__ = [
    "Conv",
    "ConvTranspose",
    "Einsum",
    "Embed",
    "Linear",
    "LinearGeneral",
    "default_bias_init",
    "default_embed_init",
    "default_kernel_init",
]
