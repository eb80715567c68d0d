import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.distribution import DataParallel
from easyflax.nnx.core.variables import is_lent
from easyflax.train.binding import Binding, Loan, call_in_mode, path_name


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.table = jnp.arange(4.0)

    def __call__(self, x):
        h = self.drop(self.norm(self.dense(x)))
        self.sow(nnx.Intermediate, "hidden", h)
        return h + self.table


def test_parameters_and_the_rest_are_told_apart_by_path():
    binding = Binding(Net())
    assert set(binding.params) == {"dense.kernel", "dense.bias", "norm.scale", "norm.bias"}
    assert {"norm.mean", "norm.var", "drop.rngs.key", "drop.rngs.count", "table"} == set(binding.other)


def test_apply_equals_calling_the_module_and_leaves_it_alone():
    net, x = Net(), jnp.arange(6.0).reshape(2, 3)
    binding = Binding(net)
    output, other, *_ = binding.apply(*binding.arrays(), x, training=True)
    assert float(jnp.abs(net.norm.mean.value).max()) == 0
    assert not hasattr(net, "hidden")
    expected = net(x)
    assert np.array_equal(output, expected)
    assert np.array_equal(other["norm.mean"], net.norm.mean.value)
    assert other["drop.rngs.count"] == net.drop.rngs.count.value == 1


def test_inference_mode_reaches_all_layers_and_changes_nothing():
    binding, x = Binding(Net()), jnp.ones((2, 3))
    first, other, *_ = binding.apply(*binding.arrays(), x, training=False)
    second, *_ = binding.apply(*binding.arrays(), x, training=False)
    assert np.array_equal(first, second)
    assert np.array_equal(other["norm.mean"], np.zeros(4))
    assert other["drop.rngs.count"] == 0


def test_values_that_a_module_has_sown_before_do_not_pile_up():
    net, x = Net(), jnp.ones((2, 3))
    net(x)
    binding = Binding(net)
    assert "hidden" not in binding.other
    binding.apply(*binding.arrays(), x, training=True)
    assert len(net.hidden.value) == 1


class TakesTraining(nnx.Module):
    def __call__(self, x, training):
        return training


class TakesTrain(nnx.Module):
    def __call__(self, x, *, train=None):
        return train


class TakesDeterministic(nnx.Module):
    def __call__(self, x, deterministic):
        return not deterministic


@pytest.mark.parametrize("cls", [TakesTraining, TakesTrain, TakesDeterministic])
def test_the_mode_is_passed_to_modules_that_take_it(cls):
    assert call_in_mode(cls(), 0, training=True) is True
    assert call_in_mode(cls(), 0, training=False) is False


def test_shared_modules_stay_shared():
    class Twice(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
            self.second = self.first

        def __call__(self, x):
            return self.second(self.first(x))

    net, x = Twice(), jnp.ones((1, 3))
    binding = Binding(net)
    assert len(binding.params) == 2
    assert np.array_equal(binding.apply(*binding.arrays(), x, training=True)[0], net(x))


def test_a_parameter_made_by_the_call_is_an_error():
    class Late(nnx.Module):
        def __call__(self, x):
            self.scale = nnx.Param(jnp.ones(3))
            return x * self.scale

    binding = Binding(Late())
    with pytest.raises(
        ValueError, match=r"made the variable 'scale' \(Param\), expected it to exist.*__init__"
    ):
        binding.apply(*binding.arrays(), jnp.ones((1, 3)), training=True)


def test_path_names_are_unambiguous():
    assert path_name(("a", 0, "b.c~")) == "a.0.b~1c~0"


@pytest.fixture(params=[1, 8])
def lent(request):
    net = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    binding, layout = Binding(net), DataParallel(jax.devices()[: request.param])
    live = dict(zip(("params", "other"), layout.copy_to_devices(binding.arrays()), strict=True))
    loan = Loan(binding, layout, lambda: {**live["params"], **live["other"]})
    loan.lend()
    return net, loan, live, layout


def test_the_first_access_brings_all_values_home_as_copies(lent):
    net, loan, live, _ = lent
    expected = np.asarray(live["params"]["kernel"])
    assert is_lent(net.kernel)
    assert is_lent(net.bias)
    kernel = net.kernel.value
    assert not is_lent(net.bias)
    assert not loan.is_out
    live["params"]["kernel"].delete()
    assert np.array_equal(kernel, expected)


def test_only_what_was_replaced_is_taken_back(lent):
    net, loan, _, _ = lent
    net.bias.value = jnp.full(2, 7.0)
    changed = loan.take_back()
    assert set(changed) == {"bias"}
    assert changed["bias"].tolist() == [7, 7]
    assert is_lent(net.kernel)


@pytest.mark.parametrize("how", ["raw", "update", "index"])
def test_every_way_of_writing_is_seen(lent, how):
    net, loan, _, _ = lent
    if how == "raw":
        net.bias.set_raw_value(jnp.full(2, 3.0))
    elif how == "update":
        nnx.update(net, nnx.State({"bias": nnx.Param(jnp.full(2, 3.0))}))
    else:
        net.bias[0] = 3.0
        net.bias[1] = 3.0
    assert loan.take_back()["bias"].tolist() == [3, 3]


def test_looking_from_inside_a_jitted_function_gives_concrete_values(lent):
    net, _, live, _ = lent
    expected = np.asarray(live["params"]["kernel"])
    result = jax.jit(lambda x: net(x))(jnp.ones((1, 2)))
    assert np.allclose(result, expected.sum(axis=0))
    assert np.array_equal(net.kernel.value, expected)


def test_another_shape_is_refused_when_it_is_taken_back(lent):
    net, loan, _, _ = lent
    net.bias.value = jnp.ones(3)
    with pytest.raises(ValueError, match=r"'bias' to shape \(3,\), expected \(2,\)\. Keep the shape"):
        loan.take_back()


def test_closing_gives_the_live_arrays_back(lent):
    net, loan, live, _ = lent
    loan.close()
    assert not is_lent(net.kernel)
    assert np.array_equal(net.kernel.value, live["params"]["kernel"])


def test_closing_keeps_what_the_user_set_last(lent):
    net, loan, _, _ = lent
    net.bias.value = jnp.full(2, 9.0)
    loan.close()
    assert net.bias.value.tolist() == [9, 9]
