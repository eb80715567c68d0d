"""Noting the calls of modules."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

from easyflax import nnx
from easyflax.nnx.core.calls import recorded_calls


class Inner(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, x, *, shift=0.0):
        return self.scaled(x) + shift

    def scaled(self, x):
        return x * self.scale

    def _private(self, x):
        return x

    @staticmethod
    def doubled(x):
        return 2 * x

    @property
    def features(self):
        return 3


class Outer(nnx.Module):
    def __init__(self):
        self.inner = Inner()

    def __call__(self, x):
        self.sow(nnx.Intermediate, "x", x)
        return self.inner.doubled(self.inner._private(self.inner(x, shift=1.0)))


def noted(call, *args):
    return [(info.path, info.type, info.module_path) for info in calls_of(call, *args)]


def calls_of(call, root, *args):
    with recorded_calls(root) as calls:
        call(root, *args)
    return calls


def test_calls_of_public_methods_are_noted_in_the_order_in_which_they_begin():
    assert noted(lambda m: m(jnp.ones(3)), Outer()) == [
        ((), Outer, ()),
        (("inner",), Inner, ("inner",)),
        (("inner", "scaled"), Inner, ("inner",)),
    ]


def test_what_was_passed_and_returned_is_known_by_its_shape():
    root = nnx.Dict(inner=Inner())
    calls = calls_of(lambda m: m.inner(jnp.ones((2, 3)), shift=jnp.float32(1)), root)
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert calls[0].args == (shape,)
    assert calls[0].kwargs == {"shift": jax.ShapeDtypeStruct((), jnp.float32)}
    assert calls[0].outputs == calls[1].outputs == shape


def test_modules_among_the_arguments_are_named_and_variables_are_their_shapes():
    class Apply(nnx.Module):
        def __call__(self, module, variable, names):
            return {"module": module, "names": names}

    (call,) = calls_of(lambda m: m(Inner(), nnx.Param({"w": jnp.ones(2)}), ("a", 1)), Apply())
    assert repr(call.args) == "(Inner(...), {'w': ShapeDtypeStruct(shape=(2,), dtype=float32)}, ('a', 1))"
    assert repr(call.outputs) == "{'module': Inner(...), 'names': ('a', 1)}"


def test_repeated_calls_are_noted_once_for_each_shape():
    def call(inner):
        for size in (1, 2, 1):
            inner(jnp.ones((size, 3)))

    shapes = [info.args[0].shape for info in calls_of(call, Inner()) if info.path == ()]
    assert shapes == [(1, 3), (2, 3)]


def test_a_call_of_the_base_class_is_part_of_the_call():
    class Derived(Inner):
        def __call__(self, x):
            return super().__call__(x * 2)

    root = nnx.Dict(a=Derived(), b=Inner())
    found = noted(lambda m: (m.a(jnp.ones(3)), m.b(jnp.ones(3))), root)
    assert [path for path, *_ in found] == [("a",), ("a", "scaled"), ("b",), ("b", "scaled")]


def test_modules_of_other_models_are_called_as_ever():
    stranger = Inner()
    assert noted(lambda m: stranger(m(jnp.ones(3))), Inner()) == [((), Inner, ()), (("scaled",), Inner, ())]


def test_modules_are_known_again_inside_of_transforms():
    class Jitted(nnx.Module):
        def __init__(self):
            self.inner = Inner()

        @nnx.jit
        def __call__(self, x):
            return nnx.vmap(lambda inner, x: inner(x), in_axes=(None, 0))(self.inner, x)

    for _ in range(2):  # the second recording must not use what was compiled in the first
        calls = calls_of(lambda m: m(jnp.ones((4, 3))), Jitted())
        assert [(info.path, info.outputs.shape) for info in calls] == [
            ((), (4, 3)),
            (("inner",), (3,)),
            (("inner", "scaled"), (3,)),
        ]


def test_calls_of_lists_with_methods_are_noted_but_not_what_all_lists_do():
    class Stack(nnx.List):
        def __call__(self, x):
            self.append(Inner())
            for layer in self:
                x = layer(x)
            return x

    assert noted(lambda m: m(jnp.ones(3)), Stack([Inner()])) == [
        ((), Stack, ()),
        ((0,), Inner, (0,)),
        ((0, "scaled"), Inner, (0,)),
    ]


def test_classes_are_as_before_even_after_an_error():
    before = dict(vars(Inner)), dict(vars(Outer))
    with recorded_calls(Outer()) as calls, pytest.raises(TypeError):
        Inner()()
    assert calls == []
    with pytest.raises(TypeError), recorded_calls(outer := Outer()):
        outer()
    assert (dict(vars(Inner)), dict(vars(Outer))) == before


def test_measuring_calls_the_method_unnoted_when_it_has_returned():
    order = []

    def measure(method, args, kwargs):
        order.append("before")

        def measured():
            order.append("after")
            return {"sum": float(method(*args, **kwargs).sum())}

        return measured

    inner = Inner()
    with recorded_calls(inner, measure) as calls:
        inner(jnp.ones(3))
    assert order == ["before", "before", "after", "after"]
    assert [info.measured for info in calls] == [{"sum": 3.0}, {"sum": 3.0}]


def test_several_threads_may_record_at_the_same_time():
    before = dict(vars(Inner))

    def record(size):
        with recorded_calls(inner := Inner()) as calls:
            inner(jnp.ones((size, 3)))
        return [info.outputs.shape for info in calls]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(record, range(1, 20))) == [[(size, 3)] * 2 for size in range(1, 20)]
    assert dict(vars(Inner)) == before
