"""Dtype policies: of one layer, of all, and what parameters are read in under them."""

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import DTypePolicy, config, dtype_policies, layers, mixed_precision, nnx
from easyflax.layers.precision import running_in

X = np.ones((2, 4), np.float32)


@pytest.fixture
def mixed_everywhere():
    config.set_dtype_policy("mixed_bfloat16")
    yield
    config.set_dtype_policy("float32")


class Product(layers.Layer):
    """Whose `call` knows nothing of dtypes."""

    def __init__(self, cast_weight=True, **kwargs):
        super().__init__(**kwargs)
        self.cast_weight = cast_weight

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 3), "ones", autocast=self.cast_weight)

    def call(self, inputs):
        self.seen = str(self.kernel[...].dtype), str(inputs.dtype), str(self.kernel.T.dtype)
        return inputs @ self.kernel


def test_the_global_policy_is_that_of_layers_made_under_it(mixed_everywhere):
    layer, own = layers.Dense(2), layers.Dense(2, dtype="float32")
    assert mixed_precision.global_policy() == DTypePolicy("mixed_bfloat16") == layer.dtype_policy
    config.set_dtype_policy(DTypePolicy("float32"))
    assert (layer(X).dtype, layer.kernel.dtype) == (jnp.bfloat16, jnp.float32)
    assert own(X).dtype == jnp.float32
    assert layers.Dense(2)(X).dtype == jnp.float32


@pytest.mark.parametrize("name", ["Dense", "LSTM", "BatchNormalization", "MultiHeadAttention"])
def test_layers_of_all_kinds_return_the_dtype_of_the_global_policy(name, mixed_everywhere):
    args = {"Dense": (2,), "LSTM": (2,), "BatchNormalization": (), "MultiHeadAttention": (1, 2)}[name]
    layer, x = getattr(layers, name)(*args), np.ones((2, 3, 4), np.float32)
    outputs = layer(x, x) if name == "MultiHeadAttention" else layer(x)
    assert outputs.dtype == jnp.bfloat16
    assert {weight.dtype.name for weight in layer.weights} == {"float32"}


def test_weights_are_read_in_the_dtype_that_is_computed_in():
    layer = Product(dtype="mixed_bfloat16")
    assert layer(X).dtype == jnp.bfloat16
    assert layer.seen == ("bfloat16", "bfloat16", "bfloat16")
    assert layer.kernel[...].dtype == layer.kernel.dtype == jnp.float32
    assert (layer.dtype, layer.compute_dtype, layer.variable_dtype) == ("float32", "bfloat16", "float32")


def test_a_weight_or_a_layer_may_be_left_as_it_is():
    layer = Product(cast_weight=False, dtype="mixed_bfloat16")
    assert layer(X).dtype == jnp.float32
    assert layer.seen[:2] == ("float32", "bfloat16")
    layer = Product(autocast=False, dtype="mixed_bfloat16")
    layer(X)
    assert layer.seen[:2] == ("float32", "float32")


def test_plain_modules_compute_as_the_layer_around():
    class Around(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

        def call(self, inputs):
            return self.inner(inputs)

    assert Around()(X).dtype == jnp.float32
    assert Around(dtype="mixed_float16")(X).dtype == jnp.float16


def test_a_layer_without_a_dtype_follows_the_step_and_one_with_a_dtype_does_not():
    free, own, float32 = Product(), Product(dtype="float16"), Product(dtype="float32")
    for layer in (free, own, float32):
        layer(X)
    with running_in(DTypePolicy("mixed_bfloat16")):
        outputs = [layer(X) for layer in (free, own, float32)]
    assert [layer.seen[0] for layer in (free, own, float32)] == ["bfloat16", "float16", "float32"]
    assert {output.dtype.name for output in outputs} == {"float32"}
    assert free(X).dtype == jnp.float32


def test_a_layer_made_of_a_configuration_follows_if_the_first_one_did():
    for dtype in (None, "float32"):
        layer = layers.Dense.from_config(layers.Dense(2, dtype=dtype).get_config())
        layer(X)
        with running_in(DTypePolicy("mixed_bfloat16")):
            assert layer.compute_dtype == ("float32" if dtype else "bfloat16")


def test_layers_inside_of_heads_follow_with_them():
    layer = layers.MultiHeadAttention(1, 2)
    layer(np.ones((1, 2, 3)), np.ones((1, 2, 3)))
    with running_in(DTypePolicy("mixed_bfloat16")):
        assert layer.query_dense.compute_dtype == "bfloat16"


def test_policies_are_written_and_read_in_kerass_form():
    written = dtype_policies.serialize(DTypePolicy("mixed_float16"))
    assert written["config"] == {"name": "mixed_float16"}
    assert dtype_policies.deserialize(written) == dtype_policies.get("mixed_float16")
    assert layers.Dense(2, dtype=written).compute_dtype == "float16"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DTypePolicy("mixed_float8"), ValueError, "dtype is 'mixed_float8', expected a dtype such"),
        (lambda: DTypePolicy(16), TypeError, "name is 16, expected a string"),
        (lambda: config.set_dtype_policy(None), ValueError, "policy is None, expected a DTypePolicy or the"),
    ],
    ids=["unknown", "number", "none"],
)
def test_what_is_no_policy_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
