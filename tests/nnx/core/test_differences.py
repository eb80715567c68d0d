import jax.numpy as jnp

from easyflax import nnx
from easyflax.nnx.core.differences import differ_in_static_values_only, structure_differences


def make():
    return nnx.Dict(
        first=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), drop=nnx.Dropout(0.1), table=[nnx.Param(jnp.ones(2))]
    )


def differences(change, names=None):
    model = make()
    before = nnx.graphdef(model)
    change(model)
    return structure_differences(before, nnx.graphdef(model), names)


def test_equal_structures_have_none():
    assert structure_differences(nnx.graphdef(make()), nnx.graphdef(make())) == []


def test_each_kind_of_change_is_named_with_its_path():
    def change(model):
        model.drop.rate = 0.5
        model.first.kernel = nnx.BatchStat(model.first.kernel.value)
        del model.first.bias
        model.new = nnx.Param(1.0)
        model.table[0].set_metadata("note", "x")

    assert sorted(differences(change)) == [
        "'drop/rate': 0.1 became 0.5",
        "'first/bias': a Param is gone",
        "'first/kernel': a Param became a BatchStat",
        "'new': a Param is new",
        "'table/0': a Param became a Param with note='x'",
    ]


def test_another_module_in_the_same_place_is_named_by_its_type():
    def change(model):
        model.drop = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

    assert differences(change) == ["'drop': Dropout became BatchNorm"]


def test_sharing_is_named():
    def share(model):
        model.table[0] = model.first.bias

    assert differences(share) == ["'table/0': is now the same object as 'first/bias'"]
    model = make()
    share(model)
    shared = nnx.graphdef(model)
    model.table[0] = nnx.Param(jnp.ones(2))
    assert structure_differences(shared, nnx.graphdef(model)) == [
        "'table/0': is no longer the same object as 'first/bias'"
    ]


def test_cycles_end():
    def tie(model):
        model.self = model

    assert differences(tie) == ["'self': a Dict is new"]
    model, other = make(), make()
    tie(model), tie(other)
    other.drop.rate = 1.0
    assert structure_differences(nnx.graphdef(model), nnx.graphdef(other)) == ["'drop/rate': 0.1 became 1.0"]


def test_roots_can_be_given_names():
    model = make()
    before = nnx.graphdef((model, model.drop))
    model.drop.rate = 0.5
    lines = structure_differences(before, nnx.graphdef((model, model.drop)))
    assert lines == ["'0/drop/rate': 0.1 became 0.5"]


def test_structures_that_differ_in_static_values_only_are_told_apart():
    model, before = make(), nnx.graphdef(make())
    model.drop.rate = 0.5
    assert differ_in_static_values_only(before, nnx.graphdef(model))
    model.drop.more = 0.5
    assert not differ_in_static_values_only(before, nnx.graphdef(model))
