import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.initializers as initializers


def test_none_stays_none_and_an_object_itself():
    zeros = initializers.Zeros()
    assert initializers.get(None) is None
    assert initializers.get(zeros) is zeros
    assert initializers.get(initializers.Zeros) == zeros


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_an_array_is_where_the_variable_starts_and_survives_serialization(xp):
    init = initializers.get(xp.arange(3.0))
    assert init((3,)).tolist() == [0.0, 1.0, 2.0]
    assert initializers.deserialize(initializers.serialize(init)) == init


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"Unknown initializer 'glorot_unifrom'.*Did you mean 'glorot_uniform'"
    ):
        initializers.get("glorot_unifrom")


def test_what_cannot_be_an_initializer_is_refused():
    with pytest.raises(
        ValueError, match=r"An initializer was given as int, expected a name, an ef.initializers"
    ):
        initializers.get(3)
