from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = np.linspace(-5.0, 5.0, 41, dtype=np.float32)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "swish": lambda x: x * _sigmoid(x),
    "log_sigmoid": lambda x: np.log(_sigmoid(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "identity": lambda x: x,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum()),
    "logsumexp": lambda x: np.log(np.exp(x).sum()),
    "standardize": lambda x: (x - x.mean()) / x.std(),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_follow_their_formulas(name: str) -> None:
    np.testing.assert_allclose(getattr(nnx, name)(X), FORMULAS[name](X.astype(float)), rtol=1e-4, atol=1e-5)


def test_glu_gates_one_half_by_the_other() -> None:
    np.testing.assert_allclose(nnx.glu(X[:40]), X[:20] * _sigmoid(X[20:40]), rtol=1e-5)


def test_one_hot_has_a_one_at_each_index() -> None:
    np.testing.assert_array_equal(nnx.one_hot(jnp.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_prelu_learns_its_slope() -> None:
    layer = nnx.PReLU(0.25, negative_slope_metadata={"role": "slope"})
    x = jnp.array([-2.0, -1.0, 3.0])
    assert layer(x).tolist() == [-0.5, -0.25, 3.0]
    grads = nnx.grad(lambda layer: layer(x).sum())(layer)
    assert float(grads.negative_slope[...]) == -3.0
    assert layer.negative_slope.role == "slope"


def test_prelu_keeps_the_dtype_of_its_input_unless_told() -> None:
    x = jnp.ones(3, jnp.bfloat16)
    assert nnx.PReLU()(x).dtype == jnp.bfloat16
    assert nnx.PReLU(dtype=jnp.float32)(x).dtype == jnp.float32
    assert nnx.PReLU(param_dtype=jnp.bfloat16).negative_slope.dtype == jnp.bfloat16
    assert jax.eval_shape(nnx.PReLU(), x).shape == (3,)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_prelu_of_integers_would_have_no_slope(dtype: str) -> None:
    x = jnp.array([-2, 3]).astype(dtype)
    model = nnx.Dict(act=nnx.PReLU())
    with pytest.raises(TypeError, match=rf"PReLU 'act': got inputs of dtype {dtype}, expected floating ones"):
        model.act(x)
    assert nnx.PReLU(0.5, dtype=jnp.float32)(jnp.array([-2, 3])).tolist() == [-1.0, 3.0]


def test_every_function_of_jax_nn_but_those_of_products_is_here() -> None:
    products = {
        "dot_product_attention",
        "get_scaled_dot_general_config",
        "scaled_dot_general",
        "scaled_matmul",
    }
    names = {name for name, value in vars(jax.nn).items() if name[0] != "_" and callable(value)} - products
    assert "mish" in names
    for name in names:
        assert getattr(nnx, name) is getattr(jax.nn, name)
