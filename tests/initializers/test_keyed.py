import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.initializers as initializers
import easyflax.nnx as nnx

KEY = jax.random.key(3)


def test_a_layer_gives_an_unseeded_initializer_its_own_key():
    init = initializers.as_init(initializers.HeNormal())
    one, other = init(KEY, (3, 4), jnp.float32), init(jax.random.key(4), (3, 4), jnp.float32)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, init(KEY, (3, 4), jnp.float32))


def test_a_seed_decides_whatever_the_key():
    init = initializers.as_init(initializers.HeNormal(seed=1))
    np.testing.assert_array_equal(init(KEY, (3, 4)), initializers.HeNormal(seed=1)((3, 4)))
    np.testing.assert_array_equal(init(KEY, (3, 4)), init(jax.random.key(9), (3, 4)))


def test_making_weights_compiles_nothing(caplog):
    draw = initializers.as_init("he_normal")
    fill = [initializers.as_init(name) for name in ("zeros", "ones")]
    draw(KEY, (2, 3), jnp.float32)
    with jax.log_compiles():
        for init in (draw, *fill):
            init(KEY, (41, 43), jnp.float32)  # a shape that nobody else has
    assert "XLA compilation" not in caplog.text


def test_the_same_object_serves_a_layer_of_nnx():
    layer = nnx.Linear(3, 4, kernel_init=initializers.as_init(initializers.Constant(2.0)), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer.kernel[...], np.full((3, 4), 2.0))


def as_keras(shape, dtype=None):
    return jnp.full(shape, 5, dtype)


def as_jax(key, shape, dtype=jnp.float32):
    return jax.random.normal(key, shape, dtype)


@pytest.mark.parametrize(
    "function",
    [
        as_jax,
        jax.nn.initializers.he_normal(),
        jax.nn.initializers.zeros,
        lambda k, s, d: jnp.zeros(s, d),
        initializers.as_init(initializers.Zeros()),
    ],
    ids=["function", "he_normal", "zeros", "lambda", "keyed"],
)
def test_functions_that_take_a_key_stay_as_they_are(function):
    assert initializers.as_init(function) is function


@pytest.mark.parametrize(
    "function", [as_keras, lambda s, dtype=None: jnp.full(s, 5, dtype)], ids=["def", "lambda"]
)
def test_functions_of_shape_and_dtype_are_given_these(function):
    init = initializers.as_init(function)
    got = init(KEY, (2,), jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    assert got.tolist() == [5, 5]


def test_initializers_of_equal_configuration_are_equal_also_in_the_form_for_layers():
    one, same, other = (initializers.Constant(value) for value in (1.0, 1.0, 2.0))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert initializers.as_init(one) == initializers.as_init(same)
    assert initializers.HeNormal(seed=1) != initializers.HeNormal()
    assert initializers.Zeros() != initializers.Ones()


def test_a_subclass_of_ones_own_needs_only_call():
    class Halves(initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return jnp.full(shape, 0.5, dtype)

    assert initializers.as_init(initializers.get(Halves))(KEY, (2,), jnp.float32).tolist() == [0.5, 0.5]
    assert Halves() == Halves()


def test_names_and_none_are_taken_as_well():
    np.testing.assert_array_equal(initializers.as_init("ones")(KEY, (2,)), [1.0, 1.0])
    assert initializers.as_init(None) == initializers.as_init(initializers.GlorotUniform())
