import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.nnx as nnx
from easyflax.layers.freezing import frozen_variables, set_mode, set_trainable


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.body = nnx.Sequential(nnx.Linear(2, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs))
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(self.body(x)))


def _frozen_paths(module):
    frozen = frozen_variables(module)
    params = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {".".join(map(str, path)) for path, variable in params if id(variable) in frozen}


def test_everything_is_trained_by_default():
    assert frozen_variables(Net()) == set()


def test_the_innermost_module_that_says_something_decides():
    net = Net()
    net.trainable = False
    net.body.trainable = True
    net.body.layers[0].trainable = False
    assert _frozen_paths(net) == {"body.layers.0.kernel", "body.layers.0.bias", "head.kernel", "head.bias"}


def test_what_lies_in_several_places_is_trained_if_one_of_them_is():
    class Tied(nnx.Module):
        def __init__(self):
            self.a = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
            self.b = nnx.Linear(2, 2, rngs=nnx.Rngs(1))
            self.b.kernel = self.a.kernel

    tied = Tied()
    tied.a.trainable = False
    assert _frozen_paths(tied) == {"a.bias"}
    tied.b.trainable = False
    assert _frozen_paths(tied) == {"a.bias", "a.kernel", "b.bias"}


def test_attributes_of_that_name_that_are_no_flags_say_nothing():
    class Other(nnx.Module):
        def __init__(self):
            self.trainable = nnx.Param(jnp.zeros(2))
            self.config = {"trainable": False, "layer": nnx.Linear(1, 1, rngs=nnx.Rngs(0))}

    assert frozen_variables(Other()) == set()


def test_modules_that_hold_each_other_are_walked_once():
    class Node(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.zeros(2))

    first, second = Node(), Node()
    first.other, second.other = second, first
    second.trainable = False
    assert _frozen_paths(first) == {"other.weight"}  # the first is trained at the place where it begins


def test_setting_a_module_sets_those_inside_that_have_a_say():
    net = Net()
    net.body.trainable = False
    set_trainable(net, True)
    assert frozen_variables(net) == set()
    set_trainable(net, False)
    assert net.body.trainable is False
    assert "trainable" not in vars(net.head)
    assert len(_frozen_paths(net)) == 6
    with pytest.raises(TypeError, match=r"Net\.trainable was set to 'no', expected True or False\. Set one"):
        set_trainable(net, "no")


@pytest.mark.parametrize("explicit", [None, False])
def test_a_frozen_batch_normalization_stays_in_inference_mode(explicit):
    norm = nnx.BatchNorm(2, momentum=0.5, rngs=nnx.Rngs(0))
    norm.trainable = False
    norm.train()
    x = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(norm(x, use_running_average=explicit), x, rtol=1e-4)
    assert norm.mean.value.tolist() == [0, 0]
    norm.trainable = True
    assert abs(norm(x, use_running_average=explicit).mean()) < 1e-5
    assert norm.mean.value.tolist() == [1, 1.75]


def test_training_mode_leaves_batch_normalizations_of_frozen_modules_alone_but_not_dropout():
    net = Net()
    net.trainable = False
    set_mode(net, training=True)
    assert net.body.layers[1].trainable is False
    assert net.body.layers[1].use_running_average is True
    assert net.drop.deterministic is False
    net = Net()
    net.trainable = False
    net.body.trainable = True
    set_mode(net, training=True)
    assert "trainable" not in vars(net.body.layers[1])
    assert net.body.layers[1].use_running_average is False
    set_mode(net, training=False)
    assert net.body.layers[1].use_running_average is True
