from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx
from easyflax.nnx.layers import checks


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))

    def __call__(self, x: Any) -> Any:
        return self.layers(x)


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.blocks = [Block(rngs)]
        self.head = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.blocks[0](x))


def test_an_error_names_the_layer_by_its_path_in_the_model_that_was_called() -> None:
    with pytest.raises(
        ValueError, match=r"^Linear 'blocks\.0\.layers\.layers\.2': got an input of shape \(5, 3\)"
    ):
        Model(nnx.Rngs(0))(jnp.ones((5, 2)))


def test_an_error_names_the_layer_by_its_path_in_a_function_of_the_model_too() -> None:
    def loss_fn(model: Model, x: Any) -> Any:
        return model.head(x).sum()

    with pytest.raises(ValueError, match=r"^Linear 'head': got"):
        nnx.jit(nnx.grad(loss_fn))(Model(nnx.Rngs(0)), jnp.ones((5, 3)))


def test_an_error_of_a_layer_called_by_itself_names_its_type() -> None:
    with pytest.raises(ValueError, match=r"^Linear: got"):
        nnx.Linear(2, 3, rngs=nnx.Rngs(0))(jnp.ones((5, 3)))


@pytest.mark.parametrize(
    "call",
    [
        nnx.jit(lambda layers, x: layers[0](x)),
        nnx.vmap(lambda layers, x: layers[0](x), in_axes=(None, 0)),
        lambda layers, x: nnx.eval_shape(lambda layers, x: layers[0](x), layers, x),
    ],
    ids=["jit", "vmap", "eval_shape"],
)
def test_wrong_sizes_are_found_while_tracing(call: Any) -> None:
    layers = nnx.List([nnx.Linear(2, 3, rngs=nnx.Rngs(0))])
    with pytest.raises(
        ValueError, match=r"Linear '0': got an input of shape \(.*3\) with 3 features .* \(\.\.\., 2\)"
    ):
        call(layers, jnp.ones((4, 5, 3)))


def test_a_missing_axis_is_told_with_the_shape_and_the_layout() -> None:
    layer = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError,
        match=r"got an input of shape \(5, 5\), expected at least 3 axes, \(\.\.\., size, size, 1\)",
    ):
        layer(np.ones((5, 5)))


@pytest.mark.parametrize("size", [0, -3])
def test_sizes_must_be_positive(size: int) -> None:
    with pytest.raises(ValueError, match=f"Linear: got out_features={size}, expected a positive integer"):
        nnx.Linear(2, size, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("size", [2.0, "3", None, (2,)])
def test_sizes_must_be_integers(size: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Linear: got in_features=.* of type .*, expected a positive integer"
    ):
        nnx.Linear(size, 2, rngs=nnx.Rngs(0))


def test_sizes_may_be_numpy_integers() -> None:
    assert nnx.Linear(np.int64(2), np.int32(3), rngs=nnx.Rngs(0)).kernel.shape == (2, 3)


@pytest.mark.parametrize(
    "rngs", [0, jax.random.key(0), np.zeros(2, np.uint32)], ids=["seed", "key", "raw key"]
)
def test_a_bare_seed_or_key_is_not_taken_for_rngs(rngs: Any) -> None:
    for make in (
        lambda: nnx.Linear(2, 3, rngs=rngs),
        lambda: nnx.Conv(2, 3, 3, rngs=rngs),
        lambda: nnx.Embed(2, 3, rngs=rngs),
        lambda: nnx.BatchNorm(2, rngs=rngs),
        lambda: nnx.LayerNorm(2, rngs=rngs),
    ):
        with pytest.raises(
            TypeError, match=r"got rngs of type .*, expected nnx\.Rngs\. Wrap the seed or key"
        ):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: nnx.Linear(2, 3, rngs=rngs),
        lambda rngs: nnx.LinearGeneral(2, 3, rngs=rngs),
        lambda rngs: nnx.Einsum("ab,bc->ac", (2, 3), rngs=rngs),
        lambda rngs: nnx.Conv(2, 3, 3, rngs=rngs),
        lambda rngs: nnx.ConvTranspose(2, 3, 3, rngs=rngs),
        lambda rngs: nnx.Embed(2, 3, rngs=rngs),
        lambda rngs: nnx.LoRA(2, 1, 3, rngs=rngs),
    ],
    ids=["Linear", "LinearGeneral", "Einsum", "Conv", "ConvTranspose", "Embed", "LoRA"],
)
def test_missing_random_streams_are_told_with_the_layer(make: Any) -> None:
    name = type(make(nnx.Rngs(params=0))).__name__
    for rngs in (None, nnx.Rngs(0).default):
        with pytest.raises(TypeError, match=rf"^{name}: got rngs of type \w+, expected nnx\.Rngs\. Wrap"):
            make(rngs)
    with pytest.raises(AttributeError, match=rf"^{name}: .*'params'.*\['dropout'\]"):
        make(nnx.Rngs(dropout=0))


def test_masks_must_broadcast_to_the_input() -> None:
    layer = nnx.LayerNorm(3, rngs=nnx.Rngs(0))
    checks.check_mask(layer, np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(
        ValueError, match=r"LayerNorm: got a mask of shape \(2,\) for an input of shape \(2, 3\)"
    ):
        checks.check_mask(layer, np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match=r"got a mask of shape \(4, 2, 3\)"):
        checks.check_mask(layer, np.ones((2, 3)), np.ones((4, 2, 3)))


def test_a_layer_without_rngs_is_refused_unless_it_draws_nothing() -> None:
    with pytest.raises(TypeError, match=r"LayerNorm: got rngs of type NoneType, expected nnx\.Rngs\."):
        nnx.LayerNorm(3, rngs=None)  # type: ignore[arg-type]
    layer = nnx.LayerNorm(3, use_scale=False, use_bias=False, rngs=None)  # type: ignore[arg-type]
    assert layer(jnp.ones((2, 3))).shape == (2, 3)
