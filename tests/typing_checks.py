"""What editors and type checkers know of programs: `nox -s lint` runs pyright on this file, and nobody runs
it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
from typing import Any, assert_type

import jax
import jax.numpy as jnp

from easyflax import nnx
from easyflax.nnx.core.rng_splits import RngBackups


class Model(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(width))
        self.rngs = rngs

    @nnx.jit
    def step(self, x: jax.Array) -> float:
        return float(x.sum())

    @nnx.jit(static_argnames="deep")
    def other(self, x: jax.Array, deep: bool = False) -> str:
        return str(x + deep)

    @nnx.remat
    def block(self, x: jax.Array) -> jax.Array:
        return x * self.scale

    @nnx.split_rngs(splits=2)
    @nnx.vmap(in_axes=(None, 0))
    def mapped(self, x: jax.Array) -> jax.Array:
        return x * self.scale


@nnx.jit
def compiled(model: Model, x: jax.Array, *, train: bool = True) -> float:
    return model.step(x) + train


@functools.partial(nnx.jit, static_argnames="train")
def partly(model: Model, x: jax.Array, *, train: bool = True) -> float:
    return model.step(x) + train


@nnx.value_and_grad(has_aux=True)
def loss(model: Model, x: jax.Array) -> tuple[jax.Array, int]:
    return (x * model.scale).sum(), 1


@nnx.custom_vjp(nondiff_argnums=(1,))
def custom(model: Model, power: int) -> jax.Array:
    return model.scale[...] ** power


@nnx.custom_jvp
def other_custom(x: jax.Array) -> jax.Array:
    return x


@nnx.scan(in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=3)
def repeated(carry: jax.Array, model: Model) -> jax.Array:
    return carry * model.scale


def calls(model: Model, x: jax.Array) -> None:
    assert_type(compiled(model, x, train=False), float)
    compiled.lower(model, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert_type(partly(model, x), float)
    assert_type(model.step(x), float)
    assert_type(model.other(x, deep=True), str)
    assert_type(nnx.jit(model.step)(x), float)
    assert_type(nnx.jit_partial(loss, model)(x), tuple[tuple[jax.Array, int], Any])
    assert_type(model.block(x), jax.Array)
    assert_type(model.mapped(x), jax.Array)
    assert_type(nnx.vmap(Model, in_axes=(None, 0))(3, rngs=nnx.Rngs(0)), Model)
    assert_type(nnx.pmap(compiled, in_axes=(None, 0))(model, x), float)
    assert_type(nnx.shard_map(model.block, in_specs=None, out_specs=None)(x), jax.Array)
    assert_type(repeated(x, model), jax.Array)
    compiled(model, 1)  # pyright: ignore[reportArgumentType]
    model.step()  # pyright: ignore[reportCallIssue]
    model.block(x, x)  # pyright: ignore[reportCallIssue]
    nnx.vmap(model.block, in_axis=0)  # pyright: ignore[reportCallIssue]
    nnx.jit(model.block, static_argnum=0)  # pyright: ignore[reportCallIssue]
    nnx.jit(fun=model.block)


def derivatives(model: Model, x: jax.Array) -> None:
    assert_type(loss(model, x), tuple[tuple[jax.Array, int], Any])
    assert_type(nnx.grad(model.block)(x), Any)
    nnx.grad(model.block)(model)  # pyright: ignore[reportArgumentType]
    assert_type(nnx.vjp(model.block, x)[0], jax.Array)
    assert_type(nnx.jvp(model.block, (x,), (x,))[0], jax.Array)
    assert_type(custom(model, 2), jax.Array)
    assert_type(other_custom(x), jax.Array)


def control_flow(model: Model, x: jax.Array) -> None:
    assert_type(nnx.cond(x.sum() > 0, model.block, model.block, x), jax.Array)
    assert_type(nnx.switch(0, [model.block, model.mapped], x), jax.Array)
    assert_type(nnx.while_loop(lambda y: y.sum() < 5, model.block, x), jax.Array)
    assert_type(nnx.fori_loop(0, 3, lambda _, y: model.block(y), x), jax.Array)


def other_transforms(model: Model, x: jax.Array) -> None:
    assert_type(nnx.eval_shape(lambda: Model(3, rngs=nnx.Rngs(0))), Model)
    assert_type(nnx.checkify(model.block)(x)[1], jax.Array)
    nnx.make_jaxpr(model.block)(x)


def random_streams(model: Model) -> None:
    assert_type(nnx.split_rngs(model, splits=2), RngBackups)
    assert_type(nnx.fork_rngs(model), RngBackups)
    assert_type(nnx.with_rngs(model, split=3), Model)
    model.rngs.params.normal((2,))
    model.rngs.normal((2,))


def variables(param: nnx.Param[jax.Array], tree: nnx.Variable[dict[str, int]]) -> None:
    assert_type(nnx.Param(jnp.ones(3)), nnx.Param[jax.Array])
    assert_type(param.value, jax.Array)
    assert_type(param.get_value(), jax.Array)
    assert_type(param[...], jax.Array)
    assert_type(param[0, 1:], jax.Array)
    assert_type(tree[...], dict[str, int])
    param[...] += 1
    param.value = -param @ param + 2 * param


def graphs(model: Model) -> None:
    assert_type(nnx.state(model), nnx.State)
    assert_type(nnx.state(model, nnx.Param), nnx.State)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    assert_type((graphdef, params, rest), tuple[nnx.GraphDef[Model], nnx.State, nnx.State])
    assert_type(nnx.merge(graphdef, params, rest), Model)
    assert_type(nnx.merge(*nnx.split(model)), Model)
    assert_type(nnx.clone(model), Model)
    assert_type(nnx.pop(model, nnx.Intermediate), nnx.State)
