"""Variables: the boxes that hold a model's arrays.

A `Variable` is a mutable reference to a value (an array, or any pytree of arrays) with a kind, which is its
class, and metadata. The kind is what filters select by: `nnx.state(model, nnx.Param)`. Arithmetic and
`jax.numpy` take a variable as if it were its value.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> scale = nnx.Param(jnp.ones(3), note="per channel")
    >>> scale[...] = scale * 2
    >>> scale.value.tolist(), scale.note
    ([2.0, 2.0, 2.0], 'per channel')

Both spellings of access work: `variable.value` and `variable[...]`, reading and writing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

import jax
from jax.tree_util import GetAttrKey

from easyflax.errors import TraceContextError
from easyflax.nnx.core.arithmetic import ActsAsValue
from easyflax.nnx.core.holders import place_of
from easyflax.nnx.core.sharding import place
from easyflax.nnx.core.tracking import Tracked, wrong_trace

A = TypeVar("A")
V = TypeVar("V", bound="Variable[Any]")

_MISSING: Any = object()
_HOOKS = ("on_get_value", "on_set_value", "on_create_value", "on_add_axis", "on_remove_axis")


class VariableMetadata(Generic[A]):
    """A value together with the metadata that the variable made from it shall carry; what `with_metadata`
    initializers return."""

    def __init__(self, raw_value: A, metadata: Mapping[str, Any] | None = None, **hooks: Any) -> None:
        self.raw_value = raw_value
        self.metadata = {**(metadata or {}), **{name: hook for name, hook in hooks.items() if hook}}


class Lender(Protocol):
    """Holds the values of variables that were lent to it (see `lend`)."""

    def fetch(self) -> None:
        """Gives every lent variable its value back, with `give_back`."""
        ...


class Variable(ActsAsValue[A], Tracked, Generic[A]):
    """A mutable reference to a value, with a kind (its class) and metadata.

    Metadata given to the constructor can be read as attributes. The hooks `on_get_value(variable, value)`,
    `on_set_value(variable, value)`, `on_create_value(variable, value)`, `on_add_axis(variable, index, name)`
    and `on_remove_axis(variable, index, name)` can be given
    as metadata, one or a tuple, or defined as methods of a subclass; a subclass may also override `get_value`
    and `set_value`.

    Args:
        value: an array or any pytree of arrays; a `VariableMetadata` brings its own metadata along.
        **metadata: hashable values by name. With `out_sharding` (or `sharding`, `sharding_names`), which
            names a mesh axis for each axis of the value, the value is sharded over the active mesh, or over
            that given as `mesh`; `eager_sharding=False` leaves it where it is. `sharding_rules` translate the
            names.

    Raises:
        ValueError: `out_sharding` does not fit the mesh or the value, or there is no mesh.
        TraceContextError: on a change from inside a transform that the variable was not passed to.
    """

    __slots__ = ("_lender", "_metadata", "_raw_value")

    _class_hooks: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: A | VariableMetadata[A], **metadata: Any) -> None:
        if isinstance(value, VariableMetadata):
            metadata = {**metadata, **value.metadata}
            value = value.raw_value
        raw: Any = value
        self._start_tracking()
        _set_lender(self, None)
        _set_metadata(self, _with_new_spelling({**self._class_hooks, **metadata}))
        _set_raw(self, raw)
        for hook in _hooks(self, "on_create_value"):
            raw = hook(self, raw)
        raw = self.create_value(raw)
        if "out_sharding" in self._metadata:
            raw = place(raw, self._metadata, type(self).__name__)
        _set_raw(self, raw)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._class_hooks = {name: getattr(cls, name) for name in _HOOKS if hasattr(cls, name)}
        _register_pytree(cls)

    # -- the value

    @property
    def value(self) -> A:
        """The value; setting it replaces it."""
        return self.get_value()

    @value.setter
    def value(self, value: A) -> None:
        self.set_value(value)

    @property
    def raw_value(self) -> A:
        """The value as stored, without hooks."""
        return self._raw_value

    @raw_value.setter
    def raw_value(self, value: A) -> None:
        self.set_raw_value(value)

    def create_value(self, value: A) -> A:
        """Returns the value to store at creation; for subclasses to override."""
        return value

    @overload
    def get_value(self) -> A: ...
    @overload
    def get_value(self, *, index: Any) -> Any: ...
    def get_value(self, *, index: Any = _MISSING) -> Any:
        """Returns the value, or `value[index]`, after the `on_get_value` hooks."""
        value: Any = self._as_read(self._raw_value)
        if not isinstance(value, jax.Array):
            value = jax.tree.map(lambda leaf: leaf, value)  # the caller may change a container that it got
        if index is not _MISSING and not (index is ... and isinstance(value, jax.Array)):
            value = value[index] if not isinstance(value, jax.ShapeDtypeStruct) else self._no_value()
        if self._metadata:
            for hook in _hooks(self, "on_get_value"):
                value = hook(self, value)
        return value

    def set_value(self, value: A, *, index: Any = _MISSING) -> None:
        """Replaces the value, or the part at `index` (keeping shape and dtype), after the `on_set_value`
        hooks."""
        self._check_can_update()
        new: Any = value.get_value() if isinstance(value, Variable) else value
        old: Any = self._raw_value
        if self._metadata:
            for hook in _hooks(self, "on_set_value"):
                new = hook(self, new)
        if index is _MISSING or (index is ... and _same_aval(old, new)):
            _set_raw(self, new)
        elif isinstance(old, jax.Array):
            _set_raw(self, old.at[index].set(new))
        else:
            changed: Any = jax.tree.map(lambda leaf: leaf, old)
            changed[index] = new
            _set_raw(self, changed)

    def get_raw_value(self) -> A:
        """Returns the value as stored, without hooks."""
        return self._raw_value

    def set_raw_value(self, value: A) -> None:
        """Replaces the stored value, without hooks."""
        self._check_can_update()
        if self._lender is not None:
            self._lender.fetch()  # so that the lender sees what was changed
        _set_raw(self, value)

    def copy_from(self, other: Variable[A]) -> None:
        """Takes over the value and metadata of a variable of the same kind."""
        if type(self) is not type(other):
            raise ValueError(
                f"copy_from got a {type(other).__name__}, expected a {type(self).__name__}. "
                "Pass a variable of the same kind, or copy its value only."
            )
        if other is not self:
            self.update_from_state(other)

    def update_from_state(self, other: Variable[A]) -> None:
        """Takes over the stored value and the metadata of `other`."""
        if other is self:
            return
        self.set_raw_value(other._raw_value)
        if self._metadata != other._metadata:
            _set_metadata(self, dict(other._metadata))
            self._structure_changed()

    def copy(self: V, value: Any = _MISSING, **metadata: Any) -> V:
        """Returns a new variable of this kind, with `value` in place of the stored one and `metadata`
        changed."""
        value = self._raw_value if value is _MISSING else value
        if not isinstance(value, jax.Array):
            value = jax.tree.map(lambda leaf: leaf, value)
        return self.from_metadata(value, {**self._metadata, **metadata})

    replace = copy
    to_state = copy

    @classmethod
    def from_metadata(cls: type[V], value: Any, metadata: Any, trace: Any = None) -> V:
        """Returns a variable of this kind without running hooks.

        Args:
            metadata: a mapping, or pairs of names and values.
            trace: the trace level that is running, where it is known.
        """
        self = object.__new__(cls)
        self._start_tracking(trace)
        _set_lender(self, None)
        _set_metadata(self, dict(metadata))
        store_raw(self, value)
        return self

    # -- kind and metadata

    @property
    def type(self) -> type[Variable[A]]:
        """The kind: the variable's class."""
        return type(self)

    var_type = type

    @property
    def sharding_names(self) -> Any:
        """The metadata `out_sharding`, under its older name; None when absent."""
        return self._metadata.get("out_sharding")

    def get_metadata(self, name: str | None = None, default: Any = _MISSING) -> Any:
        """Returns one entry of the metadata, or a copy of all of it.

        Raises:
            KeyError: there is no entry `name` and no default was given.
        """
        if name is None:
            return dict(self._metadata)
        return self._metadata[name] if default is _MISSING else self._metadata.get(name, default)

    def set_metadata(self, *args: Any, **entries: Any) -> None:
        """Sets metadata: `set_metadata(name, value)`, `set_metadata(name=value, ...)`, or
        `set_metadata(mapping)`, which replaces all."""
        self._check_can_update()
        if len(args) == 1 and not entries:
            metadata = dict(args[0])
        elif len(args) == 2 and not entries:
            metadata = {**self._metadata, args[0]: args[1]}
        elif entries and not args:
            metadata = {**self._metadata, **entries}
        else:
            raise TypeError(
                f"set_metadata got {len(args)} positional and {len(entries)} keyword arguments, expected a "
                "name and a value, one mapping, or keywords only."
            )
        _set_metadata(self, _with_new_spelling(metadata))
        self._structure_changed()

    def has_metadata(self, name: str) -> bool:
        """Says whether the metadata has an entry `name`."""
        return name in self._metadata

    def del_metadata(self, name: str) -> None:
        """Removes an entry of the metadata."""
        self._check_can_update()
        del self._metadata[name]
        self._structure_changed()

    def add_axis(self, axis_index: int, axis_name: str | None) -> None:
        """Runs the `on_add_axis` hooks: a transform added an axis to the value."""
        for hook in _hooks(self, "on_add_axis"):
            hook(self, axis_index, axis_name)

    def remove_axis(self, axis_index: int, axis_name: str | None) -> None:
        """Runs the `on_remove_axis` hooks: a transform removed an axis of the value."""
        for hook in _hooks(self, "on_remove_axis"):
            hook(self, axis_index, axis_name)

    def _as_read(self, value: A) -> A:
        """Returns the stored value as those who compute with it see it."""
        return value

    def _check_can_update(self) -> None:
        if not self._is_current():
            place = place_of(self)
            raise TraceContextError(
                f"Cannot change a {type(self).__name__} of shape {getattr(self._raw_value, 'shape', '()')} "
                f"here{f' ({place})' if place else ''}: {wrong_trace()}"
            )

    def _no_value(self) -> Any:
        raise TypeError(
            f"Got a {type(self).__name__} of an abstract model, which has a shape and a dtype "
            f"({self._raw_value}) but no value, expected one with an array.\n"
            "Give the model its values first: nnx.update(model, state), or make it without nnx.eval_shape."
        )

    def __getattr__(self, name: str) -> Any:
        if name == "_raw_value":  # lent (see `lend`): bring it home and read again
            return _fetch(self)
        if name in _SLOTS or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        if name in self._metadata:
            return self._metadata[name]
        return getattr(self._as_read(self._raw_value), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("value", "raw_value"):
            object.__setattr__(self, name, value)
        elif name in _SLOTS or name == "__orig_class__" or hasattr(type(self), name):
            raise AttributeError(
                f"Cannot set '{name}' of a {type(self).__name__}; set its value with [...] or its metadata "
                "with set_metadata."
            )
        else:
            self.set_metadata(name, value)

    def __delattr__(self, name: str) -> None:
        if name not in self._metadata:
            raise AttributeError(f"{type(self).__name__} has no metadata '{name}' to delete.")
        self.del_metadata(name)

    def __repr__(self) -> str:
        from easyflax.nnx.core.display import format_object

        return format_object(self)

    def __treescope_repr__(self, path: Any, subtree_renderer: Any) -> Any:
        from easyflax.nnx.core.notebook import render_treescope

        return render_treescope(self, path, subtree_renderer)

    # -- copying and pickling keep value and metadata; the copy belongs to the trace level it is made at

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self._raw_value, "metadata": self._metadata}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._start_tracking()
        _set_lender(self, None)
        _set_metadata(self, state["metadata"])
        _set_raw(self, state["value"])


_SLOTS = frozenset(("_lender", "_metadata", "_raw_value", "_tokens", "_trace", "_walks"))
store_raw: Any = Variable._raw_value.__set__  # type: ignore[attr-defined]  # tells nobody: see `Walk.store`
_set_metadata: Any = Variable._metadata.__set__  # type: ignore[attr-defined]
_set_lender: Any = Variable._lender.__set__  # type: ignore[attr-defined]
_del_raw: Any = Variable._raw_value.__delete__  # type: ignore[attr-defined]


def _set_raw(variable: Variable[Any], value: Any) -> None:
    store_raw(variable, value)
    if variable._tokens is not None:
        variable._value_changed()


def _hooks(variable: Variable[Any], name: str) -> Sequence[Callable[..., Any]]:
    hooks = variable._metadata.get(name, ())
    return hooks if isinstance(hooks, (tuple, list)) else (hooks,) if hooks else ()


def as_read(variable: Variable[Any]) -> Any:
    """Returns the stored value without hooks, a parameter's in the dtype that it is to be read in."""
    return variable._as_read(variable._raw_value)


def is_half_or_single(leaf: Any) -> bool:
    """Says whether it is an array of float32, float16 or bfloat16, which precisions are about."""
    return isinstance(leaf, jax.Array) and leaf.dtype.name in ("float32", "float16", "bfloat16")


def _same_aval(old: Any, new: Any) -> bool:
    return (
        isinstance(old, jax.Array)
        and isinstance(new, jax.Array)
        and old.shape == new.shape
        and old.dtype == new.dtype
    )


def _with_new_spelling(metadata: dict[str, Any]) -> dict[str, Any]:
    for older in ("sharding", "sharding_names"):
        if older in metadata:
            metadata["out_sharding"] = metadata.pop(older)
    return metadata


# -- lending


def lend(variables: Iterable[Variable[Any]], lender: Lender) -> None:
    """Takes the values out of `variables`; the first access to any of them calls `lender.fetch()`, which must
    give all values back.

    This is how a training loop keeps the only copy of a model's arrays, may donate them at every step, and
    still lets anybody who looks at the model see the newest values, at no cost while nobody looks.
    """
    for variable in variables:
        if not is_lent(variable):  # else the new lender takes over
            _del_raw(variable)
        _set_lender(variable, lender)
        variable._value_changed()


def give_back(variable: Variable[Any], value: Any) -> None:
    """Ends the loan of a variable; for lenders. The value must be concrete, whatever trace is running."""
    _set_raw(variable, value)
    _set_lender(variable, None)


def is_lent(variable: Variable[Any]) -> bool:
    """Says whether the variable's value is with a lender now."""
    return variable._lender is not None


def _fetch(variable: Variable[Any]) -> Any:
    lender = object.__getattribute__(variable, "_lender")
    if lender is None:
        raise AttributeError("_raw_value")
    lender.fetch()
    return object.__getattribute__(variable, "_raw_value")


# -- jax's pytrees


def _flatten(variable: Variable[Any]) -> tuple[tuple[Any], Any]:
    return (variable._raw_value,), tuple(sorted(variable._metadata.items()))


def _flatten_with_keys(variable: Variable[Any]) -> tuple[tuple[tuple[Any, Any]], Any]:
    return ((GetAttrKey("value"), variable._raw_value),), tuple(sorted(variable._metadata.items()))


def _unflatten(cls: type[Variable[Any]], metadata: Any, children: Any) -> Variable[Any]:
    return cls.from_metadata(children[0], dict(metadata))


def _register_pytree(cls: type[Variable[Any]]) -> None:
    jax.tree_util.register_pytree_with_keys(
        cls, _flatten_with_keys, functools.partial(_unflatten, cls), _flatten
    )


_register_pytree(Variable)


# -- the kinds


_reading_dtype: ContextVar[Any] = ContextVar("easyflax_reading_dtype", default=None)


@contextmanager
def reading_params_as(dtype: Any) -> Iterator[None]:
    """Within the block, parameters of float32 or less are read in this floating dtype, stored as they are.

    Those with the metadata `autocast=False` are read as they are.

    Args:
        dtype: None ends what a block around asked for.
    """
    token = _reading_dtype.set(dtype)
    try:
        yield
    finally:
        _reading_dtype.reset(token)


def reading_dtype() -> Any:
    """Returns the dtype that parameters are read in; None where they are read as they are."""
    return _reading_dtype.get()


_reading_through: ContextVar[Callable[[Any], Any] | None] = ContextVar(
    "easyflax_reading_through", default=None
)


@contextmanager
def reading_params_through(function: Callable[[Any], Any]) -> Iterator[None]:
    """Within the block, parameters are read as what a function of arrays returns for theirs, such as arrays
    that were gathered from several devices."""
    token = _reading_through.set(function)
    try:
        yield
    finally:
        _reading_through.reset(token)


class Param(Variable[A]):
    """What an optimizer changes: kernels, biases, scales, embeddings."""

    def _as_read(self, value: A) -> A:
        dtype, through = _reading_dtype.get(), _reading_through.get()
        if dtype is not None and self._metadata.get("autocast") is not False:
            value = jax.tree.map(lambda leaf: leaf.astype(dtype) if is_half_or_single(leaf) else leaf, value)
        return value if through is None else jax.tree.map(through, value)


class BatchStat(Variable[A]):
    """Running statistics, such as the mean and variance of batch normalisation."""


class Cache(Variable[A]):
    """State kept between calls for speed, such as the keys and values of autoregressive attention."""


class Intermediate(Variable[A]):
    """Values that a module `sow`s for somebody to look at."""


class Perturbation(Intermediate[A]):
    """Zeros added to intermediate values so that their gradients can be taken (`Module.perturb`)."""


def with_metadata(initializer: Callable[..., Any], **metadata: Any) -> Callable[..., VariableMetadata[Any]]:
    """Returns `initializer` with `metadata`, hooks included, for the variable that will hold what it makes.

    >>> import jax
    >>> from easyflax import nnx
    >>> init = nnx.with_metadata(nnx.initializers.zeros_init(), role="bias")
    >>> nnx.Param(init(jax.random.key(0), (2,), "float32")).role
    'bias'
    """
    for name in _HOOKS:
        if name in metadata:
            hooks = metadata[name]
            metadata[name] = (hooks,) if callable(hooks) else tuple(hooks)

    @functools.wraps(initializer)
    def initialize(*args: Any, **kwargs: Any) -> VariableMetadata[Any]:
        return VariableMetadata(initializer(*args, **kwargs), metadata)

    return initialize
