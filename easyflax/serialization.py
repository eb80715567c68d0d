"""Objects as plain JSON and back, in the form that Keras 3 writes.

An object becomes `{"module", "class_name", "config", "registered_name"}`, where `config` is what its
`get_config()` returns, and comes back through its class's `from_config`. Classes and functions of this
package are found by module and name, also where Keras wrote them (`"keras.layers"`); those of a user by the
name under which `register_keras_serializable` put them. Nothing else is imported, and no code is
read from a config.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.errors import unknown_name_message
from easyflax.naming import snake_case

__all__ = [
    "Configured",
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize",
    "deserializing",
    "get_by_name",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "register_keras_serializable",
    "serialize",
]

T = TypeVar("T")

# Where configs may name classes and functions of this package; the same folders exist in Keras.
_NAMESPACES = (
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "optimizers.schedules",
    "optimizers",
    "random",
    "layers",
    "models",
)
_CUSTOM_OBJECTS: dict[str, Any] = {}
_REGISTERED_NAMES: dict[Any, str] = {}
_SCOPE: ContextVar[Mapping[str, Any]] = ContextVar(
    "easyflax_custom_objects", default=types.MappingProxyType({})
)


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """Returns a decorator that makes a class or function known to `deserialize` as `"package>name"`.

    Args:
        package: a prefix that keeps the names of several authors apart.
        name: the name; that of the class or function when left out.

    Raises:
        ValueError: a class has no `get_config`.

    Examples:
        >>> @register_keras_serializable(package="mine")
        ... def double(x):
        ...     return 2 * x
        >>> serialize(double)["registered_name"]
        'mine>double'
        >>> deserialize(serialize(double)) is double
        True
    """

    def register(target: T) -> T:
        if isinstance(target, type) and not hasattr(target, "get_config"):
            raise ValueError(
                f"Class {target.__name__} has no get_config, expected one to register it. "
                "Define get_config(self), which returns the arguments of __init__ as a dict."
            )
        full_name = f"{package}>{name or target.__name__}"  # type: ignore[attr-defined]
        _CUSTOM_OBJECTS[full_name] = target
        _REGISTERED_NAMES[target] = full_name
        return target

    return register


def get_registered_name(target: Any) -> str:
    """Returns the name under which a class or function is registered, else its own."""
    return _REGISTERED_NAMES.get(target) or target.__name__


def get_registered_object(name: str, custom_objects: Mapping[str, Any] | None = None) -> Any | None:
    """Returns what is registered under `name`, in a scope, in `custom_objects` or for good; else None."""
    return {**_CUSTOM_OBJECTS, **(custom_objects or {}), **_SCOPE.get()}.get(name)


def get_custom_objects() -> dict[str, Any]:
    """Returns the dict of all registered classes and functions itself, so that it can be changed."""
    return _CUSTOM_OBJECTS


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any]) -> Iterator[None]:
    """Makes classes and functions known by name to `deserialize` inside a `with` block."""
    token = _SCOPE.set({**_SCOPE.get(), **custom_objects})
    try:
        yield
    finally:
        _SCOPE.reset(token)


CustomObjectScope = custom_object_scope  # Keras has both spellings


class Configured:
    """An object that is known by its class and its configuration: two of equal configuration are equal.

    Subclasses keep every argument of `__init__` as an attribute of that name, or define `get_config`.
    """

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this object again."""
        names = _argument_names(type(self))
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise NotImplementedError(
                f"{type(self).__name__} does not keep its argument {missing[0]!r}, which its configuration "
                f"needs. Set self.{missing[0]} in __init__, or define get_config."
            )
        return {name: serialize(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns a new object of this class from what `get_config` returned."""
        return cls(**config)

    def clone(self) -> Any:
        """Returns a new object of the same configuration."""
        return self.from_config(self.get_config())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(self) is type(other) and _config_text(self) == _config_text(other)

    def __hash__(self) -> int:
        return hash((type(self), _config_text(self)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@functools.cache
def _argument_names(cls: type) -> tuple[str, ...]:
    """Returns the names of the arguments of the constructor."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))[1:]


def _config_text(configured: Any) -> str:
    return json.dumps(serialize(configured.get_config()), sort_keys=True, default=repr)


def serialize(value: Any) -> Any:
    """Returns `value` as nested dicts, lists and plain values, from which `deserialize` makes it again.

    Args:
        value: a plain value, an array, a dtype, a function with a name, an object with `get_config`, or
            lists, tuples and dicts of these. Tuples stay tuples; `json.dumps` writes them as lists.

    Raises:
        TypeError: an object has no `get_config`, or a function no name.

    Examples:
        >>> import easyflax.regularizers as regularizers
        >>> serialize(regularizers.L2(0.5))["config"]
        {'l2': 0.5}
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, (list, tuple, MutableSequence)):
        items = [serialize(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and not hasattr(value, "get_config"):  # some maps of objects have it
        return {key: serialize(item) for key, item in value.items()}
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    if not hasattr(value, "get_config") and _is_dtype(value):  # a layer has a dtype, too
        dtype: Any = value
        return jnp.dtype(dtype).name
    if hasattr(value, "get_config") or (callable(value) and hasattr(value, "__name__")):
        return _serialize_object(value)
    raise TypeError(
        f"An object of type {type(value).__name__} was to be serialized, expected a plain value, an array, a "
        "named function or an object with get_config. Define get_config(self) on its class."
    )


def _is_dtype(value: Any) -> bool:
    if isinstance(value, type) and issubclass(value, np.generic):
        return True
    return isinstance(getattr(value, "dtype", None), np.dtype)  # as jnp.float32 has it


def _array(class_name: str) -> Callable[[Any], dict[str, Any]]:
    def write(value: Any) -> dict[str, Any]:
        config = {"value": np.asarray(value).tolist(), "dtype": jnp.dtype(value.dtype).name}
        return {"class_name": class_name, "config": config}

    return write


_WRITERS: list[tuple[Any, Callable[[Any], Any]]] = [
    ((str, int, float), lambda value: value),  # enumerations and the like
    (np.generic, lambda value: value.item()),
    (np.ndarray, _array("__numpy__")),
    (jax.Array, _array("__tensor__")),
    (np.dtype, lambda value: value.name),
    (bytes, lambda value: {"class_name": "__bytes__", "config": {"value": value.decode("utf-8")}}),
    (
        slice,
        lambda value: {
            "class_name": "__slice__",
            "config": {"start": value.start, "stop": value.stop, "step": value.step},
        },
    ),
    (type(...), lambda _: {"class_name": "__ellipsis__", "config": {}}),
]


def _serialize_object(value: Any) -> dict[str, Any]:
    if hasattr(value, "get_config") and not isinstance(value, type):
        return _named(type(value), type(value).__name__, serialize(value.get_config()))
    if value.__name__ == "<lambda>":
        raise TypeError(
            "A lambda was to be serialized, expected a function with a name: code is not written into "
            "configurations. Use `def`, and register it with @register_keras_serializable()."
        )
    return _named(value, "function", get_registered_name(value))


def _named(target: Any, class_name: str, config: Any) -> dict[str, Any]:
    """The four keys of Keras; the public module for what is public here."""
    module, registered_name = target.__module__, get_registered_name(target)
    public = _public_module(module)
    if _find_public(public, target.__name__) is target:
        module = public
        registered_name = target.__name__ if class_name == "function" else None
    elif module == "__main__":
        module = None
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def _public_module(module: str) -> str:
    """Returns the module that a class or function is public in, where it is one of this package."""
    root, _, rest = module.partition(".")
    return f"{root}.{_namespace(rest) or rest.partition('.')[0]}".removesuffix(".")


def _namespace(module: str) -> str:
    """Returns the folder that a module without its first part lies in, "" if it is none of `_NAMESPACES`."""
    module = module.removeprefix("src.")
    return next((name for name in _NAMESPACES if f"{module}.".startswith(f"{name}.")), "")


def _find_public(module: str | None, name: str) -> Any | None:
    """Returns a public class or function of this package by Keras's name of its module and its own name."""
    root, _, rest = (module or "").partition(".")
    namespace = _namespace(rest)
    if root == "builtins":
        candidates: tuple[str, ...] = _NAMESPACES
    elif root not in ("keras", "easyflax"):
        return None
    else:
        candidates = (namespace,) if namespace else ("models",) if not rest else ()
    for candidate in candidates:
        try:
            home = import_module(f"easyflax.{candidate}")
        except ModuleNotFoundError:
            continue
        if name in getattr(home, "__all__", ()):
            return getattr(home, name)
    return None


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns what `serialize`, or Keras, wrote as `config`.

    Args:
        config: nested dicts, lists and plain values.
        custom_objects: classes and functions that may be named in `config` besides the registered ones.

    Raises:
        TypeError: a class or function is unknown, or its arguments do not fit.
        ValueError: `config` holds the code of a lambda.

    Examples:
        >>> deserialize({"module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.5}})
        L2(l2=0.5)
    """
    if isinstance(config, (list, tuple)):
        return type(config)(deserialize(item, custom_objects) for item in config)
    if not isinstance(config, Mapping):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: deserialize(item, custom_objects) for key, item in config.items()}
    read = _READERS.get(config["class_name"])
    if read is not None:
        return read(config["config"])
    if config["class_name"] == "function":
        return _find(config, config["config"], custom_objects)
    cls = _find(config, config["class_name"], custom_objects)
    return _make(cls, config["config"] or {}, custom_objects)


def _refuse_lambda(config: Any) -> Any:
    del config  # code, never run
    raise ValueError(
        "A configuration holds the code of a lambda, expected names only: code from a file is not run. "
        "Build the object again, with a function registered by @register_keras_serializable()."
    )


_READERS: dict[str, Callable[[Any], Any]] = {
    "__numpy__": lambda config: np.array(config["value"], dtype=jnp.dtype(config["dtype"])),
    "__tensor__": lambda config: jnp.array(config["value"], dtype=config["dtype"]),
    "__bytes__": lambda config: config["value"].encode("utf-8"),
    "__slice__": lambda config: slice(config["start"], config["stop"], config["step"]),
    "__ellipsis__": lambda _: ...,
    "__lambda__": _refuse_lambda,
    "DTypePolicy": lambda config: config["name"],
}


def _find(config: Mapping[str, Any], name: str, custom_objects: Mapping[str, Any] | None) -> Any:
    for known_as in (config.get("registered_name"), name):
        found = get_registered_object(known_as, custom_objects) if known_as else None
        if found is not None:
            return found
    found = _find_public(config.get("module", "builtins"), name)
    if found is None:
        kind = "function" if config["class_name"] == "function" else "class"
        raise TypeError(
            f"A configuration names the {kind} {name!r} of module {config.get('module')!r}, which is not "
            "known here: expected one of this package's or a registered one. Decorate it with "
            "@register_keras_serializable(), or pass custom_objects={name: ...}."
        )
    return found


def _make(cls: Any, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None) -> Any:
    if not hasattr(cls, "from_config"):
        raise TypeError(
            f"{getattr(cls, '__name__', cls)!r} was named as a class in a configuration, but it has no "
            "from_config. Define from_config(cls, config) as a classmethod."
        )
    with custom_object_scope(custom_objects or {}):
        try:
            return cls.from_config(dict(config))
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__} could not be made from its configuration with the keys "
                f"{sorted(config)}: {error}. Let get_config return the arguments of __init__."
            ) from error


def get_by_name(kind: str, spec: Any, known: Mapping[str, Any], listed: Iterable[str] | None = None) -> Any:
    """Returns the class or function that a name or a configuration stands for; other values as they are.

    Args:
        kind: what is looked for, for the message, such as `"initializer"`.
        spec: a name, whose case does not matter, a configuration (as from `serialize`), or anything else.
        known: what the names stand for.
        listed: the names that the message lists; those of `known` by default.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(spec, Mapping):
        name = spec.get("class_name", "")
        if "module" not in spec and name in known:  # as older files of Keras have it
            return _make(known[name], spec.get("config") or {}, None)
        return deserialize(spec)
    if not isinstance(spec, str):
        return spec
    for known_as in (spec, spec.lower(), snake_case(spec)):
        found = get_registered_object(known_as) or known.get(known_as)
        if found is not None:
            return found
    raise ValueError(unknown_name_message(kind, spec, known if listed is None else listed))


def deserializing(get: Callable[[Any], Any]) -> Callable[..., Any]:
    """Returns the `deserialize` that belongs to `get`, which finds one kind of objects."""

    def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Returns the object that was serialized, here or in Keras, with more names known than in `get`.

        Args:
            config: what `serialize` returned, or a name.
            custom_objects: classes and functions that may be named besides the registered ones.

        Raises:
            ValueError: the name is unknown, or the configuration is that of something else.
            TypeError: a class or function is unknown.
        """
        with custom_object_scope(custom_objects or {}):
            return get(config)

    return deserialize
