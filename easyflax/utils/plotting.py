"""Pictures of models, drawn by Graphviz's program `dot`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax import activations
from easyflax.layers import abstract
from easyflax.layers.freezing import frozen_variables
from easyflax.models import Model
from easyflax.models.outline import Node, Outline, Source, module_in, outline

__all__ = ["model_to_dot", "plot_model"]

_TEXTS = (".dot", ".gv")


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Any:
    """Draws the layers of a model and what goes from one to the other into a file.

    A `Sequential`, and a model between symbolic values, are drawn by their layers and functions; others, that
    say in Python what they call, are one box.

    Args:
        model: the model.
        to_file: `.png`, `.svg`, `.pdf` or what else `dot` writes; `.dot` for its input, without the program.
        show_shapes: writes the shapes of inputs and outputs.
        show_dtype: writes the dtypes of outputs.
        show_layer_names: writes the names of layers.
        rankdir: "TB" draws from the top to the bottom, "LR" from left to right.
        expand_nested: draws the layers of models within the model, in a frame.
        dpi: dots per inch, of images that have dots.
        show_layer_activations: writes the activations of layers that have one.
        show_trainable: writes whether layers are trained.
        splines: how `dot` draws edges: "ortho", "spline", "line", "polyline" or "curved".

    Returns:
        In a notebook the picture, None elsewhere.

    Raises:
        ImportError: Graphviz is not installed.
        ValueError: the model has no weights yet, or `dot` does not know the format.
    """
    text = model_to_dot(
        model,
        show_shapes,
        show_dtype,
        show_layer_names,
        rankdir,
        expand_nested,
        dpi,
        show_layer_activations=show_layer_activations,
        show_trainable=show_trainable,
        splines=splines,
    )
    path = Path(to_file)
    if path.suffix in _TEXTS:
        path.write_text(text)
        return None
    _draw(text, path, path.suffix[1:] or "png")
    return _shown_in_notebook(path)


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    *,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> str:
    """Returns what `plot_model` gives to `dot`, in its language; for the arguments see there.

    Raises:
        TypeError: `model` is no module.
        ValueError: the model has no weights yet.

    Examples:
        >>> import easyflax as ef
        >>> model = ef.Sequential([ef.Input((4,)), ef.layers.Dense(3), ef.layers.Dense(2)], name="small")
        >>> [line for line in model_to_dot(model).splitlines() if "->" in line]
        ['  "dense" -> "dense_1";']
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"plot_model: got {type(model).__name__}, expected a model. Pass one of ef.Model.")
    if isinstance(model, Model):
        model._require_built("plot_model")
    writer = _Writer(
        frozen=frozen_variables(module_in(model)),
        show_shapes=show_shapes,
        show_dtype=show_dtype,
        show_names=show_layer_names,
        show_activations=show_layer_activations,
        show_trainable=show_trainable,
        expand_nested=expand_nested,
    )
    parts = outline(module_in(model)) or _only_itself(model)
    head = [
        f'graph [rankdir={_quoted(rankdir)}, dpi={dpi}, splines={_quoted(splines)}, fontname="Helvetica"];',
        'node [shape=plaintext, margin=0, fontname="Helvetica", fontsize=14];',
        "edge [penwidth=1.5, arrowsize=0.8];",
    ]
    lines = [*head, *writer.nodes(parts, ""), *writer.edges(parts, "")]
    return "\n".join(["digraph {", *(f"  {line}" for line in lines), "}", ""])


def _only_itself(model: Any) -> Outline:
    module = module_in(model)
    return Outline([Node(getattr(model, "name", type(module).__name__), module)], [], [])


@dataclass
class _Writer:
    """Writes the nodes and edges of outlines; nodes go by their names, with those of the models around."""

    frozen: set[int]
    show_shapes: bool
    show_dtype: bool
    show_names: bool
    show_activations: bool
    show_trainable: bool
    expand_nested: bool

    def nodes(self, parts: Outline, prefix: str) -> Iterator[str]:
        for node in parts.nodes:
            inner = self._inner(node)
            if inner is None:
                yield f"{_quoted(prefix + node.name)} [label=<{self._label(node)}>];"
                continue
            yield f"subgraph {_quoted('cluster_' + prefix + node.name)} {{"
            title = f"{node.name} ({node.kind})" if self.show_names else node.kind
            yield f'  label={_quoted(title)}; style="rounded,dashed";'
            yield from (f"  {line}" for line in self.nodes(inner, f"{prefix}{node.name}/"))
            yield "}"

    def edges(self, parts: Outline, prefix: str) -> Iterator[str]:
        by_name = {node.name: node for node in parts.nodes}
        for node in parts.nodes:
            for call in node.calls:
                for place, source in enumerate(call):
                    begin, end = self._begin(source, by_name, prefix), self._end(node, place, prefix)
                    yield f"{_quoted(begin)} -> {_quoted(end)};"
            if (inner := self._inner(node)) is not None:
                yield from self.edges(inner, f"{prefix}{node.name}/")

    def _inner(self, node: Node) -> Outline | None:
        inner = outline(module_in(node.function)) if self.expand_nested else None
        return inner if inner is not None and inner.nodes else None

    def _begin(self, source: Source, by_name: dict[str, Node], prefix: str) -> str:
        """Returns the node that an edge comes from: of a frame the one inside that makes the value."""
        node = by_name[source.node]
        inner = self._inner(node)
        if inner is None:
            return prefix + node.name
        inner_nodes = {one.name: one for one in inner.nodes}
        return self._begin(inner.outputs[source.output], inner_nodes, f"{prefix}{node.name}/")

    def _end(self, node: Node, place: int, prefix: str) -> str:
        """Returns the node that an edge goes to: of a frame the one inside that takes the value."""
        inner = self._inner(node)
        if inner is None:
            return prefix + node.name
        name = inner.inputs[min(place, len(inner.inputs) - 1)]
        taker = next(one for one in inner.nodes if one.name == name)
        return self._end(taker, 0, f"{prefix}{node.name}/")

    def _label(self, node: Node) -> str:
        """Returns the box of a node, in dot's HTML."""
        is_function = not isinstance(node.function, nnx.Module)
        kind = getattr(node.function, "__name__", node.name) if is_function else node.kind
        title = f"{node.name} ({node.kind})" if self.show_names else kind
        color = "#5b6472" if is_function else "#24527a"
        rows = [f'<tr><td bgcolor="{color}"><font color="white"><b>{escape(title)}</b></font></td></tr>']
        rows += [f'<tr><td bgcolor="white">{escape(line)}</td></tr>' for line in self._facts(node)]
        return f'<table border="0" cellborder="1" cellspacing="0" cellpadding="6">{"".join(rows)}</table>'

    def _facts(self, node: Node) -> Iterator[str]:
        activation = getattr(node.function, "activation", None)
        if self.show_activations and activation is not None:
            yield f"activation: {activations.serialize(activation)}"
        if self.show_shapes and node.inputs:
            yield f"in: {_listed(_shapes(node.inputs))}"
        if self.show_shapes:
            yield f"out: {_listed(_shapes(node.outputs))}"
        if self.show_dtype:
            yield f"dtype: {_listed(dict.fromkeys(str(spec.dtype) for spec in _specs(node.outputs)))}"
        params = [one for _, one in nnx.iter_graph(node.function) if isinstance(one, nnx.Param)]
        if self.show_trainable and params:
            num_frozen = sum(id(one) in self.frozen for one in params)
            yield {0: "trainable", len(params): "frozen"}.get(num_frozen, "partly frozen")


def _draw(text: str, path: Path, kind: str) -> None:
    program = shutil.which("dot")
    if program is None:
        raise ImportError(
            "plot_model: found no program 'dot', expected Graphviz to be installed. Install it, on Debian "
            f"by 'apt-get install graphviz', or pass to_file='{path.stem}.dot' to get its input."
        )
    done = subprocess.run(
        [program, f"-T{kind}", "-o", str(path)], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(
            f"plot_model: dot could not write {str(path)!r}: {done.stderr.strip()}. Pass a to_file that ends "
            "in .png, .svg or .pdf, in a folder that is there."
        )


def _shown_in_notebook(path: Path) -> Any:
    if "IPython" not in sys.modules or path.suffix not in (".png", ".jpg", ".jpeg", ".svg", ""):
        return None
    from IPython import display  # type: ignore[import-not-found]

    return display.SVG(filename=str(path)) if path.suffix == ".svg" else display.Image(filename=str(path))


def _specs(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if abstract.is_spec(leaf)]


def _shapes(tree: Any) -> list[str]:
    return [str(tuple(spec.shape)) for spec in _specs(tree)]


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "?"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
