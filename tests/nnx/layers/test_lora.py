from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx

NORMAL = jax.nn.initializers.normal()


def _mlp() -> nnx.Sequential:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(3, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 4, rngs=rngs))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3)])
def test_it_is_the_product_with_two_small_matrices(shape: Any) -> None:
    layer = nnx.LoRA(3, 2, 4, b_initializer=NORMAL, rngs=nnx.Rngs(0))
    assert (layer.lora_a.shape, layer.lora_b.shape) == ((3, 2), (2, 4))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = x @ np.asarray(layer.lora_a[...]) @ np.asarray(layer.lora_b[...])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-6)


def test_at_first_nothing_is_added_to_the_base_module() -> None:
    model = _mlp()
    x = jax.random.normal(jax.random.key(0), (5, 3))
    y = model(x)
    model.layers[2] = nnx.LoRA(5, 2, 4, base_module=model.layers[2], rngs=nnx.Rngs(1))
    np.testing.assert_array_equal(model(x), y)


def test_arguments_are_handed_on_to_the_base_module() -> None:
    layer = nnx.LoRA(3, 2, 4, base_module=lambda x, *, scale: scale * x[..., :1], rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(jnp.ones((2, 3)), scale=3.0), np.full((2, 4), 3.0))


def test_training_its_parameters_leaves_those_of_the_base_module() -> None:
    model = _mlp()
    model.layers[0] = nnx.LoRA(3, 2, 5, base_module=model.layers[0], rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(0), (5, 3))
    before = nnx.to_pure_dict(nnx.state(model))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.LoRAParam)
    grads = nnx.grad(lambda model: (model(x) ** 2).sum(), argnums=nnx.DiffState(0, nnx.LoRAParam))(model)
    optimizer.update(model, grads)
    after = nnx.to_pure_dict(nnx.state(model))
    assert bool((before["layers"][0]["lora_b"] != after["layers"][0]["lora_b"]).any())
    for state in (before, after):
        del state["layers"][0]["lora_a"], state["layers"][0]["lora_b"]
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("kind", [nnx.Param, nnx.BatchStat, nnx.LoRAParam])
def test_its_variables_are_of_the_kind_it_is_given(kind: Any) -> None:
    layer = nnx.LoRA(3, 2, 4, lora_param_type=kind, rngs=nnx.Rngs(0))
    assert type(layer.lora_a) is type(layer.lora_b) is kind
    linear = nnx.LoRALinear(3, 4, lora_rank=2, lora_param_type=kind, rngs=nnx.Rngs(0))
    assert type(linear.lora.lora_a) is kind
    assert type(linear.kernel) is nnx.Param


def test_the_state_of_a_linear_layer_fits_a_linear_layer_with_an_addition() -> None:
    linear = nnx.Linear(3, 4, bias_init=NORMAL, rngs=nnx.Rngs(0))
    layer = nnx.LoRALinear(3, 4, lora_rank=2, rngs=nnx.Rngs(1))
    nnx.update(layer, nnx.state(linear))
    x = jax.random.normal(jax.random.key(0), (5, 3))
    np.testing.assert_array_equal(layer(x), linear(x))
    layer.lora.lora_b[...] = jnp.ones((2, 4))
    np.testing.assert_allclose(layer(x), linear(x) + layer.lora(x), rtol=1e-6)
    assert isinstance(layer, nnx.Linear)


def test_dtypes_are_those_it_is_given() -> None:
    layer = nnx.LoRA(3, 2, 4, dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=nnx.Rngs(0))
    assert (layer.lora_a.dtype, layer.lora_b.dtype) == (jnp.float16, jnp.float16)
    assert layer(jnp.ones((2, 3))).dtype == jnp.bfloat16
    linear = nnx.LoRALinear(3, 4, lora_rank=2, lora_param_dtype="bfloat16", rngs=nnx.Rngs(0))
    assert (linear.kernel.dtype, linear.lora.lora_a.dtype) == (jnp.float32, jnp.bfloat16)


def test_layers_can_be_made_and_called_by_transforms() -> None:
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key: jax.Array) -> nnx.LoRALinear:
        return nnx.LoRALinear(3, 3, lora_rank=2, b_initializer=NORMAL, rngs=nnx.Rngs(key))

    layers = make(jax.random.split(jax.random.key(0), 2))
    assert layers.lora.lora_a.shape == (2, 3, 2)

    @nnx.jit
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def apply(layer: nnx.LoRALinear, x: jax.Array) -> jax.Array:
        return nnx.remat(lambda layer, x: layer(x))(layer, x)

    expected = x = jnp.ones((2, 3))
    for i in range(2):
        full = layers.kernel[i] + layers.lora.lora_a[i] @ layers.lora.lora_b[i]
        expected = expected @ full + layers.bias[i]
    np.testing.assert_allclose(apply(layers, x), expected, rtol=1e-5)


# -- errors


@pytest.mark.parametrize("rank", [0, -1])
def test_the_rank_is_at_least_one(rank: int) -> None:
    for make in (
        lambda: nnx.LoRA(3, rank, 4, rngs=nnx.Rngs(0)),
        lambda: nnx.LoRALinear(3, 4, lora_rank=rank, rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(ValueError, match=rf"LoRA.*: got lora_rank={rank}, expected a positive integer"):
            make()


def test_a_kind_that_is_no_variable_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"LoRA: got lora_param_type=<class 'int'>, expected a kind of variable"
    ):
        nnx.LoRA(3, 2, 4, lora_param_type=int, rngs=nnx.Rngs(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "shape", "message"),
    [
        (
            None,
            (2, 5),
            r"an input of shape \(2, 5\) with 5 features in its last axis, expected \(\.\.\., 3\)",
        ),
        (
            3.0,
            (2, 3),
            r"a base_module of type float, which cannot be called, expected a module or",
        ),
        (lambda x: x, (2, 3), r"output of shape \(2, 3\) from base_module, expected \(2, 4\)\. Rebuild"),
    ],
)
def test_what_does_not_fit_is_told_with_the_path_of_the_layer(base: Any, shape: Any, message: str) -> None:
    model = nnx.Sequential(nnx.LoRA(3, 2, 4, base_module=base, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"LoRA 'layers\.0': got .*" + message):
        model(jnp.ones(shape))
