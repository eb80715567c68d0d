"""What a step of `nnx.scan` must keep, and what its axes must say."""

import jax.numpy as jnp
import pytest

from easyflax import nnx


def test_carry_must_be_in_both_and_once():
    with pytest.raises(ValueError, match=r"scan got no nnx.Carry in out_axes, but in the other"):
        nnx.scan(lambda c, x: x, in_axes=(nnx.Carry, 0), out_axes=0)
    with pytest.raises(ValueError, match=r"scan got no nnx.Carry in in_axes, but in the other"):
        nnx.scan(lambda c, x: (c, x), in_axes=0, out_axes=(nnx.Carry, 0))
    with pytest.raises(ValueError, match=r"scan got nnx.Carry 2 times in in_axes, expected it once"):
        nnx.scan(lambda a, b: (a, b), in_axes=(nnx.Carry, nnx.Carry))


@pytest.mark.parametrize("axis", [None, nnx.StateAxes({nnx.Param: 0, ...: None})])
def test_outputs_cannot_be_the_same_in_every_step(axis):
    with pytest.raises(ValueError, match="scan got None in out_axes, expected an axis to stack along"):
        nnx.scan(lambda c, x: (c, x), out_axes=(nnx.Carry, axis))


def test_the_output_must_be_a_tuple_as_out_axes_say():
    with pytest.raises(ValueError, match="scan got list from the function, expected a tuple of 2"):
        nnx.scan(lambda c, x: [c, x])(0.0, jnp.ones(2))
    with pytest.raises(ValueError, match="scan got a tuple of 3 from the function, expected a tuple of 2"):
        nnx.scan(lambda c, x: (c, x, x))(0.0, jnp.ones(2))


def test_the_carry_must_keep_its_structure():
    with pytest.raises(ValueError, match=r"as the new carry, expected the structure .*\nReturn the carried"):
        nnx.scan(lambda c, x: ((c, c), x))(0.0, jnp.ones(2))
    model = nnx.Dict(w=nnx.Variable(jnp.array(0.0)))
    with pytest.raises(ValueError, match="with the same modules"):
        nnx.scan(lambda m, x: (x, x))(model, jnp.ones(2))
    with pytest.raises(ValueError, match="with the same modules"):
        nnx.scan(lambda m, x: (nnx.Dict(w=nnx.Variable(m.w + x)), x))(model, jnp.ones(2))


def test_a_carried_module_cannot_get_new_variables():
    model = nnx.Dict(w=nnx.Variable(jnp.array(0.0)))

    @nnx.scan
    def f(model, x):
        model.new = nnx.Variable(x)
        return model, x

    with pytest.raises(ValueError, match=r"made 'new' new on a carried module.*\n?.*Make it before the loop"):
        f(model, jnp.ones(2))


def test_a_change_to_what_is_the_same_in_every_step_is_dropped_with_a_warning():
    model = nnx.Dict(stat=nnx.BatchStat(jnp.array(0.0)))

    def f(model, c, x):
        model.stat += x
        return c, x

    with pytest.warns(UserWarning, match="The function that scan calls changed 'stat', which has axis None"):
        nnx.scan(f, in_axes=(None, nnx.Carry, 0))(model, 0.0, jnp.ones(2))
    assert model.stat.value == 0.0  # as in flax, which does not say so


def test_what_is_the_same_in_every_step_cannot_get_new_variables():
    model = nnx.Dict(w=nnx.Variable(jnp.array(0.0)))

    def f(model, c, x):
        model.new = nnx.Variable(x)
        return c, x

    with pytest.raises(ValueError, match=r"made 'new' new on a module with axis None"):
        nnx.scan(f, in_axes=(None, nnx.Carry, 0))(model, 0.0, jnp.ones(2))


def test_sharing_must_be_mapped_alike():
    v = nnx.Param(jnp.arange(3.0))
    with pytest.raises(ValueError, match=r"the same Param has axis nnx.Carry in argument 0 and axis 0"):
        nnx.scan(lambda c, x: (c, x))(v, v)


def test_keyword_only_arguments_have_no_axis():
    with pytest.raises(TypeError, match=r"scan got the keyword arguments \['scale'\], which in_axes has no"):
        nnx.scan(lambda c, x, *, scale: (c, x))(0.0, jnp.ones(2), scale=2.0)
    with pytest.raises(ValueError, match="scan got in_axes of length 2 for 1 positional arguments"):
        nnx.scan(lambda c: (c, c))(0.0)


def test_a_carried_state_of_another_structure_is_an_error():
    state = nnx.State({"a": nnx.Param(jnp.array(0.0))})
    grow = nnx.scan(
        lambda state: nnx.State({**state, "b": nnx.Param(jnp.array(0.0))}),
        in_axes=nnx.Carry,
        out_axes=nnx.Carry,
        length=2,
    )
    with pytest.raises((ValueError, TypeError), match="structure"):
        grow(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: delattr(m.a, "w"), "'a/w': a Param is gone"),
        (lambda m: setattr(m, "step", m.step + 1), "'step': 0 became 1"),
        (lambda m: setattr(m, "b", m.a), "'b': a Dict is new"),
        (lambda m: m.w.set_metadata("note", 1), "'w': a Param became a Param with note=1"),
    ],
)
def test_a_carried_module_must_keep_its_structure(change, message):
    model = nnx.Dict(a=nnx.Dict(w=nnx.Param(jnp.ones(2))), step=0, w=nnx.Param(jnp.ones(1)))

    def f(model, x):
        change(model)
        return model, x

    with pytest.raises(ValueError, match=f"changed the structure of a carried module: {message}. Expected"):
        nnx.scan(f)(model, jnp.ones(2))
    nested = nnx.scan(lambda c, x: ((c[0], f(c[1], x)[0]), x))
    with pytest.raises(ValueError, match=f"structure of a carried module: {message}"):
        nested((0.0, model), jnp.ones(2))


def test_a_static_attribute_of_a_carried_module_may_be_set_once():
    model = nnx.Dict(w=nnx.Param(jnp.ones(2)), started=False)

    def f(model, x):
        if not model.started:
            model.started = True
        model.w.value = model.w + x
        return model, model.w.sum()

    _, sums = nnx.scan(f)(model, jnp.arange(3.0))
    assert model.started is True
    assert sums.tolist() == [2, 4, 8]


def test_carried_values_must_keep_their_types():
    model = nnx.Dict(a=nnx.Dict(w=nnx.Param(jnp.ones(2))))
    for value, got in ((jnp.ones(3), r"float32\[3\]"), (jnp.ones(2, jnp.int32), r"int32\[2\]")):
        with pytest.raises(
            TypeError,
            match=rf"got float32\[2\] at 'a/w' of argument 0, which is carried, and left {got} there",
        ):
            nnx.scan(lambda m, x, v=value: (m.a.w.set_value(v) or m, x))(model, jnp.ones(2))
