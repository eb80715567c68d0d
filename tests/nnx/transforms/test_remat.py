"""`nnx.remat`: the same values, gradients and changes as without it, and recomputation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def forward(self, x):
    self.calls += 1
    return self.drop(self.norm(jnp.sin(self.linear(x))))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    __call__ = forward


class RematBlock(Block):
    __call__ = nnx.remat(forward)


class PolicyBlock(Block):
    @nnx.remat(policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
    def __call__(self, x):
        return forward(self, x)


def values(tree):
    state = tree if isinstance(tree, nnx.State) else nnx.state(tree)
    leaves = [v.get_raw_value() for _, v in nnx.to_flat_state(state)]
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if key else leaf)
        for leaf, key in zip(leaves, is_key, strict=True)
    ]


def trained(kind, wrap):
    model = nnx.Sequential(kind(nnx.Rngs(0, dropout=1)), kind(nnx.Rngs(2, dropout=3)))
    step = wrap(nnx.value_and_grad(lambda model, x: (model(x) ** 2).sum()))
    results = [step(model, X) for _ in range(2)]
    return [loss for loss, _ in results], [values(grads) for _, grads in results], values(model)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, nnx.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", [RematBlock, PolicyBlock])
def test_gradients_masks_and_statistics_are_those_without_remat(kind, wrap):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        trained(kind, wrap),
        trained(Block, wrap),
    )


def count_sines(kind):
    block = kind(nnx.Rngs(0))
    gradient = nnx.grad(lambda block: block(X).sum())
    text = str(nnx.make_jaxpr(gradient)(block))
    return text.count(" sin ")


def test_intermediate_values_are_computed_again():
    assert count_sines(RematBlock) == count_sines(Block) + 1


def test_it_works_on_functions_bound_methods_and_modules():
    block, expected = Block(nnx.Rngs(0)), Block(nnx.Rngs(0))
    want = [expected(X) for _ in range(3)]
    calls = [nnx.remat(lambda block, x: block(x)), nnx.remat(block.__call__), nnx.remat(block)]
    got = [calls[0](block, X), calls[1](X), calls[2](X)]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert int(block.calls) == 3


def test_structure_changes_and_returned_modules_come_out():
    block = Block(nnx.Rngs(0))
    linear = block.linear

    @nnx.remat
    def change(block, x):
        block.kept, block.made = block.linear, nnx.Param(x)
        del block.drop
        return block, {"new": nnx.Linear(2, 2, rngs=nnx.Rngs(1)), "x": x + 1}

    same, rest = change(block, jnp.ones(2))
    assert same is block
    assert block.kept is linear
    assert block.made.value.tolist() == [1, 1]
    assert not hasattr(block, "drop")
    assert rest["new"].kernel.shape == (2, 2)
    assert rest["x"].tolist() == [2, 2]


def test_static_arguments_are_constants():
    seen = []

    @nnx.remat(static_argnums=(2, -1))
    def f(layer, x, mode, double=False):
        seen.append((mode, double))
        assert isinstance(double, bool)
        return layer(x) * (2 if double else 1)

    layer = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    once = f(layer, X, "a")
    np.testing.assert_allclose(f(layer, X, "a", True), 2 * once)
    np.testing.assert_allclose(f(layer, X, mode="b", double=True), 2 * once)
    assert seen == [("a", False), ("a", True), ("b", True)]
    f(layer, X, "a", True)
    assert len(seen) == 3, "traced once for each value"


def test_static_arguments_of_a_method_do_not_count_the_module_it_is_bound_to():
    class Scaled(nnx.Module):
        def scale(self, x, double):
            return x * 2 if double else x

    assert nnx.remat(Scaled().scale, static_argnums=1)(1.0, True) == 2


def test_static_arguments_may_be_unhashable():
    assert nnx.remat(lambda x, sizes: x * len(sizes), static_argnums=1)(1.0, [1, 2]) == 2


def test_keyword_arguments_hold_modules_and_arrays():
    layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    f = nnx.remat(lambda x, *, layers, scale: layers["a"](x) * scale)
    np.testing.assert_allclose(f(X, layers={"a": layer}, scale=2.0), 2 * layer(X), rtol=1e-6)


def test_shared_references_stay_shared():
    layer = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    assert bool(nnx.remat(lambda a, b: jnp.array(a is b["x"].layer))(layer, {"x": nnx.Dict(layer=layer)}))


@pytest.mark.slow
def test_it_nests_in_scan_and_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    stack, twin = (nnx.vmap(lambda key: kind(nnx.Rngs(key)))(keys) for kind in (RematBlock, Block))
    run = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    grads, other = (nnx.grad(lambda stack: run(stack, X).sum())(s) for s in (stack, twin))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), values(grads), values(other)
    )
    assert stack.calls.value.tolist() == [1, 1, 1]


def test_a_module_from_outside_can_be_read_but_not_changed():
    block = Block(nnx.Rngs(0))
    np.testing.assert_allclose(nnx.remat(lambda x: block.linear(x))(X), block.linear(X), rtol=1e-6)
    with pytest.raises(nnx.TraceContextError, match="Cannot change a Variable"):
        nnx.remat(lambda x: block(x))(X)
