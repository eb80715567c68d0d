"""The optimizers of optax that people know from PyTorch: with which options they give the same numbers.

* `SGD`, `Adam`, `Adamax`: `sgd`, `adam`, `adamax` with the same numbers, betas as `b1` and `b2`.
* `AdamW`: `adamw(lr, weight_decay=0.01)`, since the default of optax is 1e-4.
* `weight_decay` of all others: `chain(add_decayed_weights(decay), ...)`, adding it to the gradient before
  momentum and moments, as torch does.
* `RMSprop`: `rmsprop(lr, decay=0.99, eps_in_sqrt=False)`; optax defaults to 0.9, with eps inside of the root.
* `Adagrad`: `adagrad(lr, initial_accumulator_value=0.0, eps=0.0)`; optax starts from 0.1.
* `NAdam`: `nadam` has a constant momentum, which torch's approaches for a large `momentum_decay`; its default
  schedule has no counterpart in optax.
* `RAdam`: `radam`; optax computes the rectification in float32, where for `b2=0.999` the first steps that it
  acts on lose the fourth digit. It adds eps after the bias correction, torch before it.

Where only eps stands elsewhere, the numbers agree while gradients are far above it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx

torch = pytest.importorskip("torch")

LR, STEPS = 0.05, 8  # radam begins to adapt at step 6
X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(16, 2)).astype(np.float32)


def _with_decay(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(0.1), tx)


CASES: dict[str, tuple[optax.GradientTransformation, str, dict[str, Any]]] = {
    "sgd": (optax.sgd(LR), "SGD", {}),
    "momentum": (optax.sgd(LR, momentum=0.9), "SGD", {"momentum": 0.9}),
    "nesterov": (optax.sgd(LR, momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "sgd_decay": (
        _with_decay(optax.sgd(LR, momentum=0.9)),
        "SGD",
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    "adam": (optax.adam(LR), "Adam", {}),
    "adam_decay": (_with_decay(optax.adam(LR)), "Adam", {"weight_decay": 0.1}),
    "adam_options": (optax.adam(LR, b1=0.8, b2=0.9, eps=1e-3), "Adam", {"betas": (0.8, 0.9), "eps": 1e-3}),
    "adamw": (optax.adamw(LR, weight_decay=0.01), "AdamW", {}),
    "rmsprop": (optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False), "RMSprop", {}),
    "rmsprop_momentum": (
        optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False, centered=True, momentum=0.5),
        "RMSprop",
        {"centered": True, "momentum": 0.5},
    ),
    "adagrad": (optax.adagrad(LR, initial_accumulator_value=0.0, eps=0.0), "Adagrad", {}),
    "adamax": (optax.adamax(LR), "Adamax", {}),
    "adamax_decay": (_with_decay(optax.adamax(LR)), "Adamax", {"weight_decay": 0.1}),
    "nadam": (optax.nadam(LR), "NAdam", {"momentum_decay": 1e9}),
    "radam": (optax.radam(LR, b2=0.9), "RAdam", {"betas": (0.9, 0.9)}),
}


def _ours() -> nnx.Sequential:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), jnp.tanh, nnx.Linear(3, 2, rngs=rngs))


def _theirs(model: nnx.Sequential) -> Any:
    other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    with torch.no_grad():
        for i in (0, 2):
            other[i].weight.copy_(torch.tensor(np.asarray(model.layers[i].kernel[...]).T))
            other[i].bias.copy_(torch.tensor(np.asarray(model.layers[i].bias[...])))
    return other


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_torch(name: str) -> None:
    tx, theirs, options = CASES[name]
    model = _ours()
    other = _theirs(model)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    torch_optimizer = getattr(torch.optim, theirs)(other.parameters(), lr=LR, **options)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda model: ((model(X) - Y) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    for _ in range(STEPS):
        torch_optimizer.zero_grad()
        torch_loss = ((other(torch.tensor(X)) - torch.tensor(Y)) ** 2).mean()
        torch_loss.backward()
        torch_optimizer.step()
        assert float(step(model, optimizer)) == pytest.approx(torch_loss.item(), rel=1e-5)
    for i in (0, 2):  # tolerance: float32, other orders of summation, over several steps
        weight, bias = (leaf.detach().numpy() for leaf in (other[i].weight, other[i].bias))
        np.testing.assert_allclose(model.layers[i].kernel[...], weight.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.layers[i].bias[...], bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tx", "theirs"),
    [
        (optax.adamw(LR), "AdamW"),
        (optax.rmsprop(LR), "RMSprop"),
        (optax.adagrad(LR), "Adagrad"),
        (optax.nadam(LR), "NAdam"),
    ],
    ids=["adamw", "rmsprop", "adagrad", "nadam"],
)
def test_the_defaults_of_these_differ(tx: optax.GradientTransformation, theirs: str) -> None:
    model = nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0))
    weight = torch.nn.Parameter(torch.tensor(np.asarray(model.kernel[...])))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    torch_optimizer = getattr(torch.optim, theirs)([weight], lr=LR)
    for scale in (1.0, 2.0):
        gradient = scale * X[:4, :2]
        weight.grad = torch.tensor(gradient)
        torch_optimizer.step()
        optimizer.update(model, nnx.State({"kernel": jnp.asarray(gradient)}))
    assert np.abs(np.asarray(model.kernel[...]) - weight.detach().numpy()).max() > 1e-5
