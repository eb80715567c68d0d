import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx


def test_assign_sets_the_value_in_the_dtype_of_the_old_one():
    variable = nnx.Param(jnp.zeros(2, jnp.bfloat16))
    assert variable.assign([1.0, 2.0]) is variable
    assert variable.value.dtype == jnp.bfloat16
    variable.assign_add(np.ones(2))
    variable.assign_sub(jnp.array([0, 3]))
    assert variable.numpy().tolist() == [2, 0]
    assert isinstance(variable.numpy(), np.ndarray)


def test_assign_works_within_a_compiled_call():
    class Counter(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.array(0))

        def __call__(self):
            self.count.assign_add(1)

    counter = Counter()
    nnx.jit(lambda counter: counter())(counter)
    assert counter.count.value == 1


def test_a_value_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"assign got a value of shape \(3,\), expected \(2,\)"):
        nnx.Param(jax.numpy.zeros(2)).assign([1, 2, 3])
