"""Recurrent cells and layers against flax.nnx (and flax.linen where nnx has none): equal seeds give bit-equal
parameters, outputs, carries and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from flax import nnx as flax_nnx
from flax.nnx.nn import recurrent as flax_recurrent

from easyflax import nnx
from easyflax.nnx.nn import recurrent
from tests.parity.flax_oracle import assert_same, assert_same_state, assert_same_tree, make_both

BF16 = jnp.bfloat16
F32 = jnp.float32
NONE: Mapping[str, Any] = MappingProxyType({})
CELLS = ["SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell"]
INITS = {
    "kernel_init": nnx.initializers.he_uniform(),
    "recurrent_kernel_init": nnx.initializers.normal(),
    "bias_init": nnx.initializers.normal(),
}
METADATA = {
    "kernel_metadata": {"role": "w"},
    "recurrent_kernel_metadata": {"role": "u"},
    "bias_metadata": {"role": "b"},
}


def _inputs(shape: tuple[int, ...], dtype: Any = F32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32), dtype)


# -- one step


class Step(NamedTuple):
    """A cell, how it is made, and what it is called with."""

    cell: str
    sizes: tuple[int, int] = (3, 4)
    options: Mapping[str, Any] = NONE
    batch: tuple[int, ...] = (2,)
    dtype: Any = F32

    def __str__(self) -> str:
        options = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in self.options.items())
        return f"{self.cell}{self.sizes}-{options[:60]}-{self.batch}-{jnp.dtype(self.dtype).name}"


STEPS = [
    *(Step(cell) for cell in CELLS),
    *(Step(cell, (1, 1), batch=()) for cell in CELLS),
    *(Step(cell, (5, 2), INITS, batch=(2, 3)) for cell in CELLS),
    *(Step(cell, options=METADATA) for cell in CELLS),
    *(Step(cell, options={"dtype": BF16}) for cell in CELLS),
    Step("LSTMCell", options={"dtype": BF16, "param_dtype": BF16}, dtype=BF16),
    *(
        Step(cell, options={"param_dtype": BF16, "recurrent_kernel_init": INITS["bias_init"]}, dtype=BF16)
        for cell in CELLS
    ),
    *(
        Step(cell, options={"gate_fn": nnx.hard_sigmoid, "activation_fn": nnx.softplus})
        for cell in CELLS[1:]
    ),
    Step("SimpleCell", options={"residual": True, "activation_fn": nnx.softplus}),
    Step("SimpleCell", options={"dtype": None}),
]  # fmt: skip


def _make_cell(case: Step) -> tuple[Any, Any]:
    return make_both(lambda lib: getattr(lib, case.cell)(*case.sizes, **case.options, rngs=lib.Rngs(7)))


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_cells_are_those_of_flax(case: Step) -> None:
    ours, theirs = _make_cell(case)
    assert_same_state(ours, theirs)
    assert ours.num_feature_axes == theirs.num_feature_axes
    x = _inputs((*case.batch, case.sizes[0]), case.dtype)
    carry = ours.initialize_carry(x.shape, nnx.Rngs(3))
    assert_same_tree(carry, theirs.initialize_carry(x.shape, flax_nnx.Rngs(3)))
    init = nnx.initializers.normal()
    carry = ours.initialize_carry(x.shape, nnx.Rngs(3, carry=4), carry_init=init)
    flax_carry = theirs.initialize_carry(x.shape, flax_nnx.Rngs(3, carry=4), carry_init=init)
    assert_same_tree(carry, flax_carry)
    for _ in range(2):
        carry, y = ours(carry, x)
        flax_carry, flax_y = theirs(flax_carry, x)
        assert jax.tree.structure(carry) == jax.tree.structure(flax_carry)
        assert_same_tree((carry, y), (flax_carry, flax_y))


@pytest.mark.parametrize("cell", CELLS)
def test_cells_that_keep_rngs_and_carry_init_draw_carries_as_flax_does(cell: str) -> None:
    init = nnx.initializers.normal()

    def make(lib: Any) -> Any:
        with pytest.warns(UserWarning, match="carry_init"), pytest.warns(UserWarning, match="keep_rngs"):
            return getattr(lib, cell)(3, 4, carry_init=init, keep_rngs=True, rngs=lib.Rngs(0, carry=1))

    ours, theirs = make_both(make)
    for _ in range(2):
        assert_same_tree(ours.initialize_carry((2, 3)), theirs.initialize_carry((2, 3)))
    stream, flax_stream = nnx.Rngs(5).params, flax_nnx.Rngs(5).params
    assert_same_tree(ours.initialize_carry((2, 3), stream), theirs.initialize_carry((2, 3), flax_stream))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (6, 2)])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_modified_orthogonal_is_that_of_flax(shape: tuple[int, int], dtype: Any) -> None:
    key = jax.random.key(0)
    assert_same(
        recurrent.modified_orthogonal(key, shape, dtype),
        flax_recurrent.modified_orthogonal(key, shape, dtype),
    )


# -- sequences

LENGTHS = np.array([5, 2, 1])


class Run(NamedTuple):
    """An RNN over a cell, how it is made and called."""

    cell: str = "GRUCell"
    options: Mapping[str, Any] = NONE
    call: Mapping[str, Any] = NONE
    shape: tuple[int, ...] = (3, 5, 2)
    dtype: Any = F32
    cell_options: Mapping[str, Any] = NONE

    def __str__(self) -> str:
        given = {**self.options, **self.call, **self.cell_options}
        options = ",".join(k if isinstance(v, np.ndarray) else f"{k}={v}" for k, v in given.items())
        return f"{self.cell}-{options}-{self.shape}-{jnp.dtype(self.dtype).name}"


RUNS = [
    *(Run(cell) for cell in CELLS),
    *(Run(cell, {"return_carry": True}, {"seq_lengths": LENGTHS}) for cell in CELLS),
    Run(options={"time_major": True, "return_carry": True}, shape=(5, 3, 2)),
    Run("LSTMCell", {"reverse": True, "return_carry": True}),
    Run("LSTMCell", {"reverse": True, "keep_order": True}),
    Run(options={"keep_order": True}),
    Run(options={"unroll": 2, "return_carry": True}),
    Run(options={"rngs": False}, call={"initial_carry": np.ones((3, 3), np.float32)}),
    Run("LSTMCell", call={"time_major": True, "return_carry": True, "reverse": True}, shape=(5, 3, 2)),
    Run(call={"seq_lengths": LENGTHS}),
    Run("LSTMCell", {"reverse": True, "return_carry": True}, {"seq_lengths": LENGTHS}),
    Run("SimpleCell", {"reverse": True, "return_carry": True, "keep_order": True}, {"seq_lengths": LENGTHS}),
    Run(
        options={"time_major": True, "return_carry": True, "reverse": True, "keep_order": True},
        call={"seq_lengths": LENGTHS},
        shape=(5, 3, 2),
    ),
    Run(options={"return_carry": True}, call={"return_carry": False, "seq_lengths": LENGTHS}),
    Run(options={"reverse": True}, call={"reverse": False, "keep_order": True}),
    Run(shape=(2, 3, 5, 2), options={"return_carry": True}),
    Run("LSTMCell", {"return_carry": True}, shape=(5, 2)),
    Run(shape=(5, 2, 3, 2), options={"time_major": True, "reverse": True, "keep_order": True}),
    Run("SimpleCell", cell_options={"residual": True}, shape=(3, 0, 2)),
    Run(dtype=BF16, options={"return_carry": True}),
    Run("LSTMCell", {"return_carry": True}, dtype=BF16, cell_options={"dtype": BF16, "param_dtype": BF16}),
    Run("OptimizedLSTMCell", cell_options={"dtype": BF16}),
    Run("SimpleCell", dtype=BF16, cell_options={"dtype": None}),
    Run(dtype=jnp.int32),
]


def _make_rnn(case: Run) -> tuple[Any, Any]:
    def make(lib: Any) -> Any:
        cell = getattr(lib, case.cell)(2, 3, **case.cell_options, rngs=lib.Rngs(7))
        return lib.RNN(cell, **case.options)

    return make_both(make)


@pytest.mark.parametrize("case", RUNS, ids=str)
def test_sequences_carries_and_streams_are_those_of_flax(case: Run) -> None:
    ours, theirs = _make_rnn(case)
    assert_same_state(ours, theirs)
    x = _inputs(case.shape, case.dtype)
    assert_same_tree(ours(x, **case.call), theirs(x, **case.call))
    assert_same_state(ours, theirs)


def _weighted(tree: Any) -> Any:
    return sum((y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum() for y in jax.tree.leaves(tree))


def _loss(layer: Any, x: jax.Array, call: Mapping[str, Any]) -> jax.Array:
    return _weighted(jax.tree.map(lambda y: y.astype(F32), layer(x, **call)))


DIFFERENTIATED = [case for case in RUNS if case.dtype != jnp.int32 and case.shape[1] > 0][::3]


@pytest.mark.parametrize("case", DIFFERENTIATED, ids=str)
def test_gradients_through_time_are_those_of_flax(case: Run) -> None:
    ours, theirs = _make_rnn(case)
    x = _inputs(case.shape, case.dtype)

    def gradients(lib: Any, layer: Any) -> Any:
        argnums = (lib.DiffState(0, lib.Param), 1)
        return lib.jit(lib.grad(lambda layer, x: _loss(layer, x, case.call), argnums=argnums))(layer, x)

    (grads, dx), (flax_grads, flax_dx) = gradients(nnx, ours), gradients(flax_nnx, theirs)
    assert_same(dx, flax_dx)
    assert_same_state(grads, flax_grads)


@pytest.mark.parametrize("case", RUNS[::5], ids=str)
def test_jitted_sequences_are_those_of_flax(case: Run) -> None:
    ours, theirs = _make_rnn(case)
    x = _inputs(case.shape, case.dtype)
    for _ in range(2):
        out = nnx.jit(lambda layer, x: layer(x, **case.call))(ours, x)
        assert_same_tree(out, flax_nnx.jit(lambda layer, x: layer(x, **case.call))(theirs, x))
    assert_same_state(ours, theirs)


def test_the_streams_of_the_first_carry_are_those_of_flax() -> None:
    init = nnx.initializers.normal()

    def make(lib: Any) -> Any:
        with pytest.warns(UserWarning, match="carry_init"):
            cell = lib.LSTMCell(2, 3, carry_init=init, rngs=lib.Rngs(7))
        return lib.RNN(cell, return_carry=True, rngs=lib.Rngs(1, carry=2)), lib.RNN(cell), lib.Rngs(5)

    (ours, seeded, rngs), (theirs, flax_seeded, flax_rngs) = make_both(make)
    x = _inputs((3, 5, 2))
    for _ in range(2):
        assert_same_tree(ours(x), theirs(x))
        assert_same_tree(seeded(x), flax_seeded(x))
        assert_same_tree(ours(x, rngs=rngs), theirs(x, rngs=flax_rngs))
        assert_same_tree(ours(x, rngs=rngs.params), theirs(x, rngs=flax_rngs.params))
    assert_same_state((ours, seeded, rngs), (theirs, flax_seeded, flax_rngs))


# -- cells with state of their own


def _noisy_cell(lib: Any) -> Any:
    class NoisyCell(lib.GRUCell):  # type: ignore[misc, name-defined]
        def __init__(self, rngs: Any) -> None:
            super().__init__(2, 3, rngs=rngs)
            self.drop = lib.Dropout(0.5, rngs=rngs)
            self.noise = lib.Dropout(0.5, rng_collection="noise", rngs=rngs)
            self.steps = lib.Variable(jnp.zeros((), jnp.int32))

        def __call__(self, carry: Any, inputs: Any) -> Any:
            self.steps[...] += 1
            return super().__call__(self.drop(carry), self.noise(inputs))

    return NoisyCell(lib.Rngs(7, dropout=1, noise=2))


@pytest.mark.parametrize("broadcast", [None, "noise", ["noise", "dropout"], ...], ids=str)
def test_cells_with_random_streams_and_counters_are_those_of_flax(broadcast: Any) -> None:
    ours, theirs = make_both(lambda lib: lib.RNN(_noisy_cell(lib), broadcast_rngs=broadcast))
    x = _inputs((3, 5, 2))
    for _ in range(2):
        assert_same(ours(x), theirs(x))
        assert_same_state(ours, theirs)


def test_axes_for_the_variables_of_the_cell_are_those_of_flax() -> None:
    def make(lib: Any) -> Any:
        cell = _noisy_cell(lib)
        lib.split_rngs(cell, splits=5, only="dropout")
        axes = {"dropout": 0, lib.Param: None, ...: lib.Carry}
        return lib.RNN(cell, state_axes=lib.StateAxes(axes))

    ours, theirs = make_both(make)
    x = _inputs((3, 5, 2))
    for _ in range(2):
        assert_same(ours(x), theirs(x))
        assert_same_state(ours, theirs)


def _own_cell(lib: Any) -> Any:
    class Pair(lib.RNNCellBase):  # type: ignore[misc, name-defined]
        """Carries a dict, and returns a tuple of outputs of different ranks."""

        num_feature_axes = 1

        def __init__(self, rngs: Any) -> None:
            self.linear = lib.Linear(4, 2, rngs=rngs)

        def initialize_carry(self, input_shape: Any, rngs: Any = None, carry_init: Any = None) -> Any:
            return {"h": jax.random.normal(rngs(), input_shape), "sum": jnp.zeros(input_shape[:-1])}

        def __call__(self, carry: Any, inputs: Any) -> Any:
            h = jnp.tanh(self.linear(jnp.concatenate([inputs, carry["h"]], -1)))
            carry = {"h": h, "sum": carry["sum"] + h.sum(-1)}
            return carry, (h, carry["sum"])

    return Pair(lib.Rngs(0))


@pytest.mark.parametrize(
    "call", [{}, {"seq_lengths": LENGTHS}, {"reverse": True, "keep_order": True, "seq_lengths": LENGTHS}]
)
def test_a_cell_of_the_user_with_trees_for_carry_and_output_is_that_of_flax(call: dict[str, Any]) -> None:
    ours, theirs = make_both(lambda lib: lib.RNN(_own_cell(lib), return_carry=True))
    x = _inputs((3, 5, 2))
    out, flax_out = ours(x, **call), theirs(x, **call)
    assert jax.tree.structure(out) == jax.tree.structure(flax_out)
    assert_same_tree(out, flax_out)


# -- both directions


BOTH = [
    ({}, {}, (3, 5, 2)),
    ({"return_carry": True}, {"seq_lengths": LENGTHS}, (3, 5, 2)),
    ({"time_major": True, "merge_fn": jnp.add}, {"seq_lengths": LENGTHS, "return_carry": True}, (5, 3, 2)),
    ({"rngs": False}, {"reverse": True, "keep_order": False}, (3, 5, 2)),
]


@pytest.mark.parametrize(("options", "call", "shape"), BOTH)
def test_both_directions_are_those_of_flax(options: Any, call: Any, shape: Any) -> None:
    def make(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        with pytest.warns(UserWarning, match="carry_init"):
            cells = [lib.LSTMCell(2, 3, carry_init=INITS["bias_init"], rngs=rngs) for _ in range(2)]
        return lib.Bidirectional(lib.RNN(cells[0]), lib.RNN(cells[1], rngs=rngs), **options)

    ours, theirs = make_both(make)
    x = _inputs(shape)
    assert_same_state(ours, theirs)
    assert_same_tree(ours(x, **call), theirs(x, **call))
    rngs, flax_rngs = nnx.Rngs(3), flax_nnx.Rngs(3)
    assert_same_tree(ours(x, **call, rngs=rngs), theirs(x, **call, rngs=flax_rngs))
    assert_same_state((ours, rngs), (theirs, flax_rngs))


def test_both_directions_with_given_carries_and_nested_layers_are_those_of_flax() -> None:
    def make(lib: Any) -> Any:
        rngs = lib.Rngs(0)
        inner = [lib.RNN(lib.GRUCell(2, 3, rngs=rngs)) for _ in range(3)]
        return lib.Bidirectional(inner[0], lib.Bidirectional(inner[1], inner[2]))

    ours, theirs = make_both(make)
    x = _inputs((3, 5, 2))
    h = jnp.ones((3, 3))
    call = {"initial_carry": (h, (2 * h, None)), "return_carry": True}
    assert_same_tree(ours(x, **call), theirs(x, **call))


@pytest.mark.parametrize("lengths", [None, np.array([5, 2, 1, 3])])
@pytest.mark.parametrize(("shape", "time_major"), [((4, 5), False), ((4, 5, 2), False), ((5, 4, 2, 1), True)])
def test_flipped_sequences_are_those_of_flax(lengths: Any, shape: Any, time_major: bool) -> None:
    x = jnp.arange(np.prod(shape)).reshape(shape)
    args = (x, None if lengths is None else jnp.asarray(lengths), 1, time_major)
    assert_same(recurrent.flip_sequences(*args), flax_recurrent.flip_sequences(*args))


# -- convolutions, which flax has in linen


def _linen_pair(kernel_size: Any, x: jax.Array, options: Any) -> tuple[Any, Any, Any]:
    """A cell here, that of linen, and the parameters of the latter, copied to the former."""
    theirs = linen.ConvLSTMCell(4, kernel_size, **options)
    ours = nnx.ConvLSTMCell(3, 4, kernel_size, **options, rngs=nnx.Rngs(0))
    carry = ours.initialize_carry(x.shape, nnx.Rngs(0))
    assert_same_tree(carry, theirs.initialize_carry(jax.random.key(0), x.shape))
    assert ours.num_feature_axes == theirs.num_feature_axes
    params = theirs.init(jax.random.key(1), carry, x)["params"]
    for name in ("ih", "hh"):
        for leaf, value in params[name].items():
            variable = getattr(getattr(ours, name), leaf)
            assert (variable.shape, variable.dtype) == (value.shape, value.dtype)
            variable[...] = value
    return ours, theirs, params


@pytest.mark.parametrize(
    ("kernel_size", "spatial", "options"),
    [
        ((3,), (6,), {}),
        ((2, 3), (4, 5), {"use_bias": False, "padding": "CIRCULAR", "dtype": BF16}),
        ((3, 3), (4, 4), {"padding": ((1, 1), (2, 0)), "strides": (1, 1), "param_dtype": BF16}),
        ((1, 2, 2), (2, 3, 3), {}),
    ],
)
def test_a_step_of_a_convolutional_cell_is_that_of_linen(
    kernel_size: Any, spatial: Any, options: Any
) -> None:
    x = _inputs((2, *spatial, 3), options.get("param_dtype", F32))
    ours, theirs, params = _linen_pair(kernel_size, x, options)
    carry = flax_carry = ours.initialize_carry(x.shape, nnx.Rngs(0), nnx.initializers.normal())
    for _ in range(2):
        carry, y = ours(carry, x)
        flax_carry, flax_y = theirs.apply({"params": params}, flax_carry, x)
        assert_same_tree((carry, y), (flax_carry, flax_y))


@pytest.mark.slow
def test_convolutions_over_videos_and_their_gradients_are_those_of_linen() -> None:
    videos = _inputs((2, 3, 6, 3))
    cell, flax_cell, params = _linen_pair((3,), videos[:, 0], {})
    rnn, flax_rnn = nnx.RNN(cell, return_carry=True), linen.RNN(flax_cell, return_carry=True)
    variables = {"params": {"cell": params}}
    call = {"seq_lengths": jnp.array([3, 2])}
    assert_same_tree(rnn(videos, **call), flax_rnn.apply(variables, videos, **call))
    grads = nnx.grad(lambda rnn: _weighted(rnn(videos)), argnums=nnx.DiffState(0, nnx.Param))(rnn)
    flax_grads = jax.grad(lambda variables: _weighted(flax_rnn.apply(variables, videos)))(variables)
    assert_same_tree(nnx.to_pure_dict(grads)["cell"], flax_grads["params"]["cell"])


# -- a program


def _train(lib: Any) -> Any:
    """Three steps of a classifier of sequences of different lengths; losses and the trained model."""

    class Classifier(lib.Module):  # type: ignore[misc, name-defined]
        def __init__(self, rngs: Any) -> None:
            self.embed = lib.Embed(7, 4, rngs=rngs)
            cells = [lib.OptimizedLSTMCell(4, 4, rngs=rngs), lib.GRUCell(4, 4, rngs=rngs)]
            self.encoder = lib.Bidirectional(*map(lib.RNN, cells), return_carry=True)
            self.drop = lib.Dropout(0.3, rngs=rngs)
            self.head = lib.Linear(8, 3, rngs=rngs)

        def __call__(self, ids: jax.Array, lengths: jax.Array) -> jax.Array:
            ((_, forward), backward), _ = self.encoder(self.embed(ids), seq_lengths=lengths)
            return self.head(self.drop(jnp.concatenate([forward, backward], -1)))

    model = Classifier(lib.Rngs(0, dropout=1))
    optimizer = lib.Optimizer(model, optax.adam(1e-2), wrt=lib.Param)
    rng = np.random.default_rng(0)
    ids, lengths, labels = rng.integers(7, size=(6, 5)), rng.integers(1, 6, size=6), rng.integers(3, size=6)

    @lib.jit
    def step(model: Any, optimizer: Any, ids: jax.Array, lengths: jax.Array, labels: jax.Array) -> jax.Array:
        def loss_fn(model: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(ids, lengths), labels).mean()

        loss, grads = lib.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    return [step(model, optimizer, ids, lengths, labels) for _ in range(3)], model


@pytest.mark.slow
def test_a_model_with_recurrent_layers_trains_as_with_flax() -> None:
    (losses, model), (flax_losses, flax_model) = make_both(_train)
    assert_same_tree(losses, flax_losses)
    assert_same_state(model, flax_model)
