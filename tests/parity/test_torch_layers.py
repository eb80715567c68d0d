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
