"""The table that `model.summary()` prints: one row a layer, with its output shape and its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax

import easyflax.nnx as nnx
from easyflax.nnx.core.calls import recorded_calls
from easyflax.train.binding import Binding, call_in_mode, path_name

Path = tuple[Any, ...]


@dataclass(frozen=True)
class LayerRow:
    """One line of the table.

    Attributes:
        path: the layer's path in the model, such as "layers.0".
        kind: the name of its class.
        output: the shape of its output, None for the batch axis, in the nesting it returns; None when
            unknown.
        parameters: how many numbers its own variables hold, those of random streams left out.
        trainable: how many of them are trained.
        num_bytes: of all of them.
    """

    path: str
    kind: str
    output: Any
    parameters: int
    trainable: int
    num_bytes: int


def layer_rows(module: nnx.Module, input_specs: Any = None) -> list[LayerRow]:
    """Returns a row for every module that has variables of its own, or no modules below.

    Args:
        module: the model.
        input_specs: `jax.ShapeDtypeStruct`s of a batch; without it no output shapes are known.
    """
    binding = Binding(module)
    outputs = {} if input_specs is None else output_shapes(binding, input_specs)
    modules = dict(nnx.iter_modules(module))
    owned = _own_variables(modules, binding)
    shown = [path for path in modules if owned[path] or not _has_modules_below(path, modules)]
    called = {path: number for number, path in enumerate(outputs)}
    shown.sort(key=lambda path: (called.get(path, len(called)), _by_position(path)))
    return [_row(path, modules[path], owned[path], outputs.get(path)) for path in shown]


def output_shapes(binding: Binding, input_specs: Any) -> dict[Path, Any]:
    """Returns the shapes of what each module returns when the model is called on `input_specs`.

    The model is called on shapes alone, in inference mode; nothing is computed. The keys are the paths of the
    modules, in the order in which they are called.
    """
    rows = jax.tree.leaves(input_specs)[0].shape[0]
    found: dict[Path, Any] = {}

    def forward(params: Any, other: Any, x: Any) -> None:
        copy = binding.rebuild({**params, **other})
        with recorded_calls(copy) as calls:
            call_in_mode(copy, x, training=False)
        for call in calls:
            if call.path == call.module_path:  # a call of the module itself, the first one of several
                found.setdefault(call.path, jax.tree.map(lambda spec: _free_rows(spec, rows), call.outputs))

    jax.eval_shape(forward, *binding.arrays(), input_specs)
    return found


def specs_of_rows(input_shape: Any) -> Any:
    """Returns float32 specs of a batch of rows of `input_shape`, a shape or a nesting of shapes.

    Raises:
        ValueError: there is something else than sizes in it.
    """

    def spec(shape: Any) -> jax.ShapeDtypeStruct:
        if not isinstance(shape, tuple) or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(
                f"summary: input_shape holds {shape!r}, expected the shape of one row. Pass for example "
                f"input_shape=(28, 28, 1)."
            )
        return jax.ShapeDtypeStruct((2, *shape), "float32")

    return jax.tree.map(spec, input_shape, is_leaf=lambda shape: not isinstance(shape, dict | list))


def print_summary(module: nnx.Module, input_specs: Any = None) -> None:
    """Prints the table of `layer_rows`, and the totals."""
    from rich.console import Console  # slow to import
    from rich.table import Table

    rows = layer_rows(module, input_specs)
    table = Table("path", "type", title=type(module).__name__, title_justify="left")
    if input_specs is not None:
        table.add_column("output shape")
    table.add_column("parameters", justify="right")
    table.add_column("trainable", justify="right")
    for row in rows:
        output = [] if input_specs is None else [_spelled(row.output)]
        table.add_row(row.path, row.kind, *output, f"{row.parameters:,}", f"{row.trainable:,}")
    console = Console(highlight=False)
    console.print(table)
    total, trainable = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
    size = _readable(sum(row.num_bytes for row in rows))
    console.print(
        f"Parameters: {total:,} ({size}), trainable {trainable:,}, not trainable {total - trainable:,}"
    )


def _row(path: Path, module: nnx.Module, variables: list[nnx.Variable[Any]], output: Any) -> LayerRow:
    sizes = [(variable, leaf) for variable in variables for leaf in jax.tree.leaves(variable.get_raw_value())]
    return LayerRow(
        path=path_name(path),
        kind=type(module).__name__,
        output=output,
        parameters=sum(leaf.size for _, leaf in sizes),
        trainable=sum(leaf.size for variable, leaf in sizes if isinstance(variable, nnx.Param)),
        num_bytes=sum(leaf.size * leaf.dtype.itemsize for _, leaf in sizes),
    )


def _own_variables(modules: dict[Path, nnx.Module], binding: Binding) -> dict[Path, list[nnx.Variable[Any]]]:
    """Returns for each module the variables that belong to no module below it."""
    owned: dict[Path, list[nnx.Variable[Any]]] = {path: [] for path in modules}
    for path, variable in binding.variables_by_path():
        if not isinstance(variable, nnx.RngState):
            owner = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in modules)
            owned[owner].append(variable)
    return owned


def _has_modules_below(path: Path, modules: Iterable[Path]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in modules)


def _by_position(path: Path) -> list[tuple[bool, Any]]:
    """Sorts numbers as numbers, before names."""
    return [(isinstance(part, str), part) for part in path]


def _free_rows(array: Any, rows: int) -> tuple[int | None, ...]:
    shape = tuple(array.shape)
    return (None, *shape[1:]) if shape and shape[0] == rows else shape


def _spelled(output: Any) -> str:
    if isinstance(output, list):
        return "[" + ", ".join(map(_spelled, output)) + "]"
    if isinstance(output, dict):
        return "{" + ", ".join(f"{key}: {_spelled(value)}" for key, value in output.items()) + "}"
    return "-" if output is None else str(output)


def _readable(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024 or unit == "GiB":
            break
        num_bytes /= 1024
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
