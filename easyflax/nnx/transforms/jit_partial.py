"""`nnx.jit_partial`: `nnx.jit` with the first arguments given once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from easyflax.nnx.core.signatures import R
from easyflax.nnx.transforms.jit import JitWrapped, make_jit_wrapped


def jit_partial(
    fun: Callable[..., R],
    *partial_args: Any,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    device: Any = None,
    backend: str | None = None,
    inline: bool = False,
) -> JitWrapped[..., R]:
    """Compiles a function as `nnx.jit` does, with its first arguments given once and for all.

    Args:
        fun: the function.
        *partial_args: its first arguments: the model, the optimizer. Calls see their newest values, and
            change them.
        in_shardings: as for `nnx.jit`, with one entry for each argument, those given here included.
        out_shardings: as for `nnx.jit`.
        static_argnums: as for `nnx.jit`, but `partial_args` together are number 0, and the first argument of
            a call is number 1.
        static_argnames: as for `nnx.jit`.
        donate_argnums: numbers as in `static_argnums`: 0 donates all `partial_args`.
        donate_argnames: as for `nnx.jit`.
        keep_unused: as for `nnx.jit`.
        device: as for `nnx.jit`.
        backend: as for `nnx.jit`.
        inline: as for `nnx.jit`.

    Returns:
        a function of the remaining arguments.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> forward = nnx.jit_partial(lambda model, x: model(x), model)
        >>> forward(jnp.ones((1, 2))).shape
        (1, 3)
    """
    count = len(partial_args)
    return make_jit_wrapped(
        fun,
        partial_args=partial_args,
        in_shardings=in_shardings,
        out_shardings=out_shardings,
        static_argnums=_behind_partial(static_argnums, count),
        static_argnames=static_argnames,
        donate_argnums=_behind_partial(donate_argnums, count),
        donate_argnames=donate_argnames,
        keep_unused=keep_unused,
        inline=inline,
        device=device,
        backend=backend,
    )


def _behind_partial(numbers: int | Sequence[int] | None, count: int) -> list[int] | None:
    """Returns the positions among all arguments for numbers that count the partial ones as number 0."""
    if numbers is None:
        return None
    given = [numbers] if isinstance(numbers, int) else list(numbers)
    return [i for n in given for i in (range(count) if n == 0 else [n - 1 + count if n > 0 else n])]
