import weakref

import jax.numpy as jnp
import pytest

import easyflax.backend as backend
import easyflax.config as config
import easyflax.layers as layers


@pytest.mark.parametrize("setting", ["epsilon", "floatx", "image_data_format"])
def test_a_setting_is_fixed_and_may_be_set_to_what_it_is(setting):
    fixed = getattr(config, setting)()
    getattr(config, f"set_{setting}")(fixed)
    with pytest.raises(ValueError, match=f"{setting} was to be set to 'other', expected {fixed!r}"):
        getattr(config, f"set_{setting}")("other")
    assert getattr(backend, setting)() == fixed


def test_the_backend_is_jax_and_tracebacks_are_whole():
    config.set_backend("jax")
    with pytest.raises(ValueError, match="backend was to be set to 'torch', expected 'jax'"):
        config.set_backend("torch")
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()


def test_layers_follow_the_settings():
    layer = layers.Conv2D(2, 3)
    layer(jnp.ones((1, 5, 5, 1)))
    assert layer.data_format == config.image_data_format()
    assert layer.kernel.dtype == config.floatx()
    assert config.backend() == "jax"


def test_dtypes_have_names_and_kinds():
    assert backend.standardize_dtype("int8") == "int8"
    assert backend.is_float_dtype("bfloat16")
    assert not backend.is_float_dtype("int8")
    assert backend.is_int_dtype("uint8")
    assert backend.result_type("int8", "float16") == "float16"


def test_clearing_the_session_frees_models_that_hold_themselves():
    layer = layers.Identity()
    layer.me = layer
    gone = weakref.ref(layer)
    del layer
    backend.clear_session()
    assert gone() is None
