import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.linear = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(self.norm(x))


def test_unpacked_states_merge_without_a_graphdef():
    block = Block(nnx.Rngs(0))
    whole = nnx.unpack(block)
    assert nnx.merge(whole).linear.kernel is block.linear.kernel
    params, rest = nnx.unpack(block, nnx.Param, ...)
    assert set(params) == {"linear", "norm"}
    assert set(rest) == {"norm"}
    assert nnx.merge(rest, params).norm.mean is block.norm.mean


def test_a_graph_state_reads_and_writes_like_a_state():
    packed = nnx.unpack(Block(nnx.Rngs(0)))
    packed["linear"]["bias"] = jnp.ones(3)
    packed.linear.kernel = jnp.zeros((2, 3))
    new = nnx.merge(packed)
    np.testing.assert_array_equal(new(jnp.ones((1, 2))), [[1, 1, 1]])
    packed.extra = 1
    del packed["extra"]
    assert "extra" not in packed
    assert len(packed) == 2
    assert repr(packed).startswith("GraphState(State({")


def test_a_graph_state_is_a_pytree_with_the_paths_of_the_state():
    block = Block(nnx.Rngs(0))
    packed = nnx.unpack(block)

    def paths(tree):
        return [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]

    assert paths(packed) == paths(nnx.state(block))
    doubled = jax.jit(lambda packed: jax.tree.map(lambda x: 2 * x, packed))(packed)
    assert isinstance(doubled, nnx.GraphState)
    np.testing.assert_array_equal(nnx.merge(doubled).linear.kernel.value, 2 * block.linear.kernel.value)
    again = pickle.loads(pickle.dumps(packed))
    assert nnx.graphdef(nnx.merge(again)) == nnx.graphdef(block)


def test_gradients_of_a_graph_state_update_the_model():
    block, x = Block(nnx.Rngs(0)), jnp.arange(8.0).reshape(4, 2)
    params, rest = nnx.unpack(block, nnx.Param, ...)
    grads = nnx.grad(lambda params, rest: (nnx.merge(params, rest)(x) ** 2).sum())(params, rest)
    assert isinstance(grads, nnx.GraphState)
    assert set(grads) == {"linear", "norm"}
    nnx.update(block, jax.tree.map(lambda p, g: p - g, params, grads))
    np.testing.assert_allclose(block.linear.bias.value, -grads.linear.bias.value, rtol=1e-6)


def test_states_that_do_not_belong_together_are_errors():
    first, second = nnx.unpack(Block(nnx.Rngs(0))), nnx.unpack(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"GraphDef must be the same"):
        nnx.merge(first, second)
    with pytest.raises(ValueError, match=r"got a State besides a GraphState. Expected GraphState objects"):
        nnx.merge(first, nnx.State({}))
    with pytest.raises(ValueError, match="GraphState got a Param, expected a State"):
        nnx.unpack(nnx.Param(1))


def test_merge_says_what_it_needs():
    graphdef, state = nnx.split(Block(nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"merge\(\) missing 1 required positional argument: 'state'"):
        nnx.merge(graphdef)
    with pytest.raises(TypeError, match="merge got a State first, expected a GraphDef"):
        nnx.merge(state, graphdef)
