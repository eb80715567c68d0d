"""How modules, variables, states and structures are shown."""

import gc
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from easyflax import nnx
from easyflax.nnx.core.variables import give_back, lend


class Layer(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.zeros((3, 4)), note="a")
        self.stat = nnx.BatchStat(jnp.zeros(2))
        self.width = 4
        self._hidden = "not shown"


def test_a_module_is_shown_with_its_attributes_and_what_each_kind_holds():
    assert repr(Layer()).split("\n") == [
        "Layer( # Param: 12 (48 B), BatchStat: 2 (8 B)",
        "  kernel=Param( # 12 (48 B)",
        "    value=Array(shape=(3, 4), dtype=float32),",
        "    note='a'",
        "  ),",
        "  stat=BatchStat( # 2 (8 B)",
        "    value=Array([0., 0.], dtype=float32)",
        "  ),",
        "  width=4",
        ")",
    ]


def test_large_sizes_are_rounded_and_written_with_separators():
    model = nnx.Dict(w=nnx.Param(jax.ShapeDtypeStruct((1000, 1500), jnp.float32)))
    assert repr(model).startswith("Dict({ # Param: 1,500,000 (6.0 MB)")


def lines(value):
    return repr(value).split("\n")


def test_what_is_shared_is_shown_once_with_its_path_at_the_other_places():
    model = nnx.Dict(a=nnx.List([nnx.Param(1)]))
    model.b, model.tied, model.me = model.a, model.a[0], model
    assert lines(model) == [
        "Dict({",
        "  'a': List([",
        "    Param(",
        "      value=1",
        "    )",
        "  ]),",
        "  'b': List(...), # same as a",
        "  'tied': Param(...), # same as a/0",
        "  'me': Dict(...) # same as the root",
        "})",
    ]


def test_what_is_shared_is_counted_where_it_is_shown():
    class Pair(nnx.Module):
        def __init__(self, shared):
            self.shared, self.own = shared, nnx.Param(jnp.ones(2))

    layer = Layer()
    model = nnx.List([Pair(layer), Pair(layer)])
    shown = [line.strip() for line in lines(model) if "List" in line or "Pair" in line]
    assert shown == [
        "List([ # Param: 16 (64 B), BatchStat: 2 (8 B)",
        "Pair( # Param: 14 (56 B), BatchStat: 2 (8 B)",
        "Pair( # Param: 2 (8 B)",
    ]


def test_cycles_through_any_container_end():
    model = nnx.Dict()
    model.list, model.tuple, model.dict = [model], (model,), {"x": model}
    model.list.append(model.list)
    text = repr(model)
    assert "'list': [\n    Dict(...), # same as the root\n    list(...) # same as list\n  ]" in text
    assert "'tuple': (\n    Dict(...) # same as the root\n  )" in text
    assert "'dict': {\n    'x': Dict(...) # same as the root\n  }" in text


def test_containers_with_data_are_shown_over_several_lines_and_others_in_one():
    model = Layer.__new__(nnx.Module)
    model.items = [nnx.Dict(n=1), 2]
    model.table = {"x": nnx.Param(1)}
    model.empty, model.none, model.plain = [], {}, {"a": [1, (2.5, "b\nc")], "t": int}
    model.deeper = [{"a": (1,)}, nnx.relu]
    assert lines(model) == [
        "Module(",
        "  items=[",
        "    Dict({",
        "      'n': 1",
        "    }),",
        "    2",
        "  ],",
        "  table={",
        "    'x': Param(",
        "      value=1",
        "    )",
        "  },",
        "  empty=[],",
        "  none={},",
        "  plain={",
        "    'a': [1, (2.5, 'b\\nc')],",
        "    't': int",
        "  },",
        "  deeper=[",
        "    {'a': (1,)},",
        "    <function relu>",
        "  ]",
        ")",
    ]


def test_hidden_attributes_are_shown_where_they_hold_data():
    class Hiding(nnx.Module):
        def __init__(self):
            self._note, self._config = "x", {"a": 1}
            self._layers = [nnx.Param(jnp.ones(9))]

    assert lines(Hiding())[:2] == ["Hiding( # Param: 9 (36 B)", "  _layers=["]
    assert "_note" not in repr(Hiding())
    assert "_config" not in repr(Hiding())


def test_states_and_variables_are_shown():
    state = nnx.state(Layer(), nnx.BatchStat)
    assert lines(state) == [
        "State({",
        "  'stat': BatchStat( # 2 (8 B)",
        "    value=Array([0., 0.], dtype=float32)",
        "  )",
        "})",
    ]
    assert repr(nnx.Param(1)) == str(nnx.Param(1)) == f"{nnx.Param(1)}" == "Param(\n  value=1\n)"
    assert repr(nnx.Dict()) == "Dict({})"


def test_flat_states_are_shown_pair_by_pair():
    assert lines(nnx.to_flat_state(nnx.state(nnx.Dict(a=[nnx.Param(1)])))) == [
        "FlatState([",
        "  (",
        "    ('a', 0),",
        "    Param(",
        "      value=1",
        "    )",
        "  )",
        "])",
    ]


def test_variables_of_several_arrays_and_their_hooks_are_shown():
    def hook(variable, value):
        return value

    variable = nnx.Param({"a": jnp.ones(2), "b": (jnp.ones(9), None)}, on_get_value=hook, note=("x", None))
    assert lines(variable) == [
        "Param( # 11 (44 B)",
        "  value={",
        "    'a': Array([1., 1.], dtype=float32),",
        "    'b': (",
        "      Array(shape=(9,), dtype=float32),",
        "      None",
        "    )",
        "  },",
        "  on_get_value=<function test_variables_of_several_arrays_and_their_hooks_are_shown.<locals>.hook>,",
        "  note=('x', None)",
        ")",
    ]


def test_optimizer_states_are_shown_by_their_fields():
    optimizer = nnx.Optimizer(Layer(), optax.adam(0.1), wrt=nnx.Param)
    text = repr(optimizer)
    assert "Optimizer( # OptState: 1 (4 B), OptArray: 1 (4 B), OptVariable: 24 (96 B)\n" in text
    assert (
        "  opt_state=(\n"
        "    ScaleByAdamState(\n"
        "      count=OptArray( # 1 (4 B)\n"
        "        value=Array(0, dtype=int32)\n"
        "      ),\n"
        "      mu=State({\n"
        "        'kernel': OptVariable( # 12 (48 B)\n"
    ) in text
    assert "    EmptyState()\n" in text


def test_random_streams_are_counted_as_one_kind_and_keys_take_one_line():
    assert lines(nnx.Rngs(3))[:6] == [
        "Rngs( # RngState: 2 (12 B)",
        "  default=RngStream( # RngState: 2 (12 B)",
        "    tag='default',",
        "    key=RngKey( # 1 (8 B)",
        "      value=Array((), dtype=key<fry>) overlaying: [0 3],",
        "      tag='default'",
    ]


# -- values of all sorts


def test_abstract_models_and_numpy_arrays_are_shown():
    assert "value=ShapeDtypeStruct(shape=(3, 4), dtype=float32)" in repr(nnx.eval_shape(Layer))
    numpy = nnx.Dict(large=np.ones((3, 4)), small=np.ones((2, 2)), scalar=np.float32(2))
    assert lines(numpy) == [
        "Dict({",
        "  'large': ndarray(shape=(3, 4), dtype=float64),",
        "  'small': array([[1., 1.], [1., 1.]]),",
        f"  'scalar': {np.float32(2)!r}",
        "})",
    ]


@pytest.mark.parametrize("transform", [nnx.jit, jax.jit, nnx.vmap, nnx.grad, jax.checkpoint])
def test_a_model_can_be_shown_inside_of_any_transform(transform):
    texts = []

    def f(model):
        texts.append(repr(model))
        return model.kernel.value.sum()

    transform(f)(nnx.Dict(kernel=nnx.Param(jnp.ones((2, 3)))))
    shape = "(3,)" if transform is nnx.vmap else "(2, 3)"
    assert f"value=Tracer(shape={shape}, dtype=float32)" in texts[0]


def test_a_model_whose_arrays_were_donated_can_still_be_shown():
    model = Layer()
    clone = nnx.clone(model)
    nnx.jit(lambda m: m.stat + 1, donate_argnums=0)(model)
    assert clone.stat.value.is_deleted()
    assert "value=Array(shape=(3, 4), dtype=float32, deleted)" in repr(clone)
    assert "value=Array(shape=(2,), dtype=float32, deleted)" in repr(clone)


def test_the_values_of_lent_variables_are_shown():
    variable = nnx.Param(jnp.ones(2))

    class Lender:
        def fetch(self):
            give_back(variable, jnp.full(2, 7.0, jnp.float32))

    lend([variable], Lender())
    assert "value=Array([7., 7.], dtype=float32)" in repr(variable)


def test_the_layout_of_arrays_over_devices_is_shown():
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x", None))
    model = nnx.Dict(
        array=nnx.Param(jax.device_put(jnp.ones((2, 2)), sharding)),
        abstract=nnx.Param(jax.ShapeDtypeStruct((2, 2), jnp.float32, sharding=sharding)),
    )
    text = repr(model)
    assert f"value=Array(shape=(2, 2), dtype=float32, sharding={sharding.spec})" in text
    assert f"value=ShapeDtypeStruct(shape=(2, 2), dtype=float32, sharding={sharding.spec})" in text


# -- large models


@pytest.mark.usefixtures("no_collector")
def test_showing_a_model_does_not_keep_its_arrays_alive():
    array = jnp.ones(3) + 1
    model = nnx.Dict(a=nnx.Param(array), b=[nnx.Dict()])
    repr(model), repr(nnx.graphdef(model))
    freed = weakref.ref(array)
    del model, array
    assert freed() is None


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_of_many_siblings_the_first_and_last_are_shown_and_all_are_counted():
    model = nnx.List([nnx.Param(i) for i in range(41)] + [nnx.Param(jnp.ones(10))])
    assert lines(model)[0] == "List([ # Param: 10 (40 B)"
    assert [line.strip() for line in lines(model) if "value" in line] == [
        *(f"value={i}" for i in (0, 1, 2, 3, 4, 37, 38, 39, 40)),
        "value=Array(shape=(10,), dtype=float32)",
    ]
    assert "  ..., # 32 more" in lines(model)
    model.pop()
    model.pop()
    assert len(lines(model)) == 40 * 3 + 2


def test_a_model_of_many_layers_is_shown_quickly_and_briefly():
    model = nnx.eval_shape(lambda: nnx.List([Layer() for _ in range(1000)]))
    start = time.perf_counter()
    text = repr(model)
    assert time.perf_counter() - start < 1
    assert text.startswith("List([ # Param: 12,000 (48.0 KB), BatchStat: 2,000 (8.0 KB)\n")
    assert len(text.split("\n")) < 120
    assert len(repr(nnx.graphdef(model)).split("\n")) <= 201


def test_a_model_of_many_levels_is_shown_down_to_some_level():
    model = innermost = nnx.Dict(w=nnx.Param(jnp.ones(10)))
    for _ in range(2000):
        model = nnx.Dict(inner=model)
    assert lines(model)[0] == "Dict({ # Param: 10 (40 B)"
    assert lines(model)[40] == 40 * "  " + "'inner': Dict({...}) # Param: 10 (40 B)"
    assert innermost is not None


# -- structures


def test_structures_are_shown_a_line_for_each_module_and_variable():
    model = nnx.Dict(layer=Layer(), array=jnp.ones(2), n=3)
    model.shared, model.tied, model.me = model.layer, model.layer.kernel, model
    assert repr(nnx.graphdef(model)).split("\n") == [
        "GraphDef(2 nodes, 2 variables, 1 arrays)",
        "  (root): Dict(n=3)",
        "  array: array",
        "  layer: Layer(_hidden='not shown', width=4)",
        "  layer/kernel: Param(note='a')",
        "  layer/stat: BatchStat",
        "  me: same as (root)",
        "  shared: same as layer",
        "  tied: same as layer/kernel",
    ]
