"""Closed forms of areas, scores, matrices and perplexity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.metrics as metrics
from easyflax.masks import attach_masks
from easyflax.metrics.base import noting_builds

RNG = np.random.default_rng(5)


def test_the_area_under_the_roc_curve_is_the_share_of_pairs_in_order():
    y_true = RNG.integers(0, 2, size=60)
    y_pred = RNG.integers(0, 101, size=60) / 100  # on thresholds, so that nothing is lost between them
    positive, negative = y_pred[y_true == 1][:, None], y_pred[y_true == 0][None]
    share = np.mean((positive > negative) + 0.5 * (positive == negative))
    metric = metrics.AUC(num_thresholds=101)
    np.testing.assert_allclose(metric(y_true, y_pred), share, rtol=1e-5)
    np.testing.assert_allclose(metrics.AUC(num_thresholds=201)(1 - y_true, y_pred), 1 - share, rtol=1e-5)


def test_the_area_by_label_is_the_mean_of_the_areas_of_the_labels():
    y_true, y_pred = RNG.integers(0, 2, size=(20, 3)), RNG.uniform(size=(20, 3))
    each = [float(metrics.AUC()(y_true[:, one], y_pred[:, one])) for one in range(3)]
    np.testing.assert_allclose(metrics.AUC(multi_label=True)(y_true, y_pred), np.mean(each), rtol=1e-5)
    weighted = metrics.AUC(multi_label=True, label_weights=[1, 0, 3])(y_true, y_pred)
    np.testing.assert_allclose(weighted, (each[0] + 3 * each[2]) / 4, rtol=1e-5)


def test_counts_go_on_past_what_a_float_can_count():
    metric = metrics.TruePositives()
    metric.accumulator.assign([2.0**24])
    for _ in range(3):
        metric.update_state([1], [1.0])
    metric.update_state(np.ones(4), np.ones(4))
    exact = metric.accumulator.get_raw_value()
    assert float(exact.high[0]) + float(exact.low[0]) == 2**24 + 7


def test_precision_recall_and_f1_are_those_of_the_confusion_matrix():
    y_true, y_pred = RNG.integers(0, 3, size=50), RNG.uniform(size=(50, 3))
    matrix = np.asarray(metrics.ConfusionMatrix(3)(y_true, y_pred))
    assert matrix.sum() == 50
    precision, recall = np.diag(matrix) / matrix.sum(axis=0), np.diag(matrix) / matrix.sum(axis=1)
    one_hot = np.eye(3)[y_true]
    scores = metrics.F1Score()(one_hot, y_pred)
    np.testing.assert_allclose(scores, 2 * precision * recall / (precision + recall), rtol=1e-5)
    for class_id in range(3):
        of_class = metrics.Precision(top_k=1, class_id=class_id)(one_hot, y_pred)
        np.testing.assert_allclose(of_class, precision[class_id], rtol=1e-6)


def test_a_confusion_matrix_is_normalized_by_rows_columns_or_all():
    y_true, y_pred = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    weight = np.array([1.0, 1.0, 2.0, 0.0])
    by = {name: metrics.ConfusionMatrix(3, normalize=name) for name in (None, "true", "pred", "all")}
    results = {name: np.asarray(metric(y_true, y_pred, weight)) for name, metric in by.items()}
    np.testing.assert_allclose(results[None], [[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(results["true"], [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(results["pred"], [[1, 1 / 3, 0], [0, 2 / 3, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(results["all"], [[0.25, 0.25, 0], [0, 0.5, 0], [0, 0, 0]])


def test_perplexity_is_the_exponential_of_the_mean_over_tokens_that_count():
    y_true = np.array([[1, 2, 0], [3, 0, 0]])
    y_pred = RNG.dirichlet(np.ones(4), size=(2, 3)).astype("float32")
    kept = y_true != 0
    at_label = np.take_along_axis(y_pred, y_true[..., None], axis=-1)[..., 0]
    expected = np.exp(-np.log(at_label[kept]).mean())
    np.testing.assert_allclose(metrics.Perplexity(ignore_class=0)(y_true, y_pred), expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.Perplexity()(y_true, y_pred, kept), expected, rtol=1e-5)
    outputs = jnp.array(y_pred)
    attach_masks(outputs, jnp.array(kept))
    np.testing.assert_allclose(metrics.Perplexity()(y_true, outputs), expected, rtol=1e-5)
    logits = np.log(y_pred) + 3
    metric = metrics.Perplexity(from_logits=True, ignore_class=0)
    metric.update_state(y_true[:1], logits[:1])
    metric.update_state(y_true[1:], logits[1:])
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)


def test_before_the_first_batch_there_is_a_result():
    for metric in (metrics.AUC(multi_label=True), metrics.F1Score(), metrics.R2Score(), metrics.Precision()):
        assert metric.result() == 0
    assert metrics.Perplexity().result() == 1


@pytest.mark.parametrize("name", ["F1Score", "R2Score", "AUC"])
def test_who_builds_itself_is_noted_and_can_be_built_from_the_note(name):
    settings = {"multi_label": True} if name == "AUC" else {}
    metric, later = getattr(metrics, name)(**settings), getattr(metrics, name)(**settings)
    with noting_builds() as notes:
        metric.update_state(np.ones((4, 3), "float32"), np.ones((4, 3), "float32"))
        metric.update_state(np.ones((4, 3), "float32"), np.ones((4, 3), "float32"))
    assert [note[0] for note in notes] == [metric]
    assert notes[0][1] == (jax.ShapeDtypeStruct((4, 3), np.float32),) * 2
    later.build_for(*notes[0][1])
    assert [one.shape for one in later.variables] == [one.shape for one in metric.variables]
