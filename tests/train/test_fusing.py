import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.fusing import estimated_seconds, steps_together


def _traced(function, *shapes):
    return jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))


def _chain(times):
    def chain(x):
        for _ in range(times):
            x = jnp.tanh(x @ x)
        return x

    return chain


SMALL = _traced(_chain(3), (32, 32))


def test_small_steps_go_together_in_a_power_of_two():
    number = steps_together(SMALL, [], "cpu")
    assert number > 16
    assert number.bit_count() == 1


def test_the_answer_is_the_same_each_time():
    assert len({steps_together(_traced(_chain(3), (32, 32)), [], "cpu") for _ in range(5)}) == 1


def test_long_steps_go_one_by_one():
    assert steps_together(_traced(_chain(3), (2048, 2048)), [], "cpu") == 1


def test_more_work_never_means_more_steps_together():
    numbers = [steps_together(_traced(_chain(n), (64, 64)), [], "cpu") for n in (1, 4, 16, 64, 256)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > numbers[-1]


def test_batches_that_take_much_memory_are_not_stacked():
    batch = jax.ShapeDtypeStruct((2**23,), np.float32)  # 32 MiB
    assert steps_together(SMALL, batch, "cpu") == 1


def _convolution(x, kernel):
    return jax.lax.conv(x, kernel, (1, 1), "SAME")


@pytest.mark.parametrize(("platform", "is_fused"), [("cpu", False), ("gpu", True)])
def test_convolutions_are_not_looped_over_on_a_cpu(platform, is_fused):
    inside = _traced(jax.jit(_convolution), (1, 1, 8, 8), (1, 1, 3, 3))
    assert (steps_together(inside, [], platform) > 1) == is_fused


def test_a_step_that_prints_goes_alone():
    def printing(x):
        jax.debug.print("{}", x)
        return x

    assert steps_together(_traced(printing, ()), [], "cpu") == 1


def test_the_rounds_of_a_scan_are_counted():
    def scanned(x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, length=64)[0]

    once, often = (estimated_seconds(_traced(one, (64, 64)), "cpu") for one in (_chain(1), scanned))
    assert 50 * once < often < 80 * once


def test_the_operations_of_a_product_are_counted():
    # 2 n^3 operations and three matrices, at 5e10 a second and 2e10 bytes a second, and one equation
    n = 256
    expected = 2 * n**3 / 5e10 + 3 * n * n * 4 / 2e10 + 5e-8
    assert estimated_seconds(_traced(jnp.dot, (n, n), (n, n)), "cpu") == pytest.approx(expected, rel=1e-6)
