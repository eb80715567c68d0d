"""Linear maps, transposed convolutions and low-rank additions against flax.nnx, option by option."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from tests.parity.flax_oracle import (
    Case,
    assert_same_gradients,
    assert_same_jitted_outputs,
    assert_same_outputs,
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


# Each layer keeps at least three configurations; which ones does not matter, and compiling takes the time.
@pytest.mark.parametrize("case", CASES[1::2], ids=str)
def test_gradients_are_those_of_flax(case: Case) -> None:
    assert_same_gradients(case)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_jitted_calls_agree_with_flax(case: Case) -> None:
    assert_same_jitted_outputs(case)
