from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from easyflax import nnx
from easyflax.nnx.layers.stochastic import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_stays(rate: float) -> None:
    layer = nnx.Dropout(rate, rngs=nnx.Rngs(0))
    y = np.asarray(layer(jnp.ones(20_000)))
    assert (y == 0).mean() == pytest.approx(rate, abs=0.015)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_every_call_draws_again_and_equal_seeds_draw_the_same() -> None:
    first, second = (nnx.Dropout(0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    x = jnp.ones(100)
    a, b = first(x), first(x)
    assert bool((a != b).any())
    np.testing.assert_array_equal(second(x), a)
    assert int(first.rngs.count[...]) == 2


def test_layers_made_from_one_rngs_draw_differently() -> None:
    rngs = nnx.Rngs(0)
    x = jnp.ones(100)
    assert bool((nnx.Dropout(0.5, rngs=rngs)(x) != nnx.Dropout(0.5, rngs=rngs)(x)).any())


def test_nothing_happens_in_inference_or_at_rate_zero() -> None:
    x = jnp.arange(5.0)
    layer = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    layer.eval()
    assert layer(x) is x
    assert layer(x, deterministic=False) is not x
    assert nnx.Dropout(0.0)(x) is x
    assert nnx.Dropout(0.5)(x, deterministic=True) is x


def test_rate_one_gives_zeros_with_gradients_of_zero() -> None:
    layer = nnx.Dropout(1.0)
    value, gradient = jax.value_and_grad(lambda x: layer(x).sum())(jnp.ones(5))
    assert (float(value), gradient.tolist()) == (0.0, [0.0] * 5)
    np.testing.assert_array_equal(dropout(jax.random.key(0), jnp.ones(5), 1.0), 0.0)


def test_one_decision_holds_along_broadcast_dims() -> None:
    layer = nnx.Dropout(0.5, broadcast_dims=(0, -1), rngs=nnx.Rngs(0))
    y = np.asarray(layer(jnp.ones((4, 50, 3))))
    assert (y == y[:1, :, :1]).all()
    assert len(np.unique(y)) == 2


def test_keys_come_from_the_stream_named() -> None:
    x = jnp.ones(50)
    layer = nnx.Dropout(0.5, rng_collection="noise", rngs=nnx.Rngs(noise=3))
    named = nnx.Dropout(0.5, rngs=nnx.Rngs(noise=3).noise)
    np.testing.assert_array_equal(layer(x), named(x))


def test_under_jit_the_stream_moves_on_as_it_does_outside() -> None:
    eager, jitted = (nnx.Dropout(0.5, rngs=nnx.Rngs(0)) for _ in range(2))
    call = nnx.jit(lambda layer, x: layer(x))
    x = jnp.ones((10, 3))
    for _ in range(3):
        np.testing.assert_array_equal(call(jitted, x), eager(x))


def test_the_mask_is_laid_out_as_the_input_on_a_mesh_with_explicit_axes() -> None:
    layer = nnx.Dropout(0.5, broadcast_dims=(0,))
    other = nnx.Dropout(0.5)
    key, x = jax.random.key(0), jnp.ones((8, 4))
    expected = layer(x, rngs=key), other(x, rngs=key)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", None)))
        got = layer(sharded, rngs=key), other(sharded, rngs=key)
    for a, b in zip(got, expected, strict=True):
        assert a.sharding.spec == P("data", None)
        np.testing.assert_array_equal(a, b)


# -- errors


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_rates_outside_zero_and_one_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"Dropout: got rate=.*, expected a probability from 0 to 1\. Pass"):
        nnx.Dropout(rate)
    layer = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    layer.rate = rate
    with pytest.raises(ValueError, match=r"Dropout: got rate=.*, expected a probability from 0 to 1"):
        layer(jnp.ones(3))


def test_training_needs_random_keys() -> None:
    with pytest.raises(
        ValueError,
        match=r"Dropout '0': got no rngs, expected random keys while deterministic is False\. Pass",
    ):
        (lambda layers: layers[0](jnp.ones(3)))(nnx.List([nnx.Dropout(0.5)]))


def test_the_mode_must_be_given_somewhere() -> None:
    with pytest.raises(
        ValueError, match=r"Dropout: got no deterministic, expected True .* model\.eval\(\) first"
    ):
        nnx.Dropout(0.5, deterministic=None)(jnp.ones(3))


@pytest.mark.parametrize("rngs", [3, "dropout", jax.random.key(0)], ids=["seed", "name", "key"])
def test_a_bare_seed_is_not_taken_for_rngs(rngs: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Dropout: got rngs of type .*, expected nnx\.Rngs, an nnx\.RngStream or None"
    ):
        nnx.Dropout(0.5, rngs=rngs)
    if not isinstance(rngs, jax.Array):
        with pytest.raises(
            TypeError, match=r"Dropout: got rngs of type .*, expected nnx\.Rngs, an nnx\.RngStream or a key"
        ):
            nnx.Dropout(0.5)(jnp.ones(3), rngs=rngs)


def test_integers_cannot_be_dropped() -> None:
    with pytest.raises(
        TypeError, match=r"Dropout: got inputs of dtype int32, expected floating ones\. Convert"
    ):
        nnx.Dropout(0.5, rngs=nnx.Rngs(0))(jnp.arange(3))


def test_broadcast_dims_must_be_axes_of_the_input() -> None:
    layer = nnx.Dropout(0.5, broadcast_dims=(2,), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError,
        match=r"got broadcast_dims=\(2,\) for an input of shape \(3, 4\), expected axes from -2 to 1",
    ):
        layer(jnp.ones((3, 4)))


def test_broadcast_dims_are_a_sequence() -> None:
    with pytest.raises(TypeError, match=r"Dropout: got broadcast_dims=1, expected a sequence of axes\. Pass"):
        nnx.Dropout(0.5, broadcast_dims=1)  # type: ignore[arg-type]
