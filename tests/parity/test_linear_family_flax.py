"""Linear maps, transposed convolutions and low-rank additions against flax.nnx, option by option."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from tests.parity.flax_oracle import (
    Case,
    assert_same,
    assert_same_gradients,
    assert_same_jitted_outputs,
    assert_same_outputs,
    assert_same_state,
    make_both,
)

BF16 = jnp.bfloat16
F32 = jnp.float32
NORMAL = jax.nn.initializers.normal()
KERNEL_AND_BIAS = {"kernel_metadata": {"role": "w"}, "bias_metadata": {"role": "b"}}

CASES = [
    Case("LinearGeneral", (3, 4), (5, 3)),
    Case("LinearGeneral", (3, (4, 2)), (2, 5, 3), {"bias_init": NORMAL, **KERNEL_AND_BIAS}),
    Case("LinearGeneral", ((2, 3), (4, 5)), (6, 2, 7, 3), {"axis": (1, -1), "bias_init": NORMAL}),
    Case("LinearGeneral", ((2, 3), 4), (6, 2, 3), {"axis": (-1, -2), "use_bias": False}),
    Case("LinearGeneral", (3, (2, 4)), (6, 5, 3), {"batch_axis": {0: 6}, "bias_init": NORMAL}),
    Case("LinearGeneral", ((3, 2), 4), (6, 7, 3, 5, 2),
         {"batch_axis": {0: 6, 1: 7}, "axis": (2, 4), "kernel_init": nnx.initializers.he_uniform()}),
    Case("LinearGeneral", ((), 4), (5, 3), {"axis": ()}),
    Case("LinearGeneral", (3, (4, 2)), (5, 3), {"dtype": BF16}),
    Case("LinearGeneral", (3, (4, 2)), (5, 3), {"param_dtype": BF16, "batch_axis": {0: 5}}, dtype=BF16),
    Case("LinearGeneral", (3, (4, 2)), (5, 3), {"param_dtype": BF16, "dtype": F32, "precision": "highest"}),
    Case("LinearGeneral", (3, 4), (5, 3), {"preferred_element_type": F32, "param_dtype": BF16}, dtype=BF16),
    Case("LinearGeneral", (3, 4), (5, 3), {"dot_general": jax.lax.dot_general}),
    Case("LinearGeneral", (3, 4), (5, 3), {"dot_general_cls": lambda: jax.lax.dot_general}),
    Case("Einsum", ("nta,hab->nthb", (8, 2, 4), (8, 4)), (3, 5, 2), {"bias_init": NORMAL}),
    Case("Einsum", ("ab, bc -> ac", (3, 4)), (5, 3), KERNEL_AND_BIAS),
    Case("Einsum", ("ab,bc->ca", (3, 4), 4), (5, 3), {"bias_init": NORMAL, **KERNEL_AND_BIAS}),
    Case("Einsum", ("defab,bcef->adefc", (4, 5, 6, 7), (6, 7, 5)), (8, 6, 7, 3, 4), {"bias_init": NORMAL}),
    Case("Einsum", ("d...ab,bc...->ad...c", (4, 5, 6, 7), (6, 7, 5)), (8, 6, 7, 3, 4), {"dtype": BF16}),
    Case("Einsum", ("...a,abc->...bc", (3, 2, 4), (2, 4)), (2, 5, 3), {"precision": "highest"}),
    Case("Einsum", ("bnd,bdf->bnf", (3, 4, 5), (3, 5)), (3, 2, 4), {"param_dtype": BF16}, dtype=BF16),
    Case("Einsum", ("bnd,bdf->bfn", (3, 4, 5)), (3, 2, 4), {"preferred_element_type": F32}, dtype=BF16),
    Case("Einsum", ("ab,cab->c", (4, 3, 2), (4,)), (3, 2)),
    Case("Einsum", ("abz,bc->ac", (3, 4), (4,)), (5, 3, 2)),  # sums an axis of the input alone
    Case("Einsum", ("aab,bc->ac", (3, 4)), (2, 2, 3)),  # takes a diagonal
    Case("Einsum", ("...b,...bc->...c", (1, 3, 4), (4,)), (2, 5, 3)),  # repeats an axis of size 1
    Case("Einsum", ("ab,bc->ac", (3, 4)), (5, 3), {}, {"einsum_str": "ab, bc->cab"}),
    Case("LoRA", (3, 2, 4), (5, 3)),
    Case("LoRA", (3, 2, 4), (2, 5, 3), {"b_initializer": NORMAL, "a_metadata": {"role": "a"}}),
    Case("LoRA", (3, 2, 4), (3,), {"a_initializer": NORMAL, "b_initializer": NORMAL, "dtype": BF16}),
    Case("LoRA", (3, 2, 4), (5, 3), {"b_initializer": NORMAL, "param_dtype": BF16}, dtype=BF16),
    Case("LoRA", (3, 1, 4), (5, 3), {"b_metadata": {"role": "b"}}, {"w": 1}),
    Case("LoRALinear", (3, 4), (5, 3), {"lora_rank": 2}),
    Case("LoRALinear", (3, 4), (2, 5, 3),
         {"lora_rank": 2, "b_initializer": NORMAL, "bias_init": NORMAL,
          "a_metadata": {"role": "a"}, **KERNEL_AND_BIAS}),
    Case("LoRALinear", (3, 4), (5, 3), {"lora_rank": 1, "b_initializer": NORMAL, "lora_dtype": BF16}),
    Case("LoRALinear", (3, 4), (5, 3),
         {"lora_rank": 2, "lora_param_dtype": BF16, "dtype": BF16, "use_bias": False,
          "b_metadata": {"role": "b"}}),
    Case("LoRALinear", (3, 4), (5, 3),
         {"lora_rank": 2, "b_initializer": NORMAL, "param_dtype": BF16}, dtype=BF16),
    Case("ConvTranspose", (3, 4, 3), (2, 5, 3)),
    Case("ConvTranspose", (3, 4, (4,), 2), (5, 3), {"padding": "VALID", "bias_init": NORMAL}),
    Case("ConvTranspose", (3, 4, 3, 2), (2, 2, 5, 3), {"padding": "CIRCULAR", "use_bias": False}),
    Case("ConvTranspose", (3, 4, 4, 3), (2, 5, 3), {"padding": "CIRCULAR", "transpose_kernel": True}),
    Case("ConvTranspose", (2, 4, (4, 3), (2, 1)), (2, 4, 5, 2),
         {"padding": "CIRCULAR", "kernel_dilation": (1, 3)}),
    Case("ConvTranspose", (2, 4, (3, 2), (1, 2)), (2, 4, 5, 2), {"padding": 1, **KERNEL_AND_BIAS}),
    Case("ConvTranspose", (2, 4, (3, 2), 2), (2, 4, 5, 2),
         {"padding": (2, (0, 3)), "transpose_kernel": True}),
    Case("ConvTranspose", (2, 4, (3, 3), 2), (4, 5, 2), {"kernel_dilation": 2, "dtype": BF16}),
    Case("ConvTranspose", (2, 3, (3,)), (2, 5, 2), {"mask": np.tril(np.ones((3, 2, 3), np.float32))}),
    Case("ConvTranspose", (2, 3, (3,)), (2, 5, 2), {"mask": jnp.ones((3, 3, 2)), "transpose_kernel": True}),
    Case("ConvTranspose", (2, 3, 3), (2, 5, 2),
         {"param_dtype": BF16, "preferred_element_type": F32}, dtype=BF16),
    Case("ConvTranspose", (1, 2, (2, 3, 2), (1, 2, 1)), (2, 3, 3, 3, 1), {"precision": "highest"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parameters_and_outputs_are_those_of_flax(case: Case) -> None:
    assert_same_outputs(case)


def _some_of_each(cases: list[Case]) -> list[Case]:
    """Four configurations of every layer: compiling gradients takes the time."""
    layers = [
        [case for case in cases if case.layer == layer] for layer in {case.layer: None for case in cases}
    ]
    return [case for configurations in layers for case in configurations[1 :: len(configurations) // 4][:4]]


@pytest.mark.parametrize("case", _some_of_each(CASES), ids=str)
def test_gradients_are_those_of_flax(case: Case) -> None:
    assert_same_gradients(case)


@pytest.mark.parametrize("case", _some_of_each(CASES), ids=str)
def test_jitted_calls_agree_with_flax(case: Case) -> None:
    assert_same_jitted_outputs(case)


@pytest.mark.parametrize("lora_param_type", ["LoRAParam", "Param", "BatchStat"])
def test_an_addition_to_another_module_is_that_of_flax(lora_param_type: str) -> None:
    def make(lib: Any) -> Any:
        rngs = lib.Rngs(3)
        base = lib.LinearGeneral(3, 4, rngs=rngs, dtype=BF16)
        kind = getattr(lib, lora_param_type)
        return lib.LoRA(3, 2, 4, base_module=base, lora_param_type=kind, b_initializer=NORMAL, rngs=rngs)

    ours, theirs = make_both(make)
    assert_same_state(ours, theirs)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    assert_same(ours(x, out_sharding=None), theirs(x, out_sharding=None))


@pytest.mark.parametrize("layer", ["LinearGeneral", "Einsum", "ConvTranspose", "LoRA"])
def test_initializers_with_metadata_mark_the_variables_as_in_flax(layer: str) -> None:
    args: Any = {"Einsum": ("ab,bc->ac", (2, 3), (3,)), "ConvTranspose": (2, 3, 3), "LoRA": (2, 1, 3)}
    names = ("a_initializer", "b_initializer") if layer == "LoRA" else ("kernel_init", "bias_init")

    def make(lib: Any) -> Any:
        inits = {name: lib.with_metadata(NORMAL, role=name) for name in names}
        return getattr(lib, layer)(*args.get(layer, (2, (3, 4))), **inits, rngs=lib.Rngs(0))

    assert_same_state(*make_both(make))
