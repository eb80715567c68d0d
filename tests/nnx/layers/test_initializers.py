from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx

KEY = jax.random.key(0)


def test_zeros_and_ones_come_in_both_forms() -> None:
    for init in (nnx.initializers.zeros, nnx.initializers.zeros_init()):
        assert init(KEY, (2, 3), jnp.bfloat16).tolist() == [[0.0] * 3] * 2
    for init in (nnx.initializers.ones, nnx.initializers.ones_init()):
        assert init(KEY, (2,), jnp.bfloat16).tolist() == [1.0] * 2


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("lecun_normal", 1 / 400),
        ("he_uniform", 2 / 400),
        ("glorot_normal", 2 / 700),
        ("xavier_uniform", 2 / 700),
    ],
)
def test_scaled_initializers_have_the_variance_of_their_papers(name: str, variance: float) -> None:
    values = getattr(nnx.initializers, name)()(KEY, (400, 300), jnp.float32)
    assert float(values.var()) == pytest.approx(variance, rel=0.02)
    assert float(values.mean()) == pytest.approx(0.0, abs=variance**0.5 / 50)


def test_all_that_is_promised_is_there() -> None:
    for name in nnx.initializers.__all__:
        assert callable(getattr(nnx.initializers, name)), name


def test_every_initializer_of_jax_is_here() -> None:
    names = {name for name, value in vars(jax.nn.initializers).items() if name[0] != "_" and callable(value)}
    assert "orthogonal" in names
    for name in names:
        assert getattr(nnx.initializers, name) is getattr(jax.nn.initializers, name)
