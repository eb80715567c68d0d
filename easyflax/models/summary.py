"""The table that `model.summary()` prints: a row for each layer, and the totals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.layers import abstract
from easyflax.layers.freezing import frozen_variables
from easyflax.layers.layer import Layer
from easyflax.layers.symbolic import name_of
from easyflax.layers.weight_order import is_apart, ordered_paths, ordered_weights
from easyflax.models.arguments import check_count
from easyflax.models.chain import Chain
from easyflax.models.graph import Graph
from easyflax.models.measures import Measures
from easyflax.models.outline import Node, is_chain, module_in, outline, shown_name
from easyflax.models.quantities import readable_bytes
from easyflax.train.binding import path_name

Path = tuple[Any, ...]


@dataclass(frozen=True)
class LayerRow:
    """One line of the table.

    Attributes:
        name: of the layer in its model, or the path of a module that is no layer.
        kind: the name of its class, or "function".
        depth: how many models it is in, besides the outermost one.
        output: the shape of its output, None for free axes, in the nesting it returns; None when unknown.
        weights: its variables, those of random streams left out.
        sources: the names of what it is called on.
        flops: of one call for one row of input; None when unknown.
    """

    name: str
    kind: str
    depth: int
    output: Any
    weights: tuple[nnx.Variable[Any], ...]
    sources: tuple[str, ...] = ()
    flops: int | None = None


def layer_rows(
    model: Any, measures: Measures | None = None, *, expand_nested: bool = False
) -> list[LayerRow]:
    """Returns the rows of a model's table.

    Args:
        model: a model, or any module.
        measures: of what `module_in` returns for the model; by default those for what it was stated with.
        expand_nested: whether there are rows for what is in models in the model, too, and in modules that
            are no layers.
    """
    module = module_in(model)
    return list(_rows(module, measures or Measures(module), 0, expand_nested))


def _rows(module: Any, measures: Measures, depth: int, expand: bool) -> Iterator[LayerRow]:
    parts = outline(module)
    if parts is None:
        yield from _rows_by_path(module, measures, depth, expand)
        return
    nodes = parts.nodes
    by_name = {} if is_chain(nodes) else {node.name: node for node in nodes}
    for node in nodes:
        yield _node_row(node, measures, depth, by_name)
        if expand and _has_parts(node.function):
            yield from _rows(module_in(node.function), measures, depth + 1, expand)


def _node_row(node: Node, measures: Measures, depth: int, nodes: Mapping[str, Node]) -> LayerRow:
    is_module = isinstance(node.function, nnx.Module)
    outputs = measures.output(node.function) if node.outputs is None else node.outputs
    return LayerRow(
        name=node.name,
        kind=node.kind,
        depth=depth,
        output=_shapes(outputs),
        weights=tuple(ordered_weights(module_in(node.function))) if is_module else (),
        sources=tuple(shown_name(source, nodes) for source in node.sources if nodes),
        flops=measures.flops(node.function),
    )


def _has_parts(function: Any) -> bool:
    """Says whether a layer, module or function is shown by its parts in an expanded table."""
    if isinstance(function, Layer):
        return _is_model(function)
    return isinstance(function, nnx.Module) and len(list(nnx.iter_modules(function))) > 1


def _is_model(module: Any) -> bool:
    return hasattr(module, "trained_module") or isinstance(module, Chain | Graph)


# -- modules that do not say what they are made of


def _rows_by_path(root: Any, measures: Measures, depth: int, expand: bool) -> Iterator[LayerRow]:
    """Yields a row for every module that has variables of its own, or no modules below.

    Layers and models have one row for all that is in them.
    """
    modules = _modules_to_show(root)
    owned = _owned_weights(root, modules)
    shown = [path for path in modules if owned[path] or _is_leaf(path, modules)]
    shown = [path for path in shown if path or not depth]  # what is expanded has a row already
    for path in sorted(shown, key=lambda path: (measures.call_number(modules[path]), _by_position(path))):
        module = modules[path]
        yield LayerRow(
            name=_name_at(path, module),
            kind=type(module).__name__,
            depth=depth,
            output=_shapes(measures.output(module)),
            weights=tuple(owned[path]),
            flops=measures.flops(module),
        )
        if expand and path and _is_model(module):
            yield from _rows(module_in(module), measures, depth + 1, expand)


def _modules_to_show(root: Any) -> dict[Path, Any]:
    """Returns modules by path, without those inside of layers and models, and without metrics."""
    found: dict[Path, Any] = {}
    apart: list[Path] = []
    for path, module in sorted(nnx.iter_modules(root), key=lambda item: len(item[0])):
        above = (found.get(path[:length]) for length in range(1, len(path)))
        if is_apart(module):
            apart.append(path)
        elif not any(isinstance(one, Layer) for one in above) and not any(
            path[: len(start)] == start for start in apart
        ):
            found[path] = module
    return found


def _owned_weights(root: Any, modules: Mapping[Path, Any]) -> dict[Path, list[nnx.Variable[Any]]]:
    """Returns for each module the weights that belong to no other one below it."""
    owned: dict[Path, list[nnx.Variable[Any]]] = {path: [] for path in modules}
    for path, variable in ordered_paths(root):
        owner = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in modules)
        owned[owner].append(variable)
    return owned


def _name_at(path: Path, module: Any) -> str:
    """Returns the name of a layer that is an attribute, or in a list that is one; else the path."""
    is_child = isinstance(module, Layer) and sum(isinstance(part, str) for part in path) == 1
    return module.name if is_child else path_name(path) or name_of(module)


def _is_leaf(path: Path, modules: Mapping[Path, Any]) -> bool:
    is_container = isinstance(modules[path], nnx.List | nnx.Dict)
    return not is_container and not any(
        len(other) > len(path) and other[: len(path)] == path for other in modules
    )


def _by_position(path: Path) -> list[tuple[bool, Any]]:
    """Sorts numbers as numbers, before names."""
    return [(isinstance(part, str), part) for part in path]


# -- the text


def print_summary(
    model: Any,
    input_specs: Any = None,
    *,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
    flops: bool = False,
    max_depth: int | None = None,
) -> None:
    """Prints the table of `layer_rows`, and the totals; for the arguments see `Model.summary`."""
    from rich.console import Console, Group  # slow to import

    module = module_in(model)
    measures = Measures(module, input_specs, with_flops=flops)
    if max_depth is not None:
        expand_nested = check_count("max_depth", max_depth, 1, "summary") > 1
    rows = layer_rows(model, measures, expand_nested=expand_nested)
    rows = [row for row in _in_range(rows, layer_range) if max_depth is None or row.depth < max_depth]
    frozen = frozen_variables(module)
    table = _table(rows, frozen if show_trainable else None, flops)
    lines = _totals(model, frozen)
    if flops:
        lines.append(("FLOPs for one row", _count(measures.flops(module))))
    text = Group(
        _line("Model", f'"{model.name}"'), table, *(_line(f" {name}", value) for name, value in lines)
    )
    if print_fn is None:
        Console(highlight=False, width=line_length).print(text)
        return
    console = Console(highlight=False, width=line_length, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        console.print(text)
    print_fn(capture.get())


def _table(rows: Sequence[LayerRow], frozen: set[int] | None, flops: bool) -> Any:
    from rich.table import Table

    sources = any(row.sources for row in rows)
    table = Table()
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output shape", overflow="fold")
    table.add_column("Params", justify="right", no_wrap=True)
    if flops:
        table.add_column("FLOPs", justify="right", no_wrap=True)
    if sources:
        table.add_column("Connected to", overflow="fold")
    if frozen is not None:
        table.add_column("Trainable", justify="center")
    for row in rows:
        cells = [_layer_cell(row), _spelled(row.output), _count(_size(row.weights)[0])]
        cells += [_count(row.flops)] if flops else []
        cells += ["\n".join(dict.fromkeys(row.sources)) or "-"] if sources else []
        cells += [_is_trained(row.weights, frozen)] if frozen is not None else []
        table.add_row(*cells)
    return table


def _layer_cell(row: LayerRow) -> Any:
    from rich.text import Text

    indent = "   " * (row.depth - 1) + "└ " if row.depth else ""
    return Text.assemble(indent, row.name, " (", (row.kind, "cyan"), ")")


def _line(name: str, value: str) -> Any:
    from rich.text import Text

    return Text.assemble((f"{name}: ", "bold"), value)


def _totals(model: Any, frozen: set[int]) -> list[tuple[str, str]]:
    weights = ordered_weights(module_in(model))
    trained = [one for one in weights if isinstance(one, nnx.Param) and id(one) not in frozen]
    others = [one for one in weights if not isinstance(one, nnx.Param) or id(one) in frozen]
    parts = {"Total params": weights, "Trainable params": trained, "Non-trainable params": others}
    lines = [(name, _sized(*_size(some))) for name, some in parts.items()]
    if (state := model.optimizer_state_if_any()) is not None:
        lines.append(("Optimizer params", _sized(*_size_of_leaves(jax.tree.leaves(state)))))
    return lines


def _in_range(rows: list[LayerRow], layer_range: Sequence[str] | None) -> list[LayerRow]:
    """Returns the rows from the first that fits the first pattern to the last that fits the second."""
    if layer_range is None:
        return rows
    tops = [place for place, row in enumerate(rows) if row.depth == 0]
    if isinstance(layer_range, str) or len(layer_range) != 2:
        raise ValueError(
            f"summary: layer_range is {layer_range!r}, expected two names or patterns. Pass for example "
            f"layer_range=({rows[tops[0]].name!r}, {rows[tops[-1]].name!r})."
        )
    fits = [[place for place in tops if re.match(one, rows[place].name)] for one in layer_range]
    for pattern, places in zip(layer_range, fits, strict=True):
        if not places:
            raise ValueError(
                f"summary: layer_range holds {pattern!r}, expected the name of one of the layers "
                f"{', '.join(repr(rows[place].name) for place in tops)}. Pass names or patterns of them."
            )
    begin, last = sorted((fits[0][0], fits[1][-1]))
    end = next((place for place in tops if place > last), len(rows))
    return rows[begin:end]


def _is_trained(weights: Iterable[nnx.Variable[Any]], frozen: set[int]) -> str:
    found = {id(one) not in frozen for one in weights if isinstance(one, nnx.Param)}
    return {(): "-", (True,): "Y", (False,): "N"}.get(tuple(found), "partly")


def _size(weights: Iterable[nnx.Variable[Any]]) -> tuple[int, int]:
    return _size_of_leaves([leaf for one in weights for leaf in jax.tree.leaves(one.get_raw_value())])


def _size_of_leaves(leaves: Sequence[Any]) -> tuple[int, int]:
    return sum(leaf.size for leaf in leaves), sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _sized(count: int, num_bytes: float) -> str:
    return f"{count:,} ({readable_bytes(num_bytes)})"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _shapes(specs: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape) if abstract.is_spec(leaf) else leaf, specs)


def _spelled(output: Any) -> str:
    if isinstance(output, list):
        return "[" + ", ".join(map(_spelled, output)) + "]"
    if isinstance(output, tuple) and any(isinstance(part, tuple | list | dict) for part in output):
        return "(" + ", ".join(map(_spelled, output)) + ")"
    if isinstance(output, dict):
        return "{" + ", ".join(f"{key}: {_spelled(value)}" for key, value in output.items()) + "}"
    return "?" if output is None else str(output)
