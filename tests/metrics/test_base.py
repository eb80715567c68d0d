"""The contract of a metric, kept by metrics of one's own: stateful by itself, pure for transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.metrics as metrics
import easyflax.nnx as nnx
import easyflax.ops as ops

RNG = np.random.default_rng(1)
Y_TRUE = RNG.integers(0, 2, size=(12, 1))
Y_PRED = RNG.uniform(size=(12, 1)).astype("float32")


class TruePositives(metrics.Metric):
    """As such a class is written for Keras."""

    def __init__(self, name="true_positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.true_positives = self.add_variable(shape=(), initializer="zeros", name="tp")

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = ops.logical_and(ops.cast(y_true, "bool"), ops.greater(y_pred, 0.5))
        values = ops.cast(values, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            values = ops.multiply(values, ops.expand_dims(sample_weight, -1))
        self.true_positives.assign(self.true_positives + ops.sum(values))

    def result(self):
        return self.true_positives


class Range(metrics.Metric):
    """Several variables, one of which starts at one, a metric inside, and a dict as the result."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.smallest = self.add_weight(name="smallest", initializer="ones")
        self.largest = self.add_weight(shape=(), name="largest", initializer="zeros")
        self.means = [metrics.Mean(name="mean")]

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.smallest.assign(ops.minimum(self.smallest, ops.min(y_pred)))
        self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))
        self.means[0].update_state(y_pred)

    def result(self):
        return {
            "range": self.largest - self.smallest,
            "largest": self.largest,
            "mean": self.means[0].result(),
        }


class Columns(metrics.Metric):
    """Makes its variable at the first update."""

    def __init__(self, name="columns"):
        super().__init__(name=name)
        self.total = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.total is None:
            self.total = self.add_variable((y_pred.shape[-1],), "zeros", name="total")
        self.total.assign_add(ops.sum(y_pred, axis=0))

    def result(self):
        return ops.max(self.total)


def test_a_metric_of_ones_own_accumulates_and_starts_over():
    metric = TruePositives()
    for part in (slice(0, 5), slice(5, 12)):
        metric.update_state(Y_TRUE[part], Y_PRED[part])
    expected = ((Y_PRED > 0.5) & (Y_TRUE == 1)).sum()
    assert metric.result() == expected > 0
    metric.reset_state()
    assert metric.result() == 0
    assert metric(Y_TRUE, Y_PRED) == expected


@pytest.mark.parametrize("make", [TruePositives, Range, metrics.Mean, metrics.BinaryAccuracy])
def test_the_pure_functions_give_what_the_methods_give(make):
    metric, pure = make(), make()
    batches = [(Y_TRUE[part], Y_PRED[part]) for part in (slice(0, 4), slice(4, 8), slice(8, 12))]
    if make is metrics.Mean:
        batches = [(y_pred,) for _, y_pred in batches]
    state = jax.jit(pure.stateless_reset_state)()
    update = jax.jit(pure.stateless_update_state)
    for batch in batches:
        metric.update_state(*batch)
        state = update(state, *batch)
    result = jax.jit(pure.stateless_result)(state)
    jax.tree.map(np.testing.assert_allclose, result, _plain(metric.result()))
    assert [np.asarray(v).tolist() for v in pure.variables] == [
        np.asarray(v).tolist() for v in pure.stateless_reset_state()
    ]


def _plain(result):
    return {name: np.asarray(value) for name, value in result.items()} if isinstance(result, dict) else result


def test_the_pure_functions_run_in_scan_and_vmap():
    metric = TruePositives()
    y_true, y_pred = Y_TRUE.reshape(3, 4, 1), Y_PRED.reshape(3, 4, 1)

    def step(state, batch):
        return metric.stateless_update_state(state, *batch), None

    state, _ = jax.lax.scan(step, metric.stateless_reset_state(), (y_true, y_pred))
    assert metric.stateless_result(state) == metric(Y_TRUE, Y_PRED)
    accuracy = metrics.BinaryAccuracy()
    states = jax.vmap(
        lambda *batch: accuracy.stateless_update_state(accuracy.stateless_reset_state(), *batch)
    )(y_true, y_pred)
    each = jax.vmap(accuracy.stateless_result)(states)
    np.testing.assert_allclose(each, ((y_pred > 0.5) == y_true).mean(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("as_what", ["variables", "arrays", "totals"])
def test_states_come_as_variables_or_arrays_or_exact_sums(as_what):
    metric = metrics.Mean()
    metric.update_state([4.0])
    state = {
        "variables": metric.variables,
        "arrays": [variable.numpy() for variable in metric.variables],
        "totals": [variable.get_raw_value() for variable in metric.variables],
    }[as_what]
    state = metric.stateless_update_state(state, [2.0])
    assert metric.stateless_result(state) == 3
    assert metric.result() == 4
    for variable, value in zip(metric.variables, state, strict=True):
        variable.assign(value)
    assert metric.result() == 3


def test_a_state_of_the_wrong_length_is_refused():
    metric = metrics.Mean()
    with pytest.raises(ValueError, match=r"mean: got 1 metric_variables, expected 2, one for each of Mean"):
        metric.stateless_update_state(metric.stateless_reset_state()[:1], [1.0])
    with pytest.raises(ValueError, match="got 3 metric_variables, expected 2"):
        metric.stateless_result([0.0, 0.0, 0.0])


def test_variables_are_listed_in_the_order_in_which_they_were_made_also_after_a_copy():
    metric = Range()
    names = ["smallest", "largest", "total", "count"]
    assert [variable.name for variable in metric.variables] == names
    assert [variable.name for variable in nnx.clone(metric).variables] == names
    assert all(
        type(variable) in (nnx.metrics.MetricState, type(metric.means[0].total))
        for variable in metric.variables
    )


def test_reset_brings_back_the_initial_values():
    metric = Range()
    metric.update_state(None, np.array([-3.0, 7.0], "float32"))
    assert metric.result()["range"] == 10
    metric.reset_state()
    assert [float(variable) for variable in metric.variables] == [1, 0, 0, 0]


def test_variables_made_from_the_first_batch_are_made_beforehand():
    metric = Columns()
    like = jax.ShapeDtypeStruct((4, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"columns made variables in update_state.*build_for\(y_true, y_pred\)"
    ):
        metric.stateless_update_state(metric.stateless_reset_state(), np.ones((4, 3)), np.ones((4, 3)))
    metric.build_for(like, like)
    assert [variable.shape for variable in metric.variables] == [(3,)]
    metric.build_for(like, like)
    state = metric.stateless_update_state(metric.stateless_reset_state(), None, np.ones((4, 3), "float32"))
    assert metric.stateless_result(state) == 4
    assert metric.result() == 0


def test_a_metric_in_a_module_is_found_there_and_split_off():
    class Model(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(jnp.ones(2))
            self.accuracy = metrics.BinaryAccuracy()

    model = Model()
    state = nnx.state(model, nnx.metrics.MetricState)
    assert {path for path, _ in nnx.to_flat_state(state)} == {("accuracy", "total"), ("accuracy", "count")}
    again = nnx.clone(model)
    again.accuracy.update_state(Y_TRUE, Y_PRED)
    assert again.accuracy.result() == ((Y_PRED > 0.5) == Y_TRUE).mean()
    assert model.accuracy.result() == 0


def test_metrics_are_told_apart_by_identity():
    one, other = metrics.Mean(), metrics.Mean()
    assert one != other
    assert len({one, other, one}) == 2


def test_names_directions_and_dtypes():
    assert TruePositives().name == "true_positives"
    assert Range().name == "range"
    assert Range(name="mine").name == "mine"
    assert metrics.Mean().dtype == "float32"
    assert metrics.Mean(dtype="bfloat16")([1.0]).dtype == jnp.bfloat16
    assert (
        metrics.Mean(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}}).dtype
        == "float16"
    )
    assert TruePositives().direction is None
    assert metrics.BinaryAccuracy().direction == "max"
    assert metrics.MeanSquaredError().direction == "min"


def test_only_metrics_that_say_so_leave_out_rows_of_weight_zero():
    class Doubled(metrics.Mean):
        def update_state(self, values, sample_weight=None):
            super().update_state(values * 2)

    class Renamed(metrics.BinaryAccuracy):
        pass

    like = jax.ShapeDtypeStruct((4, 1), np.float32)
    assert metrics.Mean().is_row_wise(like, like)
    assert Renamed().is_row_wise(like, like)
    assert not Doubled().is_row_wise(like, like)
    assert not TruePositives().is_row_wise(like, like)


@pytest.mark.parametrize("make", [TruePositives, metrics.Sum, metrics.Mean, metrics.BinaryAccuracy])
def test_the_states_of_parts_merge_to_the_state_of_all(make):
    whole, one, other = make(), make(), make()
    parts = (slice(0, 5), slice(5, 12))
    batches = [
        (Y_PRED[part],) if make in (metrics.Sum, metrics.Mean) else (Y_TRUE[part], Y_PRED[part])
        for part in parts
    ]
    states = [one.stateless_update_state(one.stateless_reset_state(), *batch) for batch in batches]
    for metric, batch in zip((one, other), batches, strict=True):
        metric.update_state(*batch)
        whole.update_state(*batch)
    merged = one.stateless_result(one.stateless_merge_state(states))
    one.merge_state([other])
    assert one.result() == whole.result() == merged


def test_variables_merge_by_their_aggregation():
    class Several(metrics.Metric):
        def __init__(self, aggregation):
            super().__init__()
            self.value = self.add_variable((), "zeros", aggregation=aggregation, name="value")

        def update_state(self, value):
            self.value.assign(value)

        def result(self):
            return self.value

    for aggregation, expected in (("sum", 9), ("mean", 3), ("only_first_replica", 2)):
        several = [Several(aggregation) for _ in range(3)]
        for metric, value in zip(several, (2, 3, 4), strict=True):
            metric.update_state(value)
        several[0].merge_state(several[1:])
        assert several[0].result() == expected
    with pytest.raises(ValueError, match=r"'value' has no rule to merge its values.*define merge_state"):
        Several(None).merge_state([Several(None)])
    with pytest.raises(ValueError, match="aggregation is 'max', expected one of"):
        Several("max")


def test_metrics_that_differ_are_not_merged():
    with pytest.raises(TypeError, match="merge_state got a Sum, expected a Mean"):
        metrics.Mean().merge_state([metrics.Sum()])
    one, other = Columns(), Columns()
    for metric, columns in ((one, 2), (other, 3)):
        metric.update_state(None, np.ones((1, columns)))
    with pytest.raises(ValueError, match=r"variables of shapes \[\(3,\)\], expected \[\(2,\)\]"):
        one.merge_state([other])
    with pytest.raises(ValueError, match="got no states to merge"):
        one.stateless_merge_state([])


def test_a_forgotten_init_and_forgotten_methods_are_named():
    class Forgetful(metrics.Metric):
        def __init__(self):
            self.total = self.add_variable((), "zeros")

    with pytest.raises(RuntimeError, match=r"expected a call of super\(\)\.__init__\(\) first"):
        Forgetful()

    class Empty(metrics.Metric):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no update_state"):
        Empty().update_state(1)
    with pytest.raises(NotImplementedError, match="Empty has no result"):
        Empty().result()
    with pytest.raises(ValueError, match="dtype is 'flaot', expected a dtype"):
        metrics.Mean(dtype="flaot")


def test_a_metric_is_made_again_from_its_config():
    metric = TruePositives(name="hits")
    assert metric.get_config() == {"name": "hits", "dtype": "float32"}
    assert TruePositives.from_config(metric.get_config()).name == "hits"
