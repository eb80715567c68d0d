"""Splitting and forking the random streams of whole models, before they go through `vmap` or `scan`.

`split_rngs` and `fork_rngs` change streams in place, and `restore_rngs` undoes it; `with_rngs` leaves the
model as it is and returns one with other streams. All are used in three ways:

    backups = nnx.split_rngs(model, splits=4)         # until nnx.restore_rngs(backups)
    with nnx.split_rngs(model, splits=4): ...         # within the block
    @nnx.split_rngs(splits=4)                         # for the arguments of a function

(`with_rngs` has no block.) Keys are drawn as in Flax, in the order of the paths of the streams.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp

from easyflax.nnx.core.filters import Filter, Path, Predicate, to_predicate
from easyflax.nnx.core.graph_maps import recursive_map
from easyflax.nnx.core.iteration import iter_graph
from easyflax.nnx.core.rngs import Rngs, RngStream

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])
Shape = int | tuple[int, ...]
Shapes = Mapping[Filter, Shape | None] | Shape | None  # for all streams, or by filter
Forks = Filter | Sequence[Filter]
Policy = Callable[[Path, jax.Array, tuple[int, ...]], jax.Array]

_MISSING: Any = object()

__all__ = ["RngBackups", "fork_rngs", "reseed", "restore_rngs", "split_rngs", "with_rngs"]


class _Backup(NamedTuple):
    stream: RngStream
    key: jax.Array
    count: jax.Array


class RngBackups(Iterable[_Backup]):
    """What `split_rngs` and `fork_rngs` replaced: for `restore_rngs`, or as a context manager that restores
    it at its end."""

    def __init__(self, backups: Sequence[_Backup]) -> None:
        self._backups = tuple(backups)

    def __iter__(self) -> Iterator[_Backup]:
        return iter(self._backups)

    def __len__(self) -> int:
        return len(self._backups)

    def __enter__(self) -> RngBackups:
        return self

    def __exit__(self, *_: Any) -> None:
        restore_rngs(self)


def restore_rngs(backups: Iterable[Any], /) -> None:
    """Gives random streams the keys and counters back that they had before `split_rngs` or `fork_rngs`.

    Splitting draws one key of each stream; that draw is not undone, so that the next split gives other keys.
    """
    for stream, key, *count in backups:
        stream.key.set_value(key)
        if count:
            stream.count.set_value(count[0])


@overload
def split_rngs(node: Any, /, *, splits: Shape, only: Filter = ..., squeeze: bool = False) -> RngBackups: ...
@overload
def split_rngs(*, splits: Shape, only: Filter = ..., squeeze: bool = False) -> Callable[[F], F]: ...
def split_rngs(node: Any = _MISSING, /, *, splits: Shape, only: Filter = ..., squeeze: bool = False) -> Any:
    """Splits each random stream of a model into `splits` independent ones, in place.

    Args:
        node: a module, an `Rngs`, or a container of these; without it, a decorator is returned that splits
            the streams in all arguments of a function for the time of a call.
        splits: how many; the shape of the keys afterwards.
        only: the streams, by tag or any other filter for their keys and counters.
        squeeze: with `splits=1`, keep the shape of the keys.

    Returns:
        an `RngBackups`, for `restore_rngs` or `with`.

    Raises:
        ValueError: `squeeze` with another `splits` than 1.

    Example:
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(params=0, dropout=1)
        >>> with nnx.split_rngs(rngs, splits=5, only="params"):
        ...     rngs.params.key.shape, rngs.dropout.key.shape
        ((5,), ())
        >>> rngs.params.key.shape
        ()

        >>> @nnx.split_rngs(splits=3)
        ... @nnx.vmap
        ... def make(rngs):
        ...     return nnx.Linear(2, 4, rngs=rngs)
        >>> make(rngs).kernel.shape
        (3, 2, 4)
    """
    if squeeze and splits != 1:
        raise ValueError(
            f"split_rngs got squeeze=True and splits={splits}, expected splits=1: only a single key can take "
            "the place of the stream's own. Pass splits=1, or leave squeeze out."
        )
    if node is _MISSING:
        return _for_calls(lambda arguments: split_rngs(arguments, splits=splits, only=only, squeeze=squeeze))
    selected = to_predicate(only)
    backups = []
    for path, stream in _streams(node):
        if _matches(selected, path, stream):
            keys = jax.random.split(stream(), splits)
            shape = () if squeeze else (splits,) if isinstance(splits, int) else tuple(splits)
            count = jnp.zeros((*shape, *stream.count.shape), dtype=jnp.uint32)
            backups.append(_replace(stream, keys[0] if squeeze else keys, count))
    return RngBackups(backups)


@overload
def fork_rngs(node: Any, /, *, split: Shapes = None) -> RngBackups: ...
@overload
def fork_rngs(*, split: Shapes = None) -> Callable[[F], F]: ...
def fork_rngs(node: Any = _MISSING, /, *, split: Shapes = None) -> Any:
    """Gives each random stream of a model a new key, drawn from its own, in place.

    Args:
        node: a module, an `Rngs`, or a container of these; without it, a decorator is returned that forks
            the streams in all arguments of a function for the time of a call.
        split: how many keys each gets: for all alike, or by filter, the first that matches; None, one.
            Streams that no filter matches stay as they are.

    Returns:
        an `RngBackups`, for `restore_rngs` or `with`.

    Example:
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(params=0, dropout=1)
        >>> with nnx.fork_rngs(rngs, split={"dropout": 3, ...: None}):
        ...     rngs.params.key.shape, rngs.dropout.key.shape
        ((), (3,))
    """
    if node is _MISSING:
        return _for_calls(lambda arguments: fork_rngs(arguments, split=split))
    rules = [(to_predicate(filter), size) for filter, size in _by_filter(split, default={...: None}).items()]
    backups = []
    for path, stream in _streams(node):
        sizes = [size for predicate, size in rules if _matches(predicate, path, stream)]
        if sizes:
            new = stream.fork(split=sizes[0])
            backups.append(_replace(stream, new.key.get_value(), new.count.get_value()))
    return RngBackups(backups)


@overload
def with_rngs(
    node: A, /, *, split: Shapes = ..., fork: Forks = ..., broadcast: Shapes = ..., only: Filter = ...
) -> A: ...
@overload
def with_rngs(
    *, split: Shapes = ..., fork: Forks = ..., broadcast: Shapes = ..., only: Filter = ...
) -> Callable[[F], F]: ...
def with_rngs(
    node: Any = _MISSING,
    /,
    *,
    split: Shapes = None,
    fork: Forks = None,
    broadcast: Shapes = None,
    only: Filter = True,
) -> Any:
    """Returns a model with the same variables but for its random streams, which are split, forked or
    broadcast.

    The model that was passed keeps its streams; one key of each that a rule applies to is drawn. Where
    several apply, and at most one of them is for some streams only, splitting goes before broadcasting, and
    that before forking.

    Args:
        node: a module, an `Rngs`, or a container of these; without it, a decorator is returned, for all
            arguments of a function.
        split: how many keys each stream gets, for all alike or by filter, the first that matches.
        fork: filters for streams that get one new key.
        broadcast: the shape in which each stream repeats one new key, for all alike or by filter.
        only: the streams that are looked at.

    Raises:
        ValueError: two rules, each for some streams, apply to the same one.

    Example:
        >>> from easyflax import nnx
        >>> new = nnx.with_rngs(nnx.Rngs(params=0, dropout=1), split={"params": 4}, fork=...)
        >>> new.params.key.shape, new.dropout.key.shape
        ((4,), ())
    """
    if node is _MISSING:
        rules = {"split": split, "fork": fork, "broadcast": broadcast, "only": only}

        def decorate(f: F) -> F:
            @functools.wraps(f)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                args, kwargs = with_rngs((args, kwargs), **rules)
                return f(*args, **kwargs)

            return wrapper  # type: ignore[return-value]

        return decorate
    forks = list(fork) if isinstance(fork, Sequence) and not isinstance(fork, str) else [fork]
    tables: dict[str, Mapping[Filter, Any]] = {
        "split": _by_filter(split),
        "broadcast": _by_filter(broadcast),
        "fork": {filter: None for filter in forks if filter is not None},
    }
    selected = to_predicate(only)

    def derive(path: Path, value: Any) -> Any:
        if not isinstance(value, RngStream) or not selected(path, value):
            return value
        method, size = _rule_for(path, value, tables)
        return getattr(value, method)(*size) if method else value

    return recursive_map(derive, node)


def _rule_for(
    path: Path, stream: RngStream, tables: dict[str, Mapping[Filter, Any]]
) -> tuple[str | None, tuple[Any, ...]]:
    """Returns the name of the method that a stream is derived by, and its arguments."""
    found: dict[str, tuple[Filter, Any]] = {}
    for method, table in tables.items():
        for filter, size in table.items():
            if to_predicate(filter)(path, stream):
                found[method] = filter, size
                break
    special = [method for method, (filter, _) in found.items() if filter is not ... and filter is not True]
    if len(special) > 1:
        rules = ", ".join(f"{method}={found[method][0]!r}" for method in special)
        raise ValueError(
            f"The random stream '{stream.tag}' at '{'/'.join(map(str, path))}' matches multiple rules: "
            f"{rules}; expected one at most. Make the filters exclude each other, for example with nnx.Not."
        )
    for method, (_, size) in found.items():
        return method, () if method == "fork" else (size,)
    return None, ()


def reseed(
    node: Any,
    /,
    *,
    policy: Literal["scalars_only", "match_shape"] | Policy = "scalars_only",
    **stream_keys: Any,
) -> None:
    """Gives the random streams of a model new seeds, by name, and sets their counters to zero.

    Several streams with one name (that of each `Dropout`, say) get different keys, as in Flax: the first is
    the first key of a stream with that seed, and so on.

    >>> from easyflax import nnx
    >>> layer = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=42))
    >>> first = layer.rngs()
    >>> nnx.reseed(layer, dropout=42)
    >>> bool(layer.rngs() == first)
    True

    Args:
        node: a module, an `Rngs`, or a container of these.
        policy: what to do for streams with several keys: `"scalars_only"` (an error), `"match_shape"` (split
            the new key), or a function `(path, key, shape) -> key`.
        **stream_keys: seeds or keys by the name of the stream.

    Raises:
        ValueError: a stream has several keys and the policy is `"scalars_only"`; or an unknown policy.
    """
    make_key = _POLICIES.get(policy, policy) if isinstance(policy, str) else policy
    if not callable(make_key):
        raise ValueError(
            f"reseed got policy={policy!r}, expected one of {sorted(_POLICIES)} or a function (path, key, "
            "shape) -> key. Pass one of these."
        )
    rngs = Rngs(**stream_keys)
    for path, stream in _streams(node):
        if stream.tag in stream_keys:
            key = make_key(path, rngs[stream.tag](), stream.key.shape)
            stream.key.set_value(key)
            stream.count.set_value(jnp.zeros(key.shape, dtype=jnp.uint32))


def _scalars_only(path: Path, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if shape:
        raise ValueError(
            f"reseed found keys of shape {shape} at '{'/'.join(map(str, path))}', expected a single key. "
            'Pass policy="match_shape" if all of them are to differ, or a function that makes such keys.'
        )
    return key


def _match_shape(_path: Path, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.split(key, shape) if shape else key


_POLICIES: dict[str, Policy] = {"scalars_only": _scalars_only, "match_shape": _match_shape}


def _streams(node: Any) -> list[tuple[Path, RngStream]]:
    return [(path, value) for path, value in iter_graph(node) if isinstance(value, RngStream)]


def _matches(predicate: Predicate, path: Path, stream: RngStream) -> bool:
    return predicate((*path, "key"), stream.key) and predicate((*path, "count"), stream.count)


def _replace(stream: RngStream, key: jax.Array, count: jax.Array) -> _Backup:
    backup = _Backup(stream, stream.key.get_value(), stream.count.get_value())
    stream.key.set_value(key)
    stream.count.set_value(count)
    return backup


def _by_filter(sizes: Any, default: Mapping[Filter, Any] | None = None) -> Mapping[Filter, Any]:
    if sizes is None:
        return default or {}
    return sizes if isinstance(sizes, Mapping) else {...: sizes}


def _for_calls(change: Callable[[Any], RngBackups]) -> Callable[[F], F]:
    """Returns a decorator that changes the streams of the arguments for the time of a call."""

    def decorate(f: F) -> F:
        @functools.wraps(f)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with change((args, kwargs)):
                return f(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
