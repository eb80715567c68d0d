"""Modules: Python objects with reference semantics that own variables and other modules.

Attributes are either data or static. Data are arrays, variables, other modules, and containers that hold any
of these; everything else (numbers, strings, functions, tuples of them) is static and part of the structure.
`nnx.data(x)` and `nnx.static(x)` on assignment,
or as class-level annotations, decide it by hand.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> class Scale(nnx.Module):
    ...     def __init__(self, features):
    ...         self.weight = nnx.Param(jnp.ones(features))
    ...     def __call__(self, x):
    ...         return x * self.weight
    >>> Scale(3)(jnp.arange(3.0)).tolist()
    [0.0, 1.0, 2.0]
"""

from __future__ import annotations

import copy
import dataclasses
import operator
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, SequenceKey

from easyflax.errors import TraceContextError
from easyflax.nnx.core.interception import intercept_new
from easyflax.nnx.core.marks import DATA_TYPES, declared_marks
from easyflax.nnx.core.tracking import Tracked, wrong_trace
from easyflax.nnx.core.variables import Intermediate, Perturbation, Variable

P = TypeVar("P", bound="Pytree")
T = TypeVar("T")
M = TypeVar("M", bound="Module")

_MISSING: Any = object()
# At a glance:
_NEVER_DATA = frozenset((str, int, float, bool, complex, bytes, type(None), type, FunctionType))
_first = operator.itemgetter(0)


def is_data(value: Any, /) -> bool:
    """Says whether an attribute with this value is data of itself: an array, a variable, a module, or a
    registered type."""
    return isinstance(value, (jax.Array, np.ndarray, Variable, Pytree)) or type(value) in DATA_TYPES


class Pytree(Tracked):
    """An object with reference semantics whose attributes are data or static; the base of `Module`.

    Subclasses are registered as JAX pytrees, so that `jax.tree.map`, `jax.eval_shape` and plain `jax.jit`
    take them as values. Sharing and changes in place are kept by the transforms of `nnx` only.

    Raises:
        TraceContextError: an attribute is set from inside a transform that the object was not passed to.
    """

    __slots__ = ("__dict__", "_marks")

    _class_marks: ClassVar[dict[str, bool]] = {}

    def __new__(cls: type[P], *_args: Any, **_kwargs: Any) -> P:
        return new_object(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        kwargs.pop("pytree", None)  # flax's opt-out: all our objects work both ways
        super().__init_subclass__(**kwargs)
        cls._class_marks = declared_marks(cls)
        _register_pytree(cls)
        intercept_new(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__orig_class__":  # `nnx.List[int](...)`: typing bears with those that do not take it
            raise AttributeError(name)
        self._check_can_update(name)
        if isinstance(value, dataclasses.Field) and "nnx_value" in value.metadata:
            self._set_mark(name, not value.metadata["static"])
            value = value.metadata["nnx_value"]
        if self._mark_of(name) is False:
            self._check_static(name, value)
        set_item(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._check_can_update(name)
        object.__delattr__(self, name)
        if self._marks is not None and name in self._marks:
            set_marks(self, {key: mark for key, mark in self._marks.items() if key != name} or None)
        self._structure_changed()

    def _set_mark(self, name: Any, is_data: bool) -> None:
        set_marks(self, {**(self._marks or {}), name: is_data})
        self._structure_changed()

    def _mark_of(self, name: Any) -> bool | None:
        """True: data, False: static, None: it depends on the value."""
        if self._marks is not None and name in self._marks:
            return self._marks[name]
        return self._class_marks.get(name)

    def _check_can_update(self, name: Any) -> None:
        if not self._is_current():
            raise TraceContextError(
                f"Cannot set '{name}' of this {type(self).__name__} here: {wrong_trace('it')}"
            )

    def _check_static(self, name: Any, value: Any) -> None:
        found = [type(leaf).__name__ for leaf in jax.tree.leaves(value, is_leaf=is_data) if is_data(leaf)]
        if found:
            raise ValueError(
                f"The static attribute '{name}' of {type(self).__name__} got "
                f"{', '.join(sorted(set(found)))}, expected a value without arrays, "
                "variables and modules.\nMark it with nnx.data(...), or leave the mark out."
            )

    def __repr__(self) -> str:
        from easyflax.nnx.core.display import format_object

        return format_object(self)

    def __treescope_repr__(self, path: Any, subtree_renderer: Any) -> Any:
        from easyflax.nnx.core.notebook import render_treescope

        return render_treescope(self, path, subtree_renderer)

    # -- copying and pickling take the attributes; the copy belongs to the trace level it is made at

    def __getstate__(self) -> dict[str, Any]:
        return {"attributes": dict(vars(self)), "marks": self._marks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["attributes"])
        set_marks(self, state["marks"])

    def __reduce__(self) -> Any:
        return new_object, (type(self),), self.__getstate__()

    def __deepcopy__(self: P, memo: dict[int, Any]) -> P:
        clone = new_object(type(self))
        memo[id(self)] = clone
        clone.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return clone


Object = Pytree

set_marks: Any = Pytree._marks.__set__  # type: ignore[attr-defined]


def new_object(cls: type[P], trace: Any = None) -> P:
    """Returns an instance of `cls` without attributes; `__init__` is not run.

    Args:
        trace: the trace level that is running, where it is known.
    """
    self = object.__new__(cls)
    self._start_tracking(trace)
    set_marks(self, None)
    return self


def set_item(owner: Pytree, name: Any, value: Any) -> None:
    """Stores an attribute (or the item of a container), telling traversals unless only an array changed."""
    attributes = vars(owner)
    old = attributes.get(name, _MISSING)
    if type(value) in (list, tuple, dict):
        _check_no_mark_inside(owner, name, value)
    if isinstance(name, str):
        object.__setattr__(owner, name, value)  # also runs property setters of subclasses
    else:
        attributes[name] = value
    if isinstance(old, jax.Array) and isinstance(value, jax.Array):
        owner._value_changed()
    elif old is not value:
        owner._structure_changed()


def _check_no_mark_inside(owner: Pytree, name: Any, value: Any) -> None:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dataclasses.Field) and "nnx_value" in item.metadata:
            kind = "static" if item.metadata["static"] else "data"
            raise ValueError(
                f"'{name}' of {type(owner).__name__} got a {type(value).__name__} with nnx.{kind}(...) "
                "inside, expected marks on attributes only.\n"
                f"Mark all of it, nnx.{kind}(the {type(value).__name__}), or items of nnx.List or nnx.Dict."
            )


def sorted_items(owner: Pytree) -> list[tuple[Any, Any]]:
    """The attributes in the order of traversal: numbers by value, then names."""
    try:
        return sorted(vars(owner).items(), key=_first)
    except TypeError:  # numbers and names
        return sorted(vars(owner).items(), key=_type_aware)


def _type_aware(item: tuple[Any, Any]) -> tuple[int, Any]:
    return (0 if isinstance(item[0], int) else 1, item[0])


# -- jax's pytrees


class _Marks:
    """Marks on their way through a treedef; all are equal, since it tells which attributes are leaves."""

    __slots__ = ("marks",)

    def __init__(self, marks: dict[Any, bool] | None) -> None:
        self.marks = marks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Marks)

    def __hash__(self) -> int:
        return 0


def _is_tree_data(owner: Pytree, name: Any, value: Any) -> bool:
    mark = owner._mark_of(name)
    return _holds_data(value) if mark is None else mark


def _holds_data(value: Any) -> bool:
    if type(value) in _NEVER_DATA:
        return type(value) in DATA_TYPES
    return is_data(value) or any(map(is_data, jax.tree.leaves(value, is_leaf=is_data)))


def _flatten(owner: Pytree) -> tuple[list[Any], Any]:
    children, entries = [], []
    for name, value in sorted_items(owner):
        if _is_tree_data(owner, name, value):
            children.append(value)
            entries.append((name, None, True))
        else:
            entries.append((name, value, False))
    return children, (tuple(entries), _Marks(owner._marks))


def _flatten_with_keys(owner: Pytree) -> tuple[list[tuple[Any, Any]], Any]:
    children, aux = _flatten(owner)
    names = [name for name, _, flag in aux[0] if flag]
    keys = [SequenceKey(name) if isinstance(name, int) else GetAttrKey(name) for name in names]
    return list(zip(keys, children, strict=True)), aux


def _register_pytree(cls: type[Pytree]) -> None:
    def unflatten(aux: Any, children: Any) -> Pytree:
        owner = new_object(cls)
        entries, kept = aux
        attributes, values = vars(owner), iter(children)
        marks = dict(kept.marks or {})
        for name, value, flag in entries:
            attributes[name] = next(values) if flag else value
            # jax puts anything in the place of arrays, such as axes: it is a leaf all the same.
            if flag and name not in marks and not _is_tree_data(owner, name, attributes[name]):
                marks[name] = True
        set_marks(owner, marks or None)
        return owner

    jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, unflatten, _flatten)


class Module(Pytree):
    """Base class of all neural-network modules.

    Assign variables and other modules as attributes in `__init__`, and write the computation as `__call__` or
    any other method.
    """

    __slots__ = ()

    def sow(
        self,
        variable_type: type[Variable[Any]] | str,
        name: str,
        value: Any,
        reduce_fn: Callable[[Any, Any], Any] = lambda values, value: (*values, value),
        init_fn: Callable[[], Any] = tuple,
    ) -> bool:
        """Stores an intermediate value on the module, in a variable of kind `variable_type` under `name`.

        By default values of repeated calls are collected in a tuple; `reduce_fn(previous, value)` and
        `init_fn()` change that. `nnx.pop(model, nnx.Intermediate)` takes them out again. Within
        `nnx.capture` the values go to its caller and nothing is left on the module.

        Returns:
            whether the value was stored: always, but for kinds that the `nnx.capture` around does not ask
            for.
        """
        kind = _kind(variable_type)
        captures = self._captures(kind)
        if captures is not None:
            for variable in captures:
                old = variable[name] if name in variable else init_fn()
                variable[name] = reduce_fn(old, value)
            return bool(captures)
        if name in vars(self):
            variable = self._held_variable("sow", name, kind)
            variable.set_raw_value(reduce_fn(variable.get_raw_value(), value))
        else:
            setattr(self, name, kind(reduce_fn(init_fn(), value)))
        return True

    def perturb(self, name: str, value: Any, variable_type: type[Variable[Any]] | str = Perturbation) -> Any:
        """Adds a variable of zeros to `value`, so that the gradient with respect to it is that of `value`.

        The first call makes the variable `name`; its kind is `Perturbation`. Within `nnx.capture` the
        zeros go to its caller, or the values given as `init` are added.
        """
        kind = _kind(variable_type)
        captures = self._captures(kind)
        if captures is not None:
            for variable in captures:
                if name not in variable:
                    variable[name] = jax.tree.map(jnp.zeros_like, value)
                value = jax.tree.map(jnp.add, variable[name], value)
            return value
        if name not in vars(self):
            setattr(self, name, kind(jax.tree.map(jnp.zeros_like, value)))
        variable = self._held_variable("perturb", name, kind)
        return jax.tree.map(jnp.add, variable.get_value(), value)

    def _captures(self, kind: type[Variable[Any]]) -> list[Variable[Any]] | None:
        """Returns where `nnx.capture` wants values of a kind, one variable or none; None outside of it."""
        captures = vars(self).get("__captures__")
        return None if captures is None else [one for one in captures if type(one) is kind]

    def _held_variable(self, call: str, name: str, kind: type[Variable[Any]]) -> Variable[Any]:
        variable = getattr(self, name)
        if not isinstance(variable, kind):
            raise ValueError(
                f"{type(self).__name__}.{call}('{name}') found a {type(variable).__name__} under that name, "
                "expected a "
                f"{kind.__name__}. Give it a name that no other attribute has."
            )
        return variable

    def iter_modules(self) -> Iterator[tuple[tuple[Any, ...], Module]]:
        """Iterates over `(path, module)` of all modules below this one, itself (with path `()`) included,
        each once."""
        from easyflax.nnx.core.iteration import iter_modules

        return iter_modules(self)

    def iter_children(self) -> Iterator[tuple[Any, Any]]:
        """Iterates over `(name, child)` of the modules and variables that are attributes of this one."""
        from easyflax.nnx.core.iteration import iter_children

        return iter_children(self)

    def set_attributes(self, *filters: Any, raise_if_not_found: bool = True, **attributes: Any) -> None:
        """Sets attributes, where they exist, on this and all modules below (those that match one of
        `filters`, if given).

        Raises:
            ValueError: no module has one of the attributes and `raise_if_not_found` is True.
        """
        from easyflax.nnx.core.iteration import set_attributes

        set_attributes(self, *filters, raise_if_not_found=raise_if_not_found, **attributes)

    def train(self, **attributes: Any) -> None:
        """Puts this and all modules below in training mode: `deterministic=False`,
        `use_running_average=False`."""
        self.set_attributes(
            **{"deterministic": False, "use_running_average": False, **attributes}, raise_if_not_found=False
        )

    def eval(self, **attributes: Any) -> None:
        """Puts this and all modules below in inference mode: `deterministic=True`,
        `use_running_average=True`."""
        self.set_attributes(
            **{"deterministic": True, "use_running_average": True, **attributes}, raise_if_not_found=False
        )


def _kind(variable_type: type[Variable[Any]] | str) -> type[Variable[Any]]:
    if not isinstance(variable_type, str):
        return variable_type
    from easyflax.nnx.core.variable_names import variable_type_from_name

    return variable_type_from_name(variable_type, allow_register=True)


def first_from(*values: Any, error_msg: str) -> Any:
    """Returns the first value that is not None.

    Raises:
        ValueError: all are None; the message is `error_msg`.
    """
    for value in values:
        if value is not None:
            return value
    raise ValueError(error_msg)


__all__ = [
    "Intermediate",
    "M",
    "Module",
    "Object",
    "Pytree",
    "first_from",
    "is_data",
    "new_object",
    "set_item",
    "sorted_items",
]
