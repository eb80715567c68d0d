from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


def test_a_causal_mask_is_a_lower_triangle_for_each_member_of_the_batch() -> None:
    mask = nnx.make_causal_mask(np.zeros((2, 4)))
    assert (mask.shape, mask.dtype) == ((2, 1, 4, 4), jnp.float32)
    np.testing.assert_array_equal(mask, np.broadcast_to(np.tril(np.ones((4, 4))), mask.shape))
    assert nnx.make_causal_mask(jnp.ones(3), extra_batch_dims=2).shape == (1, 1, 1, 3, 3)


def test_an_attention_mask_has_an_entry_for_each_pair() -> None:
    queries, keys = np.array([[1, 1, 0]]), np.array([[1, 0]])
    mask = nnx.make_attention_mask(queries, keys, dtype=bool)
    np.testing.assert_array_equal(mask, (queries[:, :, None] * keys[:, None, :])[:, None].astype(bool))
    same = nnx.make_attention_mask(queries, keys, jnp.equal, extra_batch_dims=1)
    np.testing.assert_array_equal(same, (queries[:, :, None] == keys[:, None, :])[None, :, None])


def test_combined_masks_allow_what_all_allow() -> None:
    a, b = np.array([[1, 0, 1]]), np.array([[2.0], [0.0]])
    np.testing.assert_array_equal(nnx.combine_masks(a, None, b), [[1, 0, 1], [0, 0, 0]])
    assert nnx.combine_masks(a, b, dtype=bool).dtype == bool
    assert nnx.combine_masks() is None


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3), (3,)], r"got masks of shapes \(2, 3\), \(3,\), expected the same rank of all\. Add axes"),
        ([(2, 3), (2, 4)], r"got masks of shapes \(2, 3\), \(2, 4\), expected shapes that broadcast\. Give"),
    ],
)
def test_masks_that_do_not_go_together_are_told_with_their_shapes(shapes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nnx.combine_masks(*map(jnp.ones, shapes))


@pytest.mark.parametrize(("queries", "keys"), [((), (3,)), ((2, 3), (4, 3))])
def test_inputs_without_positions_or_of_other_batches_are_told(queries: Any, keys: Any) -> None:
    with pytest.raises(
        ValueError, match=r"expected \(batch\.\.\., queries\) and \(batch\.\.\., keys\)\. Pass"
    ):
        nnx.make_attention_mask(jnp.ones(queries), jnp.ones(keys))
