"""`nnx.scan`: against Python loops, what is carried, stacked or the same in every step, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from easyflax import nnx

LAYERS = 4


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls += 1
        return jnp.tanh(self.linear(x))


def keys():
    return jax.random.split(jax.random.key(0), LAYERS)


def make_stack():
    return nnx.vmap(lambda key: Block(nnx.Rngs(key)))(keys())


def blocks():
    return [Block(nnx.Rngs(key)) for key in keys()]


X = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")


# -- against loops


def test_a_scan_over_layers_is_a_loop_over_layers():
    stack, expected = make_stack(), X
    for block in blocks():
        expected = block(expected)
    forward = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    np.testing.assert_allclose(forward(stack, X), expected, rtol=1e-5)
    assert stack.calls.value.tolist() == [1] * LAYERS
    np.testing.assert_allclose(nnx.jit(forward)(stack, X), expected, rtol=1e-5)
    assert stack.calls.value.tolist() == [2] * LAYERS


def test_reverse_goes_from_the_last_layer_to_the_first():
    expected = X
    for block in reversed(blocks()):
        expected = block(expected)
    forward = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry, reverse=True)
    np.testing.assert_allclose(forward(make_stack(), X), expected, rtol=1e-5)


@pytest.mark.parametrize("unroll", [2, True])
def test_unrolling_changes_nothing(unroll):
    forward = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    unrolled = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry, unroll=unroll)
    np.testing.assert_allclose(forward(make_stack(), X), unrolled(make_stack(), X), rtol=1e-6)


def test_gradients_of_a_scan_are_those_of_the_loop():
    forward = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    grads = nnx.grad(lambda stack: forward(stack, X).sum())(make_stack())

    def loop(members):
        x = X
        for block in members:
            x = block(x)
        return x.sum()

    expected = nnx.grad(loop)(blocks())
    expected = np.stack([g.linear.kernel.value for g in expected])
    np.testing.assert_allclose(grads.linear.kernel, expected, rtol=1e-4, atol=1e-6)


def test_the_defaults_are_those_of_jax():
    carry, ys = nnx.scan(lambda c, x: (c + x, c * x))(1.0, jnp.arange(4.0))
    expected = jax.lax.scan(lambda c, x: (c + x, c * x), 1.0, jnp.arange(4.0))
    assert (carry, ys.tolist()) == (expected[0], expected[1].tolist())
    carry, nothing = nnx.scan(lambda c, x: (c + x, None))(1.0, jnp.arange(4.0))
    assert (carry, nothing) == (7, None)


# -- carried, stacked, the same


def test_a_carried_module_accumulates_and_stays_itself():
    model = nnx.Dict(total=nnx.Variable(jnp.array(0.0)))

    @nnx.scan
    def f(model, x):
        model.total += x
        return model, model.total * 10

    out, ys = f(model, jnp.arange(1.0, 4.0))
    assert out is model
    assert (float(model.total.value), ys.tolist()) == (6, [10, 30, 60])


def test_modules_may_lie_anywhere_in_the_carry():
    a, b = nnx.Variable(jnp.array(0.0)), nnx.Dict(w=nnx.Variable(jnp.array(1.0)))

    @nnx.scan
    def f(carry, x):
        a, (b, n), table = carry
        a += x
        b.w.value = b.w * 2
        return (a, (b, n + 1), {"z": table["z"] + x}), n

    (out_a, (out_b, n), table), ys = f((a, (b, 0), {"z": jnp.array(0.5)}), jnp.ones(3))
    assert out_a is a
    assert out_b is b
    assert (float(a.value), float(b.w.value), int(n), float(table["z"])) == (3, 8, 3, 3.5)
    assert ys.tolist() == [0, 1, 2]


def test_a_length_is_enough():
    model = nnx.Dict(n=nnx.Variable(jnp.array(1)))

    def f(model):
        model.n.value = model.n * 2
        return model, model.n.value

    out, ys = nnx.scan(f, in_axes=(nnx.Carry,), length=5)(model)
    assert out is model
    assert (int(model.n.value), ys.tolist()) == (32, [2, 4, 8, 16, 32])
    out = nnx.scan(lambda m: f(m)[0], in_axes=nnx.Carry, out_axes=nnx.Carry, length=2)(model)
    assert out is model
    assert int(model.n.value) == 128


def test_nothing_need_be_carried():
    model = nnx.Dict(w=nnx.Param(jnp.arange(3.0)))

    def f(model, x):
        model.w += x
        return model.w * 2

    assert nnx.scan(f, in_axes=(0, None), out_axes=0)(model, 1.0).tolist() == [2, 4, 6]
    assert model.w.value.tolist() == [1, 2, 3]
    assert nnx.scan(f, in_axes=0, out_axes=0)(model, jnp.ones(3)).tolist() == [4, 6, 8]


def test_axes_by_filter():
    axes = nnx.StateAxes({nnx.Param: 0, nnx.BatchStat: nnx.Carry, ...: None})
    model = nnx.Dict(
        w=nnx.Param(jnp.arange(3.0)), s=nnx.BatchStat(jnp.array(0.0)), fixed=nnx.Variable(jnp.array(10.0))
    )

    @nnx.scan(in_axes=(axes, nnx.Carry), out_axes=(nnx.Carry, 0))
    def f(model, x):
        model.s += model.w
        return x * 2, model.s + model.fixed

    carry, ys = f(model, 1.0)
    assert (float(carry), ys.tolist(), float(model.s.value)) == (8, [10, 11, 13], 3)


def test_axes_other_than_the_first():
    model = nnx.Dict(w=nnx.Param(jnp.arange(6.0).reshape(2, 3)))

    def f(model, x):
        assert model.w.shape == (2,)
        model.w += 1
        return x.sum(), x, nnx.Dict(v=nnx.Param(model.w * 2))

    y, x, made = nnx.scan(f, in_axes=(1, -1), out_axes=(0, 1, -1))(model, jnp.ones((4, 3)))
    assert (y.shape, x.shape) == ((3,), (4, 3))
    np.testing.assert_array_equal(model.w, np.arange(6.0).reshape(2, 3) + 1)
    np.testing.assert_array_equal(made.v, 2 * (np.arange(6.0).reshape(2, 3) + 1))


def test_the_carry_may_stand_anywhere():
    def f(x, c, y):
        return x * y, c + x, y

    xs, c, ys = nnx.scan(f, in_axes=(0, nnx.Carry, None), out_axes=(0, nnx.Carry, 0))(
        jnp.arange(3.0), 0.0, 2.0
    )
    assert (xs.tolist(), float(c), ys.tolist()) == ([0, 2, 4], 3, [2, 2, 2])


def test_scanned_modules_may_get_new_attributes_and_lose_old_ones():
    model = nnx.Dict(w=nnx.Param(jnp.arange(3.0)), old=nnx.Param(jnp.ones(3)))

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def f(model, c):
        model.new = nnx.Cache(c * 2)
        del model.old
        return c + model.w

    assert float(f(model, 1.0)) == 4
    assert sorted(vars(model)) == ["new", "w"]
    assert model.new.value.tolist() == [2, 2, 4]


@pytest.mark.parametrize("axis", [None, nnx.Carry])
def test_arrays_without_a_variable_stay_when_the_structure_changes_around_them(axis):
    array = jnp.ones(2)
    model = nnx.Dict(w=nnx.Param(jnp.arange(3.0)), array=array, n=0)

    def f(model, c):
        model.made = nnx.Cache(c * 1)
        model.n += 1
        return c + model.w * model.array.sum()

    axes = nnx.StateAxes({(nnx.Param, nnx.Cache): 0, ...: axis})
    assert float(nnx.scan(f, in_axes=(axes, nnx.Carry), out_axes=nnx.Carry)(model, jnp.array(1.0))) == 7
    assert model.made.value.tolist() == [1, 1, 3]
    np.testing.assert_array_equal(model.array, array)


def test_new_modules_are_stacked():
    def f(c, x):
        return c + 1, nnx.Dict(w=nnx.Param(x * 2), n=3)

    _, made = nnx.scan(f)(0, jnp.arange(3.0))
    assert (made.w.value.tolist(), made.n) == ([0, 2, 4], 3)


def test_arguments_by_name_and_methods():
    class Stack(nnx.Module):
        def __init__(self):
            self.blocks = make_stack()

        def __call__(self, x):
            return self.run(self.blocks, x=x)

        @staticmethod
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(block, x):
            return block(x)

    expected = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(make_stack(), X)
    np.testing.assert_allclose(Stack()(X), expected, rtol=1e-6)
    model = Block(nnx.Rngs(0))
    bound = nnx.scan(model.linear.__call__, in_axes=0, out_axes=0)
    np.testing.assert_allclose(bound(jnp.stack([X, X]))[1], model.linear(X), rtol=1e-5)


# -- random streams


def test_split_streams_differ_in_every_step_and_broadcast_ones_do_not():
    rngs = nnx.Rngs(params=0, dropout=1).split({"params": 3})
    axes = nnx.StateAxes({"params": 0, ...: None})

    @nnx.scan(in_axes=(nnx.Carry, axes), length=3)
    def f(carry, rngs):
        return carry, (rngs.params.uniform(()), rngs.dropout.uniform(()))

    _, (params, dropout) = f((), rngs)
    assert len(set(params.tolist())) == 3
    assert len(set(dropout.tolist())) == 1
    assert rngs.params.count.value.tolist() == [1, 1, 1]
    assert int(rngs.dropout.count.value) == 0


def test_a_carried_stream_gives_the_keys_of_a_loop():
    rngs, same = nnx.Rngs(0), nnx.Rngs(0)
    _, values = nnx.scan(lambda rngs, x: (rngs, rngs.uniform(()) + x))(rngs, jnp.zeros(3))
    assert values.tolist() == [float(same.uniform(())) for _ in range(3)]
    assert int(rngs.default.count.value) == 3


def test_recurrent_dropout_has_one_mask_for_all_steps():
    class Cell(nnx.Module):
        def __init__(self):
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0))

        def __call__(self, carry, x):
            return carry, self.drop(x)

    axes = nnx.StateAxes({"dropout": None, ...: nnx.Carry})
    unroll = nnx.scan(lambda cell, c, x: cell(c, x), in_axes=(axes, nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    _, ys = unroll(Cell(), jnp.zeros(()), jnp.ones((5, 20)))
    assert 0 < int((ys[0] == 0).sum()) < 20
    np.testing.assert_array_equal(ys, np.broadcast_to(ys[0], ys.shape))


# -- compilation


def test_a_scan_is_compiled_once_for_equal_structures():
    traces = []

    @nnx.scan(in_axes=(0, None, nnx.Carry), out_axes=nnx.Carry)
    def f(model, scale, c):
        traces.append(model.n)
        return c + model.w * scale

    model = nnx.Dict(w=nnx.Param(jnp.arange(3.0)), n=0)
    scale = jnp.array(1.0)
    assert float(f(model, scale, jnp.array(0.0))) == 3
    count = len(traces)
    model.w.value = model.w + 1
    assert float(f(model, 2 * scale, jnp.array(1.0))) == 13
    assert float(f(nnx.clone(model), scale, jnp.array(0.0))) == 6
    assert len(traces) == count
    model.n = 1
    assert float(f(model, scale, jnp.array(0.0))) == 6
    assert traces[-1] == 1


def test_a_scan_inside_jit_sees_the_values_of_each_call():
    total = nnx.scan(lambda c, x, k: (c + x * k.w, None), in_axes=(nnx.Carry, 0, None))
    model = nnx.Dict(w=nnx.Param(jnp.array(1.0)))
    f = nnx.jit(lambda model, xs: total(jnp.array(0.0), xs, model)[0])
    assert f(model, jnp.ones(3)) == 3
    model.w.value = jnp.array(5.0)
    assert f(model, jnp.ones(3)) == 15
    assert total(jnp.array(0.0), jnp.ones(2), model)[0] == 10
    assert nnx.grad(lambda model: total(jnp.array(0.0), jnp.ones(2), model)[0])(model).w.value == 2


def test_values_that_are_trees_are_scanned_carried_and_shared():
    class Step(nnx.Module):
        def __init__(self):
            self.scanned = nnx.Param({"w": jnp.arange(6.0).reshape(2, 3)})
            self.carried = nnx.BatchStat((jnp.zeros(2), jnp.ones(2)))
            self.shared = nnx.Cache({"c": jnp.full(2, 3.0)})

    axes = nnx.StateAxes({nnx.Param: 1, nnx.BatchStat: nnx.Carry, nnx.Cache: None, ...: 0})

    @nnx.scan(in_axes=(axes,), out_axes=0)
    def loop(step):
        total, last = step.carried.value
        step.sow(nnx.Intermediate, "seen", total)
        step.carried.value = total + step.scanned.value["w"] * step.shared.value["c"], last + 1
        step.scanned.value = {"w": -step.scanned.value["w"]}
        return total

    step = Step()
    totals = loop(step)
    assert totals.tolist() == [[0, 0], [0, 9], [3, 21]]
    assert step.seen.value[0].tolist() == totals.tolist()
    assert [part.tolist() for part in step.carried.value] == [[9, 36], [4, 4]]
    assert step.scanned.value["w"].tolist() == (-jnp.arange(6.0).reshape(2, 3)).tolist()


# -- states and variables that are carried by value


def test_a_new_state_is_carried_and_the_one_passed_stays_as_it_was():
    model, count = Block(nnx.Rngs(0)), nnx.Variable(jnp.array(0.0))
    zeros = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))

    def accumulate(carry, x):
        total, count = carry
        count += 1
        grads = nnx.grad(lambda model: (model(x) ** 2).sum())(nnx.clone(model))
        return (jax.tree.map(jnp.add, total, grads), count), count.value

    batches = jnp.stack([X, 2 * X, 3 * X])
    scanned = nnx.scan(accumulate)
    for _ in range(2):
        count[...] = 0
        (total, same), counts = scanned((zeros, count), batches)
        assert same is count
        assert float(count) == 3
        assert counts.tolist() == [1, 2, 3]
        assert isinstance(total, nnx.State)
        assert not any(leaf.any() for leaf in jax.tree.leaves(zeros))
        expected = [nnx.grad(lambda model, x: (model(x) ** 2).sum())(nnx.clone(model), x) for x in batches]
        expected = jax.tree.map(lambda *grads: sum(grads), *expected)
        np.testing.assert_allclose(total.linear.kernel.value, expected.linear.kernel.value, rtol=1e-5)


def test_a_carry_by_value_is_traced_once():
    traces = []

    @nnx.scan(in_axes=nnx.Carry, out_axes=nnx.Carry, length=3)
    def add(variable):
        traces.append(variable)
        return nnx.Param(variable + 1)

    variable = nnx.Param(jnp.array(1.0), note="kept")
    for _ in range(3):
        out = add(nnx.Param(jnp.array(1.0)))
        assert float(out) == 4
    assert len(traces) == 2, "once to find out that it is new, once for the loop"
    assert float(variable) == 1


def test_variables_that_change_places_are_new():
    a, b = nnx.Param(jnp.array(0.0)), nnx.Param(jnp.array(1.0))
    swap = nnx.scan(lambda pair: pair[::-1], in_axes=nnx.Carry, out_axes=nnx.Carry, length=3)
    assert [float(v) for v in (*swap((a, b)), a, b)] == [1, 0, 0, 1]


def test_numbers_in_variables_are_arrays_inside_and_those_in_arguments_stay_numbers():
    def f(count, flag, x):
        assert flag is True
        count[...] += 1
        return x * count

    count = nnx.Cache(2)
    with pytest.warns(UserWarning, match="changed 'the argument itself', which has axis None"):
        out = nnx.scan(f, in_axes=(None, None, 0), out_axes=0)(count, True, jnp.ones(2))
    assert out.tolist() == [3, 3]
    assert count.get_value() == 2
