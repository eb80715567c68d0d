"""The metrics of nnx against flax.nnx."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from easyflax import nnx
from tests.parity.flax_oracle import assert_same, assert_same_state, assert_same_tree, make_both

VALUES = [
    [jnp.array([1, 2, 3, 4]), jnp.array([3, 2, 1, 0])],
    [jax.random.normal(jax.random.key(0), (3, 4)), 0.25, 3],
    [np.array([1.5, 2.5], np.float32), jnp.array([True, False, True])],
    [jnp.array([0.5, 0.25], jnp.bfloat16)],
]


@pytest.mark.parametrize("values", VALUES, ids=["integers", "floats", "numpy", "bfloat16"])
@pytest.mark.parametrize("name", ["Average", "Welford"])
def test_averages_are_those_of_flax(name: str, values: list[Any]) -> None:
    ours, theirs = make_both(lambda lib: getattr(lib.metrics, name)("loss"))
    assert_same_state(ours, theirs)
    assert_same_tree(ours.compute(), theirs.compute())
    for value in values:
        ours.update(loss=value, other="ignored")
        theirs.update(loss=value, other="ignored")
        assert_same_state(ours, theirs)
        assert_same_tree(ours.compute(), theirs.compute())
    ours.reset()
    theirs.reset()
    assert_same_tree(ours.compute(), theirs.compute())


def test_a_masked_average_is_that_of_flax() -> None:
    ours, theirs = make_both(lambda lib: lib.metrics.Average())
    for mask in ([True, False, True], [0, 1, 1], [1.0, 0.0, 0.0]):
        for metric in (ours, theirs):
            metric.update(values=jnp.array([1.0, 2.0, 4.0]), mask=jnp.array(mask))
        assert_same_state(ours, theirs)
        assert_same(ours.compute(), theirs.compute())


@pytest.mark.parametrize("mask", [None, [True, False, True, True, False]])
def test_accuracy_is_that_of_flax(mask: Any) -> None:
    mask = None if mask is None else jnp.array(mask)
    ours, theirs = make_both(lambda lib: lib.metrics.Accuracy())
    binary, flax_binary = make_both(lambda lib: lib.metrics.Accuracy(threshold=0.5))
    for seed in range(3):
        logits = jax.random.normal(jax.random.key(seed), (5, 2))
        labels = jax.random.randint(jax.random.key(seed), (5,), 0, 2)
        for metric in (ours, theirs):
            metric.update(logits=logits, labels=labels, mask=mask, values="ignored")
        for metric in (binary, flax_binary):
            metric.update(logits=logits[:, 0], labels=labels, mask=mask)
        assert_same(ours.compute(), theirs.compute())
        assert_same(binary.compute(), flax_binary.compute())
    assert_same_state(ours, theirs)
    assert_same_state(binary, flax_binary)


def test_several_metrics_under_jit_are_those_of_flax() -> None:
    def run(lib: Any) -> Any:
        metrics = lib.MultiMetric(accuracy=lib.metrics.Accuracy(), loss=lib.metrics.Average("loss"))

        @lib.jit
        def step(metrics: Any, logits: jax.Array, labels: jax.Array) -> None:
            metrics.update(logits=logits, labels=labels, loss=logits.sum(-1), mask={"loss": labels > 0})

        for seed in range(2):
            step(metrics, jax.random.normal(jax.random.key(seed), (5, 3)), jnp.arange(5) % 3)
        graphdef, state = metrics.split()
        return metrics, metrics.compute(), lib.merge(graphdef, state).compute()

    (ours, *values), (theirs, *flax_values) = make_both(run)
    assert [sorted(value) for value in values] == [["accuracy", "loss"]] * 2
    assert_same_tree(values, flax_values)
    assert_same_state(ours, theirs)


def test_the_statistics_have_the_names_of_flax() -> None:
    ours, theirs = make_both(lambda lib: lib.metrics.Welford())
    for metric in (ours, theirs):
        metric.update(values=jnp.array([1.0, 2.0, 4.0]))
    for name in ("mean", "standard_error_of_mean", "standard_deviation"):
        assert_same(getattr(ours.compute(), name), getattr(theirs.compute(), name))
    assert isinstance(flax_nnx.state(theirs), flax_nnx.State)
    assert isinstance(nnx.state(ours), nnx.State)


def test_sequences_of_labels_and_nested_metrics_are_those_of_flax() -> None:
    logits = jax.random.normal(jax.random.key(0), (4, 6, 5)).astype(jnp.bfloat16)
    labels = jax.random.randint(jax.random.key(1), (4, 6), 0, 5)

    def run(lib: Any) -> Any:
        metrics = lib.MultiMetric(
            tokens=lib.metrics.Accuracy(),
            inner=lib.MultiMetric(
                positive=lib.metrics.Accuracy(threshold=0.0), loss=lib.metrics.Average("loss")
            ),
        )
        mask = {"tokens": labels > 0, "inner": {"loss": labels[:, 0] > 1}}
        metrics.tokens.update(logits=logits, labels=labels, mask=mask["tokens"])
        metrics.inner.positive.update(logits=logits[..., 0], labels=labels)
        metrics.inner.loss.update(loss=logits[:, 0, 0], mask=mask["inner"]["loss"])
        return metrics, metrics.compute()

    (ours, values), (theirs, flax_values) = make_both(run)
    assert_same_tree(values, flax_values)
    assert_same_state(ours, theirs)


def test_sums_over_many_values_have_the_bits_of_flax() -> None:
    values = jax.random.normal(jax.random.key(0), (300_000,)) + 100
    ours, theirs = make_both(lambda lib: (lib.metrics.Average(), lib.metrics.Welford()))
    for mine, other in zip(ours, theirs, strict=True):
        for part in (values, values[:1000]):
            mine.update(values=part)
            other.update(values=part)
        assert_same_state(mine, other)
        assert_same_tree(mine.compute(), other.compute())
