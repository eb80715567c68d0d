import jax.numpy as jnp
import optax
import pytest

from easyflax import nnx


class Counter(nnx.Module):
    def __init__(self):
        self.count = nnx.Variable(jnp.array(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.by = 1


@nnx.jit
def increment(counter, other, by):
    counter.count[...] += by * counter.by + other.count[...]
    return counter.count[...]


def test_changes_of_variables_are_shared_with_the_modules_that_were_given():
    counter, other = Counter(), Counter()
    step = nnx.cached_partial(increment, counter, other)
    assert step.__name__ == "increment"
    assert int(step(2)) == 2
    assert int(counter.count) == 2
    other.count[...] = 10
    counter.count[...] = 100
    assert int(step(by=1)) == 111
    assert int(counter.count) == 111


def test_sharing_among_the_given_modules_is_kept():
    counter = Counter()
    assert int(nnx.cached_partial(increment, counter, counter)(3)) == 3
    assert int(nnx.cached_partial(increment, counter, counter)(3)) == 9


def test_modes_stay_as_they_were():
    counter = Counter()

    @nnx.jit
    def is_testing(counter):
        return counter.drop.deterministic

    training = nnx.cached_partial(is_testing, counter)
    counter.eval()
    testing = nnx.cached_partial(is_testing, counter)
    assert [bool(training()), bool(testing())] == [False, True]


def test_a_training_step_updates_model_optimizer_and_metrics():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.01), wrt=nnx.Param)
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))

    @nnx.jit
    def step(model, optimizer, metrics, x):
        loss, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, grads)
        metrics.update(loss=loss)

    cached = nnx.cached_partial(step, model, optimizer, metrics)
    before = float(model(jnp.ones((1, 2)))[0, 0]) ** 2
    for _ in range(3):
        cached(jnp.ones((4, 2)))
    assert float(model(jnp.ones((1, 2)))[0, 0]) ** 2 < before
    assert int(optimizer.step.value) == 3
    assert float(metrics.compute()["loss"]) < before


def test_a_change_of_structure_is_an_error_that_says_which():
    @nnx.jit
    def change(counter):
        counter.by = 2

    @nnx.jit
    def change_for_a_while(counter):
        counter.sow(nnx.Intermediate, "seen", 1)
        nnx.pop(counter, nnx.Intermediate)

    counter = Counter()
    with pytest.raises(ValueError, match=r"'change' changed the structure.*\n.*by': 1 became 2"):
        nnx.cached_partial(change, counter)()
    assert counter.by == 1
    nnx.cached_partial(change_for_a_while, counter)()


def test_arguments_that_are_no_modules_are_kept_as_they_are():
    power = nnx.cached_partial(lambda x, f, n: f(x) ** n, jnp.array(3.0), abs)
    assert float(power(2)) == 9.0


def test_the_compiled_programs_of_the_function_can_be_counted():
    @nnx.jit
    def double(linear, x):
        return linear(x) * 2

    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    partial = nnx.cached_partial(double, linear)
    assert double.jitted_fn._cache_size() == 0
    for rows in (1, 2, 2):
        partial(jnp.ones((rows, 2)))
    assert double.jitted_fn._cache_size() == partial.jitted_fn._cache_size() == 2
