"""What a model returns, as a list of named outputs, and what is said about each: loss, weight, targets.

Whatever is given for the outputs (losses, loss weights, metrics, targets, sample weights) is a list in their
order, a dict by their names, or nested as they are. `Outputs.align` brings each of these into their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from easyflax.errors import unknown_name_message

__all__ = ["Outputs"]


class Outputs:
    """The outputs of a model, in order.

    Args:
        y_pred: what the model returns, or its shapes and dtypes, in its nesting.
        names: of the outputs in the order of their leaves, None where the model knows none. The keys of a
            dict go before them.

    Attributes:
        names: one an output, None where it has none: "a", or "left/a" for `{"left": {"a": ...}}`.
    """

    def __init__(self, y_pred: Any, names: Sequence[str] | None = None):
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(y_pred)
        self._skeleton = jax.tree.map(lambda _: None, y_pred)
        self._paths = [path for path, _ in leaves]
        self.names = _names(self._paths, names)
        self._model_names = list(names) if names and len(names) == len(leaves) else None

    def __len__(self) -> int:
        return len(self.names)

    def loss_name(self, number: int, loss: str) -> str:
        """Returns what the loss of an output is called, as in Keras.

        Args:
            number: of the output.
            loss: the name of the loss, which stands for the name of an output in a list that has none.
        """
        path = self._paths[number]
        if path and not isinstance(path[-1], jax.tree_util.SequenceKey):
            return self.names[number] or loss
        way = [str(getattr(step, "key", getattr(step, "idx", step))) for step in path[:-1]]
        return "/".join([*way, self.names[number] or loss])

    @property
    def is_dict(self) -> bool:
        """Whether the model returns a dict."""
        return isinstance(self._skeleton, Mapping)

    def leaves(self, y_pred: Any) -> list[Any]:
        """Returns the arrays of an output nested like this one."""
        return self._structure.flatten_up_to(y_pred)

    def shown(self) -> str:
        """Returns how messages tell of the outputs."""
        if any(name is None for name in self.names):
            return f"{len(self)} outputs" if len(self) > 1 else "one output"
        return f"the outputs {', '.join(repr(name) for name in self.names)}"

    def align(self, tree: Any, what: str, is_leaf: Callable[[Any], bool] = lambda _: False) -> list[Any]:
        """Returns what `tree` holds for each output, None for those that a dict leaves out.

        Args:
            tree: a list in the order of the outputs, a dict by their names, or nested as they are; or of a
                single output, just one.
            what: the argument's name, for the messages.
            is_leaf: says what is one entry, though it is a list or a dict.

        Raises:
            ValueError: there are too few or too many, or a name is none of an output.
        """
        if len(self) == 1:
            while _is_nested(tree) and not is_leaf(tree) and len(tree) == 1:
                tree = next(iter(tree.values() if isinstance(tree, Mapping) else tree))
            if is_leaf(tree) or not _is_nested(tree):
                return [tree]
        if isinstance(tree, Mapping) and not is_leaf(tree):
            by_name = self._by_names(tree, what)
            if by_name is not None:
                return by_name
        elif _has_length(tree, len(self)) and all(is_leaf(entry) or not _is_nested(entry) for entry in tree):
            return list(tree)
        return self._by_nesting(tree, what, is_leaf)

    def _by_names(self, tree: Mapping[str, Any], what: str) -> list[Any] | None:
        """Returns the entries by name; None if the outputs are nested deeper than the names tell."""
        for names in (self.names, self._model_names):
            if names and tree.keys() <= set(names):
                return [None if name is None else tree.get(name) for name in names]
        if isinstance(self._skeleton, Mapping) and tree.keys() <= self._skeleton.keys():
            return None
        known = [name for name in self._model_names or self.names if name is not None]
        if not known:
            raise ValueError(
                f"{what} is a dict with the keys {list(tree)}, expected a list of {len(self)}, since the "
                "outputs of this model have no names. Return a dict from the model, or pass a list in their "
                "order."
            )
        unknown = next(key for key in tree if key not in known)
        raise ValueError(f"{what}: {unknown_name_message('output', str(unknown), known)}")

    def _by_nesting(self, tree: Any, what: str, is_leaf: Callable[[Any], bool]) -> list[Any]:
        found: list[Any] = []
        if not _collect(self._skeleton, tree, is_leaf, found):
            count = f"{len(tree)} entries" if isinstance(tree, Sequence | Mapping) else "one value"
            raise ValueError(
                f"{what} has {count}, expected what fits {self.shown()}. Pass a list with one entry an "
                "output, in their order, or a dict by their names."
            )
        return found


def _collect(skeleton: Any, tree: Any, is_leaf: Callable[[Any], bool], found: list[Any]) -> bool:
    """Appends the entries of `tree` at the leaves of `skeleton`; returns whether it is nested like that."""
    if skeleton is None:
        found.append(tree)
        return is_leaf(tree) or not _is_nested(tree)
    if tree is None:
        found.extend([None] * len(jax.tree.leaves(skeleton, is_leaf=lambda leaf: leaf is None)))
        return True
    if isinstance(skeleton, Mapping):
        if not isinstance(tree, Mapping) or not tree.keys() <= skeleton.keys():
            return False
        return all(_collect(skeleton[key], tree.get(key), is_leaf, found) for key in sorted(skeleton))
    if isinstance(skeleton, Sequence):
        return _has_length(tree, len(skeleton)) and all(
            _collect(*pair, is_leaf, found) for pair in zip(skeleton, tree, strict=True)
        )
    return False


def _has_length(tree: Any, length: int) -> bool:
    return isinstance(tree, Sequence) and not isinstance(tree, str) and len(tree) == length


def _is_nested(tree: Any) -> bool:
    return isinstance(tree, list | tuple | Mapping)


def _names(paths: list[Any], names: Sequence[str] | None) -> list[str | None]:
    """Returns the name of each output: the keys on its way, else what the model calls it."""
    given = list(names) if names and len(names) == len(paths) else [None] * len(paths)
    return [_from_keys(path) or name for path, name in zip(paths, given, strict=True)]


def _from_keys(path: Any) -> str | None:
    if not path or not all(isinstance(step, jax.tree_util.DictKey) for step in path):
        return None
    return "/".join(str(step.key) for step in path)
