"""Notes which methods of a model's modules are called, and with what.

    with recorded_calls(model) as calls:
        model(x)
    [(call.path, call.outputs) for call in calls]

This is how a table of a model comes by the shapes that go through it: the model is called under
`jax.eval_shape`, and what its modules get and return is noted on the way.

Python looks `__call__` up on the class, so the methods of the classes are replaced for the moment. Each
module below the root carries a mark, a static attribute that says where it is and who records; modules
without one, those of other models and threads, are called as ever. Since a transform carries static
attributes along, a module that it rebuilds (in `nnx.scan`, say) is known by its mark as well.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

from easyflax.nnx.core.containers import Dict, List
from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.iteration import iter_graph
from easyflax.nnx.core.module import Module, Pytree
from easyflax.nnx.core.sizes import has_shape
from easyflax.nnx.core.state import State
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.variables import Variable

_MARK = "_recorded_as"
_recording = threading.RLock()  # one thread at a time, so that classes are restored in the reverse order
_is_recording: ContextVar[bool] = ContextVar("_is_recording", default=False)
Around = Callable[[Path, Any, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
Measure = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Callable[[], dict[str, Any]]]


@dataclasses.dataclass
class CallInfo:
    """A call of a module's method.

    Attributes:
        path: of the module; unless the method is `__call__`, its name is the last part.
        type: the module's class.
        module_path: of the module.
        args: the arguments, with a `jax.ShapeDtypeStruct` in place of each array and a `Placeholder` in place
            of each module.
        kwargs: likewise.
        outputs: likewise, what was returned.
        measured: what `measure` found, such as the number of floating-point operations.
    """

    path: Path
    type: type
    module_path: Path
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any = None
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)


class Placeholder(str):
    """Stands for a module, such as `Linear(...)`; a string without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class _Recorder:
    """Collects calls; those that repeat an earlier one, with the same shapes, are left out."""

    def __init__(self, measure: Measure | None) -> None:
        self.calls: list[CallInfo] = []
        self._measure = measure
        self._known: set[tuple[Path, str]] = set()
        self._is_measuring = False

    def call(
        self,
        path: Path,
        name: str,
        method: Callable[..., Any],
        owner: Pytree,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._is_measuring:
            return method(owner, *args, **kwargs)
        shown = path if name == "__call__" else (*path, name)
        info = CallInfo(shown, type(owner), path, abstract(args), abstract(kwargs))
        key = shown, repr((info.args, info.kwargs))
        if key in self._known:
            return method(owner, *args, **kwargs)
        self._known.add(key)
        self.calls.append(info)
        measured = None if self._measure is None else self._measure(method, (owner, *args), kwargs)
        output = method(owner, *args, **kwargs)
        info.outputs = abstract(output)
        if measured is not None:
            self._is_measuring = True
            try:
                info.measured = measured()
            finally:
                self._is_measuring = False
        return output


class _Detour:
    """Hands calls to a function."""

    def __init__(self, around: Around) -> None:
        self._around = around

    def call(
        self,
        path: Path,
        name: str,
        method: Callable[..., Any],
        owner: Pytree,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        call = functools.partial(method, owner)
        return self._around(path, owner, call, args, kwargs) if name == "__call__" else call(*args, **kwargs)


class _Mark:
    """What a recorded module carries; compared by identity, so that no compiled function of an earlier
    recording is used again, which would call nothing."""

    __slots__ = ("path", "recorder")

    def __init__(self, recorder: _Recorder | _Detour, path: Path) -> None:
        self.recorder = recorder
        self.path = path


@contextmanager
def recorded_calls(root: Any, measure: Measure | None = None) -> Iterator[list[CallInfo]]:
    """Notes the calls of public methods of `root` and the modules below while the block runs.

    The modules get an attribute, so `root` should be a copy, such as one made inside of `jax.eval_shape`. Of
    containers only subclasses of `nnx.List` are looked at: in an `nnx.Dict` the attribute would be an item.

    Args:
        root: a module, or anything that holds modules.
        measure: called as `measure(method, (module, *args), kwargs)` before each noted call. What it returns
            is called after it, when the functions that are compiled inside have been traced, and may call the
            method once more, unnoted; it returns what shall be kept as `measured`.

    Yields:
        A list that fills with the calls, in the order in which they begin. Calls of the same method of the
        same module with the same shapes are noted once.
    """
    recorder = _Recorder(measure)
    with _told_to(recorder, root):
        yield recorder.calls


@contextmanager
def calls_within(root: Any, around: Around) -> Iterator[None]:
    """Calls modules by way of a function of one's own while the block runs.

    Args:
        root: see `recorded_calls`.
        around: called as `around(path, module, call, args, kwargs)` for each `__call__` of `root` and the
            modules below; what it returns takes the place of `call(*args, **kwargs)`.
    """
    with _told_to(_Detour(around), root):
        yield


@contextmanager
def _told_to(recorder: _Recorder | _Detour, root: Any) -> Iterator[None]:
    """Lets a recorder make the calls of `root` and the modules below."""
    classes: dict[type, None] = {}
    for path, module in list(iter_graph(root)):
        if gets_recorded(type(module)):
            setattr(module, _MARK, _Mark(recorder, path))
            classes[type(module)] = None
    with _recording, _methods_wrapped(classes):
        token = _is_recording.set(True)
        try:
            yield
        finally:
            _is_recording.reset(token)


@contextmanager
def _methods_wrapped(classes: Iterable[type]) -> Iterator[None]:
    wrappers = [(cls, name, _wrapped(cls, name)) for cls in classes for name in _public_methods(cls)]
    before = [(cls, name, vars(cls).get(name)) for cls, name, _ in wrappers]
    for cls, name, wrapper in wrappers:
        setattr(cls, name, wrapper)
    try:
        yield
    finally:
        for cls, name, method in before:
            if method is None:
                delattr(cls, name)
            else:
                setattr(cls, name, method)


def is_recording() -> bool:
    """Says whether calls are being noted, so that compiled functions are traced once more for each module."""
    return _is_recording.get()


def noted_call(module: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns `call(*args, **kwargs)`, noted as a call of `module` where those are recorded.

    For a module that stands for an object of another library, which is called in its place.
    """
    mark = vars(module).get(_MARK)
    if mark is None:
        return call(*args, **kwargs)

    def method(_: Any, *args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return mark.recorder.call(mark.path, "__call__", method, module, args, kwargs)


def gets_recorded(cls: type) -> bool:
    """Says whether calls of instances of `cls` are noted by `recorded_calls`."""
    return issubclass(cls, Pytree) and not issubclass(cls, Dict) and cls is not List


def _public_methods(cls: type) -> list[str]:
    """Returns the names of the methods that compute something: those that all modules have are left out."""
    base = List if issubclass(cls, List) else Module
    names = [name for name in dir(cls) if name == "__call__" or not (name[0] == "_" or hasattr(base, name))]
    return [name for name in names if _is_method(inspect.getattr_static(cls, name))]


def _is_method(attribute: Any) -> bool:
    return (
        callable(attribute)
        and hasattr(type(attribute), "__get__")
        and not isinstance(attribute, (type, staticmethod, classmethod))
    )


def _wrapped(cls: type, name: str) -> Callable[..., Any]:
    method = inspect.getattr_static(cls, name)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # type(self) is a subclass in a call of super().method, which is part of the call of its own method
        mark = vars(self).get(_MARK) if type(self) is cls else None
        if mark is None:
            return _bound(self, *args, **kwargs)
        return mark.recorder.call(mark.path, name, _bound, self, args, kwargs)

    def _bound(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method.__get__(self, cls)(*args, **kwargs)

    return call


def abstract(tree: Any) -> Any:
    """Returns `tree` with shapes in place of arrays, those in variables included, and placeholders in place
    of modules and states."""
    return jax.tree.map(_abstract_leaf, tree, is_leaf=lambda part: isinstance(part, Tracked))


def _abstract_leaf(leaf: Any) -> Any:
    if isinstance(leaf, Variable):
        return abstract(leaf.get_raw_value())
    if has_shape(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    if isinstance(leaf, (Pytree, State)):
        return Placeholder(f"{type(leaf).__name__}(...)")
    return leaf
