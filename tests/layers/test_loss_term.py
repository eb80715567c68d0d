import jax
import jax.numpy as jnp
import pytest

import easyflax.nnx as nnx
from easyflax.layers.loss_term import LossTerm, add_loss, collecting_losses, is_collecting, loss_terms


class Penalty(nnx.Module):
    def __call__(self, x):
        add_loss(self, jnp.sum(x))
        return 2 * x


class Twice(nnx.Module):
    def __init__(self):
        self.shared = Penalty()

    def __call__(self, x):
        return self.shared(self.shared(x))


def _terms(module):
    return [float(term) for term in loss_terms(module)]


def test_a_new_call_replaces_the_losses_of_the_one_before():
    layer = Penalty()
    assert loss_terms(layer) == []
    layer(jnp.ones(3))
    assert _terms(layer) == [3.0]
    layer(jnp.ones(5))
    assert _terms(layer) == [5.0]


def test_calls_of_a_shared_layer_add_up_within_one_outer_call():
    model = Twice()
    for _ in range(2):
        assert not is_collecting()
        with collecting_losses():
            assert is_collecting()
            model(jnp.ones(3))
        assert sum(_terms(model)) == 9.0


def test_losses_can_be_collected_on_top_of_those_that_a_module_holds():
    model = Twice()
    with collecting_losses(anew=False):
        model(jnp.ones(1))
        model(jnp.ones(1))
    assert sum(_terms(model)) == 6.0


def test_what_modules_sow_themselves_counts_value_by_value():
    class Sows(nnx.Module):
        def __call__(self, x):
            self.sow(LossTerm, "first", x)
            self.sow(LossTerm, "first", 2 * x)
            self.sow(nnx.Intermediate, "second", x)

    model = Sows()
    model(jnp.float32(3))
    assert _terms(model) == [3.0, 6.0]


def test_equal_calls_leave_equal_structures():
    layer = Penalty()
    layer(jnp.ones(2))
    before = nnx.graphdef(layer)
    layer(jnp.ones(2))
    assert nnx.graphdef(layer) == before


def test_losses_leave_a_transform_that_the_module_was_passed_to():
    layer = Penalty()
    nnx.jit(lambda layer, x: layer(x))(layer, jnp.ones(4))
    assert _terms(layer) == [4.0]


def test_nothing_is_added_where_nobody_could_read_it():
    layer = Penalty()
    assert jax.jit(layer)(jnp.ones(4)).tolist() == [2.0] * 4
    assert loss_terms(layer) == []
    with collecting_losses(anew=False), pytest.raises(nnx.TraceContextError):
        jax.jit(lambda x: layer(x))(jnp.ones(4))


def test_only_scalars_can_be_added():
    with pytest.raises(
        ValueError, match=r"add_loss: got shape \(3,\) in Penalty, expected a scalar\. Sum it"
    ):
        add_loss(Penalty(), jnp.ones(3))
