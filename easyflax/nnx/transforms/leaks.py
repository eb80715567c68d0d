"""Explaining leaks: values of a transform that has ended, found in the modules that another one is called
with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from easyflax.nnx.core.graphdef import GraphDef


def note_leaks(
    error: jax.errors.UnexpectedTracerError, graphdef: GraphDef[Any], values: Sequence[Any]
) -> None:
    """Adds a note to jax's error that says which leaves hold values of a transform that has ended, if any
    do."""
    paths = graphdef.paths()
    places = [*paths.variables, *paths.arrays]
    start = 0 if len(graphdef.roots) == 1 else 1  # with several roots, paths begin with the root's number
    leaked = [path[start:] for path, value in zip(places, values, strict=True) if _leaked(value)]
    found = ["/".join(map(str, path)) for path in leaked]
    if found:
        shown = ", ".join(f"'{place or 'the argument itself'}'" for place in found[:4])
        more = " and others" if len(found) > 4 else ""
        error.add_note(
            f"The modules that were passed hold values of a transform (jit, grad, vmap, ...) that has ended: "
            f"{shown}{more}. They were put there while it ran, into a list, dict or another object that was "
            "no argument of the transformed function, or the module was made inside of it.\nReturn such "
            "values and modules from the function, and use those that come back."
        )


def _leaked(value: Any) -> bool:
    return any(isinstance(leaf, Tracer) and _fails(leaf) for leaf in jax.tree.leaves(value))


def _fails(leaf: Any) -> bool:
    try:
        jnp.expand_dims(leaf, 0)
    except jax.errors.UnexpectedTracerError:
        return True
    return False
