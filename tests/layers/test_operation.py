"""Operations and functions are parts of graphs without being layers."""

from __future__ import annotations

import numpy as np
import pytest

import easyflax as ef


class Scale(ef.Operation):
    def __init__(self, factor, name=None):
        super().__init__(name)
        self.factor = factor

    def call(self, x, shift=0.0):
        return self.factor * x + shift


def test_an_operation_computes_on_arrays_and_on_symbolic_values():
    x = ef.Input((3,))
    y = Scale(2.0)(x, shift=1.0)
    assert isinstance(y, ef.KerasTensor)
    assert y.shape == (None, 3)
    assert y.name == "scale"
    data = np.arange(6.0).reshape(2, 3).astype("float32")
    np.testing.assert_allclose(ef.Model(x, y).predict(data, verbose=0), 2 * data + 1)
    np.testing.assert_allclose(Scale(2.0)(data), 2 * data)


def test_operations_of_other_settings_are_other_steps():
    x = ef.Input((3,))
    model = ef.Model(x, [Scale(2.0, name="double")(x), Scale(3.0)(x)])
    double, triple = model.predict(np.ones((1, 3)), verbose=0)
    assert double[0, 0] == 2
    assert triple[0, 0] == 3


def test_an_operation_without_call_says_so():
    with pytest.raises(NotImplementedError, match=r"Operation has no method call.*Define call"):
        ef.Operation()(1.0)


def test_a_function_computes_between_symbolic_values():
    a, b = ef.KerasTensor((None, 2)), ef.KerasTensor((None, 2), dtype="int32", name="counts")
    total = ef.ops.sum(a * b, axis=-1)
    function = ef.Function([a, b], {"total": total, "product": a * b}, name="dot")
    found = function([np.ones((3, 2)), np.full((3, 2), 2)])
    assert found["total"].tolist() == [4.0, 4.0, 4.0]
    assert found["product"].shape == (3, 2)
    assert function.inputs == [a, b]
    assert len(function.outputs) == 2
    assert function.name == "dot"
    assert b.name == "counts"
    assert b.dtype == "int32"


def test_a_value_made_by_hand_is_the_input_of_a_model():
    x = ef.KerasTensor((None, 4))
    model = ef.Model(x, ef.layers.Dense(1)(x))
    assert model.predict(np.ones((2, 4)), verbose=0).shape == (2, 1)
