"""Real PyTorch modules, their weights loaded here: outputs and gradients are equal.

Both sides compute in float32 and add in other orders, so they are compared to 1e-5 of the largest value;
where more products follow each other the tolerance is stated at the case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import interop, nnx

torch = pytest.importorskip("torch")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_random_weights(module: Any, seed: int = 0) -> Any:
    """The module with all weights and statistics drawn anew, so that no zero or one hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                draw = torch.rand if "var" in name else torch.randn
                tensor.copy_(0.1 + 0.5 * draw(tensor.shape, generator=generator))
    return module


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    largest = np.max(np.abs(theirs), initial=0.0)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance * largest)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def channels_first(y: Any) -> Any:
    return jnp.moveaxis(y, -1, 1)


def unchanged(x: Any) -> Any:
    return x


class Case(NamedTuple):
    """One layer, there and here."""

    theirs: Callable[[], Any]
    ours: Callable[[Any], Any]  # of nnx.Rngs
    x: np.ndarray  # as PyTorch takes it
    into: Callable[[np.ndarray], Any] = unchanged  # its layout to ours
    out: Callable[[Any], Any] = unchanged  # and back
    tolerance: float = 1e-5


def images(theirs: Callable[[], Any], ours: Callable[[Any], Any], *shape: int) -> Case:
    return Case(theirs, ours, random(*shape), channels_last, channels_first)


nn = torch.nn


class TorchLoRA(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 4)
        self.lora_A, self.lora_B = nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)

    def forward(self, x: Any) -> Any:
        return super().forward(x) + self.lora_B(self.lora_A(x))


CASES = {
    "Linear": Case(lambda: nn.Linear(3, 4), lambda rngs: nnx.Linear(3, 4, rngs=rngs), random(5, 3)),
    "Linear without bias, on a sequence": Case(
        lambda: nn.Linear(3, 4, bias=False),
        lambda rngs: nnx.Linear(3, 4, use_bias=False, rngs=rngs),
        random(2, 5, 3),
    ),
    "LinearGeneral": Case(
        lambda: nn.Linear(6, 20),
        lambda rngs: nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=rngs),
        random(7, 6),
        lambda x: x.reshape(7, 2, 3),
        lambda y: y.reshape(7, 20),
    ),
    "Linear with an adapter of low rank": Case(
        lambda: TorchLoRA(),
        lambda rngs: nnx.LoRALinear(3, 4, lora_rank=2, rngs=rngs),
        random(5, 3),
    ),
    "Embedding": Case(
        lambda: nn.Embedding(7, 4),
        lambda rngs: nnx.Embed(7, 4, rngs=rngs),
        np.array([[0, 3], [6, 3]]),
    ),
    "Conv1d with stride and padding": images(
        lambda: nn.Conv1d(3, 4, 5, stride=2, padding=3),
        lambda rngs: nnx.Conv(3, 4, 5, strides=2, padding=3, rngs=rngs),
        2, 3, 11,
    ),
    "Conv1d, causal": images(
        lambda: nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(3, 4, 3, dilation=2)),
        lambda rngs: nnx.Sequential(
            lambda x: x, nnx.Conv(3, 4, 3, kernel_dilation=2, padding="CAUSAL", rngs=rngs)
        ),
        2, 3, 11,
    ),
    "Conv2d": images(
        lambda: nn.Conv2d(3, 4, (3, 2)),
        lambda rngs: nnx.Conv(3, 4, (3, 2), padding="VALID", rngs=rngs),
        2, 3, 7, 6,
    ),
    "Conv2d, same, with an even kernel": images(
        lambda: nn.Conv2d(3, 4, (4, 3), padding="same"),
        lambda rngs: nnx.Conv(3, 4, (4, 3), padding="SAME", rngs=rngs),
        2, 3, 7, 6,
    ),
    "Conv2d with groups and dilation": images(
        lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=(1, 2), padding=(1, 2), bias=False),
        lambda rngs: nnx.Conv(
            4, 6, (3, 3), feature_group_count=2, kernel_dilation=(1, 2), padding=(1, 2), use_bias=False,
            rngs=rngs,
        ),
        2, 4, 7, 6,
    ),
    "Conv2d, depthwise, circular": images(
        lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"),
        lambda rngs: nnx.Conv(4, 4, (3, 3), feature_group_count=4, padding="CIRCULAR", rngs=rngs),
        2, 4, 7, 6,
    ),
    "Conv3d with strides": images(
        lambda: nn.Conv3d(2, 3, (3, 2, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
        lambda rngs: nnx.Conv(2, 3, (3, 2, 1), strides=(2, 1, 1), padding=(1, 0, 0), rngs=rngs),
        2, 2, 5, 4, 3,
    ),
    # PyTorch takes `padding` away from what is here dilation * (kernel - 1) on both sides, and puts
    # `output_padding` at the end.
    "ConvTranspose1d": images(
        lambda: nn.ConvTranspose1d(3, 4, 5, stride=2),
        lambda rngs: nnx.ConvTranspose(3, 4, 5, strides=2, padding=4, rngs=rngs),
        2, 3, 6,
    ),
    "ConvTranspose2d with padding and output padding": images(
        lambda: nn.ConvTranspose2d(3, 4, (3, 4), stride=(2, 3), padding=(1, 2), output_padding=(1, 0)),
        lambda rngs: nnx.ConvTranspose(3, 4, (3, 4), strides=(2, 3), padding=((1, 2), (1, 1)), rngs=rngs),
        2, 3, 5, 4,
    ),
    "ConvTranspose2d with a transposed kernel and dilation": images(
        lambda: nn.ConvTranspose2d(3, 4, (3, 2), stride=2, dilation=(2, 1), bias=False),
        lambda rngs: nnx.ConvTranspose(
            3, 4, (3, 2), strides=(2, 2), kernel_dilation=(2, 1), padding=(4, 1), transpose_kernel=True,
            use_bias=False, rngs=rngs,
        ),
        2, 3, 5, 4,
    ),
    "ConvTranspose3d": images(
        lambda: nn.ConvTranspose3d(2, 3, (2, 3, 1)),
        lambda rngs: nnx.ConvTranspose(2, 3, (2, 3, 1), strides=(1, 1, 1), padding=(1, 2, 0), rngs=rngs),
        2, 2, 3, 4, 2,
    ),
    "LayerNorm": Case(
        lambda: nn.LayerNorm(6),
        lambda rngs: nnx.LayerNorm(6, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
        random(3, 4, 6),
    ),
    "RMSNorm": Case(
        lambda: nn.RMSNorm(6, eps=1e-6), lambda rngs: nnx.RMSNorm(6, rngs=rngs), random(3, 4, 6)
    ),
    "GroupNorm": images(
        lambda: nn.GroupNorm(2, 6),
        lambda rngs: nnx.GroupNorm(6, num_groups=2, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
        2, 6, 5, 4,
    ),
    "InstanceNorm2d": images(
        lambda: nn.InstanceNorm2d(3, affine=True),
        lambda rngs: nnx.InstanceNorm(3, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
        2, 3, 5, 4,
    ),
    "BatchNorm2d in inference": images(
        lambda: nn.BatchNorm2d(3).eval(),
        lambda rngs: nnx.BatchNorm(3, use_running_average=True, rngs=rngs),
        4, 3, 5, 2,
    ),
    "BatchNorm1d in training": Case(
        lambda: nn.BatchNorm1d(3),
        lambda rngs: nnx.BatchNorm(3, use_fast_variance=False, rngs=rngs),
        random(9, 3),
    ),
    "PReLU": Case(lambda: nn.PReLU(), lambda rngs: nnx.PReLU(), random(4, 3)),
}  # fmt: skip


def both(case: Case) -> tuple[Any, Any]:
    """The PyTorch module, and ours with its weights."""
    theirs = with_random_weights(case.theirs())
    ours = case.ours(nnx.Rngs(0))
    assert interop.load_torch(ours, theirs) == ([], [], [])
    return theirs, ours


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_equal(name):
    case = CASES[name]
    theirs, ours = both(case)
    expected = theirs(torch.from_numpy(case.x))
    share = random(*expected.shape, seed=1)  # of each output in the loss, so that all matter
    (expected * torch.from_numpy(share)).sum().backward()

    def loss(model, x):
        y = case.out(model(x))
        return jnp.sum(y * share), y

    grads, y = nnx.jit(nnx.grad(loss, has_aux=True))(ours, case.into(case.x))
    assert_close(y, expected, case.tolerance)
    assert_same_gradients(grads, ours, theirs, case.tolerance)


def assert_same_gradients(grads: Any, ours: Any, theirs: Any, tolerance: float) -> None:
    """All conversions of weights are linear, so they convert gradients too."""
    nnx.update(ours, grads)
    converted = interop.to_torch(ours, only=nnx.Param)
    parameters = dict(theirs.named_parameters())
    assert converted.keys() == parameters.keys()
    largest = max(float(parameter.grad.abs().max()) for parameter in parameters.values())
    for name, parameter in parameters.items():
        given, expected = converted[name].numpy(), parameter.grad.numpy()
        np.testing.assert_allclose(given, expected, rtol=tolerance, atol=tolerance * largest, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_the_way_back_gives_the_same_state_dict(name):
    theirs, ours = both(CASES[name])
    back = interop.to_torch(ours)
    expected = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], value) for key, value in expected.items())
    theirs.load_state_dict(back)


def test_running_statistics_follow_with_one_minus_the_momentum_but_for_the_unbiased_variance():
    theirs, ours = both(CASES["BatchNorm1d in training"]._replace(
        ours=lambda rngs: nnx.BatchNorm(3, momentum=0.9, use_fast_variance=False, rngs=rngs)
    ))  # fmt: skip
    x = random(9, 3, seed=2)
    before = ours.var.value
    theirs(torch.from_numpy(x))
    ours(x)
    assert_close(ours.mean.value, theirs.running_mean)
    unbiased = 0.9 * before + (ours.var.value - 0.9 * before) * 9 / 8  # PyTorch divides by n - 1
    assert_close(unbiased, theirs.running_var)


def test_bfloat16_goes_both_ways_to_the_bit():
    theirs = with_random_weights(nn.Linear(3, 4).to(torch.bfloat16))
    ours = nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    interop.load_torch(ours, theirs)
    back = interop.to_torch(ours)
    assert back["weight"].dtype == torch.bfloat16
    assert torch.equal(back["weight"], theirs.weight)
    wide = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    interop.load_torch(wide, theirs)
    assert wide.kernel.value.dtype == jnp.float32
    np.testing.assert_array_equal(wide.kernel.value, theirs.weight.detach().float().numpy().T)


def test_weights_do_not_change_when_the_pytorch_model_is_trained_on():
    theirs, ours = both(CASES["Embedding"])
    before = np.array(ours.embedding.value)
    with torch.no_grad():
        theirs.weight.zero_()
    np.testing.assert_array_equal(ours.embedding.value, before)


def test_files_of_pytorch_are_read(tmp_path):
    theirs, ours = both(CASES["Linear"])
    other = nnx.Linear(3, 4, rngs=nnx.Rngs(1))
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    interop.load_torch(other, tmp_path / "a.pt")
    np.testing.assert_array_equal(other.kernel.value, ours.kernel.value)


def test_files_of_pytorch_with_code_are_refused(tmp_path):
    torch.save(nn.Linear(3, 4), tmp_path / "a.pt")  # the module itself, which only its code can read
    with pytest.raises(interop.files.CheckpointError, match=r"expected a whole \.pt file of named arrays"):
        interop.load_torch(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": nn.Linear(3, 4).state_dict()}, tmp_path / "a.pt")
    with pytest.raises(TypeError, match=r"got 'epoch' of type int among .*\['state_dict'\]"):
        interop.load_torch(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), tmp_path / "a.pt")


# -- recurrent layers


def recurrent(kind: Any, cell: Any, **options: Any) -> tuple[Any, Any]:
    """A PyTorch module with two layers for both ways, and ours with its weights."""
    theirs = with_random_weights(kind(3, 4, num_layers=2, bidirectional=True, batch_first=True, **options))
    rngs = nnx.Rngs(0)
    layers = [
        nnx.Bidirectional(nnx.RNN(cell(features, rngs)), nnx.RNN(cell(features, rngs))) for features in (3, 8)
    ]
    ours = nnx.Sequential(layers[0], nnx.Dropout(0.5, deterministic=True), layers[1])
    interop.load_torch(ours, theirs)
    return theirs, ours


def gru_with_two_biases(features: int, rngs: Any) -> Any:
    cell = nnx.GRUCell(features, 4, rngs=rngs)
    cell.dense_h = nnx.Linear(4, 12, rngs=rngs)
    return cell


RECURRENT = {
    "LSTM over LSTMCell": (nn.LSTM, lambda features, rngs: nnx.LSTMCell(features, 4, rngs=rngs)),
    "LSTM": (nn.LSTM, lambda features, rngs: nnx.OptimizedLSTMCell(features, 4, rngs=rngs)),
    "GRU": (nn.GRU, gru_with_two_biases),
    "RNN": (nn.RNN, lambda features, rngs: nnx.SimpleCell(features, 4, rngs=rngs)),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_of_two_layers_and_both_ways_are_equal(name):
    theirs, ours = recurrent(*RECURRENT[name])
    x = random(2, 5, 3)
    expected, _ = theirs(torch.from_numpy(x))
    share = random(*expected.shape, seed=1)
    (expected * torch.from_numpy(share)).sum().backward()

    def loss(model):
        y = model(x)
        return jnp.sum(y * share), y

    grads, y = nnx.jit(nnx.grad(loss, has_aux=True))(ours)
    assert_close(y, expected)
    nnx.update(ours, grads)
    given = {key: tensor.numpy() for key, tensor in interop.to_torch(ours).items()}
    for key, parameter in theirs.named_parameters():
        gradient = given[key]
        if "bias" in key and "GRU" not in name:  # the gradient of the sum of both is that of each
            gradient = given[key.replace("_ih", "_hh")] + given[key.replace("_hh", "_ih")]
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=key)


def test_lengths_and_carries_are_those_of_packed_sequences():
    theirs = with_random_weights(nn.LSTM(3, 4, bidirectional=True, batch_first=True))
    rngs = nnx.Rngs(0)
    ways = [nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs)) for _ in range(2)]
    ours = nnx.Bidirectional(*ways, return_carry=True)
    interop.load_torch(ours, theirs)
    x, lengths = random(3, 5, 3), np.array([5, 2, 4])
    packed = nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
    )
    packed_outputs, (h, c) = theirs(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
    carries, y = ours(x, seq_lengths=jnp.asarray(lengths))
    inside = np.arange(5)[None, :, None] < lengths[:, None, None]  # PyTorch's outputs are zero past the end
    assert_close(jnp.where(inside, y, 0), expected)
    for way, (our_c, our_h) in enumerate(carries):
        assert_close(our_c, c[way])
        assert_close(our_h, h[way])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (nn.LSTMCell, nnx.LSTMCell),
        (nn.LSTMCell, nnx.OptimizedLSTMCell),
        (nn.RNNCell, nnx.SimpleCell),
    ],
)
def test_cells_are_equal(theirs, ours):
    theirs, cell = with_random_weights(theirs(3, 4)), ours(3, 4, rngs=nnx.Rngs(0))
    interop.load_torch(cell, theirs)
    x = random(2, 3)
    expected = theirs(torch.from_numpy(x))
    _, y = cell(cell.initialize_carry(x.shape, nnx.Rngs(0)), x)
    assert_close(y, expected[0] if isinstance(expected, tuple) else expected)
    theirs.load_state_dict(interop.to_torch(cell))  # all of the bias is in one of the two now
    again = theirs(torch.from_numpy(x))
    assert_close(y, again[0] if isinstance(again, tuple) else again)


def test_a_gru_whose_second_bias_has_no_place_is_refused_and_one_without_loads():
    theirs = with_random_weights(nn.GRU(3, 4, batch_first=True))
    ours = nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match=r"RNN 'rnn': 'bias_hh' of PyTorch's GRU is not zero for the new gate"
    ):
        interop.load_torch(nnx.Dict(rnn=ours), theirs, {"rnn": ""})
    with torch.no_grad():
        theirs.bias_hh_l0[8:] = 0
    interop.load_torch(ours, theirs)
    x = random(2, 5, 3)
    assert_close(ours(x), theirs(torch.from_numpy(x))[0])


# -- attention


def attention(**options: Any) -> tuple[Any, Any]:
    """PyTorch's attention with 2 heads of 3 features, and ours with its weights."""
    theirs = with_random_weights(nn.MultiheadAttention(6, 2, batch_first=True, **options))
    ours = nnx.MultiHeadAttention(
        2, 6, in_kv_features=options.get("kdim"), use_bias=options.get("bias", True), decode=False,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    interop.load_torch(ours, theirs)
    return theirs, ours


@pytest.mark.parametrize("masked", ["nothing", "padding", "future", "one head"])
def test_self_attention_is_equal_with_masks_that_are_true_where_pytorchs_are_false(masked):
    theirs, ours = attention()
    x = random(2, 4, 6)
    hidden = {
        "nothing": np.zeros((1, 1, 4, 4), bool),
        "padding": np.array([[False] * 4, [False, False, True, True]])[:, None, None],
        "future": np.triu(np.ones((4, 4), bool), 1)[None, None],
        "one head": np.arange(64).reshape(2, 2, 4, 4) % 5 == 1,
    }[masked]
    given = torch.from_numpy(np.array(np.broadcast_to(hidden, (2, 2, 4, 4))).reshape(4, 4, 4))
    q = torch.from_numpy(x)
    expected, weights = theirs(q, q, q, attn_mask=given, average_attn_weights=False)
    y = ours(x, mask=~hidden, sow_weights=True)
    assert_close(y, expected)
    assert_close(nnx.pop(ours, nnx.Intermediate)["attention_weights"].value[0], weights)
    if masked == "future":
        assert_close(ours(x, is_causal=True), expected)


def test_attention_has_equal_gradients():
    theirs, ours = attention()
    x, share = random(2, 4, 6), random(2, 4, 6, seed=1)
    q = torch.from_numpy(x)
    (theirs(q, q, q, need_weights=False)[0] * torch.from_numpy(share)).sum().backward()
    grads = nnx.jit(nnx.grad(lambda model: jnp.sum(model(x) * share)))(ours)
    assert_same_gradients(grads, ours, theirs, 1e-5)


@pytest.mark.parametrize("options", [{"kdim": 5, "vdim": 5}, {"bias": False}], ids=str)
def test_attention_to_another_sequence_is_equal_and_goes_back(options):
    theirs, ours = attention(**options)
    x, memory = random(2, 4, 6), random(2, 3, options.get("kdim", 6), seed=1)
    keys = torch.from_numpy(memory)
    expected, _ = theirs(torch.from_numpy(x), keys, keys)
    assert_close(nnx.jit(lambda model: model(x, memory))(ours), expected)
    back = interop.to_torch(ours)
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())


class FourLinears(nn.Module):
    """Attention as models of language have it, with fewer heads for keys than for queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(6, 8), nn.Linear(6, 4)
        self.v_proj, self.out_proj = nn.Linear(6, 4), nn.Linear(8, 6)

    def forward(self, x: Any) -> Any:
        q, k, v = (
            p(x).unflatten(-1, (-1, 2)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


def test_attention_of_four_linears_with_grouped_heads_is_equal():
    theirs = with_random_weights(FourLinears())
    ours = nnx.MultiHeadAttention(4, 6, qkv_features=8, num_kv_heads=2, decode=False, rngs=nnx.Rngs(0))
    interop.load_torch(ours, theirs)
    x = random(2, 5, 6)
    assert_close(nnx.jit(lambda model: model(x))(ours), theirs(torch.from_numpy(x)))
    back = interop.to_torch(ours, like=theirs)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())


def test_the_way_back_takes_the_same_names_if_it_gets_the_state_dict():
    """Projections with other names, and a tensor that only they have."""
    theirs = with_random_weights(nn.ModuleDict({"layers": nn.ModuleList([FourLinears(), FourLinears()])}))
    their_names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output.dense"}
    arrays = {"head.weight": torch.zeros(3)}
    for name, tensor in theirs.state_dict().items():
        *above, projection, last = name.split(".")
        arrays[".".join([*above, their_names[projection], last])] = tensor
    attention = [
        nnx.MultiHeadAttention(4, 6, qkv_features=8, num_kv_heads=2, rngs=nnx.Rngs(0)) for _ in range(2)
    ]
    ours = nnx.Dict(blocks=nnx.List(attention))
    names = {"head": None} | {
        f"blocks.*.{projection}": f"layers.*.{theirs}" for projection, theirs in their_names.items()
    }
    interop.load_torch(ours, arrays, names)
    back = interop.to_torch(ours, names, like=arrays)
    assert back.keys() == arrays.keys() - {"head.weight"}
    assert all(torch.equal(back[name], arrays[name]) for name in back)
    with pytest.raises(ValueError, match=r"to_torch: got names=.*'blocks\.\*\.v_proj'.* or pass like= the"):
        interop.to_torch(ours, names)
    with pytest.raises(TypeError, match="to_torch: got a state dict of type int, expected tensors or arrays"):
        interop.to_torch(ours, names, like=3)


# -- whole models


class TorchTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 3)
        self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, ids: Any) -> Any:
        return self.head(self.lstm(self.embed(ids))[0])


class Tagger(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(11, 3, rngs=rngs)
        self.lstm = nnx.Sequential(*(self.both_ways(features, rngs) for features in (3, 8)))
        self.head = nnx.Linear(8, 5, rngs=rngs)

    @staticmethod
    def both_ways(features: int, rngs: nnx.Rngs) -> nnx.Bidirectional:
        first, second = (nnx.RNN(nnx.OptimizedLSTMCell(features, 4, rngs=rngs)) for _ in range(2))
        return nnx.Bidirectional(first, second)

    def __call__(self, ids: Any) -> Any:
        return self.head(self.lstm(self.embed(ids)))


class TorchBlock(nn.Module):
    def __init__(self, features: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(nn.Conv2d(features, out, 1, stride=stride), nn.BatchNorm2d(out))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class TorchResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList([TorchBlock(4, 4, 1), TorchBlock(4, 6, 2)])
        self.head = nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class ResBlock(nnx.Module):
    def __init__(self, features: int, out: int, stride: int, rngs: nnx.Rngs) -> None:
        def conv(features: int, size: int, strides: int, **options: Any) -> nnx.Conv:
            padding = size // 2
            return nnx.Conv(
                features, out, (size, size), strides=strides, padding=padding, rngs=rngs, **options
            )

        def norm() -> nnx.BatchNorm:
            return nnx.BatchNorm(out, momentum=0.9, use_fast_variance=False, rngs=rngs)

        self.conv1, self.bn1 = conv(features, 3, stride, use_bias=False), norm()
        self.conv2, self.bn2 = conv(out, 3, 1, use_bias=False), norm()
        self.downsample = nnx.Sequential(conv(features, 1, stride), norm())

    def __call__(self, x: Any) -> Any:
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        return nnx.relu(y + self.downsample(x))


class ResNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs)
        self.blocks = [ResBlock(4, 4, 1, rngs), ResBlock(4, 6, 2, rngs)]
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


def assert_models_agree(theirs: Any, ours: Any, x: np.ndarray, into: Any = unchanged) -> None:
    """Compares the outputs in inference and in training, to 2e-5 since several layers follow each other."""
    interop.load_torch(ours, with_random_weights(theirs))
    for training in (False, True):  # in training the running statistics change
        theirs.train(training)
        ours.train() if training else ours.eval()
        y = nnx.jit(lambda model, x: model(x))(ours, into(x))
        assert_close(y, theirs(torch.from_numpy(x)), 2e-5)


@pytest.mark.slow
def test_a_tagger_of_lstms_is_equal():
    assert_models_agree(TorchTagger(), Tagger(nnx.Rngs(0)), np.array([[1, 10, 0, 3], [7, 7, 2, 5]]))


@pytest.mark.slow
def test_a_residual_network_is_equal():
    theirs, ours = TorchResNet(), ResNet(nnx.Rngs(0))
    assert_models_agree(theirs, ours, random(2, 3, 8, 6), channels_last)


class EncoderLayer(nnx.Module):
    """`torch.nn.TransformerEncoderLayer` without dropout, by its names."""

    def __init__(self, rngs: nnx.Rngs, *, norm_first: bool) -> None:
        self.self_attn = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.linear1 = nnx.Linear(8, 12, rngs=rngs)
        self.linear2 = nnx.Linear(12, 8, rngs=rngs)
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.norm_first = norm_first

    def __call__(self, x: Any) -> Any:
        def feed_forward(x: Any) -> Any:
            return self.linear2(nnx.gelu(self.linear1(x), approximate=False))

        if self.norm_first:
            x = x + self.self_attn(self.norm1(x))
            return x + feed_forward(self.norm2(x))
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + feed_forward(x))


class Encoder(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, *, norm_first: bool) -> None:
        self.layers = [EncoderLayer(rngs, norm_first=norm_first) for _ in range(2)]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_encoder_is_equal(norm_first):
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    ours = Encoder(nnx.Rngs(0), norm_first=norm_first)
    assert_models_agree(nn.TransformerEncoder(layer, 2), ours, random(2, 5, 8))
