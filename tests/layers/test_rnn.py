"""`RNN` over cells of users: closed forms of running sums, masks, states, and what its messages say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import easyflax as ef
from easyflax import nnx
from easyflax.layers import LSTM, RNN, GRUCell, Layer, LSTMCell, SimpleRNN, StackedRNNCells

X = jnp.arange(12.0).reshape(2, 3, 2)  # (batch, time, features)
MASK = jnp.array([[True, False, True], [False, True, False]])


class Sum(Layer):
    """Adds up its inputs; the output is twice the state."""

    state_size = 2

    def call(self, inputs, states):
        total = states[0] + inputs
        return 2 * total, [total]


class PlainSum:
    """A cell that is no layer."""

    state_size = 2

    def call(self, inputs, states):
        return states[0] + inputs, (states[0] + inputs,)


class Dropped(Layer):
    """Has dropout of its own, a layer without weights until it is called, and a count of steps."""

    state_size = 4

    def __init__(self):
        super().__init__()
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.inner = LSTMCell(4)
        self.steps = nnx.BatchStat(jnp.zeros(()))

    def call(self, inputs, states):
        self.steps[...] += 1
        output, _ = self.inner(self.drop(inputs), [states[0], states[0]])
        return output, [output]


@pytest.mark.parametrize("unroll", [False, True])
def test_all_outputs_of_a_running_sum_are_returned(unroll):
    outputs, total = RNN(Sum(), return_sequences=True, return_state=True, unroll=unroll)(X)
    assert jnp.array_equal(outputs, 2 * jnp.cumsum(X, axis=1))
    assert jnp.array_equal(total, X.sum(1))


def test_going_backwards_returns_outputs_in_the_order_of_computation():
    outputs = RNN(PlainSum(), return_sequences=True, go_backwards=True)(X)
    assert jnp.array_equal(outputs, jnp.cumsum(X[:, ::-1], axis=1))


def test_masked_steps_keep_the_state_and_repeat_the_output():
    outputs = RNN(Sum(), return_sequences=True)(X, mask=MASK)
    assert jnp.array_equal(outputs, 2 * jnp.cumsum(X * MASK[:, :, None], axis=1))
    last = RNN(Sum())(X, mask=MASK[:, :, None])
    assert jnp.array_equal(last, outputs[:, -1])


@pytest.mark.parametrize("go_backwards", [False, True])
def test_outputs_of_masked_steps_are_zero_on_request(go_backwards):
    options = {"zero_output_for_mask": True, "go_backwards": go_backwards}
    outputs = RNN(Sum(), return_sequences=True, **options)(X, mask=MASK)
    mask = MASK[:, ::-1] if go_backwards else MASK
    assert jnp.array_equal((outputs != 0).any(-1), mask)
    assert jnp.array_equal(RNN(Sum(), **options)(X, mask=MASK), outputs[:, -1])


def test_initial_states_come_as_an_argument_or_in_a_list():
    first = jnp.full((2, 2), 5.0)
    layer = RNN(Sum())
    assert jnp.array_equal(layer(X, initial_state=first), 2 * (X.sum(1) + 5))
    assert jnp.array_equal(layer([X, first]), 2 * (X.sum(1) + 5))


@pytest.mark.slow
def test_what_changes_in_a_cell_goes_from_step_to_step_and_stays():
    layer = RNN(Dropped(), return_sequences=True)
    layer(X)
    assert layer.cell.steps[...] == 3
    layer.train()
    assert not jnp.array_equal(layer(X), layer(X))
    assert layer.cell.steps[...] == 9
    assert layer.cell.inner.kernel.shape == (2, 16)


@pytest.mark.slow
def test_a_layer_is_jitted_and_differentiated_like_any_module():
    layer = RNN(Dropped())
    layer.eval()
    expected = layer(X)
    np.testing.assert_allclose(nnx.jit(lambda layer, x: layer(x))(layer, X), expected, rtol=1e-6)
    grads = nnx.grad(lambda layer, x: layer(x).sum())(layer, X)
    assert grads.cell.inner.kernel.shape == (2, 16)


def test_stacked_cells_feed_each_other():
    both = RNN([PlainSum(), Sum()], return_sequences=True, return_state=True)
    outputs, first, second = both(X)
    assert jnp.array_equal(outputs, 2 * jnp.cumsum(jnp.cumsum(X, axis=1), axis=1))
    assert jnp.array_equal(first[0], X.sum(1))
    assert jnp.array_equal(2 * second[0], outputs[:, -1])


@pytest.mark.slow
def test_stacked_cells_drop_the_same_at_all_steps():
    cells = [GRUCell(4, dropout=0.5, seed=0), LSTMCell(3)]
    layer = RNN(cells, return_sequences=True)
    ones = jnp.ones((1, 6, 8))
    layer(ones)
    layer.cell.cells[0].recurrent_kernel[...] *= 0  # the output then depends on the input and its mask only
    layer.cell.cells[0].bias[...] = layer.cell.cells[0].bias[...].at[0, :4].set(-1e9)  # no memory
    first = RNN(layer.cell.cells[0], return_sequences=True)(ones, training=True)
    assert jnp.array_equal(first, jnp.broadcast_to(first[:, :1], first.shape))


def test_stateful_layers_go_on_until_they_are_reset():
    layer = RNN(Sum(), stateful=True)
    first, second = layer(X), layer(X)
    assert jnp.array_equal(second, 2 * first)
    layer.reset_state()
    assert jnp.array_equal(layer(X), first)
    assert layer.weights == []
    with pytest.raises(ValueError, match=r"RNN: got 1 rows, expected 2, as in the first call"):
        layer(X[:1])


def test_stateful_layers_ask_for_the_number_of_rows():
    with pytest.raises(ValueError, match=r"got an unknown number of rows.*batch_size="):
        RNN(Sum(), stateful=True)(ef.Input((3, 2)))
    assert RNN(Sum(), stateful=True)(ef.Input((None, 2), batch_size=2)).shape == (2, 2)


@pytest.mark.slow
def test_states_travel_through_fit():
    x = np.tile(np.asarray(X), (8, 1, 1))  # batches of as many rows as there are devices
    layer = RNN([SimpleRNN(2).cell, Sum()], stateful=True)
    model = ef.Sequential([ef.Input((3, 2), batch_size=8), layer])
    model.compile(optimizer=ef.optimizers.SGD(0.0), loss="mse")
    model.fit(x, np.zeros((16, 2), "float32"), batch_size=8, shuffle=False, verbose=0)
    after = [state[...] for state in layer.states]
    layer.reset_state()
    layer(x[:8]), layer(x[8:])
    for state, expected in zip(layer.states, after):
        np.testing.assert_allclose(state[...], expected, rtol=1e-6)


def test_symbolic_calls_keep_the_time_axis_free():
    x, state = ef.Input((None, 3)), ef.Input((4,))
    layer = SimpleRNN(4, return_sequences=True, return_state=True)
    outputs, last = layer([x, state])
    assert (outputs.shape, last.shape) == ((None, None, 4), (None, 4))
    by_name, _ = layer(x, initial_state=[state])
    model = ef.Model([x, state], [outputs, by_name])
    a, b = model([jnp.ones((2, 5, 3)), jnp.ones((2, 4))])
    assert a.shape == (2, 5, 4)
    assert jnp.array_equal(a, b)


class Mark(Layer):
    """Masks what is zero."""

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, mask=None):
        return jnp.any(inputs != 0, axis=-1)


@pytest.mark.slow
def test_masks_pass_through_layers_that_return_sequences():
    x = jnp.ones((1, 4, 3)).at[:, 2:].set(0)
    whole = ef.Sequential([Mark(), LSTM(4, return_sequences=True), LSTM(2)])
    short = whole(x)
    assert jnp.array_equal(whole(x[:, :2]), short)
    layer = LSTM(2, return_state=True)
    assert layer.compute_mask(None, MASK) == [None, None, None]
    assert SimpleRNN(2, return_sequences=True).compute_mask(None, MASK) is MASK


@pytest.mark.slow
def test_configurations_make_equal_layers():
    layer = RNN([LSTMCell(3, dropout=0.2), GRUCell(2)], return_sequences=True, name="deep")
    again = RNN.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.cell, StackedRNNCells)
    assert again(X).shape == (2, 3, 2)


def test_mixed_precision_computes_in_bfloat16():
    layer = RNN([SimpleRNN(3, dtype="mixed_bfloat16").cell, Sum(dtype="mixed_bfloat16")])
    assert layer.cell.get_initial_state(2)[0][0].dtype == jnp.bfloat16
    outputs = LSTM(4, dtype="mixed_bfloat16", return_state=True)
    assert [one.dtype for one in outputs(X)] == [jnp.bfloat16] * 3
    assert outputs.get_weights()[0].dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RNN(nnx.Linear(2, 2, rngs=nnx.Rngs(0))), r"without call and state_size.*nnx\.RNN"),
        (lambda: RNN(Sum())(X[0, 0]), r"RNN: got sequences of shape \(None,\), expected \(batch, time"),
        (lambda: LSTM(4)(X[0]), r"LSTM: got sequences of shape .*expected \(batch, time, features\)"),
        (lambda: RNN(Sum(), unroll=True)(ef.Input((None, 2))), r"expected a known number of steps"),
        (lambda: RNN(Sum())(X, mask=MASK[:, :2]), r"got a mask of shape \(2, 2\).*expected \(2, 3\)"),
        (lambda: RNN(Sum())(X, initial_state=X), r"got initial states of the shapes \[\(2, 3, 2\)\]"),
    ],
    ids=["cell", "rank", "rank-of-lstm", "unroll", "mask", "states"],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_new_states_of_other_shapes_are_told():
    class Wrong(Sum):
        def call(self, inputs, states):
            return inputs, [inputs[:, :1]]

    with pytest.raises(ValueError, match=r"Wrong: got new states of the shapes \[\(2, 1\)\], expected"):
        RNN(Wrong())(X)


def test_a_loop_is_traced_once_whatever_the_number_of_steps():
    layer = LSTM(2)
    layer(X)
    sizes = [len(str(jax.make_jaxpr(lambda x: layer(x))(jnp.ones((1, n, 2))))) for n in (3, 300)]
    assert abs(sizes[0] - sizes[1]) < 100
