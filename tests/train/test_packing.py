import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax.train.packing import Packing

TREE = {"b": (jnp.arange(6.0).reshape(2, 3), jnp.int32(7)), "a": jnp.float32(0.5), "n": jnp.array([1, 2])}


@pytest.mark.parametrize("convert", [jnp.asarray, np.asarray])
def test_unpacking_is_the_reverse_of_packing(convert):
    packing = Packing(lambda: TREE)
    packed = jax.tree.map(convert, packing.pack(TREE))
    assert {dtype: vector.shape for dtype, vector in packed.items()} == {"float32": (7,), "int32": (3,)}
    unpacked = packing.unpack(packed)
    assert jax.tree.structure(unpacked) == jax.tree.structure(TREE)
    assert jax.tree.all(
        jax.tree.map(lambda new, old: np.array_equal(new, old) and new.dtype == old.dtype, unpacked, TREE)
    )


def test_it_works_inside_of_jit():
    packing = Packing(lambda: TREE)
    doubled = jax.jit(lambda packed: packing.pack(jax.tree.map(lambda x: x * 2, packing.unpack(packed))))
    assert packing.unpack(doubled(packing.pack(TREE)))["b"][1] == 14


def test_nothing_packs_into_nothing():
    packing = Packing(dict)
    assert packing.pack({}) == {}
    assert packing.unpack({}) == {}
