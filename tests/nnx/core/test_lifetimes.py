"""Models and old values are freed when they are no longer used, whatever walks are kept."""

from __future__ import annotations

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx
from easyflax.nnx.core.walk import walk


class Layer(nnx.Module):
    def __init__(self, value=1.0):
        self.w = nnx.Param(jnp.full(2, value))
        self.stat = nnx.BatchStat(jnp.array(value))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def use(model):
    nnx.jit(lambda m: m.layer.w + 0)(model)
    nnx.state(model)
    repr(model)
    nnx.jit(lambda m, x: m.layer.stat.set_value(x))(model, jnp.array(3.0))
    nnx.split(model, nnx.Param, ...)


@pytest.mark.usefixtures("no_collector")
def test_a_model_is_freed_with_its_last_reference_without_the_garbage_collector():
    model = nnx.Dict(layer=Layer(), items=[Layer()], array=jnp.ones(2) + 1)
    use(model)
    references = [weakref.ref(x) for x in (model, model.layer, model.layer.w, model.items[0].w, model.array)]
    del model
    assert [reference() for reference in references] == [None] * 5


@pytest.mark.usefixtures("no_collector")
def test_the_partner_of_a_living_model_is_freed():
    model, partner = nnx.Dict(layer=Layer()), nnx.Dict(layer=Layer())
    both = nnx.jit(lambda a, b: a.layer.w + b.layer.w)
    for _ in range(2):
        both(model, partner)
        both(partner, model)
    references = [weakref.ref(partner), weakref.ref(partner.layer.w), weakref.ref(partner.layer.w.value)]
    del partner
    assert [reference() for reference in references] == [None] * 3
    assert both(model, nnx.Dict(layer=Layer(4.0))).tolist() == [5, 5]


@pytest.mark.usefixtures("no_collector")
def test_old_values_are_freed_when_they_are_replaced():
    model = nnx.Dict(layer=Layer(), array=jnp.ones(2) + 1)
    partner = nnx.Dict(model=model)
    use(model)
    nnx.state(partner)
    for change in (
        lambda: model.layer.w.set_value(jnp.full(2, 7.0)),
        lambda: nnx.jit(lambda m: m.layer.w.set_value(m.layer.w + 1))(model),
        lambda: nnx.jit(lambda m: m.layer.w.set_value(m.layer.w + 1))(partner.model),
    ):
        nnx.jit(lambda m: m.layer.w + 0)(model)
        walk(model).values()
        walk(partner).values()
        old = weakref.ref(model.layer.w.value)
        change()
        assert old() is None
    old = weakref.ref(model.array)
    model.array = jnp.zeros(2)
    assert old() is None


@pytest.mark.usefixtures("no_collector")
def test_replaced_variables_and_modules_are_freed_at_once():
    model, partner = nnx.Dict(layer=Layer(), items=nnx.List([Layer()])), Layer()
    use(model)
    nnx.jit(lambda a, b: a.layer.w + b.w)(model, partner)
    nnx.jit(lambda a, b: a.w + b.layer.w)(partner, model)
    use(model)
    old = weakref.ref(model.layer.w)
    model.layer.w = nnx.Param(jnp.ones(2))
    assert old() is None
    use(model)
    old = weakref.ref(model.layer)
    model.layer = Layer()
    assert old() is None
    use(model)
    old = weakref.ref(model["items"][0].w)
    model["items"].pop()
    assert old() is None


def test_subscriptions_do_not_pile_up():
    layer, partner = Layer(), nnx.Dict()
    read, total = nnx.jit(lambda x: jax.tree.leaves(nnx.state(x))[0]), nnx.jit(lambda a, b: 0)
    box = nnx.Dict(layer=layer, plain=[1])
    for i in range(25):
        read(layer.w)
        nnx.state((layer, partner))
        nnx.state([layer])
        read({"a": layer})
        box.plain.append(i)
        nnx.state(box)
        layer.features = i % 2
        nnx.state(layer)
        total(layer, nnx.Dict())
    for tracked in (layer, layer.w, box):
        tokens = tracked._tokens or []
        assert len(tokens) < 16
        assert all(len(token.peers) < 16 for token in tokens)
        assert len(tracked._walks or {}) < 16
