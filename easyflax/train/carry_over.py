"""What an optimizer's state keeps when other parameters are trained from now on.

After freezing, what stays trained goes on with the state that it has. After unfreezing, the rule begins
anew: rules such as Adam's correct for how many steps they have seen, a number that parameters share. The
settings in the state go on in both cases: a learning rate that was set, or the place in a schedule.
"""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["carry_over"]


def carry_over(old: Any, new: Any) -> Any:
    """Returns the state to go on with.

    Args:
        old: the state until now.
        new: one as the optimizer makes it for the parameters that are trained from now on.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(new)
    known = dict(jax.tree_util.tree_flatten_with_path(old)[0])
    if all(path in known and _alike(known[path], leaf) for path, leaf in leaves):
        return structure.unflatten([known[path] for path, _ in leaves])
    settings = iter(list(filter(_has_settings, jax.tree.leaves(old, is_leaf=_has_settings))))
    return jax.tree.map(
        lambda node: _with_settings(node, next(settings)) if _has_settings(node) else node,
        new,
        is_leaf=_has_settings,
    )


def _alike(old: Any, new: Any) -> bool:
    return jax.numpy.shape(old) == jax.numpy.shape(new)


def _has_settings(node: Any) -> bool:
    """Says whether it is the state of `optax.inject_hyperparams`."""
    return isinstance(node, tuple) and hasattr(node, "hyperparams") and hasattr(node, "inner_state")


def _with_settings(node: Any, old: Any) -> Any:
    return old._replace(inner_state=node.inner_state)
