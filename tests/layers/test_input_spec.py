import jax.numpy as jnp
import pytest

from easyflax.layers import Dense, Input, InputSpec, Layer, Wrapper


class Checked(Layer):
    def __init__(self, spec):
        super().__init__(name="checked")
        self.input_spec = spec

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("spec", "fits", "does_not", "message"),
    [
        (InputSpec(ndim=2), (3, 4), (3,), "expected 2 axes"),
        (InputSpec(min_ndim=2), (3, 4), (3,), "expected at least 2 axes"),
        (InputSpec(max_ndim=2), (3, 4), (3, 4, 5), "expected at most 2 axes"),
        (InputSpec(shape=(None, 4)), (3, 4), (3, 5), "expected size 4 of axis 1"),
        (InputSpec(axes={-1: 4}), (2, 3, 4), (4, 3), "expected size 4 of axis -1"),
        (InputSpec(shape=(None, 4, 1), allow_last_axis_squeeze=True), (3, 4), (3, 5), "expected size 4"),
    ],
    ids=["ndim", "min", "max", "shape", "axes", "squeeze"],
)
def test_an_input_is_checked_at_each_call(spec, fits, does_not, message):
    layer = Checked(spec)
    layer(jnp.zeros(fits))
    layer(Input(batch_shape=fits))
    for inputs in (jnp.zeros(does_not), Input(batch_shape=does_not)):
        with pytest.raises(ValueError, match=rf"Checked 'checked': got an input of shape .*{message}"):
            layer(inputs)


def test_specs_go_by_place_or_by_name():
    pair = Checked([InputSpec(ndim=1), None])
    pair([jnp.zeros(1), jnp.zeros((1, 1))])
    with pytest.raises(ValueError, match="got 1 inputs, expected 2"):
        pair([jnp.zeros(1)])
    named = Checked({"a": InputSpec(dtype="int32"), "b": InputSpec(optional=True)})
    named({"a": jnp.zeros(1, jnp.int32)})
    with pytest.raises(ValueError, match="expected the dtype int32"):
        named({"a": jnp.zeros(1)})
    with pytest.raises(ValueError, match="got an input of None, expected an array"):
        named({"b": jnp.zeros(1)})


def test_axes_have_numbers():
    with pytest.raises(TypeError, match="expected a dict with integers as keys"):
        InputSpec(axes={"last": 3})


def test_a_wrapper_holds_and_builds_a_layer():
    class Twice(Wrapper):
        def call(self, inputs):
            return 2 * self.layer(inputs)

    layer = Twice(Dense(2, use_bias=False, kernel_initializer="ones"))
    assert layer(jnp.ones((1, 3))).tolist() == [[6, 6]]
    assert layer.count_params() == 6  # built, and its configuration is as before
    assert Twice.from_config(layer.get_config()).layer.units == 2
    with pytest.raises(TypeError, match="Twice: got layer=3, expected a layer"):
        Twice(3)
