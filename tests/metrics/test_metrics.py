"""Exact accumulation, padding, and what may be given as a metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.losses as losses
import easyflax.metrics as metrics

RNG = np.random.default_rng(2)


def _over(metric, y_true, y_pred, weight=None):
    state = metric.stateless_update_state(metric.stateless_reset_state(), y_true, y_pred, weight)
    return metric.stateless_result(state)


def test_rows_of_weight_zero_count_nowhere_even_when_they_are_infinite():
    y_true, y_pred = RNG.normal(size=(2, 6, 3)).astype("float32")
    y_pred[4:] = np.inf
    mask = np.arange(6) < 4
    for weight in (mask, mask.astype("float32")):
        np.testing.assert_allclose(
            _over(metrics.MeanSquaredError(), y_true, y_pred, weight),
            ((y_true - y_pred)[:4] ** 2).mean(),
            rtol=1e-6,
        )


def test_eight_devices_give_what_one_gives():
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    metric = metrics.SparseCategoricalAccuracy()
    y_true = RNG.integers(0, 3, size=64)
    y_pred = RNG.normal(size=(64, 3)).astype("float32")
    update = jax.jit(metric.stateless_update_state)
    state = update(metric.stateless_reset_state(), jax.device_put(y_true, rows), jax.device_put(y_pred, rows))
    expected = (y_pred.argmax(1) == y_true).mean()
    assert float(metric.stateless_result(state)) == pytest.approx(expected, rel=1e-6)


def test_the_state_keeps_its_types_so_that_nothing_recompiles():
    metric = metrics.get("accuracy", output_shape=(None, 3), y_shape=(None,), loss=None)
    state = metric.stateless_reset_state()
    after = jax.jit(metric.stateless_update_state)(state, jnp.array([1]), jnp.ones((1, 3)))
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after)):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)


@pytest.mark.parametrize(
    ("output_shape", "y_shape", "expected"),
    [
        ((None, 1), (None,), metrics.BinaryAccuracy),
        ((None, 1), (None, 1), metrics.BinaryAccuracy),
        ((None,), (None,), metrics.BinaryAccuracy),
        ((None, 10), (None,), metrics.SparseCategoricalAccuracy),
        ((None, 10), (None, 1), metrics.SparseCategoricalAccuracy),
        ((None, 10), (None, 10), metrics.CategoricalAccuracy),
        ((None, 5, 10), (None, 5), metrics.SparseCategoricalAccuracy),
    ],
)
def test_accuracy_is_resolved_by_shapes(output_shape, y_shape, expected):
    metric = metrics.get("accuracy", output_shape=output_shape, y_shape=y_shape, loss=None)
    assert type(metric) is expected
    assert metric.name == "accuracy"
    assert metric.direction == "max"


def test_top_k_is_resolved_by_shapes():
    assert (
        type(metrics.get("top_k", output_shape=(None, 9), y_shape=(None,)))
        is metrics.SparseTopKCategoricalAccuracy
    )
    assert (
        type(metrics.get("top_k", output_shape=(None, 9), y_shape=(None, 9)))
        is metrics.TopKCategoricalAccuracy
    )


def test_a_binary_accuracy_of_ones_own_keeps_its_threshold_whatever_the_loss():
    own = metrics.BinaryAccuracy(threshold=0.7)
    loss = losses.BinaryCrossentropy(from_logits=True)
    assert metrics.get(own, output_shape=(None, 1), y_shape=(None, 1), loss=loss) is own
    assert _over(own, np.array([1, 0]), np.array([[0.8], [0.6]])) == 1


def test_a_loss_by_name_reads_logits_when_the_models_loss_does():
    y_true, y_pred = np.array([0, 1]), np.array([[2.0, 0.0], [0.0, 3.0]], "float32")
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = metrics.get(
        "sparse_categorical_crossentropy", output_shape=(None, 2), y_shape=(None,), loss=loss
    )
    np.testing.assert_allclose(_over(metric, y_true, y_pred), loss(y_true, y_pred), rtol=1e-6)
    assert metric.direction == "min"


def test_a_nan_at_the_label_is_not_among_the_top_k():
    y_pred = np.array([[np.nan, 0.1, 0.2]], "float32")
    assert _over(metrics.SparseTopKCategoricalAccuracy(3), np.array([0]), y_pred) == 0
    assert _over(metrics.SparseTopKCategoricalAccuracy(3), np.array([1]), y_pred) == 1


def test_a_plain_function_is_a_metric():
    def largest_error(y_true, y_pred):
        return jnp.abs(y_true - y_pred).max(-1)

    metric = metrics.get(largest_error, output_shape=(None, 2), y_shape=(None, 2))
    assert metric.name == "largest_error"
    assert metric.direction is None
    assert _over(metric, np.zeros((2, 2)), np.array([[1.0, 3.0], [5.0, 2.0]])) == 4
    assert _over(metric, np.zeros((2, 2)), np.array([[1.0, 3.0], [5.0, 2.0]]), np.array([True, False])) == 3


def test_a_function_of_the_whole_batch_weighs_each_batch_by_its_rows():
    metric = metrics.get(lambda y_true, y_pred: jnp.mean(y_pred), output_shape=(None, 1), y_shape=(None, 1))
    struct = jax.ShapeDtypeStruct((4, 1), np.float32)
    assert not metric.is_row_wise(struct, struct)
    assert metrics.MeanSquaredError().is_row_wise(struct, struct)
    metric.update_state(np.zeros((3, 1)), np.ones((3, 1)))
    metric.update_state(np.zeros((1, 1)), np.full((1, 1), 5.0))
    assert metric.result() == 2
    with pytest.raises(
        ValueError, match=r"one value for a whole batch, expected one a row.*leave out the mean"
    ):
        metric.update_state(np.zeros((2, 1)), np.ones((2, 1)), np.array([True, False]))


def test_a_function_of_the_wrong_length_is_refused():
    metric = metrics.get(lambda y_true, y_pred: jnp.zeros(3), output_shape=(None, 1), y_shape=(None, 1))
    with pytest.raises(ValueError, match=r"returned shape \(3,\) for a batch of 2, expected \(2,\)"):
        metric.update_state(np.zeros((2, 1)), np.zeros((2, 1)))


@pytest.mark.parametrize(
    "metric", [metrics.CategoricalAccuracy(), metrics.BinaryAccuracy(), metrics.MeanSquaredError()]
)
def test_labels_that_do_not_fit_are_never_broadcast(metric):
    with pytest.raises(ValueError, match=r"labels have shape \(n, 1\) and outputs \(n, 4\)"):
        metric.update_state(np.zeros((3, 1)), np.zeros((3, 4)))


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"Unknown metric 'acuracy'.*Did you mean 'accuracy'\?"):
        metrics.check("acuracy")
    with pytest.raises(ValueError, match="Unknown metric 'acuracy'"):
        metrics.get("acuracy", output_shape=(None, 1), y_shape=(None, 1))


def test_something_that_is_no_metric_is_refused():
    with pytest.raises(TypeError, match="A metric was given as int, expected a name"):
        metrics.check(3)


@pytest.mark.parametrize("cls", [metrics.TopKCategoricalAccuracy, metrics.SparseTopKCategoricalAccuracy])
def test_k_below_one_is_refused(cls):
    with pytest.raises(ValueError, match="k=0 is less than one"):
        cls(k=0)


def test_every_known_name_passes_the_check_and_builds():
    for name in ("accuracy", "acc", "top_k", "mae", "MeanSquaredError", "SparseCategoricalAccuracy", "huber"):
        metrics.check(name)
        assert metrics.get(name, output_shape=(None, 4), y_shape=(None,)).name == name


def test_a_class_stands_for_its_object_and_a_loss_for_its_mean():
    assert type(metrics.get(metrics.MeanAbsoluteError, output_shape=(None, 1), y_shape=(None, 1))) is (
        metrics.MeanAbsoluteError
    )
    metric = metrics.get(losses.Huber(delta=2.0), output_shape=(None, 1), y_shape=(None, 1))
    assert metric.name == "huber_loss"
    assert _over(metric, np.zeros((1, 1)), np.full((1, 1), 4.0)) == 2 * (4 - 1)
