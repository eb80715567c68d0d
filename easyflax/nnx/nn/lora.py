"""Low-rank additions, under the name of the module that has them in Flax."""

from __future__ import annotations

from easyflax.nnx.layers.lora import (
    LoRA,
    LoRALinear,
    LoRAParam,
    default_a_initializer,
    default_b_initializer,
)

__all__ = [
    "LoRA",
    "LoRALinear",
    "LoRAParam",
    "default_a_initializer",
    "default_b_initializer",
]
