"""Whole programs in the style of the first pages of a tutorial, in the older spellings of flax.nnx."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from easyflax import nnx


class Affine(nnx.Module):
    """A layer written from scratch."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.matrix = nnx.Param(rngs.params.normal((inputs, outputs)))
        self.shift = nnx.Param(jnp.full((outputs,), 0.5))
        self.inputs, self.outputs = inputs, outputs

    def __call__(self, x):
        return x @ self.matrix + self.shift


class Calls(nnx.Variable):
    """A kind of variable of one's own."""


class Counting(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.affine = Affine(3, 2, rngs=rngs)
        self.calls = Calls(jnp.array(0, jnp.uint32))

    def __call__(self, x):
        self.calls += 1
        return self.affine(x)


class Network(nnx.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, *, rngs: nnx.Rngs):
        self.into = Affine(inputs, hidden, rngs=rngs)
        self.norm = nnx.BatchNorm(hidden, rngs=rngs)
        self.drop = nnx.Dropout(rate=0.25, rngs=rngs)
        self.out = Affine(hidden, outputs, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.gelu(self.drop(self.norm(self.into(x)))))


X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
TARGET = X @ np.array([[1.0, 0.0], [0.0, -1.0], [2.0, 0.0]], np.float32)


def test_a_layer_from_scratch_computes_and_is_shown(capsys):
    layer = Affine(3, 2, rngs=nnx.Rngs(params=0))
    matrix = jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), (3, 2))
    np.testing.assert_allclose(layer(x=X), X @ np.asarray(matrix) + 0.5, rtol=1e-6)
    nnx.display(layer)
    assert "Affine( # Param: 8 (32 B)" in capsys.readouterr().out


def test_a_counter_counts_in_place():
    model = Counting(rngs=nnx.Rngs(0))
    calls = model.calls
    model(X)
    model(X)
    assert model.calls is calls
    assert (int(model.calls.value), model.calls.dtype) == (2, jnp.uint32)


def test_nested_modules_hold_parameters_statistics_and_random_state():
    model = Network(3, 4, 2, rngs=nnx.Rngs(0))
    before = model.drop.rngs.count.value
    first, second = model(X), model(X)
    assert first.shape == (8, 2)
    assert not np.array_equal(first, second)  # another dropout mask, drawn by the layer itself
    assert int(model.drop.rngs.count.value) == int(before) + 2
    hidden = model.into(X)
    expected = 1 - 0.99**2  # two steps of the running mean towards the mean of the batch
    np.testing.assert_allclose(model.norm.mean.value, expected * hidden.mean(0), rtol=1e-4)
    model.eval()
    np.testing.assert_array_equal(model(X), model(X))


def test_layers_can_be_replaced_by_others_that_hold_them():
    class LowRankParam(nnx.Param):
        pass

    class WithLowRank(nnx.Module):
        def __init__(self, base: Affine, rank: int, rngs: nnx.Rngs):
            self.base = base
            self.down = LowRankParam(rngs.normal((base.inputs, rank)))
            self.up = LowRankParam(jnp.zeros((rank, base.outputs)))

        def __call__(self, x):
            return self.base(x) + x @ self.down @ self.up

    rngs = nnx.Rngs(0)
    model = Network(3, 4, 2, rngs=rngs)
    model.eval()
    before, into = model(X), model.into
    model.into = WithLowRank(model.into, 2, rngs)
    model.out = WithLowRank(model.out, 2, rngs)
    np.testing.assert_allclose(model(X), before, rtol=1e-6)
    assert model.into.base is into
    _, low_rank, params, _ = nnx.split(model, LowRankParam, nnx.Param, ...)
    paths = (("into", "down"), ("into", "up"), ("out", "down"), ("out", "up"))
    assert nnx.to_flat_state(low_rank).paths == paths
    assert len(nnx.to_flat_state(params)) == 6
    grads = nnx.grad(lambda m: m(X).sum(), argnums=nnx.DiffState(0, LowRankParam))(model)
    assert nnx.to_flat_state(grads).paths == paths


def test_a_training_step_in_the_older_spelling_updates_model_and_optimizer():
    model = Network(3, 4, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(5e-2))  # it keeps a reference to the model

    @nnx.jit
    def train_step(model, optimizer, x, y):
        def loss_fn(model):
            return jnp.mean((model(x) - y) ** 2)

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(grads)
        return loss

    losses = [float(train_step(model, optimizer, X, TARGET)) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
    assert optimizer.step.value == 30
    assert optimizer.model is model
    assert int(model.drop.rngs.count.value) == 30
    assert float(jnp.abs(model.norm.mean.value).max()) > 0


def test_a_stack_made_by_vmap_is_applied_by_scan():
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(key):
        return Network(3, 4, 3, rngs=nnx.Rngs(key))

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def forward(model, x):
        return model(x)

    keys = jax.random.split(jax.random.key(0), 5)
    stack, expected = make(keys), X
    for key in keys:
        expected = Network(3, 4, 3, rngs=nnx.Rngs(key))(expected)
    assert stack.into.matrix.shape == (5, 3, 4)
    np.testing.assert_allclose(forward(stack, X), expected, rtol=1e-3, atol=1e-4)
    assert stack.drop.rngs.count.value.shape == (5,)
    assert stack.norm.mean.shape == (5, 4)


def test_the_functional_style_splits_merges_and_updates(capsys):
    model = Counting(rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(graphdef: nnx.GraphDef, state: nnx.State, x):
        model = nnx.merge(graphdef, state)
        y = model(x)
        _, state = nnx.split(model)
        return y, state

    y, state = forward(graphdef, state, x=X)
    np.testing.assert_allclose(y, model.affine(X), rtol=1e-6)
    assert int(model.calls.value) == 0
    nnx.update(model, state)
    assert int(model.calls.value) == 1
    nnx.display(graphdef, state)
    out = capsys.readouterr().out
    assert "GraphDef(2 nodes, 3 variables, 0 arrays)" in out
    assert "'calls': Calls(" in out


def test_states_are_split_by_kind_and_put_together_again():
    model = Counting(rngs=nnx.Rngs(0))
    graphdef, params, calls = nnx.split(model, nnx.Param, Calls)
    assert (list(params), list(calls)) == (["affine"], ["calls"])
    again = nnx.merge(graphdef, params, calls)
    np.testing.assert_array_equal(again(X), model.affine(X))
    calls = jax.tree.map(lambda x: x + 10, calls)
    nnx.update(model, params, calls)
    assert int(model.calls.value) == 11  # the merged model holds the same variables
