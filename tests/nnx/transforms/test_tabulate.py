"""The table of a model."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

PLAIN = {"force_terminal": False, "no_color": True, "width": 1000}


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.bn(self.linear(x)))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = [Block(rngs), Block(rngs)]
        self.head = {"out": nnx.Linear(4, 2, rngs=rngs)}

    def __call__(self, x, times=1, *, scale=None):
        for _ in range(times):
            for block in self.blocks:
                x = block(x)
        return self.head["out"](x if scale is None else x * scale)

    def features(self, x):
        return self.blocks[0](x)


def table(obj, *args, **kwargs):
    """The cells by row and column; cells of several lines are joined by newlines."""
    lines = nnx.tabulate(obj, *args, **{"console_kwargs": PLAIN, **kwargs}).splitlines()
    header = [cell.strip() for cell in lines[2].split("┃")[1:-1]]
    rows = [dict.fromkeys(header, "")]
    for line in lines[4:]:
        if line.startswith("├"):
            rows.append(dict.fromkeys(header, ""))
        elif line.startswith("│"):
            for name, cell in zip(header, line.split("│")[1:-1], strict=True):
                rows[-1][name] = (rows[-1][name] + "\n" + cell.rstrip()[1:]).lstrip("\n")
    return [{name: cell.strip() for name, cell in row.items()} for row in rows]


def column(rows, name):
    return [row[name] for row in rows]


def test_a_row_tells_where_a_module_is_and_what_it_got_and_returned():
    rows = table(Model(), jnp.ones((3, 4)))
    assert column(rows, "path") == [
        "",
        "blocks/0",
        "blocks/0/linear",
        "blocks/0/bn",
        "blocks/0/dropout",
        "blocks/1",
        "blocks/1/linear",
        "blocks/1/bn",
        "blocks/1/dropout",
        "head/out",
        "",
    ]
    assert column(rows, "type")[:4] == ["Model", "Block", "Linear", "BatchNorm"]
    assert rows[0]["inputs"] == "float32[3,4]"
    assert rows[0]["outputs"] == "float32[3,2]"


def test_variables_are_listed_by_kind_with_totals():
    rows = table(Model(), jnp.ones((3, 4)))
    by_path = {row["path"]: row for row in rows[:-1]}
    assert by_path["blocks/0/linear"]["Param"] == "bias: float32[4]\nkernel: float32[4,4]\n\n20 (80 B)"
    assert by_path["blocks/1/bn"]["BatchStat"] == "mean: float32[4]\nvar: float32[4]\n\n8 (32 B)"
    assert by_path["blocks/1"]["Param"] == "28 (112 B)"
    assert by_path[""]["Param"] == "66 (264 B)"
    assert list(rows[-1].values()) == ["", "", "", "Total", "16 (64 B)", "66 (264 B)", "4 (24 B)"]
    text = nnx.tabulate(Model(), jnp.ones((3, 4)), console_kwargs=PLAIN)
    assert text.splitlines()[0].strip() == "Model Summary"
    assert text.splitlines()[-1].strip() == "Total Parameters: 86 (352 B)"


def test_metadata_is_shown_and_markup_in_it_is_only_text():
    model = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    model.kernel.set_metadata(note="[bold]x[/bold]\n", nothing=None)
    (row, _) = table(model, jnp.ones((1, 2)))
    assert row["Param"] == "kernel:\n  note: [bold]x[/bold]\\n\n  value: float32[2,2]\n\n4 (16 B)"


def test_variables_in_containers_and_arrays_without_a_variable_belong_to_the_module():
    class Odd(nnx.Module):
        def __init__(self):
            self.weights = [nnx.Param(jnp.ones(2)), {"b": nnx.Param({"u": jnp.ones(3), "none": None})}]
            self.table = jnp.ones((2, 2))

        def __call__(self):
            return self.weights[0] * 2

    (row, _) = table(Odd())
    assert row["Param"] == "weights/0: float32[2]\nweights/1/b:\n  none: None\n  u: float32[3]\n\n5 (20 B)"
    assert row["Array"] == "table: float32[2,2]\n\n4 (16 B)"
    assert (row["inputs"], row["outputs"]) == ("", "float32[2]")


def test_what_is_shared_counts_where_it_is_first_and_repeated_calls_are_one_row():
    linear = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

    class Holder(nnx.Module):
        def __init__(self):
            self.linear = linear

        def __call__(self, x):
            return self.linear(self.linear(x))

    class Twice(nnx.Module):
        def __init__(self):
            self.a, self.b = Holder(), Holder()
            self.b.root = self

        def __call__(self, x):
            return self.b(self.a(x))[0], self.a(x[0])

    rows = table(Twice(), jnp.ones((1, 4)))
    assert column(rows, "path") == ["", "a", "a/linear", "b", "a", "a/linear", ""]
    assert column(rows, "inputs") == ["float32[1,4]"] * 4 + ["float32[4]"] * 2 + [""]
    assert [text.split("\n")[-1] for text in column(rows, "Param")] == ["20 (80 B)"] * 3 + [
        "",
        "20 (80 B)",
        "20 (80 B)",
        "20 (80 B)",
    ]


def test_inputs_that_are_no_arrays_are_passed_as_they_are():
    rows = table(Model(), np.ones((3, 4), np.float32), 2, scale=jnp.float32(3), depth=0)
    assert rows[0]["inputs"] == "- float32[3,4]\n- 2\nscale: float32[]"


def test_nested_inputs_and_outputs_are_written_like_yaml():
    class Nest(nnx.Module):
        def __call__(self, x, names, *, rngs):
            return {"y": (x, [x, {}]), "none": None, "kind": nnx.Param, "names": names, "fun": nnx.relu}

    (row, _) = table(Nest(), jnp.ones(2), ["a", ("b\n", 1)], rngs=nnx.Rngs(0))
    assert row["inputs"] == "- float32[2]\n- - a\n  - - b\\n\n    - 1\nrngs: Rngs(...)"
    assert row["outputs"] == (
        "fun: <function relu>\nkind: Param\nnames:\n- a\n- - b\\n\n  - 1\nnone: None\n"
        "y:\n- float32[2]\n- - float32[2]\n  - {}"
    )


def test_other_methods_have_their_name_in_the_path():
    rows = table(Model(), jnp.ones((3, 4)), method="features")
    assert column(rows, "path")[:3] == ["features", "blocks/0", "blocks/0/linear"]


def test_depth_and_row_filter_choose_the_rows():
    x = jnp.ones((3, 4))
    assert column(table(Model(), x, depth=2), "path") == ["", "blocks/0", "blocks/1", "head/out", ""]
    linear = table(Model(), x, row_filter=lambda call: issubclass(call.type, nnx.Linear))
    assert column(linear, "path") == ["blocks/0/linear", "blocks/1/linear", "head/out", ""]
    everything = table(Model(), x, row_filter=lambda call: True)
    assert "RngStream" in column(everything, "type")


def test_nothing_is_computed_and_nothing_changes():
    model, x = Model(), jnp.ones((3, 4))
    attributes = [dict(vars(module)) for _, module in nnx.iter_graph(model) if isinstance(module, nnx.Pytree)]
    values = jax.tree.leaves(nnx.state(model))
    graphdef = nnx.graphdef(model)
    nnx.tabulate(model, x, compute_flops=True)
    assert attributes == [
        dict(vars(module)) for _, module in nnx.iter_graph(model) if isinstance(module, nnx.Pytree)
    ]
    assert all(a is b for a, b in zip(values, jax.tree.leaves(nnx.state(model)), strict=True))
    assert nnx.graphdef(model) == graphdef


def test_models_and_inputs_may_be_abstract():
    x = jnp.ones((3, 4))
    assert table(nnx.eval_shape(Model), jax.ShapeDtypeStruct((3, 4), x.dtype)) == table(Model(), x)


def test_a_model_can_be_shown_inside_of_a_transform():
    rows = []

    @nnx.jit
    def f(model, x):
        rows.extend(table(model, x))
        return model(x)

    f(Model(), jnp.ones((3, 4)))
    assert rows == table(Model(), jnp.ones((3, 4)))


def test_flops_are_those_of_the_call_and_of_its_gradients():
    class Product(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((4, 5)))

        @nnx.jit
        def __call__(self, x):
            return self.times(x)

        def times(self, x):
            return x @ self.weight

    rows = table(Product(), jnp.ones((3, 4)), compute_flops=True, compute_vjp_flops=True)
    assert column(rows, "path") == ["", "times", ""]
    assert column(rows, "flops") == ["120", "120", ""]  # 2 * 3 * 4 * 5
    assert column(rows, "vjp_flops") == ["360", "360", "Total"]  # of x and weight besides


def test_flops_are_left_open_where_a_call_cannot_be_compiled_on_its_own():
    class Mapped(nnx.Module):
        def __init__(self):
            self.bn = nnx.BatchNorm(4, axis_name="batch", rngs=nnx.Rngs(0))

        def __call__(self, x):
            return nnx.vmap(lambda bn, x: bn(x), in_axes=(None, 0), axis_name="batch")(self.bn, x)

    rows = table(Mapped(), jnp.ones((2, 4)), compute_flops=True)
    assert int(rows[0]["flops"]) > 0
    assert rows[1]["flops"] == "-"


def test_compiled_methods_are_traced_for_each_module_without_a_warning_that_they_are():
    class Layer(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

        @nnx.jit
        def __call__(self, x):
            return self.linear(x)

    model = nnx.Sequential(*(Layer() for _ in range(8)))
    for _ in range(2):
        assert column(table(model, jnp.ones((1, 4))), "type")[1:-1] == ["Layer", "Linear"] * 8


def test_the_table_keeps_no_arrays_alive():
    array = jnp.ones((4, 4)) + 1
    model = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    model.kernel.value = array
    gc.collect()
    gc.disable()
    try:
        nnx.tabulate(model, jnp.ones((3, 4)), compute_flops=True)
        freed = weakref.ref(array)
        del model, array
        assert freed() is None
    finally:
        gc.enable()


def test_options_reach_the_table_the_columns_and_the_console():
    text = nnx.tabulate(
        nnx.Linear(4, 4, rngs=nnx.Rngs(0)),
        jnp.ones((3, 4)),
        table_kwargs={"title": "My title"},
        column_kwargs={"justify": "right"},
        console_kwargs={**PLAIN, "width": 80},
    )
    assert "My title" in text
    assert "│ float32[3,4] │ float32[3,4] │     bias: float32[4] │" in text
    assert "\x1b" not in text


def test_without_a_width_the_table_is_as_wide_as_it_needs_to_be(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    wide = nnx.tabulate(Model(), jnp.ones((3, 4)))
    assert "blocks/0/dropout" in wide
    assert "\x1b[1m4 (24 B)" in wide


@pytest.mark.parametrize(("obj", "method"), [(Model(), "predict"), ([Model()], "__call__")])
def test_an_object_without_the_method_is_an_error(obj, method):
    with pytest.raises(TypeError, match=rf"tabulate got a \w+, expected a module with a method '{method}'"):
        nnx.tabulate(obj, jnp.ones((3, 4)), method=method)


def test_errors_of_the_model_come_through():
    with pytest.raises(ValueError, match="got an input of shape"):
        nnx.tabulate(Model(), jnp.ones((3, 5)))
