"""The learning rate in the state, dtypes, schedules, and what may be given as an optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import easyflax.optimizers as optimizers

PARAMS = {"w": jnp.array([1.0, -2.0])}
GRADS = {"w": jnp.array([0.5, 0.25])}
ALL = [getattr(optimizers, name) for name in optimizers.__all__ if name[0].isupper()]
ALL = [cls for cls in ALL if "Opt" not in cls.__name__ and cls is not optimizers.ScheduleFree]


def test_a_new_learning_rate_takes_effect_at_the_next_step_and_compiles_nothing():
    tx = optimizers.get("sgd")
    compiled = []

    @jax.jit
    def update(grads, state, params):
        compiled.append(1)
        return tx.update(grads, state, params)

    state = tx.init(PARAMS)
    for rate in (0.01, 0.5, 0.25):
        if rate != 0.01:
            state = optimizers.set_learning_rate(state, rate)
        updates, state = update(GRADS, state, PARAMS)
        np.testing.assert_allclose(updates["w"], -rate * GRADS["w"], rtol=1e-6)
        assert float(optimizers.get_learning_rate(state)) == pytest.approx(rate)
    assert len(compiled) == 1
    assert update._cache_size() == 1


def test_a_new_learning_rate_stays_on_the_devices_of_the_old_one():
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(optimizers.get("adam").init(PARAMS), replicated)
    rate = optimizers.get_learning_rate(optimizers.set_learning_rate(state, 0.1))
    old = optimizers.get_learning_rate(state)
    assert (rate.sharding, rate.dtype, rate.weak_type) == (old.sharding, old.dtype, old.weak_type)
    assert float(rate) == pytest.approx(0.1)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_state_and_updates_keep_their_types_so_that_steps_can_be_fused(cls, dtype):
    params = {"w": jnp.array([1.0, -2.0], dtype)}
    arguments = {"momentum": 0.9} if cls in (optimizers.SGD, optimizers.RMSprop) else {}
    tx = optimizers.get(cls(weight_decay=0.1, **arguments))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update({"w": params["w"] / 4}, state, params)
        return (optax.apply_updates(params, updates), state), None

    (after, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=3)
    assert after["w"].dtype == dtype
    if dtype == jnp.float32:  # a step of 0.001 is lost in a bfloat16 of 1.0
        assert np.all(np.abs(after["w"]) < np.abs(params["w"]))
    assert optimizers.get_learning_rate(state).dtype == jnp.float32


def test_a_schedule_is_followed_and_can_be_read():
    tx = optimizers.get(optimizers.SGD(lambda step: 0.1 / (1 + step)))
    state = tx.init(PARAMS)
    for step in range(3):
        updates, state = tx.update(GRADS, state, PARAMS)
        np.testing.assert_allclose(updates["w"], -0.1 / (1 + step) * GRADS["w"], rtol=1e-6)
        assert float(optimizers.get_learning_rate(state)) == pytest.approx(0.1 / (1 + step))


def test_a_schedule_cannot_be_overruled_by_hand():
    state = optimizers.SGD(optax.cosine_decay_schedule(0.1, 10)).init(PARAMS)
    with pytest.raises(TypeError, match="follows a schedule, expected a number"):
        optimizers.set_learning_rate(state, 0.1)


def test_an_optimizer_is_an_optax_transformation():
    tx = optax.chain(optax.clip(0.1), optimizers.Adam(0.1))
    state = tx.init(PARAMS)
    updates, state = tx.update(GRADS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], [-0.1, -0.1], rtol=1e-4)
    assert float(optimizers.get_learning_rate(state)) == pytest.approx(0.1)
    assert float(optimizers.get_learning_rate(optimizers.set_learning_rate(state, 0.3))) == pytest.approx(0.3)


def test_an_optax_transformation_is_used_as_it_is():
    tx = optax.adam(1e-3)
    optimizer = optimizers.get(tx)
    expected, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(
        optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)[0]["w"], expected["w"]
    )
    assert optimizers.get(optimizer) is optimizer


def test_a_rate_injected_by_optax_itself_can_be_set():
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    state = optimizers.set_learning_rate(tx.init(PARAMS), 0.2)
    updates, _ = tx.update(GRADS, state, PARAMS)
    np.testing.assert_allclose(updates["w"], -0.2 * GRADS["w"], rtol=1e-6)


def test_a_state_without_a_rate_or_with_two_says_what_to_do():
    with pytest.raises(ValueError, match=r"holds no learning rate, expected one.*optax.inject_hyperparams"):
        optimizers.get_learning_rate(optax.adam(1e-3).init(PARAMS))
    two = optax.chain(optimizers.SGD(), optimizers.SGD()).init(PARAMS)
    with pytest.raises(ValueError, match="holds 2 learning rates, expected one"):
        optimizers.set_learning_rate(two, 0.1)


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_a_senseless_learning_rate_is_refused(rate):
    with pytest.raises(
        ValueError, match=r"Adam: learning_rate is .*, expected a finite number of at least zero"
    ):
        optimizers.Adam(rate)
    with pytest.raises(ValueError, match="expected a finite number of at least zero"):
        optimizers.set_learning_rate(optimizers.Adam().init(PARAMS), rate)


def test_a_learning_rate_that_is_no_number_is_refused():
    with pytest.raises(
        TypeError, match=r"SGD: learning_rate is 'fast', expected a number or a schedule. Pass for"
    ):
        optimizers.SGD("fast")
    with pytest.raises(TypeError, match=r"set_learning_rate: learning_rate is None, expected a number"):
        optimizers.set_learning_rate(optimizers.SGD().init(PARAMS), None)


def test_two_kinds_of_clipping_are_refused():
    with pytest.raises(
        ValueError, match=r"SGD: clipnorm=1.0 and clipvalue=0.5 were given, expected at most one"
    ):
        optimizers.SGD(clipnorm=1.0, clipvalue=0.5)


def test_names_and_classes_stand_for_the_object_with_its_defaults():
    for spec in ("adam", "Adam", optimizers.Adam, optimizers.Adam()):
        updates, _ = (tx := optimizers.get(spec)).update(GRADS, tx.init(PARAMS), PARAMS)
        np.testing.assert_allclose(updates["w"], [-1e-3, -1e-3], rtol=1e-4)


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"Unknown optimizer 'rmspropp'.*Did you mean 'rmsprop'\?"):
        optimizers.get("rmspropp")


def test_something_that_is_no_optimizer_is_refused():
    with pytest.raises(
        TypeError, match=r"given as adam, expected a name.*Call it first, as in optax.adam\(0.001\)"
    ):
        optimizers.get(optax.adam)
    with pytest.raises(
        TypeError, match=r"given as float, expected a name.*Pass for example optimizer='adam'"
    ):
        optimizers.get(0.1)
