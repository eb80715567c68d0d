"""Draws random graphs of modules and random programs that change them, and describes graphs so that they can
be compared.

`describe` looks at the objects with plain Python only, not with the traversal that it is to check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from easyflax import nnx

SHAPE = (2, 2)  # of all values, so that each can be mapped over each axis, and stored where another was
NAMES = ("a", "b", "c", "d")


class Box(nnx.Module):
    """A module with whatever attributes it is given."""


class Scaled(nnx.Module):
    """A module that computes something and counts."""

    def __init__(self, value: float):
        self.kernel = nnx.Param(filled(value))
        self.calls = nnx.BatchStat(filled(0))

    def __call__(self, x: Any) -> Any:
        self.calls[...] += 1
        return x * self.kernel


class Pair(NamedTuple):
    """A named tuple, as optax makes its states of."""

    first: Any
    second: Any


class Special(nnx.Variable):
    """A kind of variable that only these tests know."""


KINDS = (nnx.Param, nnx.BatchStat, nnx.Variable, Special)


def filled(value: float) -> jax.Array:
    return jnp.arange(4, dtype=jnp.float32).reshape(SHAPE) + value


# -- graphs


class _Builder:
    """Draws values; some of them are those that were drawn before."""

    def __init__(self, draw: Callable[..., Any], rich: bool) -> None:
        self.draw = draw
        self.shared: list[Any] = []
        self.count = 0
        self.kinds = ["variable", "variable", "shared", "shared", "array", "static", "Scaled"]
        self.kinds += ["list", "dict", "tuple", "Pair", "List", "Dict"]
        if rich:
            self.kinds += ["tree", "rngs", "Dropout"]

    def value(self, depth: int = 2) -> Any:
        kind = self.draw(st.sampled_from(self.kinds))
        self.count += 1
        made = getattr(self, f"make_{kind}")(depth - 1)
        if isinstance(made, (nnx.Pytree, nnx.Variable, list, dict)):
            self.shared.append(made)
        return made

    def values(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self.draw(st.integers(0, 2) if depth > 0 else st.just(0)))]

    def make_variable(self, depth: int) -> Any:
        kind = self.draw(st.sampled_from(KINDS))
        metadata = self.draw(st.sampled_from([{}, {}, {"note": "x"}, {"order": 1}]))
        return kind(filled(self.count), **metadata)

    def make_shared(self, depth: int) -> Any:
        return self.draw(st.sampled_from(self.shared))

    def make_array(self, depth: int) -> Any:
        return filled(self.count)

    def make_static(self, depth: int) -> Any:
        return self.draw(st.sampled_from([0, 1, 1.0, True, None, "text", (1, 2), filled, ()]))

    def make_Scaled(self, depth: int) -> Any:
        return Scaled(self.count)

    def make_list(self, depth: int) -> Any:
        return self.values(depth)

    def make_dict(self, depth: int) -> Any:
        keys = self.draw(st.permutations(["x", "y", 0]))
        return dict(zip(keys, self.values(depth), strict=False))

    def make_tuple(self, depth: int) -> Any:
        return tuple(self.values(depth))

    def make_Pair(self, depth: int) -> Any:
        return Pair(self.value(depth), self.value(depth)) if depth > 0 else Pair(0, filled(self.count))

    def make_List(self, depth: int) -> Any:
        return nnx.List(self.values(depth))

    def make_Dict(self, depth: int) -> Any:
        return nnx.Dict(dict(zip("xy", self.values(depth), strict=False)))

    def make_tree(self, depth: int) -> Any:
        return nnx.Variable({"w": filled(self.count), "b": (filled(1), filled(2))})

    def make_rngs(self, depth: int) -> Any:
        return nnx.Rngs(self.count, **self.draw(st.sampled_from([{}, {"noise": 7}])))

    def make_Dropout(self, depth: int) -> Any:
        return nnx.Dropout(0.5, rngs=nnx.Rngs(self.count))


@st.composite
def graphs(draw: Callable[..., Any], rich: bool = True, numbers: bool = True) -> Any:
    """A module from which others are reached: with sharing, cycles, containers, arrays, static values.

    Args:
        rich: also values that have no axis to be mapped over.
        numbers: also Python numbers that are marked as data, which come back as arrays.
    """
    builder = _Builder(draw, rich)
    boxes = [Box() for _ in range(draw(st.integers(1, 3)))]
    builder.shared += boxes
    for box in boxes:
        for name in draw(st.sets(st.sampled_from(NAMES), min_size=1)):
            value = builder.value()
            if rich and numbers and isinstance(value, (int, list)) and draw(st.booleans()):
                value = nnx.data(value)
            setattr(box, name, value)
    for i, box in enumerate(boxes[1:]):
        setattr(boxes[0], f"box{i}", box)
    return boxes[0]


# -- looking at them


def has_identity(value: Any) -> bool:
    return isinstance(value, (nnx.Pytree, nnx.Variable, nnx.State, list, dict))


def children(value: Any) -> list[tuple[Any, Any]]:
    """What a module or container holds, in an order that does not depend on that of insertion."""
    if isinstance(value, nnx.Variable):
        return []
    if isinstance(value, nnx.Pytree):
        content = vars(value)
    elif isinstance(value, nnx.State):
        content = value.raw_mapping
    elif isinstance(value, dict):
        content = value
    elif isinstance(value, (list, tuple)):
        return list(enumerate(value))
    else:
        return []
    return sorted(content.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def reachable(root: Any) -> Iterator[Any]:
    """All modules, variables, lists and dicts below `root`, each once, in a fixed order."""
    seen: dict[int, Any] = {}

    def visit(value: Any) -> Iterator[Any]:
        if has_identity(value):
            if id(value) in seen:
                return
            seen[id(value)] = value
            yield value
        for _, child in children(value):
            yield from visit(child)

    yield from visit(root)


class Labels:
    """A number for each object below `root`, by which it is recognized later. Keeps the objects alive, so
    that none is taken for another one."""

    def __init__(self, root: Any) -> None:
        self._objects = list(reachable(root))
        self._numbers = {id(value): number for number, value in enumerate(self._objects)}

    def of(self, value: Any) -> int | None:
        return self._numbers.get(id(value))


def describe(tree: Any, known: Labels | None = None, part: Callable[..., Any] | None = None) -> Any:
    """The structure, identity, metadata and values of all that is below `tree`, comparable by `==`.

    Args:
        known: objects that were there before, to be recognized.
        part: `part(variable or None, array)` returns what is to be looked at in place of an array.
    """
    seen: dict[int, int] = {}
    kept = []

    def visit(value: Any) -> Any:
        if not has_identity(value):
            if isinstance(value, tuple) and value:
                return type(value).__name__, *map(visit, value)
            return show(value if part is None or not is_array(value) else part(None, value))
        if id(value) in seen:
            return f"again {seen[id(value)]}"
        seen[id(value)] = len(seen)
        kept.append(value)
        head = type(value).__name__, known and known.of(value)
        if isinstance(value, nnx.Variable):
            raw = value.get_raw_value() if part is None else part(value, value.get_raw_value())
            raw = jax.tree.map(show, raw, is_leaf=lambda x: x is None)
            return *head, raw, sorted(value.get_metadata().items())
        return *head, {key: visit(child) for key, child in children(value)}

    return visit(tree)


def is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def show(value: Any) -> Any:
    """A leaf as something comparable."""
    if is_key(value):
        return "key", jax.random.key_data(value).tolist()
    if is_array(value):
        return str(value.dtype), value.tolist()
    return type(value).__name__, value


# -- programs


class World:
    """What a program sees and changes.

    Args:
        kinds: the kinds of variables that it makes.
        frozen: the kinds that it does not change.
    """

    def __init__(
        self, root: Any, x: Any, kinds: Sequence[type] = KINDS, frozen: tuple[type, ...] = ()
    ) -> None:
        self.root = root
        self.x = x
        self.kinds = kinds
        self.frozen = frozen
        self.out: list[Any] = []

    def all(self, *kinds: type) -> list[Any]:
        return [value for value in reachable(self.root) if isinstance(value, kinds)]

    def pick(self, number: int, *kinds: type) -> Any:
        found = self.all(*kinds)
        return found[number % len(found)] if found else None

    def variable(self, number: int) -> Any:
        """A variable that holds one array of floats, and that may be changed."""
        found = [
            v
            for v in self.all(nnx.Variable)
            if is_array(v.get_raw_value()) and v.dtype == jnp.float32 and not isinstance(v, self.frozen)
        ]
        return found[number % len(found)] if found else None

    def box(self, number: int) -> Any:
        return self.pick(number, Box)

    def object(self, number: int) -> Any:
        return self.pick(number, nnx.Pytree, nnx.Variable, list, dict)

    def tracked(self, number: int) -> Any:
        """An object that is known by identity outside of modules, too, and may hold what holds it."""
        return self.pick(number, nnx.Pytree, nnx.Variable)


def _names(box: Any) -> list[str]:
    return sorted(vars(box))


def set_value(w: World, i: int, j: int, k: int) -> None:
    if (v := w.variable(i)) is not None:
        v[...] = v * 2 + k + w.x


def set_value_property(w: World, i: int, j: int, k: int) -> None:
    if (v := w.variable(i)) is not None:
        v.value = jnp.flip(v.value, 0) - k


def copy_value(w: World, i: int, j: int, k: int) -> None:
    if (v := w.variable(i)) is not None:
        v.value = w.variable(j).value + w.x


def set_tree(w: World, i: int, j: int, k: int) -> None:
    for v in w.all(nnx.Variable):
        if isinstance(v.get_raw_value(), dict):
            v.value = {**v.value, "w": v.value["w"] + w.x}


def read(w: World, i: int, j: int, k: int) -> None:
    if (v := w.variable(i)) is not None:
        w.out.append(jnp.sum(v * w.x))


def call_submodule(w: World, i: int, j: int, k: int) -> None:
    if (module := w.pick(i, Scaled)) is not None:
        w.x = jnp.clip(module(w.x), -4, 4)  # exact, compiled or not


def draw_keys(w: World, i: int, j: int, k: int) -> None:
    if (rngs := w.pick(i, nnx.Rngs)) is not None:
        w.out.append(rngs.uniform((2,)) if k % 2 else rngs.noise.bits((2,)))
    if (dropout := w.pick(j, nnx.Dropout)) is not None:
        w.out.append(dropout(jnp.ones(4)))


def set_array(w: World, i: int, j: int, k: int) -> None:
    """Changes an array that is an attribute."""
    arrays = [
        (box, name)
        for box in w.all(Box, nnx.List, nnx.Dict)
        for name, value in children(box)
        if isinstance(value, jax.Array) and value.ndim  # numbers that are data are arrays inside
    ]
    if arrays:
        box, name = arrays[i % len(arrays)]
        value = vars(box)[name] * 2 + w.x
        if isinstance(name, int):
            box[name] = value
        else:
            setattr(box, name, value)


def sow(w: World, i: int, j: int, k: int) -> None:
    if not hasattr(w.box(i), "seen"):
        w.box(i).sow(nnx.Intermediate, "sown", w.x + k)


def make_variable(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[j % 4], w.kinds[k % len(w.kinds)](w.x + k))


def make_below_a_new_name(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), f"new{j}", w.kinds[k % len(w.kinds)](w.x + k))


def make_module(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[j % 4], Scaled(k))


def store_array(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[j % 4], w.x * k)


def store_static(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[j % 4], (k, "static", None, (1, k), 1.0 * k)[k % 5])


def share(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[k % 4], w.object(j))


def nest(w: World, i: int, j: int, k: int) -> None:
    """Puts objects into new containers."""
    one, other = w.object(j), w.object(k)
    made = ([one, [other]], {"x": one, "y": (other, w.x)}, nnx.List([other, one]), Pair(one, other))[k % 4]
    setattr(w.box(i), NAMES[j % 4], made)


def delete(w: World, i: int, j: int, k: int) -> None:
    names = _names(w.box(i))
    if names:
        delattr(w.box(i), names[j % len(names)])


def swap(w: World, i: int, j: int, k: int) -> None:
    one, other = w.box(i), w.box(j)
    if vars(one) and vars(other):
        a, b = _names(one)[k % len(vars(one))], _names(other)[k % len(vars(other))]
        value = getattr(one, a)
        setattr(one, a, getattr(other, b))
        setattr(other, b, value)


def append(w: World, i: int, j: int, k: int) -> None:
    if (items := w.pick(i, list, nnx.List)) is not None:
        items.append(w.tracked(j) if k % 2 else nnx.Param(w.x + k))


def shrink(w: World, i: int, j: int, k: int) -> None:
    items = w.pick(i, list, nnx.List)
    if items:
        del items[j % len(items)]


def set_key(w: World, i: int, j: int, k: int) -> None:
    if (items := w.pick(i, dict, nnx.Dict)) is not None:
        items["xyz"[j % 3]] = w.tracked(j) if k % 2 else w.x - k


def delete_key(w: World, i: int, j: int, k: int) -> None:
    items = w.pick(i, dict, nnx.Dict)
    if items:
        del items[sorted(items, key=str)[j % len(items)]]


def set_metadata(w: World, i: int, j: int, k: int) -> None:
    if (v := w.variable(i)) is not None:
        v.set_metadata("note", k)


def pop_sown(w: World, i: int, j: int, k: int) -> None:
    w.out.append(nnx.pop(w.root, nnx.PathContains("sown")))


def update_other(w: World, i: int, j: int, k: int) -> None:
    state = nnx.state(w.root, nnx.Param)
    nnx.update(w.root, jax.tree.map(lambda value: value + w.x, state))


def give_object(w: World, i: int, j: int, k: int) -> None:
    w.out.append(w.tracked(i))


def give_fresh(w: World, i: int, j: int, k: int) -> None:
    w.out.append({"new": Scaled(k), "old": w.tracked(j)})


def replace_by_clone(w: World, i: int, j: int, k: int) -> None:
    setattr(w.box(i), NAMES[j % 4], nnx.clone(w.box(k)))


VALUES = (set_value, set_value_property, copy_value, set_tree, read, call_submodule, draw_keys, set_array)
MAKES = (sow, make_below_a_new_name)
STRUCTURE = (
    *MAKES,
    *(
        make_variable,
        make_module,
        store_array,
        store_static,
        share,
        nest,
        delete,
        swap,
        append,
        shrink,
        set_key,
        delete_key,
    ),
    *(set_metadata, pop_sown, update_other, give_object, give_fresh, replace_by_clone),
)


def programs(*operations: Callable[..., None], max_size: int = 6) -> Any:
    """Lists of `(operation, i, j, k)`, where the numbers choose what it works on."""
    number = st.integers(0, 7)
    one = st.tuples(st.sampled_from(operations or (*VALUES, *STRUCTURE)), number, number, number)
    return st.lists(one, min_size=1, max_size=max_size)


def run(program: Sequence[tuple[Any, ...]], root: Any, x: Any, **limits: Any) -> Any:
    """Runs a program, with the limits that `World` knows; what it returns may hold modules."""
    world = World(root, x, **limits)
    for operation, *numbers in program:
        operation(world, *numbers)
    return world.out, world.x
