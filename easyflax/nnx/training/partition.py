"""Several optax transformations for several parts of one model, told apart by filters.

Filters look at the kinds and paths of variables, and optax transformations see plain arrays in every update.
So the choice is made once, in `init`, which is given variables, and is kept in the state, as static data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core.filters import Filter, Path, filters_to_predicates
from easyflax.nnx.training.optimizer import check_transformation
from easyflax.nnx.training.variable_trees import dotted, is_variable, leaves_with_paths

if TYPE_CHECKING:
    import optax

__all__ = ["MultiTransformState", "multi_transform"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiTransformState:
    """The state of `multi_transform`.

    Attributes:
        inner_states: the state of each transformation, by its position among the filters.
        structure: of the parameters, with a variable as one leaf.
        choice: for each of these leaves the position of the filter that took it.
    """

    inner_states: dict[int, Any]
    structure: Any = dataclasses.field(metadata={"static": True})
    choice: tuple[int, ...] = dataclasses.field(metadata={"static": True})


def multi_transform(
    transforms: Mapping[Filter, optax.GradientTransformation | None]
    | Sequence[tuple[Filter, optax.GradientTransformation | None]],
) -> optax.GradientTransformationExtraArgs:
    """Returns an optax transformation that applies to each variable the one whose filter matches it first.

    It is for `nnx.Optimizer`, for the `optimizer` of `ef.Model.compile`, and for optax itself on an
    `nnx.State`. Where what the optimizer is given holds plain arrays, only filters by path can match.

    Args:
        transforms: optax transformations by filter, as a mapping or as pairs; None in place of one freezes
            the variables: they keep their bits, and take no memory in the optimizer. Arguments of `update`
            besides gradients and parameters reach all of them; arguments with the structure of the gradients
            are cut to the part of each.

    Returns:
        The transformation; its state is a `MultiTransformState`.

    Raises:
        TypeError: there are no such pairs, or what stands beside a filter is no optax transformation.
        ValueError: `...` is not the last filter; or, from its `init`, a variable matches no filter, or a
            filter other than `...` has no variable left to match.

    Examples:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs))
        >>> tx = nnx.multi_transform({nnx.PathContains(0): None, nnx.Param: optax.adam(1e-2)})
        >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        >>> first, second = (layer.kernel[...] for layer in model.layers)
        >>> updates = optimizer.update(model, nnx.grad(lambda model: model(jnp.ones((1, 2))).sum())(model))
        >>> bool((model.layers[0].kernel == first).all()), bool((model.layers[1].kernel == second).any())
        (True, False)
    """
    import optax  # slow to load

    pairs = _as_pairs(transforms)
    filters = [filter for filter, _ in pairs]
    predicates = filters_to_predicates(filters)
    inner: dict[Any, Any] = {i: _frozen() if tx is None else tx for i, (_, tx) in enumerate(pairs)}

    def choose(path: Path, leaf: Any) -> int:
        for position, predicate in enumerate(predicates):
            if predicate(path, leaf):
                return position
        raise ValueError(_unmatched(path, leaf, filters))

    def by_position(structure: Any, choice: tuple[int, ...]) -> Any:
        labels = structure.unflatten(choice)
        return optax.multi_transform(inner, labels, mask_compatible_extra_args=True)

    def init(params: Any) -> Any:
        structure = jax.tree.structure(params, is_leaf=is_variable)
        choice = tuple(choose(path, leaf) for path, leaf in leaves_with_paths(params))
        _check_used(filters, choice)
        state = by_position(structure, choice).init(params)
        return MultiTransformState(state.inner_states, structure, choice)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        tx = by_position(state.structure, state.choice)
        updates, after = tx.update(updates, optax.MultiTransformState(state.inner_states), params, **extra)
        return updates, dataclasses.replace(state, inner_states=after.inner_states)

    return optax.GradientTransformationExtraArgs(init, update)


def _frozen() -> optax.GradientTransformation:
    """Adds minus zero, which unlike zero leaves the sign of a zero alone."""
    import optax

    return optax.stateless(lambda updates, _: jax.tree.map(lambda x: -jnp.zeros_like(x), updates))


def _as_pairs(transforms: Any) -> list[tuple[Filter, Any]]:
    pairs = list(transforms.items() if isinstance(transforms, Mapping) else transforms)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"multi_transform got {type(pair).__name__} {pair!r}, expected pairs of a filter and an "
                "optax transformation. Pass for example [(nnx.PathContains('head'), optax.adam(1e-3)), (..., "
                "None)]."
            )
        if pair[1] is not None:
            check_transformation(f"multi_transform got for the filter {pair[0]!r}", pair[1])
    return pairs


def _unmatched(path: Path, leaf: Any, filters: list[Filter]) -> str:
    kind = type(leaf).__name__ if is_variable(leaf) else "plain array, which only filters by path match"
    return (
        f"multi_transform got '{dotted(path)}' ({kind}), which none of the filters {filters!r} matches, "
        "expected one for each variable. Add a filter for it, or `...` as the last one for all that remain: "
        "with None it freezes them."
    )


def _check_used(filters: list[Filter], choice: Sequence[int]) -> None:
    for i, filter in enumerate(filters):
        if i not in choice and filter is not ... and filter is not True:
            raise ValueError(
                f"multi_transform got the filter {filter!r}, which matches no variable that those before "
                f"it leave, expected each but `...` to match one of the {len(choice)} that are optimized. "
                "Correct the filter, put it before more general ones, or take it out."
            )
