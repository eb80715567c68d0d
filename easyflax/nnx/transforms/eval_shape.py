"""`nnx.eval_shape`: what a function of modules returns, without computing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from easyflax.nnx.core.graph import clone
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.lift import Call, also_return, bound_object, pack, run, unpack


def eval_shape(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns the output of `f` with `jax.ShapeDtypeStruct`s in place of arrays; modules made inside are
    abstract modules.

    The modules that are passed are not changed.

    >>> from easyflax import nnx
    >>> model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> model.kernel.value
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """
    fun, bound = bound_object(f)
    call = pack((*bound, *args), kwargs)

    def pure(values: Any, args: Any, kwargs: Any) -> Any:
        out, changed, outcome = run(fun, call.spec, values, args, kwargs)
        return out, *also_return(range(len(values)), values, changed, outcome)

    out, changed, outcome = jax.eval_shape(pure, call.walk.values(), call.args, call.kwargs)
    if not outcome.outputs:
        return out
    return unpack(_copied(call), out, changed, outcome)


def _copied(call: Call) -> Call:
    """Returns the call with copies of its objects, so that writing to them changes nobody's."""
    copies = clone(tuple(call.objects)) if call.objects else ()
    return call._replace(objects=list(copies), walk=walk(*copies))
