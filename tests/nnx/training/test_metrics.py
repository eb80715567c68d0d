from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

VALUES = np.random.default_rng(0).normal(3.0, 2.0, size=(5, 4)).astype(np.float32)


def test_an_average_is_the_mean_of_all_values_whatever_the_batches() -> None:
    metric = nnx.metrics.Average("loss")
    for part in (VALUES[:1], VALUES[1:4], VALUES[4:]):
        metric.update(loss=part, other=1)
    assert float(metric.compute()) == pytest.approx(float(VALUES.mean()), rel=1e-6)
    assert int(metric.count[...]) == 20
    metric.reset()
    assert bool(jnp.isnan(metric.compute()))


def test_numbers_are_values_too() -> None:
    metric = nnx.metrics.Average()
    for value in (1, 2.5, np.float32(4.0), jnp.array(0.5)):
        metric.update(values=value)
    assert float(metric.compute()) == 2.0


@pytest.mark.parametrize("shape", [(5, 4), (5, 1), (4,)])
def test_a_mask_counts_every_entry_that_it_selects(shape: Any) -> None:
    mask = np.random.default_rng(1).integers(0, 2, shape).astype(bool)
    average, welford = nnx.metrics.Average(), nnx.metrics.Welford()
    selected = VALUES[np.broadcast_to(mask, VALUES.shape)]
    for metric in (average, welford):
        metric.update(values=np.where(mask, VALUES, np.nan), mask=mask)
    assert float(average.compute()) == pytest.approx(float(selected.mean()), rel=1e-6)
    assert float(welford.compute().mean) == pytest.approx(float(selected.mean()), rel=1e-6)
    assert float(welford.compute().standard_deviation) == pytest.approx(float(selected.std()), rel=1e-5)


def test_welford_gives_mean_and_deviation_whatever_the_batches() -> None:
    metric = nnx.metrics.Welford()
    for part in (VALUES[:1], VALUES[1:4], VALUES[4:]):
        metric.update(values=part + 1000)
    metric.update(values=1003.0)
    whole = np.append(VALUES.astype(np.float64) + 1000, 1003.0)
    statistics = metric.compute()
    assert float(statistics.mean) == pytest.approx(whole.mean(), rel=1e-6)
    assert float(statistics.standard_deviation) == pytest.approx(whole.std(), rel=1e-3)
    assert float(statistics.standard_error_of_mean) == pytest.approx(whole.std() / 21**0.5, rel=1e-3)
    metric.reset()
    assert metric.count.dtype == jnp.int32
    assert float(metric.compute().mean) == 0.0


def test_welford_passes_over_a_batch_without_any_entry() -> None:
    metric = nnx.metrics.Welford()
    metric.update(values=VALUES, mask=np.zeros((5, 1), bool))
    metric.update(values=VALUES)
    assert float(metric.compute().standard_deviation) == pytest.approx(float(VALUES.std()), rel=1e-5)


def test_statistics_pass_through_jax() -> None:
    metric = nnx.metrics.Welford()
    metric.update(values=VALUES)
    doubled = jax.tree.map(lambda x: 2 * x, metric.compute())
    assert isinstance(doubled, nnx.metrics.Statistics)
    assert float(doubled.mean) == pytest.approx(2 * float(VALUES.mean()), rel=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_accuracy_is_the_share_of_largest_logits_at_the_label(dtype: str) -> None:
    logits, labels = VALUES, np.array([0, 1, 2, 3, 0], dtype)
    metric = nnx.metrics.Accuracy()
    metric.update(logits=logits, labels=labels, values="not for this metric")
    assert float(metric.compute()) == pytest.approx((logits.argmax(-1) == labels).mean())
    mask = np.array([1, 1, 0, 0, 1], bool)
    metric.reset()
    metric.update(logits=logits, labels=labels, mask=mask)
    assert float(metric.compute()) == pytest.approx((logits.argmax(-1) == labels)[mask].mean())


def test_accuracy_over_sequences_and_with_a_threshold() -> None:
    metric = nnx.metrics.Accuracy()
    metric.update(logits=jnp.eye(3)[None], labels=jnp.array([[0, 1, 0]]))
    assert float(metric.compute()) == pytest.approx(2 / 3)
    binary = nnx.metrics.Accuracy(threshold=0.5)
    binary.update(logits=jnp.array([0.5, 0.4, 0.9, 0.1]), labels=jnp.array([1, 0, 0, 1]))
    assert float(binary.compute()) == 0.5


def test_several_metrics_share_one_update_and_may_have_masks_of_their_own() -> None:
    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))
    logits, labels = jnp.eye(4), jnp.array([0, 1, 0, 0])
    metrics.update(logits=logits, labels=labels, loss=jnp.arange(4.0), mask={"loss": jnp.array([0, 0, 1, 1])})
    assert {k: float(v) for k, v in metrics.compute().items()} == {"accuracy": 0.5, "loss": 2.5}
    metrics.reset()
    metrics.update(logits=logits, labels=labels, loss=jnp.arange(4.0), mask=jnp.array([1, 1, 0, 0]))
    assert {k: float(v) for k, v in metrics.compute().items()} == {"accuracy": 1.0, "loss": 0.5}
    assert float(metrics.loss.compute()) == 0.5


def test_metrics_accumulate_under_jit_and_scan_steps_of_a_split() -> None:
    metric = nnx.metrics.Welford()

    @nnx.jit
    def step(metric: Any, values: Any) -> None:
        metric.update(values=values)

    for row in VALUES:
        step(metric, row)
    graphdef, state = metric.split()
    assert float(nnx.merge(graphdef, state).compute().mean) == pytest.approx(float(VALUES.mean()), rel=1e-6)
    assert all(isinstance(leaf, nnx.metrics.MetricState) for _, leaf in nnx.to_flat_state(state))


# -- errors


@pytest.mark.parametrize("metric", [nnx.metrics.Average("loss"), nnx.metrics.Welford("loss")])
def test_a_missing_argument_is_told_with_those_given(metric: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"(Average|Welford)\.update got the arguments \['values'\], expected one named 'loss'",
    ):
        metric.update(values=1.0)


def test_a_mask_that_does_not_broadcast_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"Average\.update got a mask of shape \(5,\) for values of shape \(5, 4\), expected"
    ):
        nnx.metrics.Average().update(values=VALUES, mask=np.ones(5))


def test_shapes_of_logits_and_labels_must_fit() -> None:
    with pytest.raises(
        ValueError,
        match=r"got logits of shape \(5, 4\) and labels of shape \(5, 4\), expected \(\.\.\., classes\)",
    ):
        nnx.metrics.Accuracy().update(logits=VALUES, labels=np.ones((5, 4), int))
    with pytest.raises(
        ValueError, match=r"got logits of shape \(5, 4\) and labels of shape \(5,\), expected equal shapes"
    ):
        nnx.metrics.Accuracy(threshold=0.5).update(logits=VALUES, labels=np.ones(5, int))


def test_labels_must_be_integers() -> None:
    with pytest.raises(
        ValueError, match=r"Accuracy: got labels of dtype float32, expected integers\. Convert"
    ):
        nnx.metrics.Accuracy().update(logits=VALUES, labels=np.ones(5, np.float32))


@pytest.mark.parametrize("threshold", [1, "0.5", True])
def test_a_threshold_is_a_float(threshold: Any) -> None:
    with pytest.raises(TypeError, match=r"Accuracy: got threshold=.* of type .*, expected a float or None"):
        nnx.metrics.Accuracy(threshold=threshold)


@pytest.mark.parametrize("name", ["update", "reset", "compute", "split"])
def test_names_of_methods_are_not_for_metrics(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"MultiMetric: got a metric named '{name}', expected a name that is no method"
    ):
        nnx.MultiMetric(**{name: nnx.metrics.Average()})


@pytest.mark.parametrize("method", ["update", "reset", "compute"])
def test_a_metric_must_define_its_methods(method: str) -> None:
    class Nothing(nnx.Metric):
        pass

    with pytest.raises(
        NotImplementedError, match=rf"Nothing has no method {method}, expected a metric to define"
    ):
        getattr(Nothing(), method)()


def test_a_mask_for_a_metric_that_is_not_there_is_told() -> None:
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average())
    with pytest.raises(
        ValueError, match=r"got a mask for \['los'\], expected names of its metrics.*\['loss'\]"
    ):
        metrics.update(values=VALUES, mask={"los": VALUES > 0})


def test_what_is_no_metric_is_told() -> None:
    with pytest.raises(TypeError, match=r"MultiMetric: got loss='mse', expected a metric\. Pass"):
        nnx.MultiMetric(loss="mse")  # type: ignore[arg-type]


def test_a_number_has_no_mask() -> None:
    with pytest.raises(
        ValueError, match=r"got a mask of shape \(5,\) for the number 2\.5; .* Pass the values"
    ):
        nnx.metrics.Average().update(values=2.5, mask=np.ones(5))


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_swapped_logits_and_labels_are_told(threshold: Any) -> None:
    labels = np.ones((5, 4) if threshold else 5, int)
    with pytest.raises(ValueError, match=r"Accuracy: got .* The two look swapped\."):
        nnx.metrics.Accuracy(threshold=threshold).update(logits=labels, labels=VALUES)


def test_values_without_any_entry_change_nothing() -> None:
    for metric in (nnx.metrics.Average(), nnx.metrics.Welford()):
        metric.update(values=VALUES)
        before = jax.tree.map(np.asarray, nnx.state(metric))
        metric.update(values=VALUES[:0])
        jax.tree.map(np.testing.assert_array_equal, nnx.state(metric), before)
