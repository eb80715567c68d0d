"""Whole programs of the kinds that people write, on both libraries: outputs and final states agree."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.parity.flax_oracle import assert_same_tree, make_both


def make_net(lib: Any, din: int, dout: int, seed: int) -> Any:
    class Net(lib.Module):
        def __init__(self, rngs: Any):
            self.inner = lib.Linear(din, 8, rngs=rngs)
            self.norm = lib.BatchNorm(8, rngs=rngs)
            self.drop = lib.Dropout(0.2, rngs=rngs)
            self.outer = lib.Linear(8, dout, rngs=rngs)
            self.calls = lib.Variable(jnp.array(0))

        def __call__(self, x: Any) -> Any:
            self.calls[...] += 1
            return self.outer(self.drop(lib.relu(self.norm(self.inner(x)))))

    return Net(lib.Rngs(seed))


def values(lib: Any, *modules: Any) -> list[Any]:
    """All arrays of some modules; keys as their data."""
    leaves = jax.tree.leaves([lib.state(module) for module in modules])
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)]


def noise(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(42), shape)


class Agent(NamedTuple):
    critic: Any
    target: Any
    optimizer: Any
    step: Any


def actor_and_target_in_loops_with_conditions(lib: Any) -> Any:
    critic, target = make_net(lib, 3, 1, 1), make_net(lib, 3, 1, 2)
    agent = Agent(critic, target, lib.Optimizer(critic, optax.adam(1e-2), wrt=lib.Param), jnp.array(0))

    def learn(agent: Agent, x: Any) -> Any:
        loss, grads = lib.value_and_grad(lambda m: jnp.mean(m(x) ** 2))(agent.critic)
        agent.optimizer.update(agent.critic, grads)
        return agent, loss

    def follow(agent: Agent) -> None:
        def mix(new: Any, old: Any) -> Any:
            return 0.1 * new + 0.9 * old

        states = lib.state(agent.critic, lib.Param), lib.state(agent.target, lib.Param)
        lib.update(agent.target, jax.tree.map(mix, *states))

    @lib.jit
    def train(agent: Agent, xs: Any) -> Any:
        @lib.scan(in_axes=(lib.Carry, 0), out_axes=(lib.Carry, 0))
        def step(agent: Agent, x: Any) -> Any:
            agent = agent._replace(step=agent.step + 1)
            agent, loss = lib.cond(
                agent.step % 2 == 0, lambda a: learn(a, x), lambda a: (a, jnp.array(0.0)), agent
            )
            lib.cond(agent.step % 3 == 0, follow, lambda _: None, agent)
            return agent, loss

        return step(agent, xs)

    agent, losses = train(agent, noise(6, 4, 3))
    assert agent.critic is critic
    return losses, agent.step, values(lib, agent.critic, agent.target, agent.optimizer)


def minibatches_of_segments_with_metrics(lib: Any) -> Any:
    model = make_net(lib, 3, 2, 9)
    optimizer = lib.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=lib.Param)
    metrics = lib.MultiMetric(loss=lib.metrics.Average("loss"), memory=lib.metrics.Average("memory"))
    gradient = lib.value_and_grad(lambda m, x, memory: (jnp.mean(m(x) ** 2), memory + 1), has_aux=True)

    @lib.jit
    def update(model: Any, optimizer: Any, metrics: Any, batches: Any) -> None:
        @lib.scan(in_axes=(lib.Carry, 0), out_axes=lib.Carry)
        def batch(carry: Any, segments: Any) -> Any:
            @lib.scan(in_axes=(lib.Carry, 0), out_axes=lib.Carry)
            def segment(carry: Any, x: Any) -> Any:
                model, optimizer, metrics, memory = carry
                (loss, memory), grads = gradient(model, x, memory)
                optimizer.update(model, grads)
                metrics.update(loss=loss, memory=memory.sum())
                return model, optimizer, metrics, memory

            return segment((*carry, jnp.zeros(2)), segments)[:3]

        batch((model, optimizer, metrics), batches)

    update(model, optimizer, metrics, noise(2, 3, 4, 3))
    return metrics.compute(), values(lib, model, optimizer)


def blocks_over_layers_with_an_optional_stream(lib: Any) -> Any:
    class Block(lib.Module):
        def __init__(self, rngs: Any):
            self.linear = lib.Linear(4, 4, rngs=rngs)
            self.drop = lib.Dropout(0.5)

        def __call__(self, x: Any, deterministic: bool, rngs: Any) -> Any:
            return self.drop(lib.gelu(self.linear(x)), deterministic=deterministic, rngs=rngs)

    class Stack(lib.Module):
        def __init__(self, rngs: Any):
            self.blocks = lib.split_rngs(splits=3)(lib.vmap(Block))(rngs)

        def __call__(self, x: Any, *, deterministic: bool, rngs: Any = None) -> Any:
            @lib.split_rngs(splits=3)
            @lib.scan(in_axes=(lib.Carry, 0, 0), out_axes=lib.Carry)
            @lib.remat(policy=jax.checkpoint_policies.dots_saveable)
            def forward(carry: Any, block: Any, rngs: Any) -> Any:
                x, rest = carry
                return block(x, deterministic, rngs), None if rest is None else rest + x

            return forward((x, jnp.zeros_like(x)), self.blocks, rngs)

    stack, rngs, x = Stack(lib.Rngs(0)), lib.Rngs(dropout=7), jnp.ones((2, 4))
    grads = lib.grad(lambda m: m(x, deterministic=False, rngs=lib.Rngs(5))[0].sum())(stack)
    outputs = [stack(x, deterministic=True), *(stack(x, deterministic=False, rngs=rngs) for _ in range(2))]
    return outputs, grads, values(lib, rngs)


def an_ensemble_with_an_optimizer_for_each(lib: Any) -> Any:
    @lib.split_rngs(splits=3)
    @lib.vmap
    def make(rngs: Any) -> Any:
        model = lib.Linear(2, 1, rngs=rngs)
        return model, lib.Optimizer(model, optax.adam(0.1), wrt=lib.Param)

    @lib.jit
    @lib.vmap(in_axes=(0, 0, None))
    def train(model: Any, optimizer: Any, x: Any) -> Any:
        loss, grads = lib.value_and_grad(lambda m: jnp.mean(m(x) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    models, optimizers = make(lib.Rngs(0))
    losses = [train(models, optimizers, noise(4, 2)) for _ in range(3)]
    return losses, values(lib, models, optimizers)


def two_players(lib: Any) -> Any:
    maker, judge = make_net(lib, 2, 2, 0), make_net(lib, 2, 1, 1)
    optimizers = [lib.Optimizer(m, optax.adam(1e-2), wrt=lib.Param) for m in (maker, judge)]

    @lib.jit
    def play(maker: Any, judge: Any, optimizers: Any, x: Any, z: Any) -> Any:
        # Both are arguments, since a call changes the running statistics of both.
        loss, grads = lib.value_and_grad(lambda j, m: jnp.mean(lib.softplus(-j(x)) + lib.softplus(j(m(z)))))(
            judge, maker
        )
        optimizers[1].update(judge, grads)
        made, grads = lib.value_and_grad(lambda m, j: jnp.mean(lib.softplus(-j(m(z)))))(maker, judge)
        optimizers[0].update(maker, grads)
        return loss, made

    losses = [play(maker, judge, optimizers, noise(4, 2), jnp.ones((4, 2)) * i) for i in range(3)]
    return losses, values(lib, maker, judge, *optimizers)


def frozen_parts_and_averages(lib: Any) -> Any:
    model = make_net(lib, 3, 2, 3)
    chosen = lib.All(lib.Param, lib.Not(lib.PathContains("inner")))
    optimizer = lib.Optimizer(model, optax.adamw(1e-2), wrt=chosen)

    @lib.jit
    def train(model: Any, optimizer: Any, x: Any) -> Any:
        loss, grads = lib.value_and_grad(lambda m: m(x).sum(), argnums=lib.DiffState(0, chosen))(model)
        optimizer.update(model, grads)
        return loss

    average = jax.tree.map(jnp.copy, lib.state(model, lib.Param))
    losses = []
    for i in range(3):
        losses.append(train(model, optimizer, noise(4, 3) + i))
        average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, average, lib.state(model, lib.Param))
    smooth = lib.clone(model)
    lib.update(smooth, average)
    smooth.eval()
    return losses, smooth(noise(4, 3)), values(lib, model, optimizer)


def sampling_with_a_cache(lib: Any) -> Any:
    class Decoder(lib.Module):
        def __init__(self, rngs: Any):
            self.linear = lib.Linear(3, 3, rngs=rngs)
            self.memory = lib.Cache(jnp.zeros((5, 3)))
            self.index = lib.Variable(jnp.array(0))

        def __call__(self, x: Any) -> Any:
            x = jnp.tanh(self.linear(x)) + self.memory[...].mean(0)
            self.sow(lib.Intermediate, "hidden", x)
            self.memory[...] = jax.lax.dynamic_update_slice(self.memory[...], x[None], (self.index[...], 0))
            self.index[...] += 1
            return x

    decoder = Decoder(lib.Rngs(0))
    graphdef, params, cache, rest = lib.split(decoder, lib.Param, lib.Cache, ...)

    def step(carry: Any) -> Any:
        x, cache, rest, seen, i = carry
        decoder = lib.merge(graphdef, params, cache, rest)
        x = decoder(x)
        seen = seen.at[i].set(lib.pop(decoder, lib.Intermediate)["hidden"].get_value()[0])
        return x, *lib.state(decoder, lib.Cache, lib.Not((lib.Param, lib.Cache))), seen, i + 1

    start = jnp.ones(3), cache, rest, jnp.zeros((5, 3)), 0
    by_hand = jax.lax.while_loop(lambda carry: carry[4] < 4, step, start)

    def lifted(carry: Any) -> Any:
        decoder, x, i = carry
        x = decoder(x)
        lib.pop(decoder, lib.Intermediate)
        return decoder, x, i + 1

    _, x, _ = lib.while_loop(lambda carry: carry[2] < 4, lifted, (decoder, jnp.ones(3), 0))
    return jax.tree.leaves(by_hand), x, values(lib, decoder)


PROGRAMS = [
    actor_and_target_in_loops_with_conditions,
    minibatches_of_segments_with_metrics,
    blocks_over_layers_with_an_optional_stream,
    an_ensemble_with_an_optimizer_for_each,
    two_players,
    frozen_parts_and_averages,
    sampling_with_a_cache,
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")  # flax's
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_whole_program_gives_what_it_gives_on_flax(program):
    assert_same_tree(*make_both(program), rtol=1e-5)
