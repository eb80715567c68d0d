import jax
import numpy as np

import easyflax.layers as layers
from easyflax.models import Sequential

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def compiled():
    model = Sequential([layers.Input((3,)), layers.Dense(3)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def test_metrics_have_what_an_evaluation_left_in_them_whenever_somebody_looks():
    model = compiled()
    model.evaluate(X, X, verbose=0)
    results = model.evaluate(X, 2 * X, verbose=0, return_dict=True)
    found = {metric.name: float(metric.result()) for metric in model.metrics}
    assert found == results
    for metric in model.metrics:
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(metric.variables))


def test_metrics_can_be_looked_at_for_the_first_time_within_a_trace():
    model = compiled()
    _, mae = model.evaluate(X, X, verbose=0)
    metric = model.metrics[-1]
    assert float(jax.jit(lambda x: metric.result() + x)(1.0)) == np.float32(mae) + 1
    assert float(metric.result()) == mae
