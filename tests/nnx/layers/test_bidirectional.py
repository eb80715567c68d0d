from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

LENGTHS = np.array([5, 1, 2])


def _layer(**options: Any) -> nnx.Bidirectional:
    rngs = nnx.Rngs(0)
    forward, backward = (nnx.RNN(nnx.GRUCell(2, 3, rngs=rngs)) for _ in range(2))
    return nnx.Bidirectional(forward, backward, **options)


def _x(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
def test_it_is_one_layer_in_each_direction(lengths: Any) -> None:
    layer, x = _layer(return_carry=True), _x(3, 5, 2)
    (forward_carry, backward_carry), y = layer(x, seq_lengths=lengths)
    call = {"seq_lengths": lengths, "return_carry": True}
    carry, outputs = layer.forward_rnn(x, **call)
    np.testing.assert_array_equal(forward_carry, carry)
    np.testing.assert_array_equal(y[..., :3], outputs)
    carry, outputs = layer.backward_rnn(x, **call, reverse=True, keep_order=True)
    np.testing.assert_array_equal(backward_carry, carry)
    np.testing.assert_array_equal(y[..., 3:], outputs)


def test_padded_sequences_give_what_each_gives_alone() -> None:
    layer, x = _layer(return_carry=True), _x(3, 5, 2)
    carry, y = layer(x, seq_lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        carry_alone, y_alone = layer(x[row, :length])
        np.testing.assert_allclose(y[row, :length], y_alone, rtol=1e-5, atol=1e-6)
        for ours, alone in zip(carry, carry_alone, strict=True):
            np.testing.assert_allclose(ours[row], alone, rtol=1e-5, atol=1e-6)


def test_outputs_are_merged_by_a_function_and_time_can_come_first() -> None:
    x = _x(3, 5, 2)
    side_by_side = _layer()(x)
    summed = _layer(merge_fn=jnp.add, time_major=True)(jnp.moveaxis(x, 1, 0))
    expected = side_by_side[..., :3] + side_by_side[..., 3:]
    np.testing.assert_allclose(jnp.moveaxis(summed, 0, 1), expected, rtol=1e-6)
    assert _layer(time_major=True)(x, time_major=False).shape == (3, 5, 6)


def test_each_direction_begins_with_its_own_carry() -> None:
    layer, x, h = _layer(), _x(3, 5, 2), _x(3, 3)
    y, plain = layer(x, initial_carry=(h, None)), layer(x)
    assert bool((y[..., :3] != plain[..., :3]).any())
    np.testing.assert_array_equal(y[..., 3:], plain[..., 3:])


def test_one_layer_for_both_directions_is_warned_of() -> None:
    rnn = nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)))
    with pytest.warns(UserWarning, match="Bidirectional: forward_rnn and backward_rnn are the same layer"):
        shared = nnx.Bidirectional(rnn, rnn)
    assert shared(_x(3, 5, 2)).shape == (3, 5, 6)


def test_wrong_carries_and_rngs_are_told() -> None:
    model = nnx.Sequential(_layer())
    for carry, got in [(jnp.ones((2, 3)), ".*Array.*"), ((1, 2, 3), "tuple of 3")]:
        with pytest.raises(
            ValueError, match=f"Bidirectional 'layers.0': got {got} as initial_carry, expected the"
        ):
            model(_x(3, 5, 2), initial_carry=carry)
    with pytest.raises(AttributeError, match=r"'carry'.*\['params'\]"):
        _layer(rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match=r"Bidirectional: got rngs of type int, expected nnx\.Rngs"):
        _layer(rngs=0)
    with pytest.raises(
        TypeError, match=r"Bidirectional 'layers.0': got rngs of type int, expected nnx\.Rngs"
    ):
        nnx.Sequential(_layer())(_x(3, 5, 2), rngs=0)
