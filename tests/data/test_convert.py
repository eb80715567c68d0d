import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.data import to_host_arrays


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float64, np.float32),
        (np.int64, np.int32),
        (np.uint64, np.uint32),
        (np.complex128, np.complex64),
        (np.float32, np.float32),
        (np.float16, np.float16),
        (np.uint8, np.uint8),
        (np.bool_, np.bool_),
        (jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_dtypes_become_what_the_device_has(given, kept):
    assert to_host_arrays(np.ones(3, given), "x").dtype == kept


def test_values_survive_the_conversion():
    assert to_host_arrays(np.array([2**31 - 1, -(2**31)]), "x").tolist() == [2**31 - 1, -(2**31)]


def test_nestings_of_numpy_and_jax_arrays_keep_their_structure():
    tree = {"a": (np.zeros(2), [jnp.ones(2)]), "b": np.zeros((2, 3), np.float32)}
    result = to_host_arrays(tree, "x")
    assert jax.tree.structure(result) == jax.tree.structure(tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result))


def test_arrays_of_the_right_dtype_are_not_copied():
    array, on_device = np.zeros(4, np.float32), jnp.zeros(1024)
    assert to_host_arrays(array, "x") is array
    assert np.shares_memory(to_host_arrays(on_device, "x"), np.asarray(on_device))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            np.array([2**40 + 7]),
            r"x has dtype int64 and values from 1099511627783 .* expected .* int32.*Map the",
        ),
        ({"a": np.array(["b"])}, r"x\['a'\] has dtype <U1, expected numbers\. Encode"),
        ([np.array([None, 1])], r"x\[0\] has dtype object, expected numbers\. Encode"),
        (np.float32(1), r"x has shape \(\), expected rows along a first axis\. Give"),
        ([[1, 2], [3]], r"x\[0\]\[0\] is of type int, expected a NumPy or JAX array.*np\.asarray"),
    ],
)
def test_what_cannot_be_used_is_named(tree, message):
    with pytest.raises(ValueError, match=message):
        to_host_arrays(tree, "x")
