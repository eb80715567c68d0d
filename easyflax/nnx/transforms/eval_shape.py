"""`nnx.eval_shape`: what a function of modules returns, without computing it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding

from easyflax.nnx.core.graph import clone, split
from easyflax.nnx.core.marks import register_data_type
from easyflax.nnx.core.signatures import R
from easyflax.nnx.core.spmd import abstract_value
from easyflax.nnx.core.walk import walk
from easyflax.nnx.transforms.lift import Outcome, also_return, run, unpack
from easyflax.nnx.transforms.packing import Call, bound_object, leaf_paths, pack, put_back, take_out


@register_data_type
class AbstractArray(jax.ShapeDtypeStruct):
    """Stands for an array that is an attribute without a variable, and is data as that is."""


def eval_shape(f: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Returns the output of `f` with `jax.ShapeDtypeStruct`s in place of arrays; modules made inside are
    abstract modules.

    The modules that are passed are not changed. While a mesh is active, each variable carries the sharding
    that its metadata gives it.

    >>> from easyflax import nnx
    >>> model = nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> model.kernel.value
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """
    fun, bound = bound_object(f)
    call = pack((*bound, *args), kwargs)

    def pure(values: Any, args: Any, kwargs: Any) -> Any:
        out, changed, outcome = run(
            _returning_copies(fun), call.spec, values, args, kwargs, transform="eval_shape"
        )
        return out, *also_return(range(len(values)), values, changed, outcome)

    out, changed, outcome = jax.eval_shape(pure, call.walk.values(), call.args, call.kwargs)
    if not outcome.outputs:
        return out
    return unpack(_copied(call), out, _with_shardings(call, changed, outcome), outcome)


def get_abstract_model(init_fn: Callable[[], Any], mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """Returns the structure of a model and its abstract state with shardings, without making the model.

    Args:
        init_fn: makes the model, as `lambda: Model(nnx.Rngs(0))`.
        mesh: the mesh that the variables' sharding metadata refers to.

    Returns:
        `(graphdef, state)` as `nnx.split` does, with a `jax.ShapeDtypeStruct` in each variable, which carries
        its sharding; for restoring a checkpoint, say.

    >>> import jax
    >>> from easyflax import nnx
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> graphdef, state = nnx.get_abstract_model(lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)), mesh)
    >>> state["kernel"].shape, tuple(state["kernel"].sharding.spec)
    ((2, 3), ())
    """
    with jax.set_mesh(mesh):
        graphdef, state = split(eval_shape(init_fn))
    return graphdef, jax.tree.map(lambda leaf: _on_devices(leaf, mesh), state)


def _on_devices(leaf: Any, mesh: jax.sharding.Mesh) -> Any:
    """Returns an abstract array whose sharding names devices; under explicit sharding jax leaves them out."""
    if isinstance(leaf.sharding.mesh, AbstractMesh):
        sharding = NamedSharding(mesh, leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return leaf


def _with_shardings(call: Call, changed: list[Any], outcome: Outcome) -> list[Any]:
    structure = outcome.after or call.spec.graphdef
    rows, paths = structure.variables, leaf_paths(structure)
    return [
        abstract_value(value, dict(rows[i].metadata), "/".join(map(str, paths[i][1:])))
        if i < len(rows)
        else AbstractArray(value.shape, value.dtype, sharding=value.sharding)
        for i, value in zip(outcome.leaves, changed, strict=True)
    ]


def _returning_copies(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fun` with copies of the objects in its output, which may be modules from outside: `eval_shape`
    returns abstract copies in any case, and only describes."""

    @functools.wraps(fun)
    def called(*args: Any, **kwargs: Any) -> Any:
        objects: list[Any] = []
        out = take_out(fun(*args, **kwargs), objects)
        return put_back(out, clone(tuple(objects))) if objects else out

    return called


def _copied(call: Call) -> Call:
    """Returns the call with copies of its objects, so that writing to them changes nobody's."""
    copies = clone(tuple(call.objects)) if call.objects else ()
    return call._replace(objects=list(copies), walk=walk(*copies))
