"""A compiled function recognizes a call that repeats the last one, and nothing else."""

import gc
import weakref

import jax.numpy as jnp
import numpy as np

from easyflax import nnx


def add(first, second, x):
    first.value = first.value + x
    return first.value + 10 * second.value


def variable(value):
    return nnx.Param(jnp.array(value))


def test_other_objects_in_the_same_places_are_other_calls():
    call = nnx.jit(add, donate_argnums=0)
    a, b, c = variable(1.0), variable(2.0), variable(3.0)
    for first, second, expected in [(a, b, 22), (a, b, 23), (b, a, 33), (a, c, 34), (a, c, 35), (a, b, 36)]:
        assert float(call(first, second, 1.0)) == expected


def test_a_change_of_structure_between_repeated_calls_is_seen():
    model = nnx.Dict(a=variable(1.0), factor=2.0)
    scale = nnx.jit(lambda model: model.a * model.factor)
    assert [float(scale(model)) for _ in range(3)] == [2, 2, 2]
    model.factor = 5.0
    assert [float(scale(model)) for _ in range(3)] == [5, 5, 5]
    model.a = variable(3.0)
    assert [float(scale(model)) for _ in range(3)] == [15, 15, 15]


def test_modules_in_the_place_of_arrays_and_within_containers_are_other_calls():
    double = nnx.jit(lambda x, y: 2 * x + y)
    x, v = jnp.ones(2), variable([3.0, 3.0])
    for _ in range(3):
        np.testing.assert_array_equal(double(v, x), [7, 7])
    for _ in range(3):
        np.testing.assert_array_equal(double(x, v), [5, 5])
        np.testing.assert_array_equal(double(v, v), [9, 9])
        np.testing.assert_array_equal(double(v, y=x), [7, 7])
    total = nnx.jit(lambda pair: pair[0] + pair[1])
    for _ in range(3):
        np.testing.assert_array_equal(total([v, x]), [4, 4])
        np.testing.assert_array_equal(total([x, v]), [4, 4])
        np.testing.assert_array_equal(total([v, v]), [6, 6])


def test_a_method_of_several_objects_is_called_on_the_right_one():
    class Counter(nnx.Module):
        def __init__(self, start):
            self.count = nnx.Variable(jnp.array(start))

        @nnx.jit
        def step(self, by):
            self.count.value += by
            return self.count.value

    a, b = Counter(0), Counter(100)
    seen = [int(counter.step(1)) for counter in (a, a, a, b, b, b, a)]
    assert seen == [1, 2, 3, 101, 102, 103, 4]


def test_repeated_calls_keep_no_model_alive():
    call = nnx.jit(lambda model, x: model(x))
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    kernel = weakref.ref(model.kernel)
    for _ in range(3):
        call(model, jnp.ones((1, 2)))
    gc.disable()
    try:
        del model
        assert kernel() is None
    finally:
        gc.enable()
