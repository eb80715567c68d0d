"""Random streams: named sources of JAX keys whose seeds and counters are variables, so that they are part of
a model's state.

The n-th key of a stream is `jax.random.fold_in(stream.key, n)`, as in Flax: equal seeds give equal numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.errors import TraceContextError
from easyflax.nnx.core.filters import Filter, to_predicate
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.naming import asking_module, describe
from easyflax.nnx.core.tracking import wrong_trace
from easyflax.nnx.core.variables import Variable

Sizes = int | tuple[int, ...] | None


class RngState(Variable[jax.Array]):
    """A key or counter of a random stream; `tag` is the stream's name."""


class RngCount(RngState):
    """How many keys a stream has given, uint32."""


class RngKey(RngState):
    """The key that a stream derives its keys from."""


class _Draws:
    """The functions of `jax.random` and the initializers, as methods that draw the key themselves:
    `rngs.normal((2, 3))`."""

    __slots__ = ()

    def __call__(self) -> jax.Array:
        raise NotImplementedError

    if TYPE_CHECKING:  # the methods are added below

        def __getattr__(self, name: str) -> Any: ...


class RngStream(_Draws, Pytree):
    """One source of keys: calling it gives the next.

    Args:
        key: an integer seed, a typed key, or a raw uint32 key; of any shape, for several streams in one.
        tag: the name of the stream, by which filters find its variables.

    Raises:
        ValueError: `key` is none of these.
    """

    def __init__(self, key: jax.Array | int, *, tag: str) -> None:
        self.tag = tag
        self.key = RngKey(_as_key(key), tag=tag)
        self.count = RngCount(jnp.zeros(self.key.shape, dtype=jnp.uint32), tag=tag)

    def __call__(self) -> jax.Array:
        """Returns the next key.

        Raises:
            TraceContextError: the stream was made outside of the transform that is running.
        """
        if not self.count._is_current():
            raise TraceContextError(
                f"The random stream '{self.tag}' was asked for a key, but its counter cannot be advanced "
                f"here: {wrong_trace('the Rngs, or the module that holds it,')}"
            )
        count = self.count.get_value()
        self.count.set_value(count + 1)
        return jax.random.fold_in(self.key.get_value(), count)

    def split(self, k: int | tuple[int, ...]) -> RngStream:
        """Returns a stream of `k` keys in one, for `nnx.vmap` and `nnx.scan`."""
        return RngStream(jax.random.split(self(), k), tag=self.tag)

    def fork(self, *, split: Sizes = None) -> RngStream:
        """Returns a new, independent stream with a key drawn from this one."""
        return RngStream(self() if split is None else jax.random.split(self(), split), tag=self.tag)

    def broadcast(self, k: int | tuple[int, ...]) -> RngStream:
        """Returns a stream of shape `k` whose keys are all the same, drawn from this one."""
        key = self()
        return RngStream(
            jnp.broadcast_to(key, ((k,) if isinstance(k, int) else tuple(k)) + key.shape), tag=self.tag
        )


class Rngs(_Draws, Pytree):
    """Named random streams.

    >>> import jax
    >>> from easyflax import nnx
    >>> rngs = nnx.Rngs(0, dropout=1)
    >>> bool(rngs.params() == jax.random.fold_in(jax.random.key(0), 0))  # from 'default'
    True
    >>> sorted(rngs)
    ['default', 'dropout']

    Args:
        default: seed or key of the stream `default`, which serves every name that has no stream of its own;
            or a mapping of names to seeds, keys or streams.
        **rngs: seeds, keys or streams by name.

    Raises:
        AttributeError: a stream is asked for that does not exist, and there is no default.
    """

    def __init__(self, default: Any = None, **rngs: Any) -> None:
        if isinstance(default, Mapping):
            rngs = {**default, **rngs}
        elif default is not None:
            rngs = {**rngs, "default": default}
        for name, seed in rngs.items():
            setattr(
                self, name, RngStream(seed.key.get_value() if isinstance(seed, RngStream) else seed, tag=name)
            )

    def _stream(self, name: str, error: type[Exception]) -> RngStream:
        streams = vars(self)
        if name in streams:
            return streams[name]
        if "default" in streams:
            return streams["default"]
        asking = asking_module()
        raise error(
            f"{'' if asking is None else describe(asking) + ': '}No RngStream named '{name}' found in Rngs; "
            f"there are {sorted(streams)}. Make it with a seed for '{name}', or with a default: "
            f"nnx.Rngs(0, {name}=1)."
        )

    def __getattr__(self, name: str) -> Any:  # a stream; to type checkers also a method of `_Draws`
        if name.startswith("__"):
            raise AttributeError(name)
        return self._stream(name, AttributeError)

    def __getitem__(self, name: str) -> RngStream:
        return self._stream(name, KeyError)

    def __call__(self) -> jax.Array:
        """Returns the next key of the stream `default`."""
        return self._stream("default", AttributeError)()

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def items(self) -> Iterator[tuple[str, RngStream]]:
        """Iterates over `(name, stream)`."""
        return ((name, stream) for name, stream in vars(self).items() if isinstance(stream, RngStream))

    def fork(self, /, *, split: Mapping[Filter, Sizes] | Sizes = None) -> Rngs:
        """Returns new, independent streams with keys drawn from these; `split` makes several keys of those
        it names."""
        return self._derive(split, lambda stream, size: stream.fork(split=size), lambda stream: stream.fork())

    def split(self, k: Mapping[Filter, Sizes] | Sizes) -> Rngs:
        """Returns streams of `k` keys each; a mapping from filters to sizes tells which (None, or no match:
        as it is)."""
        return self._derive(
            k, lambda stream, size: stream if size is None else stream.split(size), lambda stream: stream
        )

    def broadcast(self, k: Mapping[Filter, Sizes] | Sizes) -> Rngs:
        """Returns streams of shape `k` whose keys are all the same; a mapping from filters to shapes tells
        which."""
        return self._derive(
            k, lambda stream, size: stream if size is None else stream.broadcast(size), lambda stream: stream
        )

    def _derive(
        self,
        sizes: Any,
        matched: Callable[[RngStream, Any], RngStream],
        unmatched: Callable[[RngStream], RngStream],
    ) -> Rngs:
        table = sizes if isinstance(sizes, Mapping) else {} if sizes is None else {...: sizes}
        predicates = [(to_predicate(filter), size) for filter, size in table.items()]
        streams = {}
        for name, stream in self.items():
            for predicate, size in predicates:
                if predicate((), stream):
                    streams[name] = matched(stream, size)
                    break
            else:
                streams[name] = unmatched(stream)
        return Rngs(**streams)


def _as_key(key: Any) -> jax.Array:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if isinstance(key, Variable):
        key = key.get_value()
    if isinstance(key, (jax.Array, np.ndarray)) and key.dtype == jnp.uint32:
        return jax.random.wrap_key_data(jnp.asarray(key))
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    raise ValueError(
        f"Got {key!r} as the seed of a random stream, expected an integer or a key. Pass an int, or "
        "jax.random.key(seed)."
    )


def _drawing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def draw(self: _Draws, *args: Any, **kwargs: Any) -> Any:
        return function(self(), *args, **kwargs)

    return draw


def _initializing(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def initializer(self: _Draws, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        initialize = make(*args, **kwargs)
        return lambda *call_args, **call_kwargs: initialize(self(), *call_args, **call_kwargs)

    return initializer


_RANDOM = """ball bernoulli beta binomial bits categorical cauchy chisquare choice dirichlet
double_sided_maxwell exponential f gamma generalized_normal geometric gumbel laplace loggamma logistic
lognormal maxwell multinomial multivariate_normal normal orthogonal pareto permutation poisson rademacher
randint rayleigh t triangular truncated_normal uniform wald weibull_min"""
_INITIALIZERS = """delta_orthogonal glorot_normal glorot_uniform he_normal he_uniform kaiming_normal
kaiming_uniform lecun_normal lecun_uniform variance_scaling xavier_normal xavier_uniform"""

for _name in _RANDOM.split():
    setattr(_Draws, _name, _drawing(getattr(jax.random, _name)))
for _name in _INITIALIZERS.split():
    setattr(_Draws, _name, _initializing(getattr(jax.nn.initializers, _name)))
