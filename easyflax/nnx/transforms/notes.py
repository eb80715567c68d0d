"""Notes on errors of jax that say which leaves of the modules are the reason: values that leaked out of
another transform, and values that are no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from easyflax.nnx.core.graphdef import GraphDef


def note_leaks(
    error: jax.errors.UnexpectedTracerError, graphdef: GraphDef[Any], values: Sequence[Any]
) -> None:
    """Adds a note that says which leaves hold values of a transform that has ended, if any do."""
    found = _places(graphdef, [_leaked(value) for value in values])
    if found:
        error.add_note(
            f"The modules that were passed hold values of a transform (jit, grad, vmap, ...) that has ended: "
            f"{found}. They were put there while it ran, into a list, dict or another object that was "
            "no argument of the transformed function, or the module was made inside of it.\nReturn such "
            "values and modules from the function, and use those that come back."
        )


def note_no_arrays(error: TypeError, graphdef: GraphDef[Any], values: Sequence[Any]) -> None:
    """Adds a note that says which leaves are no arrays, if any are not."""
    abstract = [isinstance(value, jax.ShapeDtypeStruct) for value in values]
    if found := _places(graphdef, abstract):
        error.add_note(
            f"The modules that were passed are abstract at {found}, with shapes and dtypes but no values.\n"
            "Give them their values first: nnx.update(model, state), or make them without nnx.eval_shape."
        )
        return
    found = _places(graphdef, [not all(map(_is_array, jax.tree.leaves(value))) for value in values])
    if found:
        error.add_note(
            f"The modules that were passed have something else than arrays as data: {found}.\nHold it in a "
            "plain attribute, without nnx.data and not in a variable: it is static then."
        )


def _places(graphdef: GraphDef[Any], chosen: Sequence[bool]) -> str:
    """Writes where some of the leaves are."""
    paths = graphdef.paths()
    start = 0 if len(graphdef.roots) == 1 else 1  # with several roots, paths begin with the root's number
    every = zip([*paths.variables, *paths.arrays], chosen, strict=True)
    found = ["/".join(map(str, path[start:])) or "the argument itself" for path, this in every if this]
    return ", ".join(f"'{place}'" for place in found[:4]) + (" and others" if len(found) > 4 else "")


def _is_array(leaf: Any) -> bool:
    kinds = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
    return isinstance(leaf, kinds) or hasattr(leaf, "__jax_array__")


def _leaked(value: Any) -> bool:
    return any(isinstance(leaf, Tracer) and _fails(leaf) for leaf in jax.tree.leaves(value))


def _fails(leaf: Any) -> bool:
    try:
        jnp.expand_dims(leaf, 0)
    except jax.errors.UnexpectedTracerError:
        return True
    return False
