"""The table of conversions between our layers and PyTorch's, and how to extend it.

A conversion is a function of a layer that returns what its variables are made of in a PyTorch state dict. The
same entries serve both directions:

    @torch_conversion(nnx.Linear)
    def linear(layer, has):
        yield rule("kernel", "weight", np.transpose, np.transpose)
        if layer.bias is not None:
            yield rule("bias", "bias")

The names of the second kind continue the layer's own name in the state dict, which is its path in the model.
What a conversion does not mention is found by going on into the layer: submodules by their own conversions,
variables of a user's own modules as they are, under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from easyflax.interop.names import Renamer, shown
from easyflax.interop.outline import Branch, dotted, iter_variables
from easyflax.interop.transfer import Part
from easyflax.nnx.core.filters import Filter, Path, to_predicate

__all__ = ["Child", "Rule", "conversion_of", "find_parts", "rule", "torch_conversion"]

Convert = Callable[..., Sequence[np.ndarray]]


class Rule(NamedTuple):
    """Some variables of a layer, and the tensors that hold the same numbers; made by `rule`.

    Attributes:
        ours: paths of the variables from the layer, joined with `"."`; with none the tensors are ignored.
        theirs: names of the tensors, after the layer's own name.
        to_ours: from NumPy arrays of the tensors, as arguments, to a tuple of the variables' values.
        to_theirs: back. It is also applied to zeros, to find out the shapes that the tensors must have.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Convert
    to_theirs: Convert


class Child(NamedTuple):
    """A submodule that has another name in PyTorch; `""` stands for no name of its own."""

    ours: str
    theirs: str


Conversion = Callable[[Any, Callable[[str], bool]], Iterable[Rule | Child]]
C = TypeVar("C", bound=Conversion)

_CONVERSIONS: dict[type, Conversion] = {}


def rule(
    ours: str | Sequence[str],
    theirs: str | Sequence[str],
    to_ours: Callable[..., Any] | None = None,
    to_theirs: Callable[..., Any] | None = None,
) -> Rule:
    """Returns a rule between variables and tensors.

    Args:
        ours: the path of one variable from the layer, or several.
        theirs: the name of one tensor after the layer's name, or several.
        to_ours: takes an array for each tensor and returns the value of the variable, or a tuple of values;
            by default what it gets.
        to_theirs: the other way.

    Examples:
        >>> import numpy as np
        >>> transposed = rule("kernel", "weight", np.transpose, np.transpose)
        >>> transposed.to_ours(np.zeros((4, 3)))[0].shape
        (3, 4)
    """
    return Rule(
        (ours,) if isinstance(ours, str) else tuple(ours),
        (theirs,) if isinstance(theirs, str) else tuple(theirs),
        _returning_tuple(to_ours),
        _returning_tuple(to_theirs),
    )


def _returning_tuple(function: Callable[..., Any] | None) -> Convert:
    def convert(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        result = arrays if function is None else function(*arrays)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    return convert


def torch_conversion(*types: type) -> Callable[[C], C]:
    """Returns a decorator that sets the conversion for types of layers and their subclasses.

    The function gets the layer, and a function that tells whether the state dict has a tensor of some name
    after the layer's name (in `to_torch` the one passed as `like`; without it none has). It returns or
    yields `rule(...)`s and `Child(...)`s, and raises a ValueError for a layer that PyTorch has no
    counterpart of.

    Args:
        *types: classes of modules.

    Examples:
        >>> from easyflax import interop, nnx
        >>> class Scale(nnx.Module):
        ...     def __init__(self, features):
        ...         self.log_scale = nnx.Param(np.zeros(features))
        >>> @interop.torch_conversion(Scale)
        ... def scale(layer, has):
        ...     return [interop.rule("log_scale", "weight", np.log, np.exp)]
        >>> model, weight = Scale(1), np.array([1.0])
        >>> interop.load_torch(model, {"weight": weight}).missing
        []
        >>> model.log_scale.value.tolist()
        [0.0]
    """

    def register(conversion: C) -> C:
        for cls in types:
            _CONVERSIONS[cls] = conversion
        return conversion

    return register


def conversion_of(layer: Any) -> Conversion | None:
    """Returns the conversion for a layer: that of the first of its classes that has one."""
    return next((_CONVERSIONS[cls] for cls in type(layer).__mro__ if cls in _CONVERSIONS), None)


class Found(NamedTuple):
    """What `find_parts` returns.

    Attributes:
        parts: of all layers.
        left_out: names of tensors that are left out on purpose.
        names: those that PyTorch has by default.
        problems: sentences about layers that cannot be converted.
    """

    parts: list[Part]
    left_out: list[str]
    names: list[str]
    problems: list[str]


def find_parts(root: Branch, rename: Renamer, only: Filter, has: Callable[[str], bool]) -> Found:
    """Returns the parts that a model and a state dict consist of.

    Args:
        root: the outline of the model.
        rename: from PyTorch's default names to those of the state dict.
        only: selects the variables.
        has: tells whether a name is in the state dict.
    """
    search = _Search(rename, to_predicate(only), has)
    search.visit(root, (), "", frozenset(), ())
    return search.found


class _Search:
    def __init__(self, rename: Renamer, selected: Callable[[Path, Any], bool], has: Callable[[str], bool]):
        self._rename = rename
        self._selected = selected
        self._has = has
        self.found = Found([], [], [], [])

    def visit(
        self, branch: Branch, path: Path, name: str, covered: frozenset[Path], above: tuple[int, ...]
    ) -> None:
        """Collects the parts of a module.

        Args:
            branch: the module.
            path: of the module.
            name: of the module in PyTorch, by default.
            covered: paths of variables that rules of the modules around it mention.
            above: identities of those modules.
        """
        place = f"{type(branch.value).__name__} {dotted(path)!r}" if path else "the model"
        try:
            rules, renamed = self._converted(branch.value, name)
        except ValueError as error:
            if not self._is_left_out(branch, path, name):
                self.found.problems.append(f"{place}: {error}")
            return
        for entry in rules:
            found = [_find(branch, ours) for ours in entry.ours]
            variables = {(*path, *keys): variable for keys, variable in found}
            if not variables or not covered.issuperset(variables):
                self._add(entry, variables, name, place)
        covered |= {(*path, *_find(branch, ours)[0]) for entry in rules for ours in entry.ours}
        for key, variable in branch.variables.items():
            if (*path, key) not in covered and self._selected((*path, key), variable):
                self._add_as_it_is(branch, path, key, name, place)
        for key, below in branch.branches.items():
            if id(below.value) not in (*above, id(branch.value)):
                inner = _joined(name, renamed.get(str(key), str(key)))
                self.visit(below, (*path, key), inner, covered, (*above, id(branch.value)))

    def _converted(self, layer: Any, name: str) -> tuple[list[Rule], dict[str, str]]:
        """The rules of a layer, and the names of submodules that have others in PyTorch.

        Raises:
            ValueError: PyTorch has no such layer.
        """
        conversion = conversion_of(layer)
        entries = list(conversion(layer, lambda theirs: self._has_after(name, theirs))) if conversion else []
        rules = [entry for entry in entries if isinstance(entry, Rule)]
        return rules, {entry.ours: entry.theirs for entry in entries if isinstance(entry, Child)}

    def _is_left_out(self, branch: Branch, path: Path, name: str) -> bool:
        """Whether no variable of a module is selected, or none has a name."""
        return not any(
            self._selected((*path, *below), variable) and self._rename(_joined(name, dotted(below)))
            for below, variable in iter_variables(branch.value, ...)
        )

    def _has_after(self, name: str, theirs: str) -> bool:
        new = self._rename(_joined(name, theirs))
        return new is not None and self._has(new)

    def _add(self, entry: Rule, variables: dict[Path, Any], name: str, place: str) -> None:
        defaults = [_joined(name, theirs) for theirs in entry.theirs]
        names = [self._rename(default) for default in defaults]
        chosen = [self._selected(path, variable) for path, variable in variables.items()]
        if variables:
            self.found.names.extend(defaults)
        if None in names or (variables and not any(chosen)):
            self.found.left_out.extend(new or old for new, old in zip(names, defaults, strict=True))
        elif not all(chosen):
            self.found.problems.append(
                f"{place}: only= selects a part of what {shown(defaults)} hold together"
            )
        else:
            known = tuple(new for new in names if new is not None)
            part = Part(place, tuple(variables.values()), known, entry.to_ours, entry.to_theirs)
            self.found.parts.append(part)

    def _add_as_it_is(self, branch: Branch, path: Path, key: Any, name: str, place: str) -> None:
        unknown = conversion_of(branch.value) is None and _is_our_layer(branch.value)
        if unknown and self._rename(_joined(name, str(key))) is not None:
            self.found.problems.append(
                f"{place}: there is no conversion for this layer; add one with interop.torch_conversion"
            )
        else:
            self._add(rule(str(key), str(key)), {(*path, key): branch.variables[key]}, name, place)


def _is_our_layer(module: Any) -> bool:
    """Whether the layout of its variables is decided here, and so need not be PyTorch's."""
    return any(cls.__module__.startswith("easyflax.nnx.layers.") for cls in type(module).__mro__)


def _joined(name: str, more: str) -> str:
    return ".".join(part for part in (name, more) if part)


def _find(branch: Branch, name: str) -> tuple[Path, Any]:
    """The path and the variable that a rule means; positions in lists are integers in paths."""
    path: list[Any] = []
    *above, last = name.split(".")
    for part in above:
        key = next(key for key in branch.branches if str(key) == part)
        path.append(key)
        branch = branch.branches[key]
    key = next(key for key in branch.variables if str(key) == last)
    return (*path, key), branch.variables[key]
