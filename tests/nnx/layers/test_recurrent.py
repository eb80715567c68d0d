from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

CELLS = [nnx.SimpleCell, nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell]
LENGTHS = np.array([5, 0, 2])


def _x(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def _assert_close(ours: Any, expected: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, expected)


def _carry(cell: Any, shape: tuple[int, ...]) -> Any:
    return cell.initialize_carry(shape, nnx.Rngs(1), nnx.initializers.normal())


class Sum(nnx.RNNCellBase):
    """Adds up its inputs, and counts its calls in Python."""

    num_feature_axes = 1
    calls = 0

    def initialize_carry(self, input_shape: Any, rngs: Any = None, carry_init: Any = None) -> Any:
        return jnp.zeros(input_shape)

    def __call__(self, carry: Any, inputs: Any) -> Any:
        Sum.calls += 1
        carry = carry + inputs
        return carry, carry


# -- what it computes


@pytest.mark.parametrize("Cell", CELLS)
def test_it_calls_the_cell_step_by_step(Cell: Any) -> None:
    cell = Cell(2, 3, rngs=nnx.Rngs(0))
    x, carry = _x(3, 5, 2), _carry(cell, (3, 2))
    final, outputs = nnx.RNN(cell)(x, initial_carry=carry, return_carry=True)
    for t in range(5):
        carry, y = cell(carry, x[:, t])
        _assert_close(outputs[:, t], y)
    _assert_close(final, carry)


@pytest.mark.parametrize("Cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_padded_sequences_give_what_each_gives_alone(Cell: Any, reverse: bool) -> None:
    cell = Cell(2, 3, rngs=nnx.Rngs(0))
    rnn = nnx.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    x, carry = _x(3, 5, 2), _carry(cell, (3, 2))
    final, outputs = rnn(x, initial_carry=carry, seq_lengths=LENGTHS)
    assert outputs.shape == (3, 5, 3)
    for row, length in enumerate(LENGTHS):
        own = jax.tree.map(lambda leaf: leaf[row], carry)
        final_alone, outputs_alone = rnn(x[row, :length], initial_carry=own)
        _assert_close(outputs[row, :length], outputs_alone)
        _assert_close(jax.tree.map(lambda leaf: leaf[row], final), final_alone)


def test_what_lies_beyond_the_lengths_changes_nothing_within() -> None:
    rnn = nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)), return_carry=True, reverse=True, keep_order=True)
    x, valid = _x(3, 5, 2), np.arange(5) < LENGTHS[:, None]
    noise = jnp.where(valid[..., None], x, 99.0)
    carry, outputs = rnn(x, seq_lengths=LENGTHS)
    noisy_carry, noisy_outputs = rnn(noise, seq_lengths=LENGTHS)
    np.testing.assert_array_equal(carry, noisy_carry)
    np.testing.assert_array_equal(outputs[valid], noisy_outputs[valid])
    grads = jax.grad(lambda x: rnn(x, seq_lengths=LENGTHS, rngs=nnx.Rngs(0))[0].sum())(noise)
    assert not grads[~valid].any()
    assert grads[valid].any(axis=-1).all()


def test_several_batch_axes_are_each_sequence_alone() -> None:
    rnn = nnx.RNN(nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)), return_carry=True, reverse=True)
    x, lengths = _x(2, 3, 5, 2), np.array([[5, 1, 2], [4, 3, 0]])
    nested = rnn(x, seq_lengths=lengths)
    flat = rnn(x.reshape(6, 5, 2), seq_lengths=lengths.reshape(6))
    _assert_close(nested, jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), flat))
    major = rnn(jnp.moveaxis(x, 2, 0), seq_lengths=lengths, time_major=True)
    _assert_close(major, (nested[0], jnp.moveaxis(nested[1], 2, 0)))


def test_one_length_may_stand_for_all_sequences() -> None:
    rnn = nnx.RNN(Sum(), return_carry=True)
    x = jnp.ones((3, 4, 1))
    for lengths in (2, [2], jnp.array([2, 2, 2], jnp.uint8)):
        assert rnn(x, seq_lengths=lengths)[0].tolist() == [[2.0]] * 3
    assert rnn(x[0], seq_lengths=3)[0].tolist() == [3.0]


def test_lengths_beyond_the_steps_count_as_all() -> None:
    assert nnx.RNN(Sum(), return_carry=True)(jnp.ones((1, 4, 1)), seq_lengths=[9])[0].tolist() == [[4.0]]


def test_reversed_outputs_are_in_the_order_of_steps_unless_that_of_inputs_is_kept() -> None:
    x = jnp.array([[[1.0], [2.0], [4.0]]])
    rnn = nnx.RNN(Sum(), reverse=True)
    assert rnn(x)[0, :, 0].tolist() == [4, 6, 7]
    assert rnn(x, keep_order=True)[0, :, 0].tolist() == [7, 6, 4]
    assert rnn(x, reverse=False, keep_order=True)[0, :, 0].tolist() == [1, 3, 7]


def test_numbers_from_numpy_lists_and_integers_are_taken() -> None:
    rnn = nnx.RNN(nnx.GRUCell(1, 2, rngs=nnx.Rngs(0)))
    expected = rnn(jnp.array([[[1.0], [2.0]]]))
    for x in (np.array([[[1.0], [2.0]]], np.float32), [[[1.0], [2.0]]], jnp.array([[[1], [2]]])):
        _assert_close(rnn(x), expected)


# -- random streams and variables of the cell


class Noisy(nnx.GRUCell):
    """A cell whose output is a dropout mask."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rng_collection="mask", rngs=rngs)

    def __call__(self, carry: Any, inputs: Any) -> Any:
        carry, y = super().__call__(carry, inputs)
        return carry, self.drop(jnp.ones_like(y))


def test_a_mask_is_drawn_at_each_step_or_once_a_call() -> None:
    x = jnp.ones((8, 4, 2))
    for broadcast, kinds in [(None, 4), ("mask", 1), (["mask"], 1)]:
        rnn = nnx.RNN(Noisy(nnx.Rngs(0, mask=1)), broadcast_rngs=broadcast)
        first, second = rnn(x), rnn(x)
        assert len({np.asarray(first[:, t]).tobytes() for t in range(4)}) == kinds
        assert bool((first != second).any())
    rnn.eval()
    assert bool((rnn(x) == 1).all())


def test_a_dict_of_axes_means_what_state_axes_mean() -> None:
    axes = {nnx.RngState: None, "mask": 0, ...: nnx.Carry}
    x = jnp.ones((8, 4, 2))
    outputs = [nnx.RNN(Noisy(nnx.Rngs(0)), state_axes=given)(x) for given in (axes, nnx.StateAxes(axes))]
    np.testing.assert_array_equal(*outputs)
    assert len({np.asarray(outputs[0][:, t]).tobytes() for t in range(4)}) == 1


@pytest.mark.slow
def test_variables_of_the_cell_can_differ_from_step_to_step() -> None:
    @nnx.vmap
    def make(key: jax.Array) -> Any:
        return nnx.SimpleCell(2, 2, rngs=nnx.Rngs(key))

    cells = make(jax.random.split(jax.random.key(0), 4))
    x = _x(3, 4, 2)
    outputs = nnx.RNN(cells, state_axes={nnx.Param: 0, ...: nnx.Carry})(x)
    carry = jnp.zeros((3, 2))
    for t in range(4):
        one = nnx.merge(nnx.graphdef(cells), jax.tree.map(lambda leaf: leaf[t], nnx.state(cells)))
        carry, y = one(carry, x[:, t])
        _assert_close(outputs[:, t], y)


def test_the_first_carry_is_drawn_anew_at_each_call() -> None:
    with pytest.warns(UserWarning, match="carry_init"):
        cell = nnx.GRUCell(2, 3, carry_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    rnn = nnx.RNN(cell)
    x = jnp.zeros((1, 1, 2))
    assert bool((rnn(x) != rnn(x)).any())
    np.testing.assert_array_equal(rnn(x, rngs=nnx.Rngs(3)), rnn(x, rngs=nnx.Rngs(3)))


# -- under transforms


@pytest.mark.parametrize("seq_lengths", [None, LENGTHS], ids=["whole", "padded"])
def test_transforms_give_the_same_numbers(seq_lengths: Any) -> None:
    rnn = nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)), return_carry=True)
    x = _x(3, 5, 2)

    def run(rnn: Any, x: Any, lengths: Any) -> Any:
        return rnn(x, seq_lengths=lengths, rngs=nnx.Rngs(0))

    expected = run(rnn, x, seq_lengths)
    _assert_close(nnx.jit(run)(rnn, x, seq_lengths), expected)
    _assert_close(nnx.remat(run)(rnn, x, seq_lengths), expected)
    axes = (None, 0, None if seq_lengths is None else 0)
    _assert_close(nnx.vmap(run, in_axes=axes)(rnn, x, seq_lengths), expected)
    _assert_close(run(nnx.merge(*nnx.split(rnn)), x, seq_lengths), expected)
    shapes = nnx.eval_shape(run, rnn, x, seq_lengths)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, expected)


@pytest.mark.slow
def test_gradients_are_those_of_steps_written_out() -> None:
    cell = nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0))
    x = _x(3, 4, 2)

    def written_out(cell: Any, x: Any) -> Any:
        carry, total = (jnp.zeros((3, 3)),) * 2, 0.0
        for t in range(4):
            carry, y = cell(carry, x[:, t])
            total += (y**2).sum()
        return total

    expected = nnx.grad(written_out, argnums=(0, 1))(cell, x)
    for unroll in (1, 4):
        rnn = nnx.RNN(cell, unroll=unroll)
        (of_rnn, of_x) = nnx.grad(lambda rnn, x: (rnn(x) ** 2).sum(), argnums=(0, 1))(rnn, x)
        _assert_close((nnx.to_pure_dict(of_rnn)["cell"], of_x), (nnx.to_pure_dict(expected[0]), expected[1]))


@pytest.mark.slow
def test_layers_on_top_of_each_other_can_be_scanned() -> None:
    @nnx.vmap
    def make(key: jax.Array) -> Any:
        return nnx.RNN(nnx.GRUCell(3, 3, rngs=nnx.Rngs(key)), rngs=False)

    layers, x = make(jax.random.split(jax.random.key(0), 2)), _x(2, 4, 3)
    call = {"initial_carry": jnp.zeros((2, 3))}
    y = nnx.scan(lambda layer, x: layer(x, **call), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(layers, x)
    for i in range(2):
        state = jax.tree.map(lambda leaf: leaf[i], nnx.state(layers))
        x = nnx.merge(nnx.graphdef(layers), state)(x, **call)
    _assert_close(y, x)


def test_a_second_call_traces_nothing_again() -> None:
    rnn, x = nnx.RNN(Sum()), jnp.ones((2, 3, 1))
    rnn(x)
    Sum.calls = 0
    rnn(x + 1)
    nnx.RNN(Sum())(x)
    assert Sum.calls == 0


# -- bad input


class Model(nnx.Module):
    def __init__(self, cell: Any) -> None:
        self.encoder = nnx.Sequential(nnx.RNN(cell))

    def __call__(self, x: Any, **call: Any) -> Any:
        return self.encoder.layers[0](x, **call)


class Own(Sum):
    def __init__(self, step: Any) -> None:
        self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        self.step = step

    def __call__(self, carry: Any, inputs: Any) -> Any:
        return self.step(carry, self.linear(inputs))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)), r"^GRUCell 'encoder\.layers\.0\.cell': got an input of shape"),
        (Own(lambda c, x: (c, x)), r"^Linear 'encoder\.layers\.0\.cell\.linear': got an input of shape"),
    ],
    ids=["GRUCell", "own"],
)
def test_wrong_features_are_told_with_the_path_of_the_cell(cell: Any, message: str) -> None:
    for call in (Model.__call__, nnx.jit(Model.__call__)):
        with pytest.raises(ValueError, match=message + r" \(3, 7\) with 7 features"):
            call(Model(cell), jnp.ones((3, 5, 7)), initial_carry=jnp.ones((3, 3)))


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (lambda c, x: c, ValueError, "got an array from a step of the cell, expected the pair"),
        (lambda c, x: (c, x, x), ValueError, "got tuple of 3 from a step"),
        (
            lambda c, x: (c.astype("float16"), x),
            TypeError,
            r"got the carry float32\[3,2\] and returned float16\[3,2\] from a step, expected the same",
        ),
        (lambda c, x: ((c, c), x), TypeError, r"returned \(float32\[3,2\], float32\[3,2\]\) from a step"),
        (lambda c, x: (c[0], x), TypeError, r"returned float32\[2\] from a step"),
    ],
)
def test_a_step_that_returns_another_carry_than_it_got_is_told(step: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=r"Own 'encoder\.layers\.0\.cell': .*" + message):
        Model(Own(step))(jnp.ones((3, 5, 2)))


@pytest.mark.parametrize(
    ("carry", "error", "message"),
    [
        ((np.ones((3, 4)),) * 2, ValueError, r"got shapes \(\(3, 4\), \(3, 4\)\) as carry"),
        (np.ones((3, 3)), ValueError, r"got .* of shape \(3, 3\) as carry .* expected a tuple \(c, h\)"),
        (np.ones((3, 3)).tolist(), ValueError, "as carry for an input of shape"),
        (
            [jnp.ones((3, 3))] * 2,
            TypeError,
            r"got the carry \[float32\[3,3\], float32\[3,3\]\] and returned \(",
        ),
        ((jnp.ones(3),) * 2, TypeError, r"got the carry \(float32\[3\], float32\[3\]\) and returned"),
    ],
)
def test_a_wrong_first_carry_is_told(carry: Any, error: Any, message: str) -> None:
    model = Model(nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(error, match=r"LSTMCell 'encoder\.layers\.0\.cell': .*" + message):
        model(jnp.ones((3, 5, 2)), initial_carry=carry)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"seq_lengths": np.ones(3)}, TypeError, "got seq_lengths of dtype float.*expected integers"),
        ({"seq_lengths": np.ones(3, bool)}, TypeError, "got seq_lengths of dtype bool, expected integers"),
        ({"seq_lengths": [1, 2]}, ValueError, r"got seq_lengths of shape \(2,\), expected \(3,\), the batch"),
        (
            {"seq_lengths": np.ones((3, 5), int)},
            ValueError,
            r"got seq_lengths of shape \(3, 5\), expected \(3,\)",
        ),
        ({"rngs": 0}, TypeError, r"got rngs of type int, expected nnx\.Rngs or an nnx\.RngStream"),
        ({"rngs": nnx.Rngs(params=0)}, AttributeError, r"'carry'.*\['params'\]"),
    ],
)
def test_wrong_lengths_and_rngs_are_told(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=r"RNN 'encoder\.layers\.0': .*" + message):
        Model(Sum())(jnp.ones((3, 5, 2)), **call)


def test_an_input_with_too_few_axes_is_told_with_the_layout() -> None:
    with pytest.raises(
        ValueError, match=r"RNN 'encoder.*got an input of shape \(5,\).*2 axes, \(\.\.\., time, feat"
    ):
        Model(Sum())(jnp.ones(5))
    with pytest.raises(ValueError, match=r"expected at least 2 axes, \(time, \.\.\., features\)"):
        Model(Sum())(jnp.ones(5), time_major=True)


@pytest.mark.parametrize(
    ("cell", "got"),
    [
        (nnx.LSTMCell, "the class LSTMCell"),
        (nnx.Linear(2, 3, rngs=nnx.Rngs(0)), "Linear"),
        (lambda carry, x: (carry, x), "function"),
        (None, "NoneType"),
    ],
    ids=["class", "Linear", "function", "None"],
)
def test_what_is_no_cell_is_refused(cell: Any, got: str) -> None:
    with pytest.raises(TypeError, match=f"RNN: got {got} as cell, expected a module with __call__"):
        nnx.RNN(cell)


def test_wrong_rngs_of_the_layer_are_told_when_it_is_made_and_missing_ones_when_it_is_called() -> None:
    with pytest.raises(AttributeError, match=r"'carry'.*\['params'\]"):
        nnx.RNN(Sum(), rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match=r"RNN: got rngs of type int, expected nnx\.Rngs"):
        nnx.RNN(Sum(), rngs=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="RNN: got rngs=None"):
        nnx.RNN(Sum(), rngs=None)  # type: ignore[arg-type]
    rnn = nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)), rngs=False)
    with pytest.raises(ValueError, match="GRUCell 'cell': got no rngs, expected random keys for the carry"):
        rnn(jnp.ones((3, 5, 2)))


def test_lengths_need_a_carry_with_the_batch_axes() -> None:
    class Counting(Sum):
        def initialize_carry(self, input_shape: Any, rngs: Any = None, carry_init: Any = None) -> Any:
            return {"steps": jnp.zeros(()), "sum": jnp.zeros(input_shape)}

        def __call__(self, carry: Any, inputs: Any) -> Any:
            return {"steps": carry["steps"] + 1, "sum": carry["sum"] + inputs}, inputs

    model, x = Model(Counting()), jnp.ones((3, 5, 2))
    assert model(x, return_carry=True)[0]["steps"] == 5
    with pytest.raises(
        ValueError, match=r"RNN 'encoder.*got an array of shape \(\) in the carry .* batch axes \(3,\)"
    ):
        model(x, return_carry=True, seq_lengths=[1, 2, 3])
