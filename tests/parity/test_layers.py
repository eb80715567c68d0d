"""Every layer against flax.nnx: equal seeds give bit-equal parameters, outputs and gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax import lax

from easyflax import nnx
from tests.parity.flax_oracle import (
    Case,
    assert_same,
    assert_same_gradients,
    assert_same_jitted_outputs,
    assert_same_outputs,
    assert_same_state,
    assert_same_tree,
    make_both,
)

BF16 = jnp.bfloat16
F32 = jnp.float32


MASK = np.tril(np.ones((3, 3, 4), np.float32))
NORMAL = jax.nn.initializers.normal()
KERNEL_AND_BIAS = {"kernel_metadata": {"role": "w"}, "bias_metadata": {"role": "b"}}
COLUMNS = np.array([[True, True, False]])
ROWS = np.array([[True], [True], [False], [True]])

CASES = [
    Case("Linear", (3, 4), (5, 3)),
    Case("Linear", (3, 4), (3,), {"use_bias": False}),
    Case("Linear", (3, 4), (2, 5, 3), {"dtype": BF16}),
    Case("Linear", (3, 4), (5, 3), {"param_dtype": BF16}, dtype=BF16),
    Case("Linear", (3, 4), (5, 3), {"param_dtype": BF16, "dtype": F32, "precision": "highest"}),
    Case("Linear", (3, 4), (5, 3), {"preferred_element_type": F32}, dtype=BF16),
    Case("Linear", (3, 4), (5, 3), {"kernel_init": nnx.initializers.he_uniform(), "bias_init": NORMAL}),
    Case("Linear", (3, 4), (5, 3), KERNEL_AND_BIAS),
    Case("Linear", (1, 1), (1, 1)),
    Case("Conv", (3, 4, 3), (2, 8, 3)),
    Case("Conv", (3, 4, (3,)), (2, 8, 3), {"padding": "VALID", "mask": MASK}),
    Case("Conv", (3, 4, (3,)), (2, 8, 3), {"padding": "CAUSAL", "kernel_dilation": 2}),
    Case("Conv", (3, 4, (4,)), (2, 8, 3), {"padding": "REFLECT"}),
    Case("Conv", (3, 4, (3,)), (8, 3), {"strides": 2, "use_bias": False}),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2)),
    Case("Conv", (2, 4, (3, 3), 2), (2, 6, 5, 2), {"padding": "CIRCULAR"}),
    Case("Conv", (2, 4, (2, 3)), (2, 6, 5, 2), {"padding": "CIRCULAR", "kernel_dilation": (2, 1)}),
    Case("Conv", (2, 4, (3, 2), (1, 2)), (2, 6, 5, 2), {"padding": 1}),
    Case("Conv", (2, 4, (3, 2)), (2, 6, 5, 2), {"padding": (1, 2)}),
    Case("Conv", (2, 4, (3, 2)), (2, 6, 5, 2), {"padding": ((0, 1), (2, 0))}),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2), {"padding": "SAME_LOWER", "strides": None}),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2), {"input_dilation": 2, "padding": ((2, 1), (0, 2))}),
    Case("Conv", (4, 6, (3, 3)), (2, 6, 5, 4), {"feature_group_count": 2}),
    Case("Conv", (4, 8, (3, 3)), (2, 6, 5, 4), {"feature_group_count": 4, "padding": "same"}),
    Case("Conv", (2, 4, (3, 3)), (6, 5, 2)),
    Case("Conv", (2, 4, (3, 3)), (2, 3, 6, 5, 2), {"precision": lax.Precision.HIGHEST}),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2), {"dtype": BF16}),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2), {"preferred_element_type": F32}, dtype=BF16),
    Case("Conv", (2, 4, (3, 3)), (2, 6, 5, 2), KERNEL_AND_BIAS),
    Case("Conv", (1, 2, (3, 2, 2)), (2, 4, 4, 4, 1), {"strides": (1, 2, 1)}),
    Case("BatchNorm", (3,), (4, 3)),
    Case("BatchNorm", (3,), (2, 4, 3), {"momentum": 0.9, "epsilon": 1e-3}),
    Case("BatchNorm", (3,), (4, 3), {"use_running_average": True}),
    Case("BatchNorm", (3,), (4, 3), {"use_running_average": None}, {"use_running_average": False}),
    Case("BatchNorm", (3,), (4, 3), {"use_scale": False, "use_fast_variance": False}),
    Case("BatchNorm", (3,), (4, 3), {"use_bias": False, "scale_metadata": {"role": "s"}}),
    Case("BatchNorm", (4,), (4, 4, 5), {"axis": 1, "bias_metadata": {"role": "b"}}),
    Case("BatchNorm", (3,), (4, 3), {}, {"mask": ROWS}),
    Case("BatchNorm", (3,), (4, 3), {"use_fast_variance": False}, {"mask": ROWS}),
    Case("BatchNorm", (3,), (4, 3), {"dtype": BF16}),
    Case("BatchNorm", (3,), (4, 3), {"param_dtype": BF16}, dtype=BF16),
    Case("BatchNorm", (3,), (4, 3), {"scale_init": NORMAL, "bias_init": NORMAL}),
    Case("LayerNorm", (3,), (4, 3)),
    Case("LayerNorm", (3,), (2, 4, 3), {"epsilon": 1e-3, "use_fast_variance": False}),
    Case("LayerNorm", (12,), (2, 4, 3), {"reduction_axes": (1, 2), "feature_axes": (1, 2)}),
    Case("LayerNorm", (3,), (2, 4, 3), {"reduction_axes": (-2, -1)}),
    Case("LayerNorm", (3,), (4, 3), {"use_scale": False}),
    Case("LayerNorm", (3,), (4, 3), {"use_bias": False, "scale_metadata": {"role": "s"}}),
    Case("LayerNorm", (3,), (4, 3), {"bias_metadata": {"role": "b"}}, {"mask": COLUMNS}),
    Case("LayerNorm", (3,), (4, 3), {"dtype": BF16}),
    Case("LayerNorm", (3,), (4, 3), {"param_dtype": BF16}, dtype=BF16),
    Case("LayerNorm", (3,), (4, 3), {"scale_init": NORMAL, "bias_init": NORMAL}),
    Case("RMSNorm", (3,), (4, 3)),
    Case("RMSNorm", (3,), (2, 4, 3), {"epsilon": 1e-3, "reduction_axes": (1, 2), "use_fast_variance": False}),
    Case("RMSNorm", (3,), (4, 3), {"use_scale": False}, {"mask": COLUMNS}),
    Case("RMSNorm", (3,), (4, 3), {"dtype": BF16, "scale_metadata": {"role": "s"}}),
    Case("RMSNorm", (3,), (4, 3), {"scale_init": NORMAL}, dtype=BF16),
    Case("GroupNorm", (6,), (2, 5, 6), {"num_groups": 3}),
    Case("GroupNorm", (6, None, 3), (2, 4, 5, 6), {"epsilon": 1e-3}),
    Case("GroupNorm", (6, 2), (2, 5, 6), {"reduction_axes": (1, -1), "use_fast_variance": False}),
    Case("GroupNorm", (6, 2), (2, 5, 6), {"use_scale": False, "bias_metadata": {"role": "b"}}),
    Case("GroupNorm", (6, 2), (2, 6), {"use_bias": False, "scale_metadata": {"role": "s"}}),
    Case("GroupNorm", (6, 2), (2, 3, 6), {}, {"mask": np.arange(36).reshape(2, 3, 6) % 5 > 0}),
    Case("GroupNorm", (6, 2), (2, 5, 6), {"dtype": BF16}),
    Case("GroupNorm", (6, 2), (2, 5, 6), {"scale_init": NORMAL}, dtype=BF16),
    Case("Dropout", (0.5,), (6, 5)),
    Case("Dropout", (0.25,), (6, 5), {"broadcast_dims": (1,), "rng_collection": "noise"}),
    Case("Dropout", (0.3,), (2, 3, 4), {"broadcast_dims": (-1, 0)}, dtype=BF16),
    Case("Dropout", (0.5,), (6, 5), {"deterministic": True}),
    Case("Dropout", (0.5,), (6, 5), {"deterministic": None}, {"deterministic": False}),
    Case("Dropout", (0.0,), (6, 5)),
    Case("Dropout", (1.0,), (6, 5)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_parameters_and_outputs_are_those_of_flax(case: Case) -> None:
    assert_same_outputs(case)


# Each layer keeps at least three configurations; which ones does not matter, and compiling takes the time.
@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_gradients_are_those_of_flax(case: Case) -> None:
    assert_same_gradients(case)


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_jitted_calls_agree_with_flax(case: Case) -> None:
    assert_same_jitted_outputs(case)


# -- layers that are called in another way


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((7, 4), {}),
        ((7, 4), {"dtype": BF16}),
        ((7, 4), {"param_dtype": BF16, "embedding_metadata": {"role": "table"}}),
        ((7, 4), {"embedding_init": jax.nn.initializers.normal(0.02)}),
        ((1, 4), {}),
    ],
)
def test_embed_and_attend_are_those_of_flax(args: tuple[int, int], options: dict[str, Any]) -> None:
    ours, theirs = make_both(lambda lib: lib.Embed(*args, **options, rngs=lib.Rngs(params=3)))
    assert_same_state(ours, theirs)
    ids = jnp.array([[0, 3, -1], [6, 9, 2]])  # the 9 is out of range
    assert_same(ours(ids), theirs(ids))
    assert_same(ours(ids[0].astype("uint8")), theirs(ids[0].astype("uint8")))
    query = jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)
    assert_same(ours.attend(query), theirs.attend(query))
    grads = nnx.grad(lambda layer: (layer(ids[0]).astype(F32) ** 2).sum() + layer.attend(query).sum())(ours)
    flax_grads = flax_nnx.grad(
        lambda layer: (layer(ids[0]).astype(F32) ** 2).sum() + layer.attend(query).sum()
    )(theirs)
    assert_same_state(grads, flax_grads)


@pytest.mark.parametrize("options", [{}, {"negative_slope_init": 0.3, "dtype": BF16}, {"param_dtype": BF16}])
def test_prelu_is_that_of_flax(options: dict[str, Any]) -> None:
    ours, theirs = make_both(lambda lib: lib.PReLU(**options))
    assert_same_state(ours, theirs)
    x = jnp.linspace(-2.0, 2.0, 9)
    assert_same(ours(x), theirs(x))


def _network(lib: Any, rngs: Any) -> Any:
    return lib.Sequential(
        lib.Conv(1, 4, (3, 3), rngs=rngs),
        lib.BatchNorm(4, rngs=rngs),
        lib.relu,
        lambda x: lib.max_pool(x, (2, 2), strides=(2, 2)),
        lambda x: x.reshape(x.shape[0], -1),
        lib.Dropout(0.5, rngs=rngs),
        lib.LayerNorm(64, rngs=rngs),
        lib.Linear(64, 3, rngs=rngs),
    )


def test_a_network_in_training_and_in_inference_is_that_of_flax() -> None:
    ours, theirs = make_both(lambda lib: _network(lib, lib.Rngs(0, dropout=5)))
    assert_same_state(ours, theirs)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    assert_same(ours(x), theirs(x))
    assert_same_state(ours, theirs)
    ours.eval()
    theirs.eval()
    assert_same(ours(x), theirs(x))
    assert_same_state(ours, theirs)


def _two(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, 2 * x


def _named(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    return {"a": x, "b": y}


def _noisy(a: jax.Array, b: jax.Array, *, rngs: Any) -> jax.Array:
    return a + b + jax.random.normal(rngs.noise(), a.shape)


def test_sequential_passes_tuples_dicts_and_rngs_as_flax_does() -> None:
    ours, theirs = make_both(lambda lib: lib.Sequential(_two, _named, _noisy, lib.Dropout(0.5)))
    x = jnp.arange(3.0)
    assert_same(ours(x, rngs=nnx.Rngs(0)), theirs(x, rngs=flax_nnx.Rngs(0)))


@pytest.mark.parametrize("args", [(), (1,), (1, 2)])
def test_an_empty_sequential_returns_its_arguments_as_in_flax(args: tuple[int, ...]) -> None:
    ours, theirs = make_both(lambda lib: lib.Sequential()(*args))
    assert ours == theirs
    assert nnx.Sequential()(a=1) == flax_nnx.Sequential()(a=1)


@pytest.mark.parametrize("name", ["Linear", "Conv", "Embed", "LayerNorm"])
def test_initializers_with_metadata_mark_the_variables_as_in_flax(name: str) -> None:
    keyword = {
        "Linear": "kernel_init",
        "Conv": "kernel_init",
        "Embed": "embedding_init",
        "LayerNorm": "scale_init",
    }[name]
    args = {"Linear": (2, 3), "Conv": (2, 3, 3), "Embed": (5, 3), "LayerNorm": (3,)}[name]

    def make(lib: Any) -> Any:
        init = lib.with_metadata(jax.nn.initializers.normal(), role="special")
        return getattr(lib, name)(*args, **{keyword: init}, rngs=lib.Rngs(0))

    assert_same_state(*make_both(make))


def test_dropping_all_gives_zeros_of_any_dtype_as_in_flax() -> None:
    x = jnp.arange(6)
    assert_same(*make_both(lambda lib: lib.Dropout(1.0, rngs=lib.Rngs(0))(x)))


def test_no_gradient_passes_through_running_averages_as_in_flax() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 3))

    def loss(layer: Any, x: jax.Array) -> jax.Array:
        y = layer(x)
        return (y * layer(x + 1, use_running_average=True) * jnp.arange(3.0)).sum() + layer.var[...].sum()

    def gradients(lib: Any) -> Any:
        return lib.grad(loss, argnums=(0, 1))(lib.BatchNorm(3, rngs=lib.Rngs(0)), x)

    (ours, dx), (theirs, flax_dx) = make_both(gradients)
    assert_same(dx, flax_dx)
    assert_same_state(ours, theirs)


# -- cross-device statistics


def _over_named_axis(
    lib: Any, layer: str, size: int, options: dict[str, Any], x: jax.Array, **call: Any
) -> Any:
    """The layer's outputs and new state, with one slice of `x` on each member of the axis 'batch'."""
    graphdef, state = lib.split(getattr(lib, layer)(size, axis_name="batch", **options, rngs=lib.Rngs(0)))
    state = lib.to_pure_dict(state)

    def call_one(x: jax.Array, call: Any) -> Any:
        abstract = lib.state(getattr(lib, layer)(size, axis_name="batch", **options, rngs=lib.Rngs(0)))
        lib.replace_by_pure_dict(abstract, state)
        module = lib.merge(graphdef, abstract)
        return module(x, **call), lib.to_pure_dict(lib.state(module))

    return jax.vmap(call_one, axis_name="batch")(x, call)


@pytest.mark.parametrize(
    ("layer", "size", "options"),
    [
        ("BatchNorm", 3, {}),
        ("BatchNorm", 3, {"use_fast_variance": False}),
        ("LayerNorm", 3, {}),
        ("RMSNorm", 3, {}),
        ("GroupNorm", 3, {"num_groups": 1}),
    ],
)
def test_statistics_over_a_named_axis_are_those_of_flax(
    layer: str, size: int, options: dict[str, Any]
) -> None:
    x = jax.random.normal(jax.random.key(0), (4, 5, 3))
    ours = _over_named_axis(nnx, layer, size, options, x)
    assert_same_tree(ours, _over_named_axis(flax_nnx, layer, size, options, x))


def test_masked_statistics_over_a_named_axis_are_those_of_flax_where_the_masks_are_equally_full() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 5, 3))
    mask = jnp.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]], bool)[..., None]
    ours = _over_named_axis(nnx, "BatchNorm", 3, {}, x, mask=mask)
    theirs = _over_named_axis(flax_nnx, "BatchNorm", 3, {}, x, mask=mask)
    assert_same_tree(ours, theirs, rtol=1e-6)  # sums are combined here, means there


# -- functions


ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "standardize",
    "swish",
    "tanh",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=["float32", "bfloat16"])
def test_activations_are_those_of_flax(name: str, dtype: Any) -> None:
    x = jnp.linspace(-4.0, 4.0, 12, dtype=dtype).reshape(3, 4)
    assert_same(getattr(nnx, name)(x), getattr(flax_nnx, name)(x))


def test_one_hot_is_that_of_flax() -> None:
    assert_same(nnx.one_hot(jnp.array([0, 2, 5]), 4), flax_nnx.one_hot(jnp.array([0, 2, 5]), 4))


BUILDERS = [
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones_init",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros_init",
]


@pytest.mark.parametrize("name", BUILDERS)
def test_initializers_are_those_of_flax(name: str) -> None:
    def draw(lib: Any) -> Any:
        init = getattr(lib.initializers, name)()
        dtypes = (F32,) if "orthogonal" in name else (F32, BF16)  # there is no QR decomposition in bfloat16
        return [init(jax.random.key(0), (3, 3, 4), dtype) for dtype in dtypes]

    assert_same_tree(*make_both(draw))


@pytest.mark.parametrize(
    ("name", "args"), [("constant", (0.5,)), ("variance_scaling", (2.0, "fan_avg", "uniform"))]
)
def test_initializers_with_arguments_are_those_of_flax(name: str, args: tuple[Any, ...]) -> None:
    assert_same(*make_both(lambda lib: getattr(lib.initializers, name)(*args)(jax.random.key(0), (3, 4))))


@pytest.mark.parametrize("name", ["zeros", "ones"])
def test_plain_initializers_are_those_of_flax(name: str) -> None:
    assert_same(*make_both(lambda lib: getattr(lib.initializers, name)(jax.random.key(0), (3, 4))))


POOLS = [
    ((2, 6, 5, 3), (2, 2), {}),
    ((2, 6, 5, 3), (2, 3), {"strides": (2, 1), "padding": "SAME"}),
    ((2, 6, 5, 3), (3, 3), {"strides": (2, 2), "padding": ((1, 1), (0, 2))}),
    ((6, 5, 3), (2, 2), {"strides": (2, 2)}),
    ((2, 3, 6, 5, 3), (2, 2), {"strides": (2, 2)}),
    ((2, 8, 3), (3,), {"padding": "SAME"}),
    ((2, 4, 4, 4, 1), (2, 2, 2), {}),
]


@pytest.mark.parametrize(("shape", "window", "options"), POOLS)
@pytest.mark.parametrize("name", ["avg_pool", "max_pool", "min_pool"])
def test_pooling_is_that_of_flax(name: str, shape: Any, window: Any, options: Any) -> None:
    x = jax.random.normal(jax.random.key(0), shape)
    ours, theirs = getattr(nnx, name), getattr(flax_nnx, name)
    assert_same(ours(x, window, **options), theirs(x, window, **options))
    assert_same(ours(x.astype(BF16), window, **options), theirs(x.astype(BF16), window, **options))


@pytest.mark.parametrize("name", ["avg_pool", "max_pool", "min_pool"])
def test_gradients_of_pooling_are_those_of_flax(name: str) -> None:
    shape, window, options = POOLS[1]
    x = jax.random.normal(jax.random.key(0), shape)

    def gradient(lib: Any) -> Any:
        return jax.grad(lambda x: (getattr(lib, name)(x, window, **options) ** 2).sum())(x)

    assert_same(*make_both(gradient))


@pytest.mark.parametrize(("shape", "window", "options"), POOLS)
def test_pooling_without_counting_the_padding_is_that_of_flax(shape: Any, window: Any, options: Any) -> None:
    x = jax.random.normal(jax.random.key(0), shape)
    options = {**options, "count_include_pad": False}
    assert_same(nnx.avg_pool(x, window, **options), flax_nnx.avg_pool(x, window, **options))


def test_pool_with_another_reduction_is_that_of_flax() -> None:
    x = jax.random.uniform(jax.random.key(0), (2, 6, 5, 3))
    ours, theirs = make_both(lambda lib: lib.pool(x, 1.0, lax.mul, (2, 2), (1, 2), "SAME"))
    assert_same(ours, theirs)
    integers = jnp.arange(24).reshape(2, 6, 2) - 12
    ours, theirs = make_both(lambda lib: lib.max_pool(integers, (3,), padding="SAME"))
    assert_same(ours, theirs)
