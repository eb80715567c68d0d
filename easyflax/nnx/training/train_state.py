"""`TrainState`: a model's structure, parameters and optimizer state as one immutable pytree."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from easyflax.nnx.core.graphdef import GraphDef
from easyflax.nnx.core.marks import static
from easyflax.nnx.core.module import Module
from easyflax.nnx.core.state import State

if TYPE_CHECKING:
    import optax

M = TypeVar("M", bound=Module)
S = TypeVar("S", bound="TrainState[Any]")

__all__ = ["TrainState"]


def _register(cls: Any) -> Any:
    """Makes a class a frozen dataclass and a pytree; fields declared as static have no leaves."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names: dict[bool, list[str]] = {True: [], False: []}
    for field in dataclasses.fields(cls):
        names[field.metadata.get("static", not field.metadata.get("pytree_node", True))].append(field.name)
    return jax.tree_util.register_dataclass(cls, data_fields=names[False], meta_fields=names[True])


@dataclass_transform(frozen_default=True)
class _Immutable:
    """Makes its subclasses, and theirs, dataclasses and pytrees."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)


class TrainState(_Immutable, Generic[M]):
    """What a functional training step takes and returns, for `jax.jit` and checkpoints.

    Subclass it to add more: `class State(nnx.TrainState): batch_stats: nnx.State`. Fields declared as
    `nnx.static()` are compared, not traced.

    Attributes:
        graphdef: the structure of the model.
        params: what is optimized.
        opt_state: the state of `tx`.
        step: the number of updates so far.
        tx: an optax transformation.

    Example:
        >>> import jax, optax
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> graphdef, params = nnx.split(model, nnx.Param)
        >>> state = nnx.TrainState.create(graphdef, params=params, tx=optax.sgd(0.1))
        >>> def loss(params, x):
        ...     y, _ = state.apply(params)(x)
        ...     return (y**2).mean()
        >>> state = state.apply_gradients(jax.grad(loss)(state.params, jnp.ones((1, 2))))
        >>> int(state.step)
        1
    """

    graphdef: GraphDef[M]
    params: State
    opt_state: Any
    step: jax.Array
    tx: optax.GradientTransformation = static()

    @classmethod
    def create(
        cls: type[S],
        graphdef: GraphDef[Any],
        *,
        params: State,
        tx: optax.GradientTransformation,
        step: int = 0,
        **fields: Any,
    ) -> S:
        """Returns a state with a new state of the optimizer.

        Args:
            graphdef: the structure of the model.
            params: what is optimized.
            tx: an optax transformation.
            step: where to begin counting.
            **fields: those that a subclass adds.
        """
        return cls(
            graphdef=graphdef,
            params=params,
            opt_state=tx.init(params),  # type: ignore[arg-type]
            step=jnp.asarray(step),
            tx=tx,
            **fields,
        )

    def replace(self: S, **fields: Any) -> S:
        """Returns a copy with some fields replaced."""
        return dataclasses.replace(self, **fields)

    def apply(self, state: State | str, *states: State | str) -> Any:
        """Returns something to call like the model, with `(graphdef, state)` after the call besides the
        output.

        Args:
            state: a state, or the name of the field that has it.
            *states: further ones; together they must have all leaves of the model.

        Raises:
            TypeError: a field that is named holds no state.
        """
        found = [getattr(self, one) if isinstance(one, str) else one for one in (state, *states)]
        for given, value in zip((state, *states), found, strict=True):
            if isinstance(given, str) and not isinstance(value, State):
                raise TypeError(
                    f"apply got '{given}', which is a {type(value).__name__} in this "
                    f"{type(self).__name__}, expected the name of a field that holds a State. Pass one of "
                    "these, such as 'params', or a state itself."
                )
        return self.graphdef.apply(*found)

    def apply_gradients(self: S, grads: State, **fields: Any) -> S:
        """Returns the state after one update.

        Args:
            grads: a state like `params`.
            **fields: other fields to replace.
        """
        import optax

        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)  # type: ignore[arg-type]
        params: Any = optax.apply_updates(self.params, updates)  # type: ignore[arg-type]
        return self.replace(params=params, opt_state=opt_state, step=self.step + 1, **fields)
