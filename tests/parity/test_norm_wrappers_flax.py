"""Instance, weight and spectral normalisation against flax.nnx, the state after each call included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.nn.initializers import constant

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, make_both

# Flax casts statistics and weights by storing them, of which jax warns.
pytestmark = pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")

BF16, F32 = jnp.bfloat16, jnp.float32
NORMAL = jax.nn.initializers.normal()
MASK = np.arange(2 * 5 * 3).reshape(2, 5, 3) % 4 > 0


def _inputs(*shape: int, dtype: Any = F32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32), dtype)


def _loss(layer: Any, x: jax.Array) -> jax.Array:
    y = layer(x).astype(F32)
    return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum()


def _linear(lib: Any, rngs: Any, **options: Any) -> Any:
    return lib.Linear(3, 4, **options, rngs=rngs)


def _network(lib: Any, rngs: Any) -> Any:
    return lib.Sequential(lib.Linear(3, 4, rngs=rngs), lib.relu, lib.BatchNorm(4, rngs=rngs))


def _tied(lib: Any, rngs: Any) -> Any:
    layer = lib.Linear(3, 3, rngs=rngs)
    return lib.Sequential(layer, lib.relu, layer)


def _wrap(
    lib: Any, wrapper: str, make: Any, options: dict[str, Any], layer_options: dict[str, Any] | None = None
) -> Any:
    rngs = lib.Rngs(7)
    layer = make(lib, rngs, **(layer_options or {}))
    given = {k: v(lib) if callable(v) and k == "variable_filter" else v for k, v in options.items()}
    model = lib.Dict(wrapped=getattr(lib, wrapper)(layer, **given, rngs=rngs))
    model.after = lib.Linear(2, 2, rngs=rngs)  # shows which keys were drawn
    return model


def _conv(lib: Any, rngs: Any) -> Any:
    return lib.Conv(3, 4, (2, 3), rngs=rngs)


INSTANCE = [
    ((2, 5, 3), {}, {}, F32),
    ((2, 4, 5, 3), {"epsilon": 1e-3, "use_fast_variance": False}, {}, F32),
    ((2, 5, 3), {"use_scale": False, "bias_metadata": {"role": "b"}}, {}, F32),
    ((2, 5, 3), {"use_bias": False, "scale_metadata": {"role": "s"}}, {"mask": MASK}, F32),
    ((2, 3, 5), {"feature_axes": 1, "scale_init": NORMAL, "bias_init": NORMAL}, {}, F32),
    ((2, 5, 3), {"dtype": BF16}, {}, F32),
    ((2, 5, 3), {"param_dtype": BF16, "scale_init": NORMAL}, {}, BF16),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("shape", "options", "call", "dtype"), INSTANCE)
def test_instance_norm_is_that_of_flax(shape: Any, options: Any, call: Any, dtype: Any) -> None:
    ours, theirs = make_both(lambda lib: lib.InstanceNorm(3, **options, rngs=lib.Rngs(7)))
    assert_same_state(ours, theirs)
    x = _inputs(*shape, dtype=dtype)
    assert_same(ours(x, **call), theirs(x, **call))
    grads, flax_grads = (
        lib.grad(lambda layer, x: _loss(lambda x: layer(x, **call), x), argnums=(0, 1))(layer, x)
        for lib, layer in ((nnx, ours), (flax_nnx, theirs))
    )
    assert_same_state(grads[0], flax_grads[0])
    assert_same(grads[1], flax_grads[1])


@pytest.mark.parametrize(("shape", "options", "call", "dtype"), INSTANCE[::3])
def test_jitted_instance_norm_is_that_of_flax(shape: Any, options: Any, call: Any, dtype: Any) -> None:
    ours, theirs = make_both(lambda lib: lib.InstanceNorm(3, **options, rngs=lib.Rngs(7)))
    x = _inputs(*shape, dtype=dtype)
    call_one: Any = lambda layer, x: layer(x, **call)  # noqa: E731
    assert_same(nnx.jit(call_one)(ours, x), flax_nnx.jit(call_one)(theirs, x))


WRAPPED = [
    ("WeightNorm", _linear, {}, {}),
    ("WeightNorm", _linear, {"use_scale": False, "feature_axes": None}, {}),
    ("WeightNorm", _linear, {"feature_axes": 0, "epsilon": 1e-3, "scale_init": constant(10.0)}, {}),
    ("WeightNorm", _linear, {"feature_axes": (0, 1)}, {"use_bias": False}),
    ("WeightNorm", _linear, {"feature_axes": None, "dtype": BF16}, {}),
    ("WeightNorm", _linear, {"variable_filter": lambda lib: lib.Param}, {}),
    ("WeightNorm", _linear, {"param_dtype": BF16}, {"param_dtype": BF16}),
    ("WeightNorm", _linear, {"use_scale": False}, {"param_dtype": BF16, "dtype": BF16}),
    ("WeightNorm", _conv, {}, {}),
    ("WeightNorm", _conv, {"feature_axes": (-1, 2)}, {}),
    ("WeightNorm", _network, {}, {}),
    ("WeightNorm", _tied, {}, {}),
    ("SpectralNorm", _linear, {}, {}),
    ("SpectralNorm", _linear, {"n_steps": 5, "epsilon": 1e-3}, {}),
    ("SpectralNorm", _linear, {"n_steps": 0}, {}),
    ("SpectralNorm", _linear, {"update_stats": False}, {}),
    ("SpectralNorm", _linear, {"dtype": BF16}, {}),
    ("SpectralNorm", _linear, {"param_dtype": BF16}, {"param_dtype": BF16}),
    ("SpectralNorm", _linear, {"param_dtype": BF16}, {}),
    ("SpectralNorm", _conv, {}, {}),
    ("SpectralNorm", _network, {"n_steps": 2}, {}),
    ("SpectralNorm", _tied, {}, {}),
]  # fmt: skip


def _shape(make: Any) -> tuple[int, ...]:
    return (2, 4, 5, 3) if make is _conv else (5, 3)


@pytest.mark.parametrize(("wrapper", "make", "options", "layer_options"), WRAPPED)
def test_wrapped_layers_their_outputs_and_the_state_after_calls_are_those_of_flax(
    wrapper: str, make: Any, options: Any, layer_options: Any
) -> None:
    ours, theirs = make_both(lambda lib: _wrap(lib, wrapper, make, options, layer_options))
    assert_same_state(ours, theirs)
    x = _inputs(*_shape(make))
    for _ in range(2):  # the second call normalises what the first one left
        assert_same(ours.wrapped(x), theirs.wrapped(x))
        assert_same_state(ours, theirs)
    for model in (ours, theirs):
        model.eval()
    assert_same(ours.wrapped(x), theirs.wrapped(x))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize(("wrapper", "make", "options", "layer_options"), WRAPPED[::3])
def test_gradients_reach_the_weights_before_the_call_as_in_flax(
    wrapper: str, make: Any, options: Any, layer_options: Any
) -> None:
    ours, theirs = make_both(lambda lib: _wrap(lib, wrapper, make, options, layer_options))
    x = _inputs(*_shape(make))
    loss, grads = nnx.value_and_grad(lambda model, x: _loss(model.wrapped, x))(ours, x)
    flax_loss, flax_grads = flax_nnx.value_and_grad(lambda model, x: _loss(model.wrapped, x))(theirs, x)
    assert_same(loss, flax_loss)
    assert_same_state(grads, flax_grads)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("index", [0, 6, 8, 12, 17, 19])
def test_jitted_calls_of_wrapped_layers_agree_with_flax(index: int) -> None:
    wrapper, make, options, layer_options = WRAPPED[index]
    ours, theirs = make_both(lambda lib: _wrap(lib, wrapper, make, options, layer_options))
    x = _inputs(*_shape(make))
    for _ in range(2):
        y = nnx.jit(lambda model, x: model.wrapped(x))(ours, x)
        flax_y = flax_nnx.jit(lambda model, x: model.wrapped(x))(theirs, x)
        assert_same(y, flax_y)
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("wrapper", ["WeightNorm", "SpectralNorm"])
def test_training_a_wrapped_layer_takes_the_steps_that_it_takes_in_flax(wrapper: str) -> None:
    import optax

    def train(lib: Any) -> Any:
        model = _wrap(lib, wrapper, _linear, {})
        optimizer = lib.Optimizer(model, optax.adam(0.1), wrt=lib.Param)

        @lib.jit
        def step(model: Any, optimizer: Any, x: jax.Array) -> jax.Array:
            loss, grads = lib.value_and_grad(lambda model: _loss(model.wrapped, x) ** 2)(model)
            optimizer.update(model, grads)
            return loss

        return [step(model, optimizer, _inputs(5, 3)) for _ in range(3)], model

    (losses, ours), (flax_losses, theirs) = make_both(train)
    for loss, flax_loss in zip(losses, flax_losses, strict=True):
        assert_same(loss, flax_loss)
    assert_same_state(ours, theirs)


def test_the_call_decides_whether_statistics_are_updated_as_in_flax() -> None:
    ours, theirs = make_both(lambda lib: _wrap(lib, "SpectralNorm", _linear, {"update_stats": False}))
    x = _inputs(5, 3)
    for update in (True, False):
        assert_same(ours.wrapped(x, update_stats=update), theirs.wrapped(x, update_stats=update))
        assert_same_state(ours, theirs)


def test_arguments_are_passed_on_to_the_wrapped_layer_as_in_flax() -> None:
    ours, theirs = make_both(
        lambda lib: lib.WeightNorm(
            lib.BatchNorm(3, rngs=lib.Rngs(0)), variable_filter=lib.PathContains("scale"), rngs=lib.Rngs(1)
        )
    )
    x = _inputs(5, 3)
    assert_same(ours(x, True), theirs(x, True))
    assert_same(ours(x, use_running_average=False), theirs(x, use_running_average=False))
    assert_same_state(ours, theirs)
