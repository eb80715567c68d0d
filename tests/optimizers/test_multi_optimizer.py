"""Parts of a model are trained by optimizers of their own."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax.optimizers import SGD, Adam, AdamW, LossScaleOptimizer, MultiOptimizer, OptimizerMap

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def model_of(optimizer, **options):
    ef.utils.set_random_seed(0)
    x = ef.Input((3,))
    model = ef.Model(x, ef.layers.Dense(1, name="head")(ef.layers.Dense(4, "tanh", name="encoder")(x)))
    model.compile(optimizer, "mse", **options)
    return model


def test_each_part_is_updated_by_its_optimizer_alone():
    params = {"slow": jnp.ones(2), "fast": jnp.ones(3)}
    grads = {"slow": jnp.full(2, 0.5), "fast": jnp.arange(3.0)}
    optimizer = MultiOptimizer(OptimizerMap(Adam(0.1), {"slow": SGD(0.2, momentum=0.9)}))
    state, parts = optimizer.init(params), {"slow": SGD(0.2, momentum=0.9), "fast": Adam(0.1)}
    states = {name: one.init(params[name]) for name, one in parts.items()}
    update = jax.jit(optimizer.update)
    for _ in range(3):
        updates, state = update(grads, state, params)
        for name, one in parts.items():
            expected, states[name] = one.update(grads[name], states[name], params[name])
            np.testing.assert_allclose(updates[name], expected, rtol=1e-6)
        params = optax.apply_updates(params, updates)


def test_a_fit_trains_each_layer_at_its_rate():
    model = model_of(MultiOptimizer(OptimizerMap(SGD(0.0), {"head/.*": Adam(0.01)})))
    before = model.get_weights()
    model.fit(X, Y, epochs=2, verbose=0)
    same = [np.array_equal(old, new) for old, new in zip(before, model.get_weights())]
    assert same == [True, True, False, False]


def test_a_function_is_told_paths_names_shapes_and_dtypes_and_asked_once():
    told = []

    def choose(parameter):
        told.append(parameter)
        return Adam(0.01) if parameter.name == "bias" else SGD(0.1)

    model = model_of(MultiOptimizer(choose))
    model.fit(X, Y, epochs=2, verbose=0)
    model.fit(X, Y, verbose=0)
    assert [one.path for one in told] == ["encoder/bias", "encoder/kernel", "head/bias", "head/kernel"]
    assert told[1].shape == (3, 4)
    assert told[1].dtype == "float32"
    assert len(model.optimizer.optimizers) == 4  # a new object for each


def test_rates_of_the_parts_are_read_and_set_while_training():
    model = model_of(MultiOptimizer(OptimizerMap(SGD(0.1), {"head/.*": Adam(0.01)})))
    adam, sgd = model.optimizer.optimizers
    assert [adam.name, sgd.name] == ["adam", "sgd"]
    model.fit(X, Y, batch_size=8, verbose=0)
    adam, sgd = model.optimizer.optimizers
    assert adam.learning_rate == pytest.approx(0.01)
    assert int(adam.iterations) == int(model.optimizer.iterations) == 2
    adam.learning_rate = 0.0
    head = model.get_layer("head").get_weights()
    encoder = model.get_layer("encoder").get_weights()
    model.fit(X, Y, verbose=0)
    assert np.array_equal(model.get_layer("head").get_weights()[0], head[0])
    assert not np.array_equal(model.get_layer("encoder").get_weights()[0], encoder[0])
    assert model.optimizer.optimizers[0].learning_rate == 0.0


def test_there_is_no_rate_of_the_whole():
    optimizer = MultiOptimizer(OptimizerMap(SGD(0.1)))
    with pytest.raises(AttributeError, match=r"MultiOptimizer has no learning_rate.*optimizers\[0\]"):
        _ = optimizer.learning_rate
    with pytest.raises(AttributeError, match="has no learning_rate"):
        optimizer.learning_rate = 0.1


def test_it_keeps_its_own_state_and_takes_lists_of_gradients():
    model = model_of("sgd")
    variables = model.trainable_variables
    optimizer = MultiOptimizer(OptimizerMap(SGD(0.5), {".*kernel": SGD(0.25)}))
    before = [variable.numpy() for variable in variables]
    optimizer.apply([jnp.ones(variable.shape) for variable in variables], variables)
    moved = [float((old - new.numpy()).max()) for old, new in zip(before, variables)]
    assert moved == pytest.approx([0.25, 0.5, 0.25, 0.5], rel=1e-4)
    assert int(optimizer.optimizers[0].iterations) == 1


def test_averages_of_parts_are_what_a_fit_ends_with():
    options = {"use_ema": True, "ema_momentum": 0.5}
    model = model_of(MultiOptimizer(OptimizerMap(SGD(0.1), {"head/.*": SGD(0.1, **options)})))
    twin, averaged = model_of(SGD(0.1)), model_of(SGD(0.1, **options))
    for one in (model, twin, averaged):
        one.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    for ours, expected in zip(model.get_weights(), [*twin.get_weights()[:2], *averaged.get_weights()[2:]]):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("around", [LossScaleOptimizer, None], ids=["scaled", "factor"])
def test_scales_of_the_loss_are_divided_out_once(around):
    inner = OptimizerMap(SGD(0.1), {"head/.*": SGD(0.1, loss_scale_factor=7.0)})
    optimizer = MultiOptimizer(inner, loss_scale_factor=None if around else 128.0)
    model, twin = model_of(around(optimizer) if around else optimizer), model_of(SGD(0.1))
    for one in (model, twin):
        one.fit(X, Y, shuffle=False, verbose=0)
    for ours, expected in zip(model.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_all_gradients_together_are_clipped_by_compile():
    model = model_of(MultiOptimizer(OptimizerMap(SGD(1.0), {"head/.*": SGD(1.0)})), global_clipnorm=1e-3)
    before = model.get_weights()
    model.fit(X, Y, batch_size=16, verbose=0)
    moved = [np.sum((old - new) ** 2) for old, new in zip(before, model.get_weights())]
    assert np.sqrt(sum(moved)) == pytest.approx(1e-3, rel=1e-2)
    assert len(model.optimizer.optimizers) == 2


def test_it_comes_back_from_json_with_the_present_rates():
    optimizer = MultiOptimizer(
        OptimizerMap(SGD(0.1), {"head/.*": AdamW(0.01, weight_decay=0.02)}), name="parts"
    )
    model = model_of(optimizer)
    model.optimizer.optimizers[1].learning_rate = 0.5
    config = json.loads(json.dumps(ef.optimizers.serialize(model.optimizer)))
    again = ef.optimizers.deserialize(config)
    assert again.name == "parts"
    first, second = again.optimizers
    assert (type(first), first.learning_rate, first.weight_decay) == (AdamW, pytest.approx(0.01), 0.02)
    assert (type(second), second.learning_rate) == (SGD, 0.5)


def test_a_map_is_a_mapping_that_prefers_exact_paths():
    default, exact, pattern = SGD(), Adam(), AdamW()
    optimizers = OptimizerMap(default, {"encoder/dense/kernel": exact})
    optimizers["encoder/.*"] = pattern
    assert optimizers["encoder/dense/kernel"] is exact
    assert optimizers["encoder/dense/bias"] is pattern
    assert optimizers["encoder"] is optimizers.default_optimizer is default
    assert (len(optimizers), list(optimizers)) == (2, ["encoder/dense/kernel", "encoder/.*"])
    del optimizers["encoder/.*"]
    assert optimizers["encoder/dense/bias"] is default


def test_bad_maps_are_refused():
    with pytest.raises(TypeError, match="default_optimizer is 'sgd', expected an optimizer"):
        OptimizerMap("sgd")
    with pytest.raises(TypeError, match=r"optimizer_map is \[1\], expected a dict"):
        OptimizerMap(SGD(), [1])
    with pytest.raises(ValueError, match=r"the optimizer for 'a' is 'sgd', expected an ef.optimizers object"):
        OptimizerMap(SGD(), {"a": "sgd"})
    with pytest.raises(ValueError, match="is a LossScaleOptimizer, expected one that has no other inside"):
        OptimizerMap(SGD(), {"a": LossScaleOptimizer(SGD())})
    with pytest.raises(ValueError, match="got the key 3, expected a path"):
        OptimizerMap(SGD(), {3: SGD()})
    optimizers = OptimizerMap(SGD(), {"a.*": SGD(), ".*b": SGD()})
    with pytest.raises(ValueError, match=r"the key 'a\.\*' is set already"):
        optimizers["a.*"] = SGD()
    with pytest.raises(ValueError, match=r"the parameter 'ab' is matched by 'a\.\*' and by '\.\*b'"):
        _ = optimizers["ab"]
    with pytest.raises(TypeError, match="optimizer_map is 'adam', expected an OptimizerMap"):
        MultiOptimizer("adam")
    with pytest.raises(ValueError, match="the optimizer for 'w' is None, expected"):
        MultiOptimizer(lambda parameter: None).init({"w": jnp.ones(1)})
