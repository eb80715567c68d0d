"""Options that layers share, against flax.nnx: promotion by a function, statistics over groups of devices,
where the keys of dropout come from, and modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx as flax_nnx
from jax.sharding import Mesh, PartitionSpec

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, assert_same_tree, make_both

LAYERS: list[tuple[str, tuple[Any, ...]]] = [
    ("Linear", (3, 4)),
    ("LinearGeneral", (3, 4)),
    ("Einsum", ("ab,bc->ac", (3, 4))),
    ("Conv", (3, 4, 2)),
    ("ConvTranspose", (3, 4, 2)),
    ("BatchNorm", (3,)),
    ("LayerNorm", (3,)),
    ("RMSNorm", (3,)),
    ("InstanceNorm", (3,)),
    ("GroupNorm", (3, 1)),
]


def _recording(lib: Any, calls: list[Any]) -> Callable[..., Any]:
    def promote(args: Any, /, *, dtype: Any = None, **options: Any) -> Any:
        calls.append(([None if x is None else (x.shape, x.dtype) for x in args], dtype, options))
        promoted = lib.nn.dtypes.promote_dtype(args, dtype=dtype, **options)
        return tuple(None if x is None else 2 * x for x in promoted)

    return promote


@pytest.mark.parametrize(("name", "args"), LAYERS)
def test_a_function_given_for_promotion_gets_what_it_gets_in_flax(name: str, args: Any) -> None:
    calls: tuple[list[Any], list[Any]] = ([], [])
    shape = (2, 3) if name == "Einsum" else (2, 5, 3)
    x = jnp.arange(1.0, 31.0)[: 2 * 3 if name == "Einsum" else 30].reshape(shape)
    outputs = []
    for lib, seen in zip((nnx, flax_nnx), calls, strict=True):
        options = {"promote_dtype": _recording(lib, seen), "dtype": jnp.float32, "rngs": lib.Rngs(0)}
        outputs.append(getattr(lib, name)(*args, **options)(x))
    assert calls[0] == calls[1]
    assert_same(*outputs)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("options", [{}, {"use_fast_variance": False}])
@pytest.mark.parametrize(
    ("name", "args"), [("BatchNorm", (3,)), ("GroupNorm", (3, 1)), ("InstanceNorm", (3,))]
)
def test_statistics_over_groups_of_devices_are_those_of_flax(name: str, args: Any, options: Any) -> None:
    mesh = Mesh(jax.devices()[:4], ("batch",))
    x = jax.random.normal(jax.random.key(0), (4, 2, 5, 3))

    def run(lib: Any) -> Any:
        layer = getattr(lib, name)(
            *args, axis_name="batch", axis_index_groups=[[0, 1], [2, 3]], **options, rngs=lib.Rngs(0)
        )
        graphdef, state = lib.split(layer)

        def call(x: jax.Array) -> jax.Array:
            return lib.merge(graphdef, state, copy=True)(x[0])[None]

        spec = PartitionSpec("batch")
        mapped = jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        return jax.jit(mapped)(x)

    ours, theirs = make_both(run)
    assert_same(ours, theirs)
    assert not jnp.allclose(ours[0], ours[2])


SOURCES: dict[str, Callable[[Any], Any]] = {
    "rngs": lambda lib: lib.Rngs(0, dropout=3),
    "rngs with a default": lambda lib: lib.Rngs(5),
    "stream": lambda lib: lib.Rngs(0, dropout=3).dropout,
    "stream of another name": lambda lib: lib.Rngs(0, noise=3).noise,
}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_keys_of_dropout_come_from_where_they_come_from_in_flax(source: str) -> None:
    x = jnp.ones((4, 5))

    def run(lib: Any) -> Any:
        given = SOURCES[source](lib)
        layer = lib.Dropout(0.5, rngs=given)
        called = lib.Dropout(0.5)
        return [layer(x), layer(x), called(x, rngs=given), called(x, rngs=given), layer(x, rngs=given)], layer

    (ours, layer), (theirs, flax_layer) = make_both(run)
    assert_same_tree(ours, theirs)
    assert_same_state(layer, flax_layer)


def test_a_key_of_a_call_is_used_as_it_is_as_in_flax() -> None:
    x = jnp.ones((4, 5))
    for key in (jax.random.key(1), jax.random.PRNGKey(1)):
        assert_same(*make_both(lambda lib, key=key: lib.Dropout(0.5, broadcast_dims=(0,))(x, rngs=key)))


def test_modes_reach_all_layers_as_in_flax() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 3))

    def run(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        model = lib.Sequential(
            lib.BatchNorm(3, rngs=rngs),
            lib.Dropout(0.5, rngs=rngs),
            lib.SpectralNorm(lib.Linear(3, 3, rngs=rngs), rngs=rngs),
        )
        testing = lib.view(model, deterministic=True, use_running_average=True)
        outputs = [model(x), testing(x), model(x)]
        model.eval()
        outputs.append(model(x))
        model.train()
        return [*outputs, model(x)], model

    (ours, model), (theirs, flax_model) = make_both(run)
    assert_same_tree(ours, theirs)
    assert_same_state(model, flax_model)
