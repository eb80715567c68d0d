"""What metrics refuse, and how they say it."""

import numpy as np
import pytest

import easyflax.losses as losses
import easyflax.metrics as metrics
import easyflax.nnx as nnx

WRONG_ARGUMENTS = [
    ("Precision", {"thresholds": 1.5}, r"thresholds is 1\.5, expected a number in \[0, 1\]"),
    ("TruePositives", {"thresholds": [0.5, -0.1]}, r"thresholds is -0\.1, expected a number in \[0, 1\]"),
    ("Recall", {"top_k": 0}, "top_k=0 is less than one"),
    ("Recall", {"class_id": -1}, "class_id=-1 is negative"),
    ("PrecisionAtRecall", {"recall": 2}, r"recall is 2, expected a number in \[0, 1\]"),
    ("SensitivityAtSpecificity", {"specificity": 0.5, "num_thresholds": 0}, "num_thresholds=0 is less than"),
    ("AUC", {"num_thresholds": 1}, "num_thresholds=1 is less than two"),
    ("AUC", {"curve": "RCO"}, "curve is 'RCO', expected one of 'ROC', 'PR', 'PRGAIN'"),
    ("AUC", {"summation_method": "up"}, "summation_method is 'up', expected one of 'interpolation'"),
    ("AUC", {"num_labels": 3}, "num_labels=3 was given with multi_label=False"),
    ("AUC", {"thresholds": [0.5, 2]}, r"thresholds is 2\.0, expected a number"),
    ("FBetaScore", {"average": "mean"}, "average is 'mean', expected one of"),
    ("FBetaScore", {"beta": 0}, "beta is 0, expected a positive number"),
    ("F1Score", {"threshold": 0}, r"threshold is 0, expected a number in \(0, 1\]"),
    (
        "IoU",
        {"num_classes": 3, "target_class_ids": [3]},
        "target_class_ids has 3, expected indices from 0 to 2",
    ),
    ("R2Score", {"class_aggregation": "mean"}, "class_aggregation is 'mean', expected one of"),
    ("R2Score", {"num_regressors": -1}, "num_regressors=-1 is negative"),
    ("ConfusionMatrix", {"num_classes": 1}, "num_classes=1 is less than two"),
    ("ConfusionMatrix", {"num_classes": 2, "normalize": "rows"}, "normalize is 'rows', expected None"),
]


@pytest.mark.parametrize(("name", "settings", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused_when_the_metric_is_made(name, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(**settings)


@pytest.mark.parametrize(
    "name",
    [
        "AUC",
        "Precision",
        "TruePositives",
        "BinaryAccuracy",
        "MeanSquaredError",
        "R2Score",
        "PearsonCorrelation",
    ],
)
def test_labels_are_never_broadcast(name):
    metric = getattr(metrics, name)()
    with pytest.raises(ValueError, match=r"labels have shape \(n, 1\) and outputs \(n, 4\)"):
        metric.update_state(np.zeros((3, 1)), np.zeros((3, 4)))
    with pytest.raises(
        ValueError, match=r"labels have shape \(3, 4\) and outputs \(2, 4\), expected as many"
    ):
        metric.update_state(np.zeros((3, 4)), np.zeros((2, 4)))


@pytest.mark.parametrize("name", ["AUC", "F1Score", "MeanAbsoluteError", "R2Score", "Perplexity"])
def test_weights_that_do_not_fit_are_refused(name):
    metric = getattr(metrics, name)()
    labels = np.zeros(3, int) if name == "Perplexity" else np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(2,\)|sample_weight has shape \(2, 1\)"):
        metric.update_state(labels, np.full((3, 4), 0.25), sample_weight=np.ones(2))


def test_classes_that_are_not_there_are_refused():
    y_true, y_pred = np.zeros((3, 4)), np.zeros((3, 4))
    with pytest.raises(
        ValueError, match=r"precision: outputs have shape \(3, 4\), expected .* at least 5 classes"
    ):
        metrics.Precision(class_id=4).update_state(y_true, y_pred)
    with pytest.raises(ValueError, match="at least 5 classes for this top_k"):
        metrics.Recall(top_k=5).update_state(y_true, y_pred)
    with pytest.raises(ValueError, match="there are 3 label_weights for labels of shape"):
        metrics.AUC(label_weights=[1, 2, 3]).update_state(y_true, y_pred)


def test_scores_need_an_axis_of_classes_where_each_has_its_own():
    with pytest.raises(
        ValueError, match=r"f1_score: labels have shape \(3,\).*expected both \(batch, classes\)"
    ):
        metrics.F1Score().update_state(np.zeros(3), np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"auc: outputs have shape \(3,\), expected \(batch, labels\)"):
        metrics.AUC(multi_label=True).update_state(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"r2_score: outputs have shape \(3, 2, 2\), expected"):
        metrics.R2Score().update_state(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))
    with pytest.raises(
        ValueError, match=r"mean_io_u: class indices have shape \(3,\) in labels and \(3, 4\)"
    ):
        metrics.MeanIoU(4).update_state(np.zeros(3), np.zeros((3, 4)))


def test_names_that_need_arguments_say_so():
    with pytest.raises(TypeError, match=r"The metric MeanIoU was given without arguments.*MeanIoU\(\.\.\.\)"):
        metrics.get("mean_io_u")
    with pytest.raises(TypeError, match="The metric IoU was given without arguments"):
        metrics.get(metrics.IoU)


def test_what_stands_for_no_metric_is_refused():
    for wrong in ({"name": "auc"}, int):
        with pytest.raises(TypeError, match=r"given as what stands for a (dict|int), expected a name"):
            metrics.get(wrong)


def test_a_name_in_place_of_a_shape_is_refused():
    with pytest.raises(TypeError, match=r"have the shape 'total', expected a tuple.*name='total'"):
        metrics.Mean().add_weight("total", initializer="zeros")


def test_what_looks_along_the_rows_cannot_leave_some_out():
    like = np.ones((4, 4), "float32")
    for name in ("PearsonCorrelation", "CosineSimilarity", "ConcordanceCorrelation"):
        assert getattr(metrics, name)().is_row_wise(like, like)
        assert not getattr(metrics, name)(axis=0).is_row_wise(like, like)


def test_metrics_of_nnx_are_refused_with_what_to_take():
    with pytest.raises(TypeError, match=r"given as an nnx\.metrics\.Accuracy.*SparseCategoricalAccuracy\(\)"):
        metrics.check(nnx.metrics.Accuracy())


def test_get_answers_as_keras_where_no_shapes_are_known():
    def error(y_true, y_pred):
        return abs(y_true - y_pred)

    assert metrics.get(None) is None
    assert metrics.get(error) is error
    assert type(metrics.get("mse")) is metrics.MeanSquaredError
    assert metrics.get("mse").name == "mean_squared_error"
    assert type(metrics.get("AUC")) is metrics.AUC
    assert type(metrics.get("accuracy")) is metrics.Accuracy
    config = {"class_name": "BinaryAccuracy", "config": {"threshold": 0.2}}
    assert metrics.get(config).threshold == 0.2


def test_metrics_by_name_read_logits_where_the_loss_does():
    shapes = {"output_shape": (None, 1), "y_shape": (None, 1)}
    loss = losses.BinaryCrossentropy(from_logits=True)
    assert metrics.get("auc", **shapes, loss=loss).get_config()["from_logits"]
    assert metrics.get("binary_crossentropy", **shapes, loss=loss).from_logits
    assert not metrics.get("AUC", **shapes, loss=losses.BinaryCrossentropy()).get_config()["from_logits"]
    assert not metrics.get(metrics.AUC(), **shapes, loss=loss).get_config()["from_logits"]


def test_cosine_similarity_by_name_is_the_metric_not_the_loss():
    metric = metrics.get("cosine_similarity", output_shape=(None, 2), y_shape=(None, 2))
    assert metric.direction == "max"
    np.testing.assert_allclose(metric([[1.0, 0.0]], [[2.0, 0.0]]), 1, rtol=1e-6)


def test_a_function_gives_its_name_in_snake_case_and_a_loss_function_its_direction():
    shapes = {"output_shape": (None, 1), "y_shape": (None, 1)}

    def squaredError(y_true, y_pred):
        return (y_true - y_pred) ** 2

    assert metrics.get(squaredError, **shapes).name == "squared_error"
    assert metrics.get(squaredError, **shapes).direction is None
    assert metrics.get(losses.mean_squared_error, **shapes).direction == "min"
