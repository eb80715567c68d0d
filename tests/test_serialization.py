import json

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.regularizers as regularizers
import easyflax.serialization as serialization
from easyflax.serialization import deserialize, serialize


class Scaled(serialization.Configured):
    def __init__(self, scale, inner=None):
        self.scale = scale
        self.inner = inner


def through_json(value):
    return deserialize(json.loads(json.dumps(serialize(value))))


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, "text", [1, [2, None]], {"a": {"b": 1}}, b"bytes", slice(1, None, 2), ...],
    ids=str,
)
def test_plain_values_come_back_through_json(value):
    assert through_json(value) == value


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_arrays_come_back_with_their_dtype_and_kind(xp):
    value = xp.asarray([[1.0, 2.0]], dtype=jnp.bfloat16)
    back = through_json(value)
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert back.tolist() == value.tolist()


def test_scalars_and_dtypes_become_plain():
    assert serialize({"a": np.float32(0.5), "b": jnp.float32, "c": np.dtype("int8")}) == {
        "a": 0.5,
        "b": "float32",
        "c": "int8",
    }
    assert serialize((1, (2,))) == (1, (2,))


def test_a_registered_class_comes_back_with_what_it_holds():
    serialization.register_keras_serializable(package="tests")(Scaled)
    back = through_json(Scaled(2.0, inner=Scaled(3.0)))
    assert isinstance(back, Scaled)
    assert back.scale == 2.0
    written = serialize(Scaled(1.0))
    assert written["registered_name"] == "tests>Scaled"
    assert set(written) == {"module", "class_name", "config", "registered_name"}
    del serialization.get_custom_objects()["tests>Scaled"]


def test_a_registered_function_is_found_by_its_name_and_custom_objects_by_theirs():
    @serialization.register_keras_serializable(package="tests", name="half")
    def halve(x):
        return x / 2

    assert through_json(halve) is halve
    assert serialization.get_registered_name(halve) == "tests>half"
    assert serialization.get_registered_object("tests>half") is halve
    with serialization.custom_object_scope({"other": halve}):
        assert serialization.get_registered_object("other") is halve
    assert serialization.get_registered_object("other") is None


def test_configurations_of_keras_are_read():
    config = {
        "module": "keras.regularizers",
        "class_name": "L2",
        "config": {"l2": 0.5},
        "registered_name": None,
    }
    assert deserialize(config) == regularizers.L2(0.5)
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": "float32"},
        "registered_name": None,
    }
    assert deserialize({"dtype": policy}) == {"dtype": "float32"}


def test_what_keeps_its_arguments_has_configuration_equality_and_a_clone():
    one = Scaled([1, 2])
    assert one.get_config() == {"scale": [1, 2], "inner": None}
    assert one == one.clone()
    assert hash(one) == hash(one.clone())
    assert repr(one) == "Scaled(scale=[1, 2], inner=None)"


def test_a_class_that_does_not_keep_an_argument_says_which():
    class Forgetful(serialization.Configured):
        def __init__(self, size):
            pass

    with pytest.raises(NotImplementedError, match="Forgetful does not keep its argument 'size'"):
        Forgetful(3).get_config()


def test_what_cannot_be_written_is_refused():
    with pytest.raises(TypeError, match="An object of type object was to be serialized"):
        serialize(object())
    with pytest.raises(TypeError, match="A lambda was to be serialized"):
        serialize(lambda x: x)


@pytest.mark.parametrize(
    "module", [None, "os", "keras.utils", "keras.layers.nowhere", "easyflax.serialization"], ids=str
)
def test_nothing_but_public_and_registered_names_is_found(module):
    for name in ("system", "Configured"):
        config = {"module": module, "class_name": name, "config": {}}
        with pytest.raises(TypeError, match=f"names the class '{name}' of module .* not known"):
            deserialize(config)


def test_code_in_a_configuration_is_not_run():
    with pytest.raises(ValueError, match="holds the code of a lambda"):
        deserialize({"class_name": "__lambda__", "config": {"value": "x"}})


def test_arguments_that_do_not_fit_name_the_class():
    with pytest.raises(
        TypeError, match=r"L2 could not be made from its configuration with the keys \['strength'\]"
    ):
        deserialize({"module": "keras.regularizers", "class_name": "L2", "config": {"strength": 1}})
    with pytest.raises(
        TypeError, match="'get' was named as a class in a configuration, but it has no from_config"
    ):
        deserialize({"module": "keras.regularizers", "class_name": "get", "config": {}})


def test_a_class_without_configuration_cannot_be_registered():
    with pytest.raises(ValueError, match="Class object has no get_config"):
        serialization.register_keras_serializable()(object)
