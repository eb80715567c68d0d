"""`nnx.tabulate`: a table of the calls that a model makes, with shapes, sizes and FLOPs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from easyflax.nnx.core.calls import CallInfo, Placeholder, abstract, gets_recorded, recorded_calls
from easyflax.nnx.core.display import format_leaf
from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.graphdef import ARRAY, NODE, VARIABLE
from easyflax.nnx.core.module import Pytree
from easyflax.nnx.core.rngs import RngState, RngStream
from easyflax.nnx.core.sizes import Size, counted_kind, has_shape, size_of
from easyflax.nnx.core.tracking import Tracked
from easyflax.nnx.core.walk import Walk, path_part
from easyflax.nnx.transforms.eval_shape import eval_shape
from easyflax.nnx.transforms.lift import run
from easyflax.nnx.transforms.packing import pack

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_WIDEST = 10_000


def is_no_rng_stream(call: CallInfo) -> bool:
    """The default `row_filter` of `tabulate`: leaves out the calls that draw random keys."""
    return not issubclass(call.type, RngStream)


def tabulate(
    obj: Any,
    /,
    *input_args: Any,
    depth: int | None = None,
    method: str = "__call__",
    row_filter: Callable[[CallInfo], bool] = is_no_rng_stream,
    table_kwargs: Mapping[str, Any] = _NO_OPTIONS,
    column_kwargs: Mapping[str, Any] = _NO_OPTIONS,
    console_kwargs: Mapping[str, Any] = _NO_OPTIONS,
    compute_flops: bool = False,
    compute_vjp_flops: bool = False,
    **input_kwargs: Any,
) -> str:
    """Returns a table of a model: a row for each call that its modules get when one of its methods runs.

    A row tells the path and type of the module, the shapes of what it got and returned, and for each kind of
    variable those that it holds, with the number of elements and bytes of these and of all below. What is
    shared counts where it is first. Repeated calls of a module with the same shapes are one row; calls of
    other methods than `__call__` have the method's name at the end of their path.

    The method runs on shapes alone: nothing is computed, and neither `obj` nor the inputs change. Both may be
    abstract (`nnx.eval_shape`, `jax.ShapeDtypeStruct`).

    Args:
        obj: a module or another object with the method `method`.
        *input_args: its arguments; what is no array, such as a number or string, is passed as it is.
        depth: longest path that gets a row; all by default.
        method: the name of the method to run.
        row_filter: which calls get a row, by their `path`, `type`, `args`, `kwargs` and `outputs`. By default
            those of random streams get none.
        table_kwargs: options of `rich.table.Table`.
        column_kwargs: options of its columns.
        console_kwargs: options of the `rich.console.Console` that writes the table. By default it writes
            colors, and where the output is no terminal the table has the width that it needs.
        compute_flops: add the floating-point operations of each call, as XLA estimates them; "-" where a call
            cannot be compiled on its own.
        compute_vjp_flops: add those of each call together with its gradients.
        **input_kwargs: more arguments of the method.

    Returns:
        The table, for `print`.

    Raises:
        TypeError: `obj` has no such method.

    >>> import jax.numpy as jnp
    >>> from easyflax import nnx
    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> table = nnx.tabulate(model, jnp.ones((1, 2)), console_kwargs={"force_terminal": False})
    >>> print(*table.splitlines()[1:8], sep="\\n")
    ┏━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━┓
    ┃ path ┃ type   ┃ inputs       ┃ outputs      ┃ Param                ┃
    ┡━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━┩
    │      │ Linear │ float32[1,2] │ float32[1,3] │ bias: float32[3]     │
    │      │        │              │              │ kernel: float32[2,3] │
    │      │        │              │              │                      │
    │      │        │              │              │ 9 (36 B)             │
    """
    _check_method(obj, method)
    measures = {"flops": compute_flops, "vjp_flops": compute_vjp_flops}
    wanted = [name for name, is_wanted in measures.items() if is_wanted]
    calls = trace_calls(obj, method, input_args, input_kwargs, wanted)
    contents = _Contents(obj)
    table = _table(type(obj).__name__, contents, wanted, table_kwargs, column_kwargs)
    for call in calls:
        if (depth is None or len(call.path) <= depth) and row_filter(call):
            table.add_row(*_cells(call, contents, wanted))
    return _printed(table, console_kwargs)


def _check_method(obj: Any, method: str) -> None:
    if not isinstance(obj, Pytree) or not callable(getattr(obj, method, None)):
        raise TypeError(
            f"tabulate got a {type(obj).__name__}, expected a module with a method {method!r}. Pass the "
            "module whose calls the table shall show, and the name of its method as method=."
        )


# -- the calls


def trace_calls(
    obj: Any,
    method: str | Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    measures: Iterable[str] = (),
) -> list[CallInfo]:
    """Calls a method of `obj` on shapes alone and returns the calls that `obj` and the modules below get.

    Args:
        obj: a module; it is only read.
        method: the name of its method, or a function that is called on `obj`.
        args: the method's arguments.
        kwargs: likewise.
        measures: what to measure of each call, of "flops" and "vjp_flops".
    """
    found: list[CallInfo] = []
    arrays, fill = _taken_apart((args, kwargs))

    def measure(method: Callable[..., Any], args: Any, kwargs: Any) -> Callable[[], dict[str, int | None]]:
        pure, shapes = _on_shapes(method, args, kwargs)
        functions = {"flops": pure, "vjp_flops": _with_gradients(pure)}
        return lambda: {name: _flops(functions[name], shapes) for name in measures}

    def traced(obj: Any, arrays: Any) -> None:
        args, kwargs = fill(arrays)
        with recorded_calls(obj, measure if measures else None) as calls:
            method(obj, *args, **kwargs) if callable(method) else getattr(obj, method)(*args, **kwargs)
        found.extend(calls)

    eval_shape(traced, obj, arrays)
    return found


def _taken_apart(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Takes the arrays and objects out of a tree, and returns them with a function that puts others in their
    place. What jax cannot trace stays in the tree."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=lambda part: isinstance(part, Tracked))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tracked) or has_shape(leaf)]

    def fill(values: list[Any]) -> Any:
        filled = list(leaves)
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        return treedef.unflatten(filled)

    return [leaves[place] for place in places], fill


def _on_shapes(method: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Callable[..., list[Any]], Any]:
    """Returns a call as a pure function to the list of the arrays that it returns, and the shapes of its
    arguments."""
    call = pack(args, kwargs)
    arrays, fill = _taken_apart((call.args, call.kwargs))

    def pure(values: Any, arrays: Any) -> list[Any]:
        out, *_ = run(method, call.spec, values, *fill(arrays), transform="tabulate")
        return [leaf for leaf in jax.tree.leaves(out) if has_shape(leaf)]

    return pure, abstract((call.walk.values(), arrays))


def _with_gradients(f: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Returns a function to the gradients of what `f` returns by its arguments."""

    def differentiable(*args: Any) -> list[Any]:
        return [out for out in f(*args) if jnp.issubdtype(out.dtype, jnp.inexact)]

    def gradients(*args: Any) -> list[Any]:
        out, pullback = jax.vjp(differentiable, *args)
        return [grad for grad in jax.tree.leaves(pullback(out)) if grad.dtype != jax.dtypes.float0]

    return gradients


def _flops(f: Callable[..., Any], shapes: Any) -> int | None:
    """Returns what XLA estimates, None for a call that cannot be compiled on its own: one that uses the axis
    name of a `vmap` around it, or, for gradients, a loop that has none."""
    try:
        lowered = jax.jit(f).lower(*shapes)
    except Exception:  # the call itself has gone well before, and jax fails here in several ways
        return None
    costs: Any = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return int((costs or {}).get("flops", 0))


# -- what the modules hold


class _Contents:
    """The variables of a model by the module that they belong to, and how much each module holds.

    Attributes:
        kinds: the kinds of variables that there are, sorted by name; `jax.Array` stands for arrays without
            one.
    """

    def __init__(self, obj: Any) -> None:
        self._totals: dict[Path, dict[type, Size]] = {(): {}}
        self._own: dict[tuple[Path, type], dict[str, Any]] = {}
        self._owners: dict[Path, Path] = {}
        found = Walk((obj,))
        arrays = found.arrays()
        for path, tag, payload in found.graphdef.iter_refs():
            if tag == NODE:
                has_rows = gets_recorded(found.graphdef.nodes[payload].type)
                self._owners[path] = path if has_rows else self._owners[path[:-1]]
            elif tag == VARIABLE:
                variable = found.variables[payload]
                self._add(path, counted_kind(variable), variable.get_raw_value(), variable.get_metadata())
            elif tag == ARRAY:
                self._add(path, jax.Array, arrays[payload], {})
        self.kinds = sorted(self._totals[()], key=_kind_name)

    def _add(self, path: Path, kind: type, value: Any, metadata: dict[str, Any]) -> None:
        size = size_of(value)
        for length in range(len(path)):
            totals = self._totals.setdefault(path[:length], {})
            totals[kind] = totals.get(kind, Size()) + size
        owner = self._owners[path[:-1]]
        if kind is RngState:
            metadata.pop("tag", None)  # the name of the stream, which the path tells
        metadata = {name: entry for name, entry in metadata.items() if entry is not None}
        shown = {"value": abstract(value), **metadata} if metadata else abstract(value)
        self._own.setdefault((owner, kind), {})["/".join(map(str, path[len(owner) :]))] = shown

    def total(self, path: Path, kind: type) -> Size:
        """Returns how much the module at `path` and all below hold, what is shared where it is first."""
        return self._totals.get(path, {}).get(kind, Size())

    def own(self, path: Path, kind: type) -> dict[str, Any]:
        """Returns the variables of one kind that belong to the module at `path`, by name, as shapes."""
        return self._own.get((path, kind), {})


# -- the table


def _table(
    title: str, contents: _Contents, measures: list[str], table_kwargs: Any, column_kwargs: Any
) -> Any:
    from rich.table import Table  # slow to import
    from rich.text import Text

    total = sum((contents.total((), kind) for kind in contents.kinds), Size())
    options = {
        "title": f"{title} Summary",
        "caption": f"\nTotal Parameters: {total}",
        "caption_style": "bold",
        "show_header": True,
        "show_lines": True,
        "show_footer": True,
    }
    table = Table(**{**options, **table_kwargs})
    for name in ("path", "type", "inputs", "outputs", *measures):
        table.add_column(name, **column_kwargs)
    table.columns[-1].footer = Text("Total", justify="right")
    for kind in contents.kinds:
        footer = str(contents.total((), kind))
        table.add_column(_kind_name(kind), **{"footer": footer, **column_kwargs})
    return table


def _kind_name(kind: type) -> str:
    return "Array" if kind is jax.Array else kind.__name__


def _cells(call: CallInfo, contents: _Contents, measures: list[str]) -> Iterator[Any]:
    from rich.text import Text

    yield Text("/".join(map(str, call.path)))
    yield Text(call.type.__name__)
    yield _dimmed(_inputs_text(call))
    yield _dimmed("" if call.outputs is None else _tree_text(call.outputs))
    for name in measures:
        flops = call.measured[name]
        yield "-" if flops is None else str(flops)
    for kind in contents.kinds:
        yield _variables_cell(contents.own(call.module_path, kind), contents.total(call.module_path, kind))


def _variables_cell(own: dict[str, Any], size: Size) -> Any:
    from rich.text import Text

    cell = _dimmed(_tree_text(own) if own else "")
    if size:
        cell.append("\n\n" if own else "")
        cell.append(Text(str(size), style="bold"))
    return cell


def _inputs_text(call: CallInfo) -> str:
    if len(call.args) == 1 and not call.kwargs:
        return _tree_text(call.args[0])
    return "\n".join(_tree_text(part) for part in (call.args, call.kwargs) if part)


def _tree_text(tree: Any) -> str:
    """Writes a tree in the manner of YAML: `- item` for sequences, `key: value` for the rest."""
    return "\n".join(_tree_lines(tree))


def _tree_lines(tree: Any) -> list[str]:
    if has_shape(tree):
        return [f"{tree.dtype}[{','.join(map(str, tree.shape))}]"]
    if tree is None or isinstance(tree, Placeholder):
        return [str(tree)]
    if isinstance(tree, str):
        return [repr(tree)[1:-1]]  # in one line, whatever is in it
    entries = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda part: part is not tree)[0]
    if not entries:  # an empty container
        return [repr(tree)]
    if entries[0][0] == ():  # a leaf
        return [format_leaf(tree)]
    return [line for (key,), part in entries for line in _entry_lines(key, _tree_lines(part), part)]


def _entry_lines(key: Any, lines: list[str], part: Any) -> list[str]:
    if isinstance(key, jax.tree_util.SequenceKey):
        return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]
    name = path_part(key)
    if isinstance(part, (list, tuple)) and part:
        return [f"{name}:", *lines]
    if len(lines) > 1 or (isinstance(part, dict) and part):
        return [f"{name}:", *(f"  {line}" for line in lines)]
    return [f"{name}: {lines[0]}"]


def _dimmed(text: str) -> Any:
    """Returns the text with dtypes, which are less interesting than shapes, written faintly."""
    from rich.text import Text

    styled = Text(text)
    styled.highlight_regex(r"[\w<>]+(?=\[[\d,]*\])", "dim")
    return styled


def _printed(table: Any, console_kwargs: Mapping[str, Any]) -> str:
    from rich.console import Console

    out = io.StringIO()
    options = {"file": out, "force_terminal": True, "force_jupyter": False, **console_kwargs}
    console = Console(**options)
    if "width" not in options and not sys.stdout.isatty():
        console.width = console.measure(table, options=console.options.update_width(_WIDEST)).maximum
    console.print(table)
    return out.getvalue()
