import jax
import jax.numpy as jnp

import easyflax.layers as layers
from easyflax.layers.specs import ArraySpec


def test_a_spec_has_free_axes_and_spells_its_dtype_as_jax_does():
    spec = ArraySpec((None, 3), "bfloat16")
    assert spec.ndim == 2
    assert spec.dtype == jax.ShapeDtypeStruct((), jnp.bfloat16).dtype
    assert spec == ArraySpec((None, 3), jnp.bfloat16)


def test_layers_are_built_for_specs_of_either_kind():
    for spec in (ArraySpec((None, 3), "float32"), jax.ShapeDtypeStruct((2, 3), jnp.float32)):
        layer = layers.Dense(4)
        layer.build_for((spec,), {})
        assert layer.kernel.shape == (3, 4)
