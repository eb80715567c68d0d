"""Views: new module objects over the same variables, with other settings."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from easyflax.nnx.core.filters import Filter, to_predicate
from easyflax.nnx.core.graph import clone
from easyflax.nnx.core.iteration import iter_graph, set_attributes
from easyflax.nnx.core.module import Pytree

A = TypeVar("A")

__all__ = ["view", "view_info", "with_attributes"]


def view(node: A, /, *, only: Filter = ..., raise_if_not_found: bool = True, **kwargs: Any) -> A:
    """Returns new modules that share the variables of `node`, in the modes that `kwargs` tell.

    Each module that defines `set_view` gets those of the keywords that it has parameters for; a module of
    your own takes part by defining `set_view(self, mode=None)`, where None leaves the mode as it is.
    `view_info` lists what a model takes.

    >>> from easyflax import nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5))
    >>> testing = nnx.view(model, deterministic=True)
    >>> testing.layers[1].deterministic, model.layers[1].deterministic
    (True, False)
    >>> testing.layers[0].kernel is model.layers[0].kernel
    True

    Args:
        node: a module, or a container of modules; it stays as it is.
        only: the modules whose mode is set.
        raise_if_not_found: whether a keyword that no module takes is an error.
        **kwargs: modes by name, such as `deterministic`, `use_running_average` or `decode`.

    Raises:
        ValueError: no module takes one of the keywords.
    """
    selected = to_predicate(only)
    unused, known = set(kwargs), set[str]()
    new = clone(node, variables=False)
    for path, module in list(iter_graph(new)):
        if _has_modes(module) and selected(path, module):
            names, takes_any = _parameters(module.set_view)
            module.set_view(**{name: value for name, value in kwargs.items() if takes_any or name in names})
            known |= names
            unused = set() if takes_any else unused - names
    if unused and raise_if_not_found:
        raise ValueError(
            f"Unused keys found in nnx.view: {sorted(unused)}. The set_view methods of this "
            f"{type(node).__name__} take {sorted(known)}. Check the names, or pass raise_if_not_found=False."
        )
    return new


def with_attributes(
    node: A, /, *, only: Filter = ..., raise_if_not_found: bool = True, **attributes: Any
) -> A:
    """Returns new modules that share the variables of `node`, with attributes set where they exist.

    >>> from easyflax import nnx
    >>> layer = nnx.Dropout(0.5)
    >>> nnx.with_attributes(layer, rate=0.25).rate, layer.rate
    (0.25, 0.5)

    Args:
        node: a module, or a container of modules; it stays as it is.
        only: the modules whose attributes are set.
        raise_if_not_found: whether an attribute that no module has is an error.
        **attributes: values by name.

    Raises:
        ValueError: no module has one of the attributes.
    """
    new = clone(node, variables=False)
    set_attributes(new, only, raise_if_not_found=raise_if_not_found, **attributes)
    return new


def view_info(node: Any, /, *, only: Filter = ...) -> str:
    """Returns a text with the keywords that `view` takes for a model, by class, with their documentation.

    >>> from easyflax import nnx
    >>> print(nnx.view_info(nnx.Dropout(0.5)))
    Dropout:
      deterministic: bool | None = None
        True returns inputs as they are, False drops entries.

    Args:
        node: a module, or a container of modules.
        only: the modules to describe.
    """
    selected = to_predicate(only)
    classes = {
        type(module) for path, module in iter_graph(node) if _has_modes(module) and selected(path, module)
    }
    return "\n".join(
        line for cls in sorted(classes, key=lambda cls: cls.__qualname__) for line in _describe(cls)
    )


def _has_modes(value: Any) -> bool:
    return isinstance(value, Pytree) and callable(getattr(type(value), "set_view", None))


def _parameters(method: Any) -> tuple[set[str], bool]:
    """Returns the names of the keywords that a method takes, and whether it takes any other as well."""
    parameters = inspect.signature(method).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _describe(cls: type) -> list[str]:
    method: Any = cls.set_view  # type: ignore[attr-defined]
    signature = inspect.signature(method)
    if not method.__doc__:
        return [f"{cls.__qualname__}:", f"  set_view{signature}"]
    documented = _documented_arguments(inspect.getdoc(method) or "")
    lines = [f"{cls.__qualname__}:"]
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        lines.append(f"  {_shown(parameter)}")
        lines += [f"    {line}" for line in documented.get(name, [])]
    return lines


def _shown(parameter: inspect.Parameter) -> str:
    annotation, default = parameter.annotation, parameter.default
    text = parameter.name
    if annotation is not parameter.empty:
        text += f": {annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)}"
    return text if default is parameter.empty else f"{text} = {default!r}"


def _documented_arguments(docstring: str) -> dict[str, list[str]]:
    """Returns the lines that the section `Args:` of a docstring has for each argument."""
    found: dict[str, list[str]] = {}
    lines = iter(docstring.splitlines())
    if not any(line.strip() == "Args:" for line in lines):  # leaves `lines` behind that line
        return found
    indent, current = None, []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth == 0:
            break
        indent = depth if indent is None else indent
        if depth == indent and ":" in line:
            name, text = line.strip().split(":", 1)
            current = found.setdefault(name.split(" ")[0], [])
            current.append(text.strip())
        elif line.strip():
            current.append(line.strip())
    return found
