"""Layers with options, inputs and dtypes drawn at random, against flax.nnx.

Most examples are traced only, which is fast: what a layer stores, the shapes and dtypes that it computes, and
those of its gradients. A few are computed. By default the examples are always the same; to look for faults,
set EASYFLAX_EXAMPLES to how many of each kind shall be drawn, anew in each run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx
from hypothesis import given
from hypothesis import strategies as st

from easyflax import nnx
from tests.nnx.test_properties import tried
from tests.parity.flax_oracle import FLAX_ONLY_METADATA, Case, assert_same, assert_same_state

BF16, F16, F32 = jnp.bfloat16, jnp.float16, jnp.float32
NORMAL, ONES = jax.nn.initializers.normal(), jax.nn.initializers.ones
MASK = np.random.default_rng(3).random((2, 3, 4)) < 0.7


def maybe(**choices: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these options, each with one of its values."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(c) for name, c in choices.items()})


DTYPES = {"dtype": [F32, BF16, F16, jnp.complex64], "param_dtype": [F32, BF16, F16]}
BIAS = {"use_bias": [False], "bias_init": [NORMAL], "bias_metadata": [{"role": "b"}]}
KERNEL = {"kernel_init": [NORMAL, ONES], "kernel_metadata": [{"role": "k"}], "precision": ["highest"]}
NORM = {
    **DTYPES,
    "epsilon": [1e-3, 0.5],
    "use_fast_variance": [False],
    "use_scale": [False],
    "scale_init": [NORMAL],
    "scale_metadata": [{"role": "s"}],
}
MASKED = maybe(mask=[MASK, MASK[0], MASK[:, :, :1], MASK[0, 0], np.zeros((2, 3, 4), bool)])
LAST = maybe(reduction_axes=[(-2, -1), (1, 2), (2,)])
CONV = {**DTYPES, **KERNEL, **BIAS, "kernel_dilation": [2], "strides": [2, (1,), None]}
NONE = st.just({})

# By layer: its arguments; its options; those of its call. The inputs are (2, 3, 4), or as long as it takes.
Row = tuple[list[tuple[Any, ...]], st.SearchStrategy[dict[str, Any]], st.SearchStrategy[dict[str, Any]]]
LAYERS: dict[str, Row] = {
    "Linear": ([(4, 3), (4, 1)], maybe(**DTYPES, **KERNEL, **BIAS), NONE),
    "LinearGeneral": (
        [(4, (2, 3)), (4, 5)],
        maybe(**DTYPES, **KERNEL, **BIAS, axis=[-1, (2,)], batch_axis=[{0: 2}, {}]),
        NONE,
    ),
    "Einsum": (
        [("abc,cd->abd", (4, 5), (5,)), ("...c,chd->...hd", (4, 2, 3), (2, 3)), ("abc,bcd->abd", (3, 4, 2))],
        maybe(**DTYPES, **KERNEL, bias_init=[NORMAL], preferred_element_type=[F32]),
        NONE,
    ),
    "Conv": (
        [(4, 4, 3), (4, 2, (2,))],
        maybe(
            **CONV, padding=["VALID", "CIRCULAR", "CAUSAL", "REFLECT", 1, ((0, 2),)], feature_group_count=[2]
        ),
        NONE,
    ),
    "ConvTranspose": (
        [(4, 6, 3), (4, 2, (2,))],
        maybe(**CONV, padding=["VALID", "CIRCULAR", 1, ((0, 2),)], transpose_kernel=[True]),
        NONE,
    ),
    "BatchNorm": (
        [(4,)],
        maybe(**NORM, bias_init=[NORMAL], momentum=[0.9, 0.0], use_running_average=[True, None]),
        st.tuples(MASKED, st.just({"use_running_average": False})).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    "LayerNorm": (
        [(4,)],
        st.tuples(maybe(**NORM, bias_metadata=[{"role": "b"}]), LAST).map(
            lambda pair: {**pair[0], **pair[1]}
        ),
        MASKED,
    ),
    "RMSNorm": ([(4,)], st.tuples(maybe(**NORM), LAST).map(lambda pair: {**pair[0], **pair[1]}), MASKED),
    "GroupNorm": ([(4, 2), (4, None, 1), (4, 1)], maybe(**NORM, reduction_axes=[(1, -1), -1]), MASKED),
    "InstanceNorm": ([(4,)], maybe(**NORM, use_bias=[False]), MASKED),
    "Dropout": (
        [(0.5,), (0.3,), (1.0,), (0.0,)],
        maybe(broadcast_dims=[(0,), (1, -1)], rng_collection=["noise"]),
        maybe(deterministic=[True, False]),
    ),
    "LoRA": (
        [(4, 2, 3)],
        maybe(**DTYPES, a_initializer=[NORMAL], b_initializer=[NORMAL]),
        NONE,
    ),
    "MultiHeadAttention": (
        [(2, 4), (4, 4, 8, 3), (4, 4, 8, None, 2)],
        maybe(
            **{**DTYPES, "dtype": [F32, BF16]},
            **KERNEL,
            **BIAS,
            decode=[False],
            normalize_qk=[True],
            dropout_rate=[0.5],
            broadcast_dropout=[False],
            out_kernel_init=[ONES],
        ),
        maybe(mask=[MASK[:, None, :, :3], MASK[0, :, :3]], is_causal=[True], sow_weights=[True]).map(
            lambda call: {"decode": False, "deterministic": False, **call}
        ),
    ),
}


@st.composite
def cases(draw: Any) -> Case:
    layer = draw(st.sampled_from(sorted(LAYERS)))
    args, options, call = LAYERS[layer]
    dtype = draw(st.sampled_from([F32, F32, BF16, F16, jnp.int32]))
    return Case(layer, draw(st.sampled_from(args)), (2, 3, 4), draw(options), draw(call), dtype)


def described(lib: Any, model: Any) -> list[Any]:
    """Paths, kinds, metadata, shapes and dtypes."""
    rows: list[Any] = []
    for path, variable in lib.to_flat_state(lib.state(model)):
        metadata: Mapping[str, Any] = variable.get_metadata()
        kept = {name: value for name, value in metadata.items() if name not in FLAX_ONLY_METADATA}
        value = variable.get_raw_value()
        rows.append((path, type(variable).__name__, kept, *(jax.tree.map(_type_of, jax.tree.leaves(value)))))
    return rows


def _type_of(x: Any) -> tuple[Any, ...]:
    return x.shape, x.dtype


def attempted(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return function(), None
    except Exception as error:  # whatever it is: Flax has no errors of its own for most of this
        return None, error


def assert_same_where_flax_computes(run: Callable[[Any], Any]) -> Any:
    """Asserts that what Flax computes is computed here, and returns both results; None where Flax fails."""
    theirs, failure = attempted(lambda: run(flax_nnx))
    ours, error = attempted(lambda: run(nnx))
    if failure is not None:
        return None  # here it may work, or be told
    if error is not None:
        raise AssertionError("refused what Flax computes") from error
    return ours, theirs


@tried(60)
@given(cases())
def test_what_random_layers_store_and_the_types_they_compute_are_those_of_flax(case: Case) -> None:
    def run(lib: Any) -> Any:
        notes: list[Any] = []

        def program(x: jax.Array) -> Any:
            layer = case.make(lib)
            notes.append(described(lib, layer))
            outputs = [layer(x, **case.call), layer(x, **case.call)]
            notes.append(described(lib, layer))
            if jnp.issubdtype(x.dtype, jnp.inexact) and not jnp.iscomplexobj(outputs[0]):
                grads, dx = lib.grad(case.loss, argnums=(0, 1))(layer, x)
                notes.append(described(lib, grads))
                outputs.append(dx)
            return outputs

        outputs = jax.eval_shape(program, jax.ShapeDtypeStruct(case.shape, case.dtype))
        return notes, jax.tree.map(_type_of, outputs)

    both = assert_same_where_flax_computes(run)
    if both is not None:
        assert both[0] == both[1]


@tried(5)
@given(cases())
def test_what_random_layers_compute_is_what_flax_computes(case: Case) -> None:
    x = case.inputs()

    def run(lib: Any) -> Any:
        layer = case.make(lib)
        return [layer(x, **case.call), layer(x, **case.call)], layer

    both = assert_same_where_flax_computes(run)
    if both is None:
        return
    (ours, layer), (theirs, flax_layer) = both
    for y, flax_y in zip(ours, theirs, strict=True):
        assert_same(y, flax_y)
    assert_same_state(layer, flax_layer)


CELLS = ["GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell"]
RNN_OPTIONS = {"time_major": [True], "return_carry": [True], "reverse": [True], "keep_order": [True]}


@tried(4)
@given(
    st.sampled_from(CELLS),
    maybe(dtype=[F32, BF16], kernel_init=[NORMAL], bias_metadata=[{"role": "b"}], carry_init=[NORMAL]),
    maybe(**RNN_OPTIONS, unroll=[2], rngs=[False, True]),
    maybe(**RNN_OPTIONS, seq_lengths=[np.array([2, 3], np.int32)]),
)
def test_random_recurrent_layers_compute_what_flax_computes(
    cell: str, cell_options: dict[str, Any], options: dict[str, Any], call: dict[str, Any]
) -> None:
    time_major = call.get("time_major", options.get("time_major", False))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4) if time_major else (2, 3, 4)), F32)

    def run(lib: Any) -> Any:
        rnn = lib.RNN(getattr(lib, cell)(4, 3, **cell_options, rngs=lib.Rngs(0)), **options)
        return rnn(x, **call), rnn

    both = assert_same_where_flax_computes(run)
    if both is None:
        return
    (ours, rnn), (theirs, flax_rnn) = both
    for y, flax_y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert_same(y, flax_y)
    assert_same_state(rnn, flax_rnn)
