"""Other libraries see the products of a model, though layers keep what they traced of them."""

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from easyflax import nnx
from easyflax.nnx.layers.inlining import is_replaced


@contextlib.contextmanager
def seen_calls(function: types.FunctionType) -> Iterator[list[tuple[Any, ...]]]:
    """Gives `function` a body that notes its arguments, as qwix does."""
    plain = types.FunctionType(function.__code__, function.__globals__)
    plain.__kwdefaults__ = function.__kwdefaults__
    plain.__defaults__ = function.__defaults__
    calls: list[tuple[Any, ...]] = []

    def noting(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return plain(*args, **kwargs)

    globals_of_jax, code = function.__globals__, function.__code__
    globals_of_jax["_noting_for_test"] = noting
    function.__code__ = eval("lambda *args, **kwargs: _noting_for_test(*args, **kwargs)").__code__
    try:
        yield calls
    finally:
        function.__code__ = code
        del globals_of_jax["_noting_for_test"]


def dense() -> nnx.Module:
    return nnx.Linear(4, 4, rngs=nnx.Rngs(0))


def general() -> nnx.Module:
    return nnx.LinearGeneral(4, 4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("make", [dense, general])
def test_who_replaces_dot_general_sees_each_product_with_the_parameter_itself(make: Any) -> None:
    layers = [make(), make()]
    x = jnp.ones((2, 4))
    before = [layer(x) for layer in layers]  # what is traced now must not hide the products below
    with seen_calls(lax.dot_general) as calls:
        assert is_replaced(lax.dot_general)
        during = [layer(x) for layer in layers]
    assert [id(call[1]) for call in calls] == [id(layer.kernel.get_value()) for layer in layers]
    assert not is_replaced(lax.dot_general)
    after = [layer(x) for layer in layers]
    for a, b, c in zip(before, during, after, strict=True):
        assert (a == b).all()
        assert (a == c).all()


def test_who_replaces_einsum_sees_those_of_einsum_layers_and_of_attention() -> None:
    layer = nnx.Einsum("ab,bc->ac", (4, 4), rngs=nnx.Rngs(0))
    x, heads = jnp.ones((2, 4)), jnp.ones((1, 3, 2, 4))
    layer(x)
    nnx.dot_product_attention(heads, heads, heads, dropout_rate=0.5, dropout_rng=jax.random.key(0))
    with seen_calls(jnp.einsum) as calls:
        layer(x)
        nnx.dot_product_attention(heads, heads, heads, dropout_rate=0.5, dropout_rng=jax.random.key(0))
    assert calls[0][0] == "ab,bc->ac"
    assert calls[0][2] is layer.kernel.get_value()
    assert calls[1][1].shape == heads.shape
