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
from easyflax.nnx.training.variable_trees import check_fits, is_variable, selected, to_arrays

if TYPE_CHECKING:
    import optax

M = TypeVar("M")  # the model

_HELD: Any = (
    object()
)  # in place of the gradients: they are the only argument, and the optimizer holds the model

__all__ = [
    "ModelAndOptimizer",
    "OptArray",
    "OptState",
    "OptVariable",
    "Optimizer",
    "check_transformation",
    "to_variables",
]


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

    What `wrt` does not select is frozen: it stays as it is, and takes no memory here. No gradients are
    computed for it either if `nnx.grad` has the same filter, as `argnums=nnx.DiffState(0, wrt)`. To update
    parts of the model in different ways, see `nnx.multi_transform`.

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

    Raises:
        TypeError: `tx` is no optax transformation.
        ValueError: `wrt` matches no variable of the model.

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
        check_transformation(f"{type(self).__name__} got as tx", tx)
        keep_model = wrt is None
        self.wrt = Param if wrt is None else wrt
        self.step = OptState(jnp.array(0, dtype=jnp.uint32))
        self.tx = tx
        self.opt_state = data(to_variables(tx.init(self._params(model))))
        if keep_model:
            self.model = model

    def update(self, model: Any, grads: Any = _HELD, /, **kwargs: Any) -> optax.Updates:
        """Updates model and optimizer: `update(model, grads)`, or `update(grads)` where it holds the model.

        Args:
            model: the model; left out where the optimizer holds it.
            grads: its gradients, as `nnx.grad` returns them.
            **kwargs: passed on to the transformation, for those that take more, such as `value=` for a line
                search; variables in them are replaced by their values.

        Returns:
            What was added to the variables: a state of arrays.

        Raises:
            TypeError: gradients alone, and the optimizer holds no model.
            ValueError: the gradients are not of the variables that are to be updated.
        """
        if grads is _HELD:
            model, grads = self._held_model(), model
        params = to_arrays(graph.state(model, self.wrt))
        grads = to_arrays(selected(grads, self.wrt))
        expectation = "wrt selects. Pass the same filter as wrt to nnx.grad and to the optimizer."
        check_fits(f"{type(self).__name__}.update got gradients", grads, params, expectation)
        updates, opt_state = self.tx.update(grads, to_arrays(self.opt_state), params, **to_arrays(kwargs))
        import optax  # slow to load, and whoever made the transformation has loaded it

        graph.update(model, optax.apply_updates(params, updates))
        jax.tree.map(Variable.set_raw_value, self.opt_state, opt_state, is_leaf=is_variable)
        self.step[...] += 1
        return updates

    def _params(self, model: Any) -> Any:
        """What is updated, as a state of variables."""
        params = graph.state(model, self.wrt)
        if not jax.tree.leaves(params):
            leaves = jax.tree.leaves(graph.state(model), is_leaf=is_variable)
            kinds = sorted({type(leaf).__name__ for leaf in leaves if is_variable(leaf)})
            raise ValueError(
                f"{type(self).__name__} got wrt={self.wrt!r}, which matches no variable of the "
                f"{type(model).__name__}, expected a filter for those to update. Pass a kind of "
                f"variable that it has ({', '.join(kinds) or 'it has none'}), or a filter by path."
            )
        return params

    def _held_model(self) -> Any:
        if "model" in vars(self):
            return self.model
        raise TypeError(
            f"{type(self).__name__}.update got one argument, expected the model and the gradients: this "
            "optimizer was made with wrt=, so it holds no model. Call optimizer.update(model, grads), or "
            "make it as nnx.Optimizer(model, tx)."
        )


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


def check_transformation(what: str, tx: Any) -> None:
    """Checks that `tx` can be used as an optax transformation.

    Args:
        what: begins the message: who got it.
        tx: anything.

    Raises:
        TypeError: it does not have `init` and `update`.
    """
    if isinstance(tx, type) or not all(callable(getattr(tx, name, None)) for name in ("init", "update")):
        shown = f" {getattr(tx, '__name__', repr(tx))}" if isinstance(tx, str | float) or callable(tx) else ""
        raise TypeError(
            f"{what} the {type(tx).__name__}{shown}, expected an optax transformation, which has init and "
            "update. Call the function that makes one, for example optax.adam(1e-3)."
        )


def to_variables(tree: Any) -> Any:
    """Returns an optax state with an `OptState` in place of each array.

    Args:
        tree: the state as `init` returns it for a tree of variables: what belongs to a parameter is a
            variable in it, and becomes an `OptVariable` with the same metadata.
    """
    return jax.tree.map(_to_variable, tree, is_leaf=is_variable)


def _to_variable(leaf: Any) -> OptState:
    if not is_variable(leaf):
        return OptArray(leaf)
    metadata = leaf.get_metadata()
    if "optimizer_sharding" in metadata:  # a layout of its own for what belongs to this parameter
        metadata["out_sharding"] = metadata.pop("optimizer_sharding")
    value, names = leaf.get_raw_value(), metadata.get("out_sharding")
    if isinstance(names, tuple) and len(names) > getattr(value, "ndim", len(names)):
        del metadata["out_sharding"]  # less than the parameter: a factored second moment, say
    return OptVariable.from_metadata(place(value, metadata, OptVariable.__name__), metadata)
