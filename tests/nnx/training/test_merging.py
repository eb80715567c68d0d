from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from easyflax import nnx

VALUES = np.random.default_rng(0).normal(30.0, 2.0, size=(8, 3)).astype(np.float32)
LABELS = np.arange(8) % 3
MASK = np.arange(8) != 2


def _average() -> Any:
    return nnx.metrics.Average()


def _welford() -> Any:
    return nnx.metrics.Welford()


def _several() -> Any:
    return nnx.MultiMetric(
        accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average(), spread=nnx.metrics.Welford()
    )


def _binary() -> Any:
    return nnx.metrics.Accuracy(threshold=0.5)


def _data(metric: Any, rows: Any = slice(None)) -> dict[str, Any]:
    if isinstance(metric, nnx.metrics.Accuracy):
        return {"logits": VALUES[rows, 0] - 30, "labels": LABELS[rows], "mask": MASK[rows]}
    masks = MASK[rows], MASK[rows, None]
    if isinstance(metric, nnx.MultiMetric):
        mask: Any = {"accuracy": masks[0], "loss": masks[1], "spread": masks[1]}
        return {"logits": VALUES[rows], "labels": LABELS[rows], "values": VALUES[rows], "mask": mask}
    return {"values": VALUES[rows], "mask": masks[1]}


def _assert_same_results(metric: Any, expected: Any) -> None:
    leaves = zip(jax.tree.leaves(metric.compute()), jax.tree.leaves(expected.compute()), strict=True)
    for mine, other in leaves:
        np.testing.assert_allclose(mine, other, rtol=1e-5)
    mine, other = (jax.tree.leaves(nnx.state(one)) for one in (metric, expected))
    assert [(leaf.shape, leaf.dtype) for leaf in mine] == [(leaf.shape, leaf.dtype) for leaf in other]


MAKE = pytest.mark.parametrize("make", [_average, _welford, _binary, _several])


@pytest.mark.sampled(6)
@MAKE
@pytest.mark.parametrize("cut", [0, 1, 5, 8])
def test_metrics_of_two_parts_merge_into_one_of_all(make: Any, cut: int) -> None:
    first, second, whole = make(), make(), make()
    whole.update(**_data(whole))
    for metric, rows in ((first, slice(0, cut)), (second, slice(cut, 8))):
        if rows.start < rows.stop:
            metric.update(**_data(metric, rows))
    left = jax.tree.map(np.asarray, nnx.state(second))
    first.merge(second)
    _assert_same_results(first, whole)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(second), left)


@MAKE
def test_metrics_made_under_vmap_merge_along_its_axis(make: Any) -> None:
    def run(data: Any) -> Any:
        metric = make()
        metric.update(**data)
        return metric

    whole = make()
    data = _data(whole)
    whole.update(**data)
    many = nnx.vmap(run)(jax.tree.map(lambda x: np.reshape(x, (4, 2, *x.shape[1:])), data))
    many.merge_axis(0)
    _assert_same_results(many, whole)
    many.update(**data)  # it goes on as any other


@MAKE
def test_metrics_of_several_devices_merge_over_a_mesh_axis(make: Any) -> None:
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(jax.sharding.AxisType.Auto,))

    def run(data: Any) -> Any:
        metric = make()
        metric.update(**data)
        metric.merge_axis("data")
        return nnx.state(metric)

    whole = make()
    data = _data(whole)
    whole.update(**data)
    state = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P()))(data)
    merged = make()
    nnx.update(merged, state)
    _assert_same_results(merged, whole)


def test_metrics_that_saw_nothing_merge_into_one_that_saw_nothing() -> None:
    metric, other = _welford(), _welford()
    metric.merge(other)
    assert (int(metric.count[...]), float(metric.mean[...]), float(metric.m2[...])) == (0, 0.0, 0.0)


def test_a_deviation_is_not_lost_beside_a_large_mean() -> None:
    halves = _welford(), _welford()
    values = np.linspace(-1, 1, 64).astype(np.float32) + 4096
    for metric, part in zip(halves, (values[:20], values[20:]), strict=True):
        metric.update(values=part)
    halves[0].merge(halves[1])
    got = float(halves[0].compute().standard_deviation)
    assert got == pytest.approx(values.astype(np.float64).std(), rel=1e-4)


def test_merging_is_traced_like_all_else() -> None:
    one, other = _several(), _several()
    for metric, rows in ((one, slice(0, 4)), (other, slice(4, 8))):
        metric.update(**_data(metric, rows))
    nnx.jit(lambda one, other: one.merge(other))(one, other)
    whole = _several()
    whole.update(**_data(whole))
    _assert_same_results(one, whole)


# -- metrics of one's own


class Largest(nnx.Metric):
    def __init__(self) -> None:
        self.value = nnx.metrics.MetricState(jnp.array(-jnp.inf))

    def update(self, *, values: Any, **_: Any) -> None:
        self.value[...] = jnp.maximum(self.value[...], values.max())


def test_a_metric_that_does_not_say_how_to_merge_is_told() -> None:
    for call in (lambda metric: metric.merge(Largest()), lambda metric: metric.merge_axis("data")):
        with pytest.raises(
            NotImplementedError,
            match=r"Largest\.merge\w* does not know how to merge \['value'\], exp.* Define Largest\.merge",
        ):
            call(Largest())


def test_a_metric_says_how_to_merge_by_defining_it() -> None:
    class Mergeable(Largest):
        def merge(self, other: Any) -> None:
            self.update(values=other.value)

    metrics = [nnx.MultiMetric(top=Mergeable()) for _ in range(2)]
    for metric, value in zip(metrics, (1.0, 4.0), strict=True):
        metric.update(values=jnp.array([value]))
    metrics[0].merge(metrics[1])
    assert float(metrics[0].top.value[...]) == 4.0


@pytest.mark.parametrize(
    "extra", [lambda: nnx.metrics.MetricState(jnp.zeros(())), lambda: nnx.metrics.Average()]
)
def test_what_a_subclass_accumulates_besides_is_not_forgotten(extra: Any) -> None:
    class More(nnx.metrics.Average):
        def __init__(self) -> None:
            super().__init__()
            self.extra = extra()

    with pytest.raises(NotImplementedError, match=r"More\.merge does not know how to merge \['extra'\]"):
        More().merge(More())


# -- errors


def test_metrics_of_other_types_do_not_merge() -> None:
    with pytest.raises(
        TypeError, match=r"Average\.merge got a Welford, expected a Average\. Merge metrics of"
    ):
        _average().merge(_welford())


def test_metrics_with_other_settings_do_not_merge() -> None:
    with pytest.raises(
        ValueError, match=r"Accuracy\.merge got a metric with the settings .*0\.25.*0\.5.* Merge"
    ):
        _binary().merge(nnx.metrics.Accuracy(threshold=0.25))
    with pytest.raises(
        ValueError, match=r"MultiMetric\.merge got a metric with the settings .*Merge metrics"
    ):
        nnx.MultiMetric(a=_average()).merge(nnx.MultiMetric(b=_average()))


def test_an_axis_must_be_there() -> None:
    with pytest.raises(
        ValueError, match=r"Average\.merge_axis got axis=0, expected an axis of 'total'.* Call"
    ):
        _average().merge_axis(0)


def test_metrics_with_axes_do_not_merge_with_those_without() -> None:
    many = nnx.vmap(lambda _: _average())(jnp.arange(3))
    with pytest.raises(
        ValueError,
        match=r"Average\.merge got a metric with 'total' of shape \(3,\), expected \(\)\. Call merge",
    ):
        _average().merge(many)
