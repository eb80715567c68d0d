import warnings

import jax.numpy as jnp
import pytest

from easyflax import nnx


def make_model():
    return nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.1, deterministic=True))


def message_of(call, times: int = 12) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(times):
            call(i)
    assert len(caught) <= 1
    if caught:
        assert caught[0].filename == __file__
    return str(caught[0].message) if caught else ""


def test_a_few_shapes_are_traced_without_a_word():
    model, forward = make_model(), nnx.jit(lambda model, x: model(x))
    assert message_of(lambda i: forward(model, jnp.ones((i % 4 + 1, 2)))) == ""


def test_a_changing_shape_is_named():
    model = make_model()

    @nnx.jit
    def forward(model, inputs):
        return model(inputs["x"])

    message = message_of(lambda i: forward(model, {"x": jnp.ones((i + 1, 2))}))
    assert "forward' 7 times" in message
    assert "'inputs['x']': float32[6,2] became float32[7,2]" in message


def test_a_changing_static_attribute_is_named():
    model = make_model()
    forward = nnx.jit(lambda model, x: model(x))

    def call(i):
        model.layers[1].rate = i / 20
        forward(model, jnp.ones((1, 2)))

    assert "'model/layers/1/rate': 0.25 became 0.3" in message_of(call)


def test_a_changing_static_argument_is_named():
    scale = nnx.jit(lambda x, factor: x * factor, static_argnames="factor")
    message = message_of(lambda i: scale(jnp.ones(2), factor=i))
    assert "'factor': 5 became 6" in message


def test_a_growing_module_is_named():
    class Log(nnx.Module):
        def __init__(self):
            self.entries = nnx.List([])

        @nnx.jit
        def append(self):
            self.entries.append(nnx.Variable(jnp.array(1.0)))

    log = Log()
    message = message_of(lambda i: log.append())
    assert "'self/entries/5': a Variable is new" in message


def test_a_changing_shape_of_a_variable_is_named():
    cache = nnx.Cache(jnp.zeros(1))
    read = nnx.jit(lambda cache: cache.value.sum())

    def call(i):
        cache.value = jnp.zeros(i + 1)
        read(cache)

    assert "'cache': float32[6] became float32[7]" in message_of(call)


def test_weak_types_are_told_apart():
    double = nnx.jit(lambda x: x * 2)
    values = [jnp.ones(()), jnp.asarray(1.0), 1.0, 1, jnp.int32(1), True, 1j, jnp.ones(2)]
    assert "nnx.jit has traced" in message_of(lambda i: double(values[i % 8]))


def test_applying_jit_anew_is_named():
    model = make_model()

    def forward(model, x):
        return model(x)

    message = message_of(lambda i: nnx.jit(forward)(model, jnp.ones((1, 2))))
    assert "nnx.jit was applied to it anew" in message


def test_one_function_compiled_for_several_models_is_no_retracing():
    def forward(model, x):
        return model(x)

    def call(i):
        nnx.jit(forward)(nnx.Linear(2, i + 1, rngs=nnx.Rngs(0)), jnp.ones((1, 2)))

    assert message_of(call) == ""


def test_the_warning_comes_as_an_error_where_warnings_are_errors():
    double = nnx.jit(lambda x: x * 2)
    with pytest.raises(UserWarning, match="traced and compiled"):
        [double(jnp.ones(i)) for i in range(10)]
