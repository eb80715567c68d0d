"""An optimizer with its own state: built, applied, inside nnx.jit, copied, attached to a home."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax as ef
from easyflax import nnx, optimizers
from easyflax.optimizers import stateful


def _model(features=(3, 2), seed=0):
    return nnx.Linear(*features, rngs=nnx.Rngs(seed))


def _loss(model):
    x = jnp.arange(12.0).reshape(4, 3) / 10
    return jnp.mean((model(x) - 1) ** 2)


def _variables(model):
    return [model.kernel, model.bias]


def _pure_steps(optimizer, model, steps=3):
    """The same by the optimizer as an optax transformation."""
    graphdef, params = nnx.split(model)
    params = nnx.as_pure(params)
    state = optimizer.init(params)
    for _ in range(steps):
        grads = jax.grad(lambda params: _loss(nnx.merge(graphdef, params)))(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _assert_model(model, params):
    np.testing.assert_allclose(model.kernel.value, params["kernel"], rtol=1e-6)
    np.testing.assert_allclose(model.bias.value, params["bias"], rtol=1e-6)


def test_update_in_nnxs_manner_equals_the_pure_transformation():
    model, optimizer = _model(), optimizers.AdamW(0.1, weight_decay=0.1)
    expected = _pure_steps(optimizers.AdamW(0.1, weight_decay=0.1), _model())
    for _ in range(3):
        optimizer.update(model, nnx.grad(_loss)(model))
    _assert_model(model, expected)
    assert optimizer.iterations == 3
    assert optimizer.built


def test_apply_in_kerass_manner_equals_the_pure_transformation():
    model, optimizer = _model(), optimizers.RMSprop(0.1, momentum=0.5)
    expected = _pure_steps(optimizers.RMSprop(0.1, momentum=0.5), _model())
    optimizer.build(_variables(model))
    for step in range(3):
        grads = nnx.grad(_loss)(model)
        grads = [grads["kernel"], grads["bias"]]
        if step == 0:
            optimizer.apply(grads)
        elif step == 1:
            optimizer.apply(grads, _variables(model))
        else:  # the order is that of the pairs
            steps = optimizer.apply_gradients(list(zip(grads, _variables(model)))[::-1])
            assert steps == 3
    _assert_model(model, expected)


def test_stateless_apply_returns_what_apply_sets():
    model, optimizer = _model(), optimizers.Adam(0.1)
    optimizer.build(_variables(model))
    own = [variable.value for variable in optimizer.variables]
    trained = [variable.value for variable in _variables(model)]
    step = jax.jit(optimizer.stateless_apply)
    for _ in range(2):
        trained, own = step(own, [jnp.ones((3, 2)), jnp.ones(2)], trained)
    assert optimizer.iterations == 0
    np.testing.assert_array_equal(model.bias.value, jnp.zeros(2))
    for _ in range(2):
        optimizer.apply([jnp.ones((3, 2)), jnp.ones(2)])
    np.testing.assert_allclose(trained[0], model.kernel.value, rtol=1e-6)
    for one, other in zip(own, optimizer.variables, strict=True):
        np.testing.assert_allclose(one, other.value, rtol=1e-6)


def test_inside_nnx_jit_nothing_is_compiled_anew_after_the_state_is_built():
    model, optimizer = _model(), optimizers.Adam(0.1)
    expected = _pure_steps(optimizers.Adam(0.1), _model(), steps=4)
    traced = []

    @nnx.jit
    def step(model, optimizer):
        traced.append(1)
        loss, grads = nnx.value_and_grad(_loss)(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    _assert_model(model, expected)
    assert optimizer.iterations == 4
    assert len(traced) == 2  # the first call makes the state
    optimizer.learning_rate = 0.0
    before = model.kernel.value
    step(model, optimizer)
    np.testing.assert_array_equal(model.kernel.value, before)
    assert len(traced) == 2


def test_apply_inside_nnx_jit_changes_the_variables_that_it_is_given():
    model, optimizer = _model(), optimizers.SGD(0.1)
    optimizer.build(_variables(model))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(_loss)(model)
        optimizer.apply([grads["bias"], grads["kernel"]], [model.bias, model.kernel])

    expected = _pure_steps(optimizers.SGD(0.1), _model(), steps=2)
    with pytest.raises(ValueError, match="expected variables that it was built for"):
        step(model, optimizer)  # copies of them, in another order than built

    @nnx.jit
    def step_in_order(model, optimizer):
        grads = nnx.grad(_loss)(model)
        optimizer.apply([grads["kernel"], grads["bias"]], [model.kernel, model.bias])

    for _ in range(2):
        step_in_order(model, optimizer)
    _assert_model(model, expected)


def test_as_a_part_of_a_model_its_state_is_ordinary_state():
    class Pair(nnx.Module):
        def __init__(self):
            self.net = _model()
            self.optimizer = optimizers.Adam(0.1)

        def __call__(self, x):
            return self.net(x)

    pair = Pair()
    grads = nnx.grad(_loss)(pair.net)
    pair.optimizer.update(pair.net, grads)
    assert {type(leaf) for leaf in pair.optimizer.variables} == {nnx.OptArray, nnx.OptVariable}
    twin = nnx.clone(pair)
    deep = copy.deepcopy(pair)
    for other in (twin, deep):
        assert other.optimizer.iterations == 1
        other.optimizer.update(other.net, grads)
    assert pair.optimizer.iterations == 1
    pair.optimizer.update(pair.net, grads)
    for other in (twin, deep):
        np.testing.assert_array_equal(pair.net.kernel.value, other.net.kernel.value)
    params = nnx.state(pair, nnx.Param)  # the optimizer holds the variables, but they are no part of it
    assert [path for path, _ in nnx.to_flat_state(params)] == [("net", "bias"), ("net", "kernel")]


def test_the_learning_rate_is_read_and_set_before_and_after_building():
    model, optimizer = _model(), optimizers.SGD(0.5)
    assert optimizer.learning_rate == 0.5
    optimizer.learning_rate = 0.25
    optimizer.build(_variables(model))
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate = 1.0
    optimizer.apply([jnp.ones((3, 2)), jnp.ones(2)])
    np.testing.assert_array_equal(model.bias.value, -jnp.ones(2))
    assert optimizer.get_config()["learning_rate"] == 1.0


def test_a_schedule_rules_the_learning_rate():
    model, optimizer = _model(), optimizers.SGD()
    optimizer.learning_rate = lambda step: 1.0 / (1 + step)
    optimizer.build(_variables(model))
    for step in range(2):
        assert optimizer.learning_rate == 1.0 / (1 + step)
        optimizer.apply([jnp.ones((3, 2)), jnp.ones(2)])
    np.testing.assert_array_equal(model.bias.value, -1.5 * jnp.ones(2))
    with pytest.raises(TypeError, match="follows a schedule, expected a number"):
        optimizer.learning_rate = 0.1
    built = optimizers.SGD(0.1)
    built.build(_variables(model))
    with pytest.raises(TypeError, match="set to a schedule on an optimizer that has a state"):
        built.learning_rate = lambda step: 0.1


def test_a_function_of_nothing_is_a_schedule_too():
    optimizer = optimizers.SGD(lambda: 0.5)
    assert optimizer.learning_rate == 0.5


class _Home:
    def __init__(self, optimizer, params):
        self.variables = params
        self.state = optimizer.init(params)
        self.iterations = 7

    def opt_state(self):
        return nnx.as_pure(self.state)

    def set_opt_state(self, opt_state):
        self.state = opt_state

    def params(self):
        return self.variables

    def trainable_variables(self):
        return jax.tree.leaves(self.variables, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def test_what_is_attached_reads_and_writes_at_home():
    model, optimizer = _model(), optimizers.SGD(0.5, momentum=0.9)
    home = _Home(optimizer, nnx.state(model))
    optimizer.attach(home)
    assert (optimizer.iterations, optimizer.learning_rate, optimizer.built) == (7, 0.5, True)
    optimizer.learning_rate = 1.0
    assert float(optimizers.get_learning_rate(home.state)) == 1.0
    optimizer.update(model, {"bias": jnp.ones(2), "kernel": jnp.zeros((3, 2))})
    np.testing.assert_array_equal(model.bias.value, -jnp.ones(2))
    assert [float(variable.value) for variable in optimizer.variables[:2]] == [7.0, 1.0]
    trained, own = optimizer.stateless_apply(
        [variable.value for variable in optimizer.variables],
        [jnp.ones(2), jnp.zeros((3, 2))],
        [model.bias.value, model.kernel.value],
    )
    np.testing.assert_allclose(trained[0], [-2.9, -2.9], rtol=1e-6)  # of the momentum, too
    assert int(own[0]) == 8
    np.testing.assert_array_equal(model.bias.value, -jnp.ones(2))
    optimizer.assign_variables([variable.value for variable in optimizer.variables])
    optimizer.assign_variables(own)
    assert [float(variable.value) for variable in optimizer.variables[:2]] == [7.0, 1.0]
    np.testing.assert_allclose(home.state.inner_state[1].trace["bias"], [-1.9, -1.9], rtol=1e-6)
    optimizer.detach()
    assert not optimizer.built
    assert optimizer.learning_rate == 0.5


def test_another_object_of_the_same_settings_is_attached():
    model, optimizer = _model(), optimizers.SGD(0.5)
    optimizer.apply([jnp.zeros((3, 2)), jnp.ones(2)], _variables(model))
    home = _Home(optimizer, nnx.state(model))
    twin = optimizer.attached(home)
    twin.learning_rate = 0.25
    assert (twin.learning_rate, optimizer.learning_rate) == (0.25, 0.5)
    assert (twin.iterations, optimizer.iterations) == (7, 1)


def test_optimizers_that_are_built_are_noted():
    model, optimizer = _model(), optimizers.SGD(0.5)
    with stateful.noting_builds() as notes:
        for _ in range(2):
            optimizer.build(_variables(model))
    assert [(one, [id(leaf) for leaf in leaves]) for one, leaves in notes] == [
        (optimizer, [id(model.kernel), id(model.bias)])
    ]


def test_the_state_is_set_from_values():
    optimizers_ = [optimizers.Adam(0.1), optimizers.Adam(0.2)]
    models = [_model(), _model()]
    for model, optimizer in zip(models, optimizers_, strict=True):
        optimizer.build(_variables(model))
    optimizers_[0].apply([jnp.ones((3, 2)), jnp.ones(2)])
    optimizers_[1].assign_variables([variable.value for variable in optimizers_[0].variables])
    assert (optimizers_[1].iterations, optimizers_[1].learning_rate) == (1, pytest.approx(0.1))
    with pytest.raises(ValueError, match="values has 1 entries, expected"):
        optimizers_[1].assign_variables([0])


def test_only_variables_with_gradients_and_their_state_are_updated():
    model, optimizer = _model(), optimizers.Adam(0.1)
    grads = [jnp.ones((3, 2)), jnp.ones(2)]
    optimizer.apply(grads, _variables(model))
    bias = model.bias.value
    _named(model)
    before = [np.asarray(variable.value) for variable in optimizer.variables if variable.shape == (2,)]
    with pytest.warns(UserWarning, match="no gradients for bias, which stay as they are"):
        optimizer.apply([jnp.ones((3, 2)), None])
    optimizer.apply([jnp.ones((3, 2))], [model.kernel])
    after = [np.asarray(variable.value) for variable in optimizer.variables if variable.shape == (2,)]
    np.testing.assert_array_equal(model.bias.value, bias)
    np.testing.assert_array_equal(before, after)
    assert optimizer.iterations == 3


def test_what_is_not_updated_is_told_apart_by_its_whole_path():
    class Outer(nnx.Module):
        def __init__(self):
            self.bias = nnx.Param(jnp.zeros(1))
            self.inner = nnx.Dict(bias=nnx.Param(jnp.zeros(1)))

    model, optimizer = Outer(), optimizers.SGD(1.0, momentum=0.5)
    optimizer.attach(_Home(optimizer, nnx.state(model)))
    for _ in range(2):
        optimizer.update(model, {"inner": {"bias": jnp.ones(1)}})
    np.testing.assert_array_equal(model.inner.bias.value, [-2.5])
    np.testing.assert_array_equal(model.bias.value, [0.0])


def test_constraints_of_variables_hold_after_an_update():
    model = _model()
    model.bias.set_metadata(constraint=lambda value: jnp.maximum(value, 0))
    optimizer = optimizers.SGD(1.0)
    optimizer.apply([jnp.zeros((3, 2)), jnp.array([1.0, -1.0])], _variables(model))
    np.testing.assert_array_equal(model.bias.value, [0.0, 1.0])


def test_gradients_that_do_not_fit_are_refused():
    model, optimizer = _model(), optimizers.SGD()
    with pytest.raises(ValueError, match="not built, expected one that knows its variables"):
        optimizer.apply([jnp.ones(2)])
    with pytest.raises(ValueError, match=r"not built"):
        optimizer.stateless_apply([], [], [])
    with pytest.raises(ValueError, match=r"grads has 1 entries, expected 2, one for .*\(kernel, bias\)"):
        optimizer.apply([jnp.ones(2)], _named(model))
    with pytest.raises(ValueError, match="all 2 gradients are None"):
        optimizer.apply([None, None], _variables(model))
    with pytest.raises(ValueError, match=r"gradient for bias has shape \(3,\), expected \(2,\)"):
        optimizer.apply([jnp.ones((3, 2)), jnp.ones(3)], _named(model))
    with pytest.raises(ValueError, match=r"expected variables that it was built for"):
        optimizer.apply([jnp.ones((4, 2))], [_model((4, 2)).kernel])
    with pytest.raises(TypeError, match="got a ArrayImpl among the variables"):
        optimizer.apply([jnp.ones(2)], [jnp.ones(2)])
    with pytest.raises(ValueError, match=r"update got scale, expected gradients .*bias, kernel"):
        optimizer.update(model, {"scale": jnp.ones(2)})
    optimizer.apply([])  # nothing to do, as in Keras


def _named(model):
    for name in ("kernel", "bias"):
        getattr(model, name).set_metadata(name=name)
    return _variables(model)


@pytest.mark.parametrize("by", ["name", "variable"])
def test_some_parameters_are_left_out_of_weight_decay(by):
    model = _model()
    model.bias[...] = jnp.ones(2)
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    if by == "name":
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        _named(model)
    else:
        optimizer.exclude_from_weight_decay(var_list=[model.bias])
    kernel = model.kernel.value
    optimizer.apply([jnp.zeros((3, 2)), jnp.zeros(2)], _variables(model))
    np.testing.assert_array_equal(model.bias.value, jnp.ones(2))
    np.testing.assert_allclose(model.kernel.value, 0.95 * kernel, rtol=1e-6)
    with pytest.raises(ValueError, match="optimizer that is built, expected one that is not"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_fit_leaves_a_variable_out_of_weight_decay():
    model = ef.Sequential([ef.layers.Dense(1), ef.layers.Dense(1)])
    model.build((None, 2))
    first, second = (layer.kernel for layer in model.layers)
    optimizer = optimizers.SGD(0.0, weight_decay=0.5)
    optimizer.learning_rate = 0.1
    optimizer.exclude_from_weight_decay(var_list=[second])
    model.compile(optimizer, lambda y, y_pred: 0 * y_pred)
    kernels = first.value, second.value
    model.fit(np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32"), verbose=0)
    np.testing.assert_allclose(first.value, 0.95 * kernels[0], rtol=1e-6)
    np.testing.assert_array_equal(second.value, kernels[1])


def test_an_optax_transformation_can_hold_its_own_state():
    model = _model()
    optimizer = optimizers.get(optax.sgd(1.0))
    optimizer.apply([jnp.zeros((3, 2)), jnp.ones(2)], _variables(model))
    np.testing.assert_array_equal(model.bias.value, -jnp.ones(2))
    with pytest.raises(ValueError, match=r"holds no learning rate, expected one.*optax.inject_hyperparams"):
        optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="holds no learning rate"):
        _ = optimizers.get(optax.sgd(1.0)).learning_rate


def test_an_injected_rate_of_optax_is_read_and_set():
    optimizer = optimizers.get(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
    assert optimizer.learning_rate == 0.5
    optimizer.learning_rate = 0.25
    model = _model()
    optimizer.apply([jnp.zeros((3, 2)), jnp.ones(2)], _variables(model))
    np.testing.assert_array_equal(model.bias.value, -0.25 * jnp.ones(2))


def test_an_optimizer_stands_in_nnx_optimizer():
    model = _model()
    optimizer = nnx.Optimizer(model, optimizers.AdamW(0.1, weight_decay=0.1), wrt=nnx.Param)
    for _ in range(3):
        optimizer.update(model, nnx.grad(_loss)(model))
    _assert_model(model, _pure_steps(optimizers.AdamW(0.1, weight_decay=0.1), _model()))
