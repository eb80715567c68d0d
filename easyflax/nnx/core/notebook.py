"""`nnx.display`: modules, variables and states in notebooks, where Treescope is installed."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from easyflax.nnx.core.outline import comment_on, layout_of, outline, path_of, without_middle
from easyflax.nnx.core.tracking import Tracked


class _Rendering:
    """What is known while an object and all below it are rendered.

    Attributes:
        comments: by identity of each object what it holds.
        paths: by identity of each object the path at which it comes first.
        done: identities of those that were rendered, or begun to be.
    """

    def __init__(self, value: Any) -> None:
        nodes = self._kept_alive = outline(value)
        shown = [
            i for i, node in enumerate(nodes) if node.same_as is None and isinstance(node.value, Tracked)
        ]
        self.comments = {id(nodes[i].value): comment_on(nodes[i]) for i in shown}
        self.paths = {id(nodes[i].value): path_of(nodes, i) for i in shown}
        self.done: set[int] = set()


_rendering: ContextVar[_Rendering | None] = ContextVar("_rendering", default=None)


def render_treescope(value: Any, path: str | None, subtree_renderer: Any) -> Any:
    """Renders a module, variable or state for Treescope."""
    rendering = _rendering.get()
    if rendering is not None and id(value) in rendering.comments:
        return _render(value, path, subtree_renderer, rendering)
    token = _rendering.set(rendering := _Rendering(value))
    try:
        return _render(value, path, subtree_renderer, rendering)
    finally:
        _rendering.reset(token)


def _render(value: Any, path: str | None, subtree_renderer: Any, rendering: _Rendering) -> Any:
    from treescope import rendering_parts

    if id(value) in rendering.done:
        return _render_again(value, path, rendering)
    rendering.done.add(id(value))
    opening, parts, closing = layout_of(value)  # type: ignore[misc]  # which objects of ours always have

    def render_part(key: Any, prefix: str, part: Any) -> Any:
        where = None if path is None else path + (f".{key}" if prefix.endswith("=") else f"[{key!r}]")
        again = id(part) in rendering.done  # here, since Treescope knows no path, only the address
        child = _render_again(part, where, rendering) if again else subtree_renderer(part, path=where)
        return rendering_parts.siblings_with_annotations(prefix, child)

    first, left_out, last = without_middle(parts)
    children = [render_part(*part) for part in first]
    children += [_treescope_comment(f"{left_out:,} more")] if left_out else []
    children += [render_part(*part) for part in last]
    return rendering_parts.build_foldable_tree_node_from_children(
        prefix=rendering_parts.siblings(_treescope_name(value), opening.removeprefix(type(value).__name__)),
        children=children,
        suffix=rendering_parts.siblings(closing, _only_in_code(">")),
        comma_separated=True,
        path=path,
        background_color=_treescope_color(value),
        first_line_annotation=_treescope_comment(rendering.comments[id(value)]),
    )


def _render_again(value: Any, path: str | None, rendering: _Rendering) -> Any:
    """Renders an object that was rendered elsewhere: its name, and the path of that place."""
    from treescope import rendering_parts

    comment = _treescope_comment(f" # same as {rendering.paths[id(value)]}")
    name = rendering_parts.siblings(_treescope_name(value), "(...)", _only_in_code(">"))
    line = rendering_parts.siblings_with_annotations(name, extra_annotations=[comment])
    return rendering_parts.build_one_line_tree_node(line, path, _treescope_color(value))


def _treescope_name(value: Any) -> Any:
    from treescope import rendering_parts

    return rendering_parts.siblings(
        _only_in_code("<"), rendering_parts.maybe_qualified_type_name(type(value))
    )


def _only_in_code(text: str) -> Any:
    """Returns text that Treescope shows in its mode for copying code, in which it marks what is none by angle
    brackets."""
    from treescope import rendering_parts

    return rendering_parts.roundtrip_condition(roundtrip=rendering_parts.text(text))


def _treescope_color(value: Any) -> str:
    from treescope import formatting_util

    return formatting_util.color_from_string(type(value).__qualname__)


def _treescope_comment(text: str) -> Any:
    from treescope import rendering_parts

    return rendering_parts.comment_color(rendering_parts.text(text))


def display(*values: Any) -> None:
    """Shows values with Treescope in a notebook where it is installed, otherwise prints them.

    >>> from easyflax import nnx
    >>> nnx.display(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))  # doctest: +ELLIPSIS
    Linear( # Param: 9 (36 B)
    ...
    """
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and ipython.get_ipython() is not None
    treescope = _treescope() if in_notebook else None
    for value in values:
        if treescope is None:
            print(value)
        else:
            treescope.display(value, ignore_exceptions=True, autovisualize=True)


def _treescope() -> Any:
    try:
        import treescope
    except ImportError:
        return None
    return treescope
