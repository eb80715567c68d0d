import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class TrainState(nnx.TrainState):
    stats: nnx.State
    name: str = nnx.static(default="run")


def make_state():
    graphdef, params, stats = nnx.split(Model(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    return TrainState.create(graphdef, params=params, tx=optax.adam(0.1), stats=stats)


def test_a_compiled_step_takes_and_returns_the_state():
    x = jnp.arange(8.0).reshape(4, 2)

    @jax.jit
    def step(state):
        def loss(params):
            out, (_, after) = state.apply(params, "stats")(x)
            return ((out - 1) ** 2).mean(), after.filter(nnx.BatchStat)

        grads, stats = jax.grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads, stats=stats)

    first = make_state()
    state = step(step(first))
    assert int(state.step) == 2
    assert int(first.step) == 0
    assert state.stats.norm.mean.value.any()
    assert not np.array_equal(state.params.linear.kernel.value, first.params.linear.kernel.value)
    model = nnx.merge(state.graphdef, state.params, state.stats)
    assert model(x).shape == (4, 3)


def test_a_state_is_an_immutable_pytree_with_static_fields():
    state = make_state()
    leaves, treedef = jax.tree.flatten(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = treedef.unflatten(leaves)
    assert (again.name, again.tx) == ("run", state.tx)
    assert state.replace(name="other").name == "other"
    with pytest.raises(AttributeError, match="cannot assign to field"):
        state.step = 3  # type: ignore[misc]


def test_only_states_can_be_applied_by_name():
    with pytest.raises(TypeError, match="apply got 'step', which is a ArrayImpl in this TrainState"):
        make_state().apply("params", "step")
