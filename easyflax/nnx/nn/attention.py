"""Attention and its masks, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.attention import (
    dot_product_attention,
    dot_product_attention_weights,
)
from easyflax.nnx.layers.attention_masks import (
    combine_masks,
    make_attention_mask,
    make_causal_mask,
)
from easyflax.nnx.layers.linear import default_kernel_init
from easyflax.nnx.layers.multi_head_attention import (
    MultiHeadAttention,
)

__all__ = [
    "MultiHeadAttention",
    "combine_masks",
    "default_kernel_init",
    "dot_product_attention",
    "dot_product_attention_weights",
    "make_attention_mask",
    "make_causal_mask",
]
