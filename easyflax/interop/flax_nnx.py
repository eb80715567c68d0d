"""Modules of Flax (`flax.nnx`) as they are, trained in place.

A module of Flax gets a mirror: a module of ours with the same tree of nodes, which holds a variable of ours
for each of Flax's, under the same path. Trainer, freezing, weights files and summaries work on the mirror as
on any other module. To call it, a Flax module is put together from the mirror's present values, inside of
whatever transform is running; see `flax_mirror.py` for how the values of the two are kept in step. A copy of
a mirror, as transforms make them, stands for itself.

flax is imported here only when somebody hands in one of its modules.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from operator import is_
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import jax

import easyflax.nnx as nnx
from easyflax import random
from easyflax.interop.flax_mirror import (
    MODES,
    Attachment,
    Path,
    Survey,
    build_tree,
    flax_nnx,
    set_child,
    walk,
)
from easyflax.nnx.core.calls import is_recording, noted_call
from easyflax.nnx.core.variables import as_read

__all__ = [
    "FlaxModule",
    "adapt",
    "adapt_if_flax",
    "adapt_inside",
    "from_flax",
    "refresh_mirrors",
    "sync_mirrors",
]


def from_flax(module: Any) -> FlaxModule:
    """Returns a module of ours that stands for a module of flax.nnx, which is trained through it.

    `Model`, `Sequential` and `apply` do this themselves, and so do layers and models with what is assigned to
    their attributes; it is for modules of `easyflax.nnx` that hold one of Flax.

    Args:
        module: the module of flax.nnx.

    Raises:
        TypeError: it is something else, or it cannot be called.
    """
    mirror = adapt_if_flax(module)
    if not isinstance(mirror, FlaxModule):
        raise TypeError(
            f"from_flax: got {module!r}, expected a module of flax.nnx. Modules of ours need no such call."
        )
    return mirror


def adapt_if_flax(value: Any) -> Any:
    """Returns a mirror of `value` if it is a module of flax.nnx, else `value` itself.

    Raises:
        TypeError: it is a module of flax.linen, or one that cannot be called.
    """
    package = _flax_package(type(value))
    if package == "nnx" and isinstance(value, flax_nnx().Module):
        return adapt(value)
    if package == "linen" and isinstance(value, import_module("flax.linen").Module):
        raise TypeError(
            f"Got {type(value).__name__}, a module of flax.linen, expected one of flax.nnx or easyflax.nnx: "
            "modules of Linen do not hold their variables. Wrap it, net = flax.nnx.bridge.ToNNX(module, "
            "rngs=flax.nnx.Rngs(0)), make its variables with flax.nnx.bridge.lazy_init(net, x), and pass net."
        )
    return value


def adapt_inside(value: Any) -> Any:
    """Returns `adapt_if_flax(value)`; for a list, tuple or dict with modules of Flax one with mirrors."""
    if type(value) is dict:
        items = [adapt_inside(item) for item in value.values()]
        return value if all(map(is_, items, value.values())) else dict(zip(value, items, strict=True))
    if type(value) in (list, tuple):
        items = [adapt_inside(item) for item in value]
        return value if all(map(is_, items, value)) else type(value)(items)
    return adapt_if_flax(value)


def adapt(module: Any) -> FlaxModule:
    """Returns the mirror of a module of flax.nnx, the same one as long as it is in use.

    Raises:
        TypeError: the module cannot be called.
    """
    known = _adapters.get(id(module))
    if known is not None:
        known.refresh()
        return known
    if not callable(module):
        raise TypeError(
            f"Got a {type(module).__name__} of flax.nnx, expected a module with __call__. Pass the module "
            "that computes the output."
        )
    mirror = _class_for(type(module))()
    mirror._attach(module)
    return mirror


class FlaxModule(nnx.Module):
    """Stands for a module of flax.nnx; see the docstring of this file.

    It is called as the module is. If the module's `__call__` takes `training`, `train` or `deterministic` and
    the caller does not give it, it gets the mode that `train()` and `eval()` set; likewise it gets `rngs`, if
    it needs them or has no random streams of its own. Rngs of ours are handed on as Flax's.

    Variables of Flax cannot be lent while a fit runs: the module gets copies of the newest values at the end
    of each epoch, and when somebody asks for `module`.
    """

    __slots__ = ("_attached",)  # no part of the structure: copies do not have it

    deterministic: bool | None = None  # the mode; None until it is set
    _parameters: ClassVar[Mapping[str, inspect.Parameter]] = {}  # of the Flax module's __call__

    @property
    def module(self) -> Any:
        """The Flax module, with the newest values."""
        if self._attachment is None:
            self._attach(self._merge())
        self.sync()
        return self._attached.module

    # -- in step

    @property
    def _attachment(self) -> Attachment | None:
        """What ties it to the Flax module; None in copies, and inside of transforms it was not passed to."""
        return getattr(self, "_attached", None) if self._is_current() else None

    def refresh(self) -> None:
        """Takes over the structure of the Flax module, if that was changed, and brings the values in step."""
        if self._attachment is None:
            return
        if not self._attachment.survey.still_holds(self._attachment.module):
            self._build(Survey.of(self._attachment.module))
        self.sync()

    def sync(self) -> None:
        """Brings the values of the Flax module and of the mirror in step."""
        if self._attachment is not None:
            for link in self._attachment.links:
                link.sync()

    def pull(self) -> None:
        """Takes over values that were set in the Flax module; what is lent stays lent if there are none."""
        if self._attachment is not None:
            for link in self._attachment.links:
                link.pull()

    def _attach(self, module: Any) -> None:
        survey = Survey.of(module)
        _set_attached(self, Attachment(module, survey))
        self._build(survey)
        self.sync()
        _adapters[id(module)] = self
        if "_rngs" not in vars(self) and self._needs_rngs():
            self._rngs = nnx.Rngs(random.next_key())

    def _needs_rngs(self) -> bool:
        parameter = self._parameters.get("rngs")
        if parameter is None or _is_required(parameter):
            return parameter is not None
        return not any(isinstance(leaf, nnx.RngState) for _, leaf in walk(self))

    def _build(self, survey: Survey) -> None:
        self._attached.survey = survey
        build_tree(self, self._attached)
        self._graphdef = nnx.static(survey.graphdef)

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kwargs = {**kwargs, **self._arguments_by_mode(args, kwargs)}
        if self._attachment is None:
            module = self._merge()
            given = _raw_values(module)
            output = _call(module, args, kwargs)
            self._take_over(module, given)
            return output
        self.sync()
        output = _call(self._attachment.module, args, kwargs)
        self.sync()
        return output

    def _arguments_by_mode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Returns mode and random streams for the arguments that take them and are not given."""
        given = {*list(self._parameters)[: len(args)], *kwargs}
        mode = vars(self).get("deterministic")
        found: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name in given:
                continue
            if name in ("training", "train", "deterministic"):
                if mode is not None or _is_required(parameter):
                    found[name] = (mode is not False) == (name == "deterministic")
            elif name == "rngs" and "_rngs" in vars(self):
                found[name] = self._rngs
        return found

    def _merge(self) -> Any:
        """Returns a new Flax module with the present values, in the present mode."""
        flax = flax_nnx()
        ours = dict(walk(self))
        flat = {
            path: as_read(value) if isinstance(value, nnx.Variable) else value
            for path, value in ours.items()
            if not isinstance(value, nnx.Pytree)
        }
        # `merge` takes a dict for a part of the state, so values that are no leaves are put in afterwards.
        nested = {path: value for path, value in flat.items() if not jax.tree_util.all_leaves([value])}
        module = flax.merge(self._graphdef, flax.from_flat_state({**flat, **dict.fromkeys(nested, 0)}))
        for path, variable in flax.to_flat_state(flax.state(module)) if nested else ():
            if path in nested:
                variable.set_raw_value(nested[path])
        mode = vars(self).get("deterministic")
        if mode is not None:
            module.eval() if mode else module.train()
        for path, theirs in list(flax.iter_modules(module)):
            for name in MODES:
                if name in vars(theirs) and name in vars(ours[path]):
                    setattr(theirs, name, vars(ours[path])[name])
            if isinstance(theirs, flax.BatchNorm) and vars(ours[path]).get("trainable") is False:
                _freeze_statistics(theirs)
            if path and is_recording():
                _note_calls(theirs, ours[path])
        return module

    def _take_over(self, module: Any, given: Mapping[Path, Any]) -> None:
        """Takes over the values that a call left in a module that `_merge` made, and that had `given`."""
        ours = dict(walk(self))
        for path, leaf in flax_nnx().to_flat_state(flax_nnx().state(module)):
            value = leaf.get_raw_value() if isinstance(leaf, flax_nnx().Variable) else leaf
            mine = ours.get(path)
            if mine is None:  # also what it sowed
                self._check_may_vanish(path, leaf)
            elif not isinstance(mine, nnx.Variable):
                set_child(ours[path[:-1]], path[-1], value)
            elif given.get(path) is not value:
                mine.set_raw_value(value)

    def _check_may_vanish(self, path: Path, leaf: Any) -> None:
        flax = flax_nnx()
        if isinstance(leaf, flax.Param | flax.BatchStat | flax.RngState):
            raise ValueError(
                f"Calling {type(self).__name__}, a module of flax.nnx, made the variable "
                f"{'.'.join(map(str, path))!r} ({type(leaf).__name__}), expected it to exist before. Make it "
                "in __init__, or call the module once on one batch first."
            )

    # -- copying and pickling: the Flax module is copied, and its copy gets a mirror

    def __deepcopy__(self, memo: dict[int, Any]) -> FlaxModule:
        mirror = memo[id(self)] = adapt(copy.deepcopy(self.module, memo))
        return mirror

    def __reduce__(self) -> Any:
        return adapt, (self.module,)


def _raw_values(module: Any) -> dict[Path, Any]:
    """Returns the values of the variables of a Flax module."""
    flax = flax_nnx()
    flat = flax.to_flat_state(flax.state(module))
    return {path: leaf.get_raw_value() for path, leaf in flat if isinstance(leaf, flax.Variable)}


def refresh_mirrors(module: Any) -> list[FlaxModule]:
    """Returns the mirrors in a module, with structure and values of their Flax modules.

    Raises:
        TypeError: there is a module or a variable of Flax in it without a mirror.
    """
    found = list(nnx.iter_graph(module))
    _check_no_flax(module, found)
    mirrors = [inner for _, inner in found if isinstance(inner, FlaxModule)]
    for mirror in mirrors:
        mirror.refresh()
    return mirrors


def _check_no_flax(module: Any, found: list[tuple[Path, Any]]) -> None:
    of_flax = [(path, inner) for path, inner in found if _flax_package(type(inner)) == "nnx"]
    if not of_flax:
        return
    flax = flax_nnx()
    kinds = flax.Module, flax.Variable, flax.Rngs, flax.RngStream
    for path, inner in sorted(of_flax, key=lambda one: len(one[0])):
        if isinstance(inner, kinds):
            raise TypeError(
                f"{'.'.join(map(str, path))!r} in {type(module).__name__} is a {type(inner).__name__} of "
                "flax.nnx, which a module of ours cannot train, expected one of easyflax.nnx. Wrap a module, "
                "self.net = easyflax.interop.from_flax(net), or write it with easyflax.nnx."
            )


def sync_mirrors(mirrors: Iterable[FlaxModule]) -> None:
    """Brings mirrors and their Flax modules in step."""
    for mirror in mirrors:
        mirror.sync()


_set_attached: Any = FlaxModule._attached.__set__  # type: ignore[attr-defined]
# By the id of the Flax module, which its mirror keeps alive.
_adapters: WeakValueDictionary[int, FlaxModule] = WeakValueDictionary()


@functools.cache
def _class_for(flax_class: type) -> type[FlaxModule]:
    """Returns a subclass with the name of `flax_class` and the signature of its `__call__`.

    Without the argument `rngs` of Flax's own layers: they have random streams of their own.
    """
    signature = inspect.signature(flax_class.__call__)
    if flax_class.__call__.__module__.startswith("flax."):
        kept = [parameter for name, parameter in signature.parameters.items() if name != "rngs"]
        signature = signature.replace(parameters=kept)
    parameters = dict(list(signature.parameters.items())[1:])  # without self

    def __call__(self: FlaxModule, *args: Any, **kwargs: Any) -> Any:
        return FlaxModule.__call__(self, *args, **kwargs)

    __call__.__signature__ = signature  # type: ignore[attr-defined]
    content = {
        "__call__": __call__,
        "__doc__": f"Stands for a {flax_class.__name__} of Flax.",
        "__module__": __name__,
        "_parameters": parameters,
    }
    return type(flax_class.__name__, (FlaxModule,), content)


@functools.lru_cache(maxsize=1000)
def _flax_package(kind: type) -> str | None:
    """Returns "nnx" or "linen" for classes that derive from one of theirs."""
    for cls in kind.__mro__:
        if cls.__module__.startswith(("flax.nnx", "flax.linen")):
            return cls.__module__.split(".")[1]
    return None


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _freeze_statistics(theirs: Any) -> None:
    """Has a batch normalization of Flax use its running averages, whatever it is passed."""
    cls = type(theirs)

    def __call__(self: Any, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        del use_running_average
        return cls.__call__(self, x, use_running_average=True, mask=mask)

    _replace_call(theirs, __call__)


def _note_calls(theirs: Any, ours: Any) -> None:
    """Has the calls of a Flax module noted as calls of the node that stands for it."""
    cls = type(theirs)
    if not callable(theirs):
        return

    @functools.wraps(cls.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return noted_call(ours, functools.partial(cls.__call__, self), args, kwargs)

    _replace_call(theirs, __call__)


def _replace_call(theirs: Any, call: Callable[..., Any]) -> None:
    cls = type(theirs)
    theirs.__class__ = types.new_class(
        cls.__name__, (cls,), exec_body=lambda body: body.update(__call__=call)
    )


def _call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a Flax module; random streams of ours among the arguments give it the keys they give here."""
    flax = flax_nnx()
    pairs: list[tuple[nnx.Rngs, Any]] = []

    def handed_on(value: Any) -> Any:
        if not isinstance(value, nnx.Rngs):
            return value
        theirs = flax.Rngs(**{name: stream.key.get_value() for name, stream in value.items()})
        for name, stream in value.items():
            theirs[name].count.set_raw_value(stream.count.get_value())
        pairs.append((value, theirs))
        return theirs

    output = module(*map(handed_on, args), **{name: handed_on(value) for name, value in kwargs.items()})
    for ours, theirs in pairs:
        for name, stream in ours.items():
            stream.count.set_value(theirs[name].count.get_raw_value())
    return output
