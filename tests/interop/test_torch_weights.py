"""State dicts of NumPy arrays; against PyTorch itself see tests/parity/test_torch_layers.py."""

import jax.numpy as jnp
import numpy as np
import pytest

import easyflax.interop as interop
import easyflax.nnx as nnx
from easyflax.interop import files, torch_rules
from easyflax.interop.files import write_arrays
from easyflax.models import Model


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (2, 1), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)


class Net(nnx.Module):
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.blocks = [Block(rngs), Block(rngs)]
        self.head = nnx.Sequential(nnx.Dropout(0.5, rngs=rngs), nnx.relu, nnx.Linear(4, 2, rngs=rngs))
        self.position = nnx.Param(rngs.normal((5, 3)))


SHAPES = {
    **{
        f"blocks.{i}.{name}": shape
        for i in (0, 1)
        for name, shape in {
            "conv.weight": (4, 3, 2, 1),
            "conv.bias": (4,),
            "norm.weight": (4,),
            "norm.bias": (4,),
            "norm.running_mean": (4,),
            "norm.running_var": (4,),
        }.items()
    },
    "head.2.weight": (2, 4),
    "head.2.bias": (2,),
    "position": (5, 3),
}


def state_dict(**changes):
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    arrays |= {f"blocks.{i}.norm.num_batches_tracked": np.array(7) for i in (0, 1)}
    return arrays | changes


def assert_loaded(model, arrays):
    for i in (0, 1):
        weight = arrays[f"blocks.{i}.conv.weight"]
        np.testing.assert_array_equal(model.blocks[i].conv.kernel.value, weight.transpose(2, 3, 1, 0))
        running = arrays[f"blocks.{i}.norm.running_var"]
        np.testing.assert_array_equal(model.blocks[i].norm.var.value, running)
    np.testing.assert_array_equal(model.head.layers[2].kernel.value, arrays["head.2.weight"].T)
    np.testing.assert_array_equal(model.position.value, arrays["position"])


def test_each_layer_takes_its_weights_by_its_path_and_type():
    model = Net()
    assert interop.load_torch(model, state_dict()) == ([], [], [])
    assert_loaded(model, state_dict())


def test_a_model_of_the_trainer_an_abstract_one_and_a_file_do_as_well(tmp_path):
    write_arrays(tmp_path / "a.safetensors", state_dict())
    model = Model(Net())
    interop.load_torch(model, tmp_path / "a.safetensors")
    assert_loaded(model.module, state_dict())
    abstract = nnx.eval_shape(Net)
    interop.load_torch(abstract, str(tmp_path / "a.safetensors"))
    assert_loaded(abstract, state_dict())


def test_names_translate_those_that_pytorch_would_use():
    arrays = {f"model.{name.replace('blocks', 'h')}": array for name, array in state_dict().items()}
    model = Net()
    interop.load_torch(model, arrays, {"": "model", "blocks": "model.h"})
    assert_loaded(model, state_dict())
    other = Net()
    interop.load_torch(other, arrays, lambda name: f"model.{name.replace('blocks', 'h')}")
    assert_loaded(other, state_dict())


def test_a_star_in_names_stands_for_any_part():
    arrays = {name.replace("blocks.", "features.block_"): array for name, array in state_dict().items()}
    model = Net()
    interop.load_torch(
        model, arrays | {"features.block_1.mask": np.zeros(3)},
        {"blocks.*": "features.block_*", "features.*.mask": None},
    )  # fmt: skip
    assert_loaded(model, state_dict())


@pytest.mark.parametrize(
    ("ours", "theirs", "hint"),
    [
        ("", "bert.", r"\n  most have 'bert\.' before their names there: try names=\{'': 'bert'\}\n"),
        ("net.", "", r"\n  most have 'net\.' before their names here only: try names=\{'net': ''\}\n"),
        ("", "", r"\n  missing: 'position'\nexpected one array"),
    ],
)
def test_names_that_differ_by_a_beginning_are_pointed_out(ours, theirs, hint):
    arrays = {f"{theirs}{name}": array for name, array in state_dict().items() if name != "position"}
    model = nnx.Dict(net=Net()) if ours else Net()
    with pytest.raises(ValueError, match=hint):
        interop.load_torch(model, arrays)


def test_parts_that_are_left_out_stay_as_they_are():
    arrays = state_dict(**{"head.2.weight": np.zeros((1000, 4), np.float32)})
    model = Net()
    head = model.head.layers[2].kernel.value
    assert interop.load_torch(model, arrays, {"head": None}, only=nnx.Param) == ([], [], [])
    np.testing.assert_array_equal(model.head.layers[2].kernel.value, head)
    np.testing.assert_array_equal(model.blocks[0].norm.scale.value, arrays["blocks.0.norm.weight"])
    np.testing.assert_array_equal(model.blocks[0].norm.var.value, np.ones(4))


def test_tensors_and_layers_that_have_no_counterpart_can_be_left_out():
    model = nnx.Dict(
        head=nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
        wrapped=nnx.WeightNorm(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)),
        einsum=nnx.Einsum("ab,bc->ac", (2, 3), rngs=nnx.Rngs(0)),
    )
    arrays = {"head.weight": np.ones((3, 2)), "head.bias": np.ones(3), "wrapped.weight_g": np.ones((3, 1))}
    left_out = {"wrapped": None, "einsum": None, "tied": None}
    with pytest.raises(ValueError, match=r"(?s)Einsum 'einsum': there is no conv.*WeightNorm 'wrapped'"):
        interop.load_torch(model, arrays)
    assert interop.load_torch(model, {**arrays, "tied.weight": np.ones(1)}, left_out) == ([], [], [])
    assert model.head.kernel.value.tolist() == [[1, 1, 1]] * 2
    with pytest.raises(ValueError, match=r"got names=\{'tied': \.\.\.\}, expected beginnings of"):
        interop.load_torch(model, arrays, left_out)


def test_all_that_does_not_fit_is_reported_at_once_and_nothing_is_changed():
    class Odd(nnx.Module):
        def __init__(self):
            self.net = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
            self.wrapped = nnx.SpectralNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
            self.batched = nnx.LinearGeneral(4, 4, batch_axis={0: 2}, rngs=nnx.Rngs(0))
            self.slope = nnx.PReLU()

    model = Odd()
    arrays = {"net.0.weight": np.ones((3, 4)), "net.0.scale": np.ones(3), "slope.weight": np.ones(1)}
    with pytest.raises(ValueError, match="load_torch: the arrays do not fit the model") as caught:
        interop.load_torch(model, arrays)
    assert str(caught.value).splitlines()[1:-1] == [
        "  missing: 'net.0.bias'",
        "  unexpected: 'net.0.scale'",
        "  LinearGeneral 'batched': a LinearGeneral with batch axes has no counterpart in PyTorch",
        "  SpectralNorm 'wrapped': a SpectralNorm keeps other numbers than PyTorch's. There, call "
        "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight'); here, load into the layer "
        "before wrapping it",
        "  Linear 'net.layers.0': 'net.0.weight' has shape (3, 4), expected (4, 3)",
    ]
    assert model.slope.negative_slope.value == pytest.approx(0.01)
    left = interop.load_torch(model, arrays, strict=False)
    assert left.missing == ["net.0.bias"]
    assert left.unexpected == ["net.0.scale"]
    assert len(left.misfits) == 3
    assert model.slope.negative_slope.value == 1


class Einsums(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.ones((2, 3)))


def test_a_layer_of_ours_without_a_conversion_is_refused_and_one_may_be_added(monkeypatch):
    monkeypatch.setattr(torch_rules, "_CONVERSIONS", dict(torch_rules._CONVERSIONS))
    monkeypatch.setattr(Einsums, "__module__", "easyflax.nnx.layers.einsums")
    model = nnx.Dict(einsum=Einsums())
    with pytest.raises(ValueError, match=r"Einsums 'einsum': there is no conversion for this layer; add one"):
        interop.load_torch(model, {"einsum.kernel": np.zeros((2, 3))})

    @interop.torch_conversion(Einsums)
    def convert(layer, has):
        if has("packed"):
            yield interop.rule((), "packed")
        yield interop.rule("kernel", ("a", "b"), lambda a, b: np.stack([a, b]), lambda kernel: tuple(kernel))

    arrays = {"einsum.a": np.zeros(3), "einsum.b": np.ones(3), "einsum.packed": np.zeros(1)}
    interop.load_torch(model, arrays)
    assert model.einsum.kernel.value.tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"'einsum\.b' has shape \(2,\), expected \(3,\)"):
        interop.load_torch(model, arrays | {"einsum.b": np.ones(2)})


def test_a_subclass_is_converted_as_its_base_and_its_own_variables_stay_as_they_are():
    class Scaled(nnx.Linear):
        def __init__(self):
            super().__init__(2, 3, rngs=nnx.Rngs(0))
            self.gain = nnx.Param(jnp.ones(3))

    model = Scaled()
    arrays = {"weight": np.ones((3, 2)), "bias": np.ones(3), "gain": np.full(3, 2.0)}
    interop.load_torch(model, arrays)
    assert model.gain.value.tolist() == [2, 2, 2]
    assert model.kernel.value.tolist() == [[1, 1, 1]] * 2


class Pair(nnx.Module):
    def __init__(self):
        self.a, self.b = nnx.Param(jnp.ones(1)), nnx.BatchStat(jnp.ones(1))


def test_a_rule_is_not_split_by_a_filter(monkeypatch):
    monkeypatch.setattr(torch_rules, "_CONVERSIONS", dict(torch_rules._CONVERSIONS))

    @interop.torch_conversion(Pair)
    def convert(layer, has):
        yield interop.rule(("a", "b"), "ab", lambda ab: np.split(ab, 2), lambda a, b: np.append(a, b))

    model = Pair()
    with pytest.raises(ValueError, match="the model: only= selects a part of what 'ab' hold together"):
        interop.load_torch(model, {"ab": np.zeros(2)}, only=nnx.Param)
    interop.load_torch(model, {"ab": np.zeros(2)})
    assert (model.a.value, model.b.value) == (0, 0)


def test_shared_layers_are_found_under_any_of_their_names():
    model = nnx.Dict(first=nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    model.second = model.first
    weight = np.arange(4.0).reshape(2, 2)
    interop.load_torch(model, {"second.weight": weight, "second.bias": np.zeros(2)})
    np.testing.assert_array_equal(model.first.kernel.value, weight.T)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([np.zeros(3)], "load_torch: got a state dict of type list, expected tensors or arrays by name"),
        ({"epoch": 3}, r"load_torch: got 'epoch' of type int among the arrays, .*\['state_dict'\]"),
        ({3: np.zeros(3)}, "load_torch: got 3 of type ndarray among the arrays"),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message):
    with pytest.raises(TypeError, match=message):
        interop.load_torch(Net(), state)


def test_to_torch_says_how_to_install_torch_where_it_is_missing(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(files, "import_module", missing)
    with pytest.raises(ImportError, match=r'to_torch: PyTorch is not.*pip install "easyflax\[interop\]"'):
        interop.to_torch(Net())
