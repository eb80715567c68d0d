"""What holds for every metric: pure like stateful, mergeable, exact about weights, with a configuration."""

import json
import warnings

import jax
import numpy as np
import pytest

import easyflax.metrics as metrics
import tests.metrics.samples as samples
from tests.metrics.samples import INDICES, PROBABILITIES, WEIGHT, halves

OURS = [
    ("Perplexity", {"ignore_class": 2}, INDICES, PROBABILITIES),
    ("ConfusionMatrix", {"num_classes": 4, "normalize": "true"}, INDICES, PROBABILITIES),
]
LAST = {case[0]: case for case in (*samples.SAMPLES, *OURS)}
CASES = [*LAST.values(), *(case for case in samples.SAMPLES if case[0] == "AUC" and "multi_label" in case[1])]
every_metric = pytest.mark.parametrize(
    ("name", "settings", "y_true", "y_pred"), CASES, ids=list(map(samples.name_of, CASES))
)
pytestmark = pytest.mark.filterwarnings("ignore:.*takes weights as whole numbers")


def _close(one, other):
    np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


@pytest.mark.sampled(16)
@every_metric
def test_pure_functions_and_merged_halves_give_what_the_methods_give(name, settings, y_true, y_pred):
    whole, parts = (getattr(metrics, name)(**settings) for _ in range(2))
    weight = np.round(WEIGHT)
    batches = halves(y_true, y_pred, weight)
    parts.build_for(*batches[0][:2])
    empty, states = parts.stateless_reset_state(), []
    for batch in batches:
        whole.update_state(*batch)
        states.append(parts.stateless_update_state(empty, *batch))
    _close(whole.result(), parts.stateless_result(parts.stateless_merge_state(states)))
    in_turn = parts.stateless_update_state(states[0], *batches[1])
    _close(whole.result(), parts.stateless_result(in_turn))
    assert all(np.all(np.asarray(variable) == 0) for variable in parts.variables)
    first, *others = (whole.result(), whole.reset_state(), whole(*batches[0]), whole(*batches[1]))
    assert others[0] is None
    _close(others[-1], first)


@every_metric
def test_rows_of_weight_zero_count_nowhere_whatever_is_in_them(name, settings, y_true, y_pred):
    metric, without = (getattr(metrics, name)(**settings) for _ in range(2))
    like = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype)),
        (y_true, y_pred),
    )
    if not metric.is_row_wise(*like):
        assert "ignore_class" in settings
        return
    kept = np.arange(len(y_true)) < len(y_true) // 2
    if np.issubdtype(y_pred.dtype, np.floating):
        y_pred = np.where(kept.reshape(-1, *[1] * (y_pred.ndim - 1)), y_pred, np.nan).astype(y_pred.dtype)
    weights = np.ones(kept.sum(), "float32")
    _close(metric(y_true, y_pred, kept.astype("float32")), without(y_true[kept], y_pred[kept], weights))


@pytest.mark.parametrize(
    ("name", "settings"),
    [case[:2] for case in (*samples.SAMPLES, *OURS)],
    ids=list(map(samples.name_of, (*samples.SAMPLES, *OURS))),
)
def test_a_metric_is_made_again_from_its_config(name, settings):
    metric = getattr(metrics, name)(**settings, name="mine")
    config = json.loads(json.dumps(metrics.serialize(metric)))
    again = metrics.deserialize(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    assert metrics.serialize(again) == metrics.serialize(metric)
    assert again.name == "mine"
    assert [variable.shape for variable in again.variables] == [v.shape for v in metric.variables]


def test_every_metric_has_a_sample():
    classes = {name for name in metrics.__all__ if isinstance(getattr(metrics, name), type)}
    assert classes - {name for name, *_ in CASES} == {"Mean", "MeanMetricWrapper", "Metric", "Sum"}


@pytest.mark.parametrize("name", ["AUC", "Precision", "F1Score", "R2Score", "Perplexity", "ConfusionMatrix"])
def test_metrics_run_under_jit_without_leaving_the_device(name):
    settings, y_true, y_pred = next(case[1:] for case in CASES if case[0] == name)
    metric = getattr(metrics, name)(**settings)
    metric.build_for(y_true, y_pred)

    @jax.jit
    def run(y_true, y_pred):
        state = metric.stateless_update_state(metric.stateless_reset_state(), y_true, y_pred)
        return metric.stateless_result(state)

    _close(run(y_true, y_pred), metric(y_true, y_pred))


def test_whole_weights_are_taken_without_a_warning_and_others_with_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.MeanIoU(2)([0, 1], [0, 0], sample_weight=np.array([True, False]))
        metrics.MeanIoU(2)([0, 1], [0, 0], sample_weight=[2, 1])
    with pytest.warns(UserWarning, match="mean_io_u takes weights as whole numbers.*Pass dtype='float32'"):
        metrics.MeanIoU(2)([0, 1], [0, 0], sample_weight=[0.5, 1.0])
