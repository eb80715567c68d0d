"""An optax transformation together with its state, which updates a model in place.

optax works on trees of arrays, and its state is such a tree. `Optimizer` keeps that tree with a variable in
place of each array, so that `nnx.state`, `nnx.split`, `nnx.jit` and checkpoints see it; the arrays are taken
out for each step, and put back after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from easyflax.nnx.core import graph
from easyflax.nnx.core.filters import Filter
from easyflax.nnx.core.marks import data
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.sharding import place
from easyflax.nnx.core.variables import Param, Variable

if TYPE_CHECKING:
    import optax

M = TypeVar("M")  # the model

__all__ = ["ModelAndOptimizer", "OptArray", "OptState", "OptVariable", "Optimizer"]


class OptState(Variable[Any]):
    """Any state of an optimizer."""


class OptArray(OptState):
    """State that belongs to no parameter, such as a count of steps."""


class OptVariable(OptState):
    """State that belongs to one parameter, such as its momentum; it carries that parameter's metadata."""


class Optimizer(Pytree, Generic[M]):
    """Updates the variables of a model in place, by an optax transformation.

    There are two spellings. With `wrt`, the optimizer holds no model: `Optimizer(model, tx, wrt=nnx.Param)`
    and `optimizer.update(model, grads)`. Without it, the optimizer keeps a reference to the model as
    `optimizer.model`, and updates its `nnx.Param`s: `Optimizer(model, tx)` and `optimizer.update(grads)`.

    Args:
        model: a module, or anything that `nnx.state` takes.
        tx: an optax transformation.
        wrt: filter for the variables to update; that of the `nnx.grad` which makes the gradients.

    Attributes:
        step: number of updates so far, an `OptState` holding a uint32.
        tx: the transformation.
        opt_state: its state, with an `OptVariable` or `OptArray` in place of each array.
        wrt: the filter.
        model: the model, in the spelling that keeps it.

    Examples:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        >>> def loss_fn(model):
        ...     return (model(jnp.ones((4, 2))) ** 2).mean()
        >>> before = loss_fn(model)
        >>> updates = optimizer.update(model, nnx.grad(loss_fn)(model))
        >>> bool(loss_fn(model) < before), int(optimizer.step[...])
        (True, 1)
    """

    model: Any

    def __init__(self, model: Any, tx: optax.GradientTransformation, *, wrt: Filter = None) -> None:
        keep_model = wrt is None
        self.wrt = Param if wrt is None else wrt
        self.step = OptState(jnp.array(0, dtype=jnp.uint32))
        self.tx = tx
        self.opt_state = data(_to_variables(tx.init(graph.state(model, self.wrt))))
        if keep_model:
            self.model = model

    def update(self, *model_and_grads: Any, **kwargs: Any) -> optax.Updates:
        """Updates model and optimizer: `update(model, grads)`, or `update(grads)` where it holds the model.

        Args:
            *model_and_grads: the model and its gradients as `nnx.grad` returns them, or the gradients alone.
            **kwargs: passed on to the transformation, for those that take more, such as `value=` for a line
                search; variables in them are replaced by their values.

        Returns:
            What was added to the variables: a state of arrays.

        Raises:
            TypeError: another number of arguments, or gradients alone where the optimizer holds no model.
            ValueError: the gradients are not of the variables that are to be updated.
        """
        model, grads = self._model_and_grads(model_and_grads)
        params = _to_arrays(graph.state(model, self.wrt))
        grads = _to_arrays(self._selected(grads))
        _check_paths(grads, params)
        updates, opt_state = self.tx.update(grads, _to_arrays(self.opt_state), params, **_to_arrays(kwargs))
        import optax  # slow to load, and whoever made the transformation has loaded it

        graph.update(model, optax.apply_updates(params, updates))
        jax.tree.map(Variable.set_raw_value, self.opt_state, opt_state, is_leaf=_is_variable)
        self.step[...] += 1
        return updates

    def _model_and_grads(self, given: tuple[Any, ...]) -> tuple[Any, Any]:
        if len(given) == 2:
            return given[0], given[1]
        if len(given) == 1 and "model" in vars(self):
            return self.model, given[0]
        if len(given) == 1:
            raise TypeError(
                f"{type(self).__name__}.update got one argument, expected the model and the gradients: this "
                "optimizer was made with wrt=, so it holds no model. Call optimizer.update(model, grads), or "
                "make it as nnx.Optimizer(model, tx)."
            )
        raise TypeError(
            f"{type(self).__name__}.update got {len(given)} positional arguments, expected the model and the "
            "gradients. Call optimizer.update(model, grads); what the transformation takes besides goes by "
            "keyword."
        )

    def _selected(self, grads: Any) -> Any:
        """The gradients of what is updated; plain arrays have no kind to select by, and are taken whole."""
        if any(map(_is_variable, jax.tree.leaves(grads, is_leaf=_is_variable))):
            return graph.state(grads, self.wrt)
        return grads


class ModelAndOptimizer(Optimizer[M]):
    """An `Optimizer` that keeps a reference to its model: `update(grads)`.

    Args:
        model: a module.
        tx: an optax transformation.
        wrt: filter for the variables to update.

    Examples:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from easyflax import nnx
        >>> optimizer = nnx.ModelAndOptimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.sgd(0.1))
        >>> updates = optimizer.update(nnx.grad(lambda model: model(jnp.ones((4, 2))).sum())(optimizer.model))
        >>> int(optimizer.step[...])
        1
    """

    def __init__(self, model: Any, tx: optax.GradientTransformation, *, wrt: Filter = Param) -> None:
        super().__init__(model, tx, wrt=wrt)
        self.model = model


def _is_variable(value: Any) -> bool:
    return isinstance(value, Variable)


def _to_arrays(tree: Any) -> Any:
    """`tree` with the value as stored in place of each variable."""
    return jax.tree.map(lambda x: x.get_raw_value() if _is_variable(x) else x, tree, is_leaf=_is_variable)


def _to_variables(tree: Any) -> Any:
    """An optax state with a variable in place of each array."""
    return jax.tree.map(_to_variable, tree, is_leaf=_is_variable)


def _to_variable(leaf: Any) -> OptState:
    if not _is_variable(leaf):
        return OptArray(leaf)
    metadata = leaf.get_metadata()
    if "optimizer_sharding" in metadata:  # a layout of its own for what belongs to this parameter
        metadata["out_sharding"] = metadata.pop("optimizer_sharding")
    value, names = leaf.get_raw_value(), metadata.get("out_sharding")
    if isinstance(names, tuple) and len(names) > getattr(value, "ndim", len(names)):
        del metadata["out_sharding"]  # less than the parameter: a factored second moment, say
    return OptVariable.from_metadata(place(value, metadata, OptVariable.__name__), metadata)


def _check_paths(grads: Any, params: Any) -> None:
    got, expected = (
        {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)}
        for tree in (grads, params)
    )
    if got != expected:
        raise ValueError(
            f"Optimizer.update got gradients without {_shown(expected - got)} and with "
            f"{_shown(got - expected)} that are not to be updated, expected gradients of the variables that "
            "wrt selects. Pass the same filter as wrt to nnx.grad and to the optimizer."
        )


def _shown(paths: set[str]) -> str:
    names = sorted(paths)
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "nothing"
