"""The tables of `nnx.tabulate` have the rows and cells that Flax's have.

What differs on purpose is kept out of these models: Flax leaves out the row of a module one of whose own
methods gets the same inputs, and the variables in containers; it has rows for `sow`, and counts gradients by
Python numbers.
"""

import jax.numpy as jnp
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx

PLAIN = {"force_terminal": False, "no_color": True, "width": 1000}


def cells(nnx, make, method="__call__", **options):
    model, args, kwargs = make(nnx)
    text = nnx.tabulate(model, *args, **kwargs, method=method, console_kwargs=PLAIN, **options)
    return [[cell.rstrip() for cell in line.split("│")] for line in text.splitlines()]


def conv_net(nnx):
    class Block(nnx.Module):
        def __init__(self, din, dout, rngs):
            self.conv = nnx.Conv(din, dout, (3, 3), rngs=rngs)
            self.bn = nnx.BatchNorm(dout, rngs=rngs)
            self.dropout = nnx.Dropout(0.2, rngs=rngs)

        def forward(self, x, active=True):
            x = self.dropout(self.bn(self.conv(x)))
            return nnx.relu(x) if active else x

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.List([Block(3, 8, rngs), Block(8, 8, rngs)])
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.head = nnx.Linear(8, 10, dtype=jnp.bfloat16, rngs=rngs)

        def __call__(self, x):
            for block in self.blocks:
                x = block.forward(x)
            return {"logits": self.head(self.norm(x.mean((1, 2)))), "features": [x, (x[0],)]}

        def predict(self, x):
            return self(x[:1])["logits"].argmax(-1)

    return Net(nnx.Rngs(0)), (jnp.ones((2, 6, 6, 3)),), {}


def tied(nnx):
    class Layer(nnx.Module):
        def __init__(self, linear, rngs):
            self.linear = linear
            self.norm = nnx.LayerNorm(4, rngs=rngs)

        def __call__(self, x, y):
            return self.norm(self.linear(x)) + y, self.linear(x[0])

    class Tied(nnx.Module):
        def __init__(self, rngs):
            linear = nnx.Linear(4, 4, rngs=rngs)
            self.first, self.second = Layer(linear, rngs), Layer(linear, rngs)
            self.embed = nnx.Embed(7, 4, rngs=rngs)
            self.root = self

        def __call__(self, tokens, y, *, times, mask=None):
            x = self.embed(tokens)
            for _ in range(times):
                x, _ = self.first(x, y)
                x, _ = self.second(x, y)
            return self.embed.attend(x)

    inputs = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3, 4))
    return Tied(nnx.Rngs(0)), inputs, {"times": 2, "mask": {"a": jnp.ones(2), "b": [1, 2]}}


def scanned(nnx):
    class Stack(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.vmap(lambda rngs: nnx.Linear(4, 4, rngs=rngs))(rngs.split(3))

        def __call__(self, x):
            @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            def run(layer, x):
                return layer(x)

            return run(self.layers, x)

    return Stack(nnx.Rngs(0)), (jnp.ones((2, 4)),), {}


def transformed(nnx):
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.linear(x))

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b, self.c, self.d = (Block(rngs) for _ in range(4))

        def __call__(self, x, flag):
            x = nnx.remat(lambda block, x: block(x))(self.a, x)
            x = nnx.cond(flag, lambda block, x: block(x), lambda block, x: x, self.b, x)
            x, _ = nnx.fori_loop(0, 3, lambda i, carry: (carry[1](carry[0]), carry[1]), (x, self.c))
            return nnx.jit(lambda block, x: block(x))(self.d, x)

    return Net(nnx.Rngs(0)), (jnp.ones((2, 4)), jnp.array(True)), {}


@pytest.mark.slow
@pytest.mark.parametrize("make", [conv_net, tied, scanned, transformed])
@pytest.mark.parametrize("options", [{}, {"depth": 1}], ids=str)
def test_rows_and_cells_are_those_of_flax(make, options):
    assert cells(nnx, make, **options) == cells(flax_nnx, make, **options)


@pytest.mark.slow
def test_rows_of_another_method_are_those_of_flax():
    assert cells(nnx, conv_net, "predict") == cells(flax_nnx, conv_net, "predict")


@pytest.mark.slow
def test_flops_are_those_of_flax():
    flops = {"compute_flops": True, "compute_vjp_flops": True}
    assert cells(nnx, conv_net, **flops) == cells(flax_nnx, conv_net, **flops)
    assert cells(nnx, tied, compute_flops=True) == cells(flax_nnx, tied, compute_flops=True)
