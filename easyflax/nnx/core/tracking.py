"""How an object tells that it changed: trace levels, and the subscriptions behind cached traversals.

A traversal of a module (`walk.py`) is costly next to a compiled call, so it is kept and reused. What makes
that safe is this file: every object that a traversal visited remembers the traversal's `Token`, and whatever
changes the object's structure (an attribute set to
something else, an item appended, metadata changed) marks the tokens invalid. With nothing changed, checking a
kept traversal is one attribute read, whatever the size of the model.

The trace level is jax's: each `jax.jit`, `jax.grad` or `jax.vmap` in progress has one, and an object may only
be changed at the level it was made at, since a value from an inner level must not be stored in an object that
outlives it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_MANY = 8  # tokens in one list, before those that are no longer in use are dropped
_get_trace_state: Any = None
_running: ContextVar[tuple[tuple[Any, str], ...]] = ContextVar("running", default=())


def current_trace() -> Any:
    """Returns the trace level that is running now; equal to another one if they are the same."""
    global _get_trace_state
    if _get_trace_state is None:  # a slow package: it is loaded with the first module, not with easyflax
        try:
            from jax.extend.core import get_opaque_trace_state
        except ImportError:  # before jax 0.10
            from jax.core import get_opaque_trace_state
        _get_trace_state = get_opaque_trace_state
    return _get_trace_state()


@contextlib.contextmanager
def running(transform: str, f: Callable[..., Any]) -> Iterator[None]:
    """Notes, for messages, which transform calls `f` at the trace level that is running now."""
    name = f"nnx.{transform} of '{getattr(f, '__name__', type(f).__name__)}'"
    token = _running.set((*_running.get(), (current_trace(), name)))
    try:
        yield
    finally:
        _running.reset(token)


def running_transform() -> str:
    """Returns how to call the transform whose trace level is running; one of jax itself is not known by
    name."""
    trace = current_trace()
    names = [name for level, name in _running.get() if level == trace]
    return names[-1] if names else "the transform (jit, grad, vmap, ...)"


def wrong_trace(owner: str = "the module that holds it") -> str:
    """Says, for a `TraceContextError`, why an object of another trace level cannot be changed now and what to
    do.

    Args:
        owner: what to pass as an argument.
    """
    if current_trace() == _level_outside():
        return (
            "it was made inside of a transform (jit, grad, vmap, ...) that has ended, and what it holds "
            "ended with it.\nReturn it from the transformed function, and change the one that comes back."
        )
    return (
        f"it was made outside of {running_transform()}, which is running, so it would keep a value that only "
        f"exists inside.\nPass {owner} to the transformed function as an argument and change that one."
    )


def _level_outside() -> Any:
    """Returns the trace level outside of all transforms, which is where a new thread begins."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(current_trace()))
    thread.start()
    thread.join()
    return found[0]


class Token:
    """What a kept traversal leaves with the objects that it visited.

    It refers to the traversal and to its first root weakly: objects must not keep a traversal, and the arrays
    it knows, alive.

    Attributes:
        valid: whether the traversal still describes the structure of the objects.
        peers: tokens of other traversals that share an object with this one.
    """

    __slots__ = ("_key", "_root", "_walk", "peers", "valid")

    def __init__(self, walk: Any, root: Tracked, key: Any) -> None:
        self.valid = True
        self.peers: list[Token] = []
        self._walk = weakref.ref(walk)
        self._root = weakref.ref(root)
        self._key = key

    def forget_values(self) -> None:
        """Makes the traversal read the values of its variables anew."""
        walk = self._walk()
        if walk is not None:
            walk.kept_values = None

    def invalidate(self) -> None:
        """Gives the traversal up."""
        self.valid = False
        self.forget_values()
        root, walk = self._root(), self._walk()
        if root is None or walk is None or not root._walks:
            return
        if root._walks.get(self._key, (None,))[0] is walk:
            del root._walks[self._key]

    def is_in_use(self) -> bool:
        """Whether the traversal is valid and still kept."""
        return self.valid and self._walk() is not None


def _in_use(tokens: list[Token]) -> list[Token]:
    return [token for token in tokens if token.is_in_use()]


class Tracked:
    """Base of all objects with reference semantics: it knows its trace level and who keeps a traversal of it.

    Attributes:
        _trace: the trace level at which the object was made.
        _tokens: tokens of the traversals that visited it; None when there are none.
        _walks: the traversals kept that begin at it (see `walk.py`); None when there are none.
    """

    __slots__ = ("__weakref__", "_tokens", "_trace", "_walks")

    def _start_tracking(self, trace: Any = None) -> None:
        set_trace(self, current_trace() if trace is None else trace)
        _set_tokens(self, None)
        set_walks(self, None)

    def _subscribe(self, token: Token) -> None:
        """Has `token` marked invalid by the next change of structure."""
        tokens = self._tokens
        if tokens is None:
            _set_tokens(self, [token])
            return
        if len(tokens) >= _MANY:
            tokens[:] = _in_use(tokens)
        for known in tokens:
            if known not in token.peers:
                token.peers.append(known)
                if len(known.peers) >= _MANY:
                    known.peers[:] = _in_use(known.peers)
                known.peers.append(token)
        tokens.append(token)

    def _structure_changed(self) -> None:
        if self._tokens is not None:
            tokens = self._tokens
            _set_tokens(self, None)
            for token in tokens:
                token.invalidate()

    def _value_changed(self) -> None:
        if self._tokens is not None:
            for token in self._tokens:
                token.forget_values()

    def _is_current(self) -> bool:
        """Whether the object was made at the trace level that is running now."""
        return self._trace == current_trace()


# The slots' own setters: subclasses define `__setattr__` for their users.
set_trace: Any = Tracked._trace.__set__  # type: ignore[attr-defined]
_set_tokens: Any = Tracked._tokens.__set__  # type: ignore[attr-defined]
set_walks: Any = Tracked._walks.__set__  # type: ignore[attr-defined]
