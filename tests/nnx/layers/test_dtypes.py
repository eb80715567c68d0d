from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers.dtypes import canonicalize_dtype, promote_dtype


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "bfloat16"], "float32"),
        (["bfloat16", "bfloat16"], "bfloat16"),
        (["float16", "bfloat16"], "float32"),
        (["int32", "bfloat16"], "bfloat16"),
        (["int32", "uint8"], "float32"),
        (["bool"], "float32"),
        (["complex64", "float32"], "complex64"),
    ],
)
def test_the_dtype_is_what_the_arguments_promote_to_and_floating(dtypes: list[str], expected: str) -> None:
    args = [jnp.ones(2, dtype) for dtype in dtypes]
    assert canonicalize_dtype(*args, None) == jnp.dtype(expected)
    assert {x.dtype for x in promote_dtype(args)} == {jnp.dtype(expected)}


def test_integers_stay_where_they_are_allowed() -> None:
    assert canonicalize_dtype(jnp.ones(2, "int32"), inexact=False) == jnp.int32
    assert promote_dtype((np.ones(2, np.int8),), inexact=False)[0].dtype == jnp.int8


def test_a_given_dtype_is_taken_and_none_stays() -> None:
    x, y, nothing = promote_dtype((jnp.ones(2), 3, None), dtype=jnp.float16)
    assert (x.dtype, y.dtype, nothing) == (jnp.float16, jnp.float16, None)


@pytest.mark.parametrize("dtype", ["int32", jnp.bool_])
def test_a_dtype_that_is_not_floating_is_refused(dtype: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Got dtype (int32|bool), expected a floating or complex one\. Pass"
    ):
        promote_dtype((jnp.ones(2),), dtype=dtype)


def test_a_dtype_of_integers_is_refused_by_the_layer_that_was_given_it() -> None:
    model = nnx.Dict(head=nnx.Linear(2, 3, dtype=jnp.int32, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match=r"Linear 'head': got dtype int32, expected a floating or complex one"
    ):
        model.head(jnp.ones((4, 2)))
