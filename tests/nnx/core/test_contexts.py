import pickle

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx


class Child(nnx.Module):
    def __init__(self):
        self.x = 1
        self.weight = nnx.Param(jnp.array(1.0))


class Parent(nnx.Module):
    def __init__(self):
        self.a = Child()
        self.b = self.a
        self.array = jnp.zeros(2)
        self.pair = (self.a, jnp.ones(3))


def leaves(state):
    return len(nnx.to_flat_state(state))


def test_what_was_split_before_is_referred_to():
    parent = Parent()
    with nnx.split_context() as ctx:
        graphdef1, state1 = ctx.split(parent)
        graphdef2, state2 = ctx.split(parent.a)
        graphdef3, params, rest = ctx.split([parent.a, Child(), parent.a.weight], nnx.Param, ...)
    assert [leaves(state) for state in (state1, state2, params, rest)] == [3, 0, 1, 0]
    with nnx.merge_context() as ctx:
        new = ctx.merge(graphdef1, state1)
        child = ctx.merge(graphdef2, state2)
        several = ctx.merge(graphdef3, params, rest)
    assert child is new.a is new.b is new.pair[0]
    assert several[0] is child
    assert several[2] is child.weight
    assert new is not parent
    assert child.weight is not parent.a.weight


def test_a_known_child_of_a_new_parent_is_kept():
    child = Child()
    with nnx.split_context() as ctx:
        first = ctx.split(child)
        second = ctx.split(nnx.Dict(child=child, weight=child.weight, new=nnx.Param(2.0)))
    assert leaves(second[1]) == 1
    with nnx.merge_context() as ctx:
        new_child = ctx.merge(*first)
        holder = ctx.merge(*second)
    assert holder.child is new_child
    assert holder.weight is new_child.weight


def test_single_variables_and_arrays_can_be_split():
    weight = nnx.Param(jnp.ones(2))
    with nnx.split_context() as ctx:
        parts = [ctx.split(weight), ctx.split({"w": weight, "a": jnp.ones(3)}), ctx.split(weight)]
    with nnx.merge_context() as ctx:
        first, second, third = (ctx.merge(*part) for part in parts)
    assert first is second["w"] is third
    assert second["a"].shape == (3,)


def change(parent):
    parent.a.weight[...] += 1
    parent.a.y = 2
    parent.c = parent.a
    parent.new = Child()
    parent.itself = parent
    parent.array += 1
    del parent.b


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_objects_are_brought_up_to_date_after_a_transform(transform):
    parent = Parent()
    a, weight = parent.a, parent.a.weight

    @transform
    def inside(graphdef, state):
        with nnx.merge_context("test", inner=True) as ctx:
            model = ctx.merge(graphdef, state)
        change(model)
        with nnx.split_context("test") as ctx:
            return ctx.split(model)

    for count in (1, 2):
        with nnx.update_context("test"):
            with nnx.split_context("test") as ctx:
                graphdef, state = ctx.split(parent)
            out = inside(graphdef, state)
            with nnx.merge_context("test", inner=False) as ctx:
                assert ctx.merge(*out) is parent
        assert parent.a is a is parent.c
        assert parent.a.weight is weight
        assert float(weight) == 1.0 + count
        assert parent.itself is parent
        assert float(parent.array[0]) == count
        assert (a.y, parent.new.x, hasattr(parent, "b")) == (2, 1, False)
        parent.b = a


def test_variables_swap_places_and_metadata_comes_along():
    pair = nnx.Dict(a=nnx.Param(jnp.array(1)), b=nnx.Param(jnp.array(2)))
    a, b = pair.a, pair.b

    @nnx.update_context("swap")
    def swap(pair):
        with nnx.split_context("swap") as ctx:
            first, second = ctx.split(pair), ctx.split(pair)

        @jax.jit
        def inside(first, second):
            with nnx.merge_context("swap", inner=True) as ctx:
                one, two = ctx.merge(*first), ctx.merge(*second)
            assert one is two
            one.a, one.b = one.b, one.a
            one.a.set_metadata(seen=True)
            with nnx.split_context("swap") as ctx:
                return ctx.split(one), ctx.split(two)

        first, second = inside(first, second)
        with nnx.merge_context("swap", inner=False) as ctx:
            return ctx.merge(*first), ctx.merge(*second)

    one, two = swap(pair)
    assert one is two is pair
    assert pair.a is b
    assert pair.b is a
    assert b.seen


def test_structures_are_compared_with_their_links():
    def split():
        with nnx.split_context() as ctx:
            parent = Parent()
            return ctx.split(parent)[0], ctx.split(parent)[0]

    (a1, a2), (b1, b2) = split(), split()
    assert a1 == b1
    assert hash(a1) == hash(b1)
    assert a2 == b2 != a1
    assert pickle.loads(pickle.dumps(a1)) == a1
    assert a1 != nnx.graphdef(Parent())


def test_contexts_are_found_by_tag_and_end():
    with nnx.update_context("a") as outer, nnx.update_context("b"):
        assert nnx.current_update_context("a") is outer
        with nnx.update_context("a") as inner:
            assert nnx.current_update_context("a") is inner
        with pytest.raises(ValueError, match=r"no update context 'c' here; there are \['a', 'b'\]"):
            nnx.current_update_context("c")
    with pytest.raises(ValueError, match="no update context 'a' here"), nnx.split_context("a"):
        pass


def test_wrong_uses_are_errors():
    with (
        nnx.update_context("a"),
        pytest.raises(ValueError, match="ctxtag='a' without inner"),
        nnx.merge_context("a"),
    ):
        pass
    graphdef, state = nnx.split(Child())
    with (
        nnx.merge_context() as ctx,
        pytest.raises(TypeError, match="expected what the split of a split_context"),
    ):
        ctx.merge(graphdef, state)
    child = Child()
    with nnx.split_context() as ctx:
        ctx.split(child)
        second = ctx.split(child)
    with (
        nnx.merge_context() as ctx,
        pytest.raises(ValueError, match="object 0 of its context, which was not"),
    ):
        ctx.merge(*second)
