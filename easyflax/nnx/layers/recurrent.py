"""Running a recurrent cell over sequences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from easyflax.nnx.core.filters import All, Filter
from easyflax.nnx.core.module import Module, Pytree
from easyflax.nnx.core.rng_splits import split_rngs
from easyflax.nnx.core.rngs import Rngs, RngState, RngStream
from easyflax.nnx.layers import checks
from easyflax.nnx.layers.recurrent_cells import Carry, RNNCellBase, carry_stream
from easyflax.nnx.layers.sequences import at_length, flip_sequences
from easyflax.nnx.transforms.axes import Carry as Carried
from easyflax.nnx.transforms.axes import StateAxes
from easyflax.nnx.transforms.kept import keep
from easyflax.nnx.transforms.scan import scan

__all__ = ["RNN", "RNNBase", "flip_sequences", "own_carry_stream"]

_loops: dict[Any, Callable[..., Any]] = {}  # jax compiles a loop anew for every function that it is given


class RNNBase(Protocol):
    """What runs over sequences: `nnx.RNN`, `nnx.Bidirectional`, or a class of your own."""

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Carry | None = None,
        rngs: Rngs | RngStream | None = None,
        seq_lengths: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any: ...


def own_carry_stream(layer: Module, rngs: Any) -> RngStream | None:
    """Returns the stream that a layer keeps for the carries it begins with.

    Args:
        layer: named in errors.
        rngs: True for one with seed 0, False for none, a stream as it is, or an `Rngs` to fork `carry` from.
    """
    if isinstance(rngs, bool):
        return RngStream(0, tag="carry") if rngs else None
    stream = None if rngs is None else carry_stream(layer, rngs)
    if stream is None:
        raise TypeError(
            f"{type(layer).__name__}: got rngs=None, expected nnx.Rngs, an nnx.RngStream, True (seed 0) or "
            "False (none). Pass one of these."
        )
    return stream.fork() if isinstance(rngs, Rngs) else stream


class RNN(Module):
    """Runs a recurrent cell over sequences.

    Args:
        cell: makes one step, `(carry, inputs) -> (carry, output)`; see `nnx.RNNCellBase`.
        time_major: whether inputs and outputs are `(time, *batch, ...)` instead of `(*batch, time, ...)`.
        return_carry: whether a call returns `(carry, outputs)` instead of the outputs only.
        reverse: whether to go from the last step to the first.
        keep_order: with `reverse`, whether outputs are in the order of the inputs instead of the order in
            which they were computed.
        unroll: steps in one iteration of the compiled loop.
        state_axes: for the variables of the cell, by filter: `nnx.Carry` (what all have by default), None for
            the same in each step, or an axis to scan over.
        broadcast_rngs: filter for the random streams of the cell that give the same keys in each step, and
            new ones at each call: a dropout mask that holds for a whole sequence.
        rngs: where keys for the first carry come from: True for a stream with seed 0, an `Rngs` to fork its
            `carry` from, a stream, or False for none.

    Raises:
        AttributeError: `rngs` has no stream `carry`, and no default.
        TypeError: `cell` is no cell, or `rngs` is none of these.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> rnn = nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), return_carry=True)
        >>> carry, y = rnn(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 2]))
        >>> carry.shape, y.shape
        ((2, 4), (2, 5, 4))
        >>> bool((carry[1] == y[1, 1]).all())  # that after two steps
        True

    Source: Rumelhart et al. 1986, https://doi.org/10.1038/323533a0
    """

    def __init__(
        self,
        cell: RNNCellBase,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        state_axes: Mapping[Filter, Any] | None = None,
        broadcast_rngs: Filter = None,
        rngs: Rngs | RngStream | bool = True,
    ) -> None:
        _check_cell(self, cell)
        self.cell = cell
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.unroll = unroll
        self.rngs = own_carry_stream(self, rngs)
        self.state_axes = StateAxes(state_axes or {...: Carried})
        self.broadcast_rngs = broadcast_rngs

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Carry | None = None,
        seq_lengths: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Rngs | RngStream | None = None,
    ) -> Any:
        """Returns the outputs of all steps, or `(carry, outputs)` if `return_carry`.

        Args:
            inputs: `(*batch, time, *features)`, or `(time, *batch, *features)` if `time_major`, with any
                number of batch axes, also none.
            initial_carry: what the first step gets; by default what the cell makes with `rngs`.
            seq_lengths: `(*batch,)`, integers: how many steps of each sequence are no padding. The carry that
                is returned is the one after the last of these, and `reverse` begins with it. Outputs beyond
                are what the cell makes of the padding.
            return_carry, time_major, reverse, keep_order: go before the attributes of these names.
            rngs: goes before the layer's own stream.

        Raises:
            AttributeError: `rngs` has no stream `carry`, and no default.
            TypeError: `seq_lengths` are no integers, or a step changes the dtypes of the carry.
            ValueError: `inputs` has too few axes or other features than the cell, `seq_lengths` another shape
                than the batch, or the carry another structure or shapes than the cell's.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        keep_order = self.keep_order if keep_order is None else keep_order

        inputs = jnp.asarray(inputs)
        time_axis = _time_axis(self, inputs, time_major)
        step_shape = inputs.shape[:time_axis] + inputs.shape[time_axis + 1 :]
        batch_shape = step_shape[: len(step_shape) - self.cell.num_feature_axes]
        lengths = None if seq_lengths is None else _checked_lengths(self, seq_lengths, batch_shape)

        def flip(x: jax.Array) -> jax.Array:
            return flip_sequences(x, lengths, len(batch_shape), time_major)

        stream = carry_stream(self, self.rngs if rngs is None else rngs)
        stream = stream.fork() if stream is not None and isinstance(rngs, Rngs) else stream
        first = initial_carry
        if first is None:
            first = self.cell.initialize_carry(step_shape, stream)
        inputs = flip(inputs) if reverse else inputs
        carry, outputs = self._run(first, inputs, time_axis, lengths if return_carry else None)
        if reverse and keep_order:
            outputs = jax.tree.map(flip, outputs)
        return (carry, outputs) if return_carry else outputs

    def _run(
        self, first: Carry, inputs: jax.Array, time_axis: int, lengths: jax.Array | None
    ) -> tuple[Carry, Any]:
        """Returns the carry after the last step, or that of each sequence at its length, and all outputs."""
        with_history = lengths is not None
        key = self.state_axes, self.broadcast_rngs, time_axis, with_history, self.unroll
        loop = keep(_loops, key, lambda: _make_loop(*key))
        with split_rngs(self.cell, splits=1, only=self.broadcast_rngs, squeeze=True):
            carry, outputs = loop(self.cell, first, inputs)
        if lengths is not None:
            history, outputs = outputs
            _check_history(self, history, lengths.shape)
            carry = at_length(history, first, lengths)
        return carry, outputs


def _make_loop(
    state_axes: StateAxes, broadcast_rngs: Filter, time_axis: int, with_history: bool, unroll: int
) -> Callable[..., Any]:
    pairs = zip(state_axes.filters, state_axes.entries, strict=True)
    axes = StateAxes([(All(RngState, broadcast_rngs), None), *pairs])
    return scan(
        _step_with_history if with_history else _step,
        in_axes=(axes, Carried, time_axis),
        out_axes=(Carried, (0, time_axis) if with_history else time_axis),
        unroll=unroll,
    )


def _step(cell: RNNCellBase, carry: Carry, inputs: jax.Array) -> tuple[Carry, Any]:
    result = cell(carry, inputs)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        kind = "an array" if isinstance(result, jax.Array) else type(result).__name__
        got = f"{kind} of {len(result)}" if isinstance(result, (tuple, list)) else kind
        raise ValueError(
            f"{checks.describe(cell)}: got {got} from a step of the cell, expected the pair (new carry, "
            "output). Return both from its __call__."
        )
    _check_same_types(cell, carry, result[0])
    return result[0], result[1]


def _step_with_history(cell: RNNCellBase, carry: Carry, inputs: jax.Array) -> tuple[Carry, Any]:
    carry, output = _step(cell, carry, inputs)
    return carry, (carry, output)


def _check_cell(rnn: RNN, cell: Any) -> None:
    missing = object()
    names = ("__call__", "num_feature_axes")
    if not isinstance(cell, Pytree) or any(
        inspect.getattr_static(cell, name, missing) is missing for name in names
    ):
        got = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise TypeError(
            f"{type(rnn).__name__}: got {got} as cell, expected a module with __call__(carry, inputs), "
            "initialize_carry(input_shape, rngs) and num_feature_axes. Pass for example "
            "nnx.LSTMCell(in_features, hidden_features, rngs=rngs), or a subclass of nnx.RNNCellBase."
        )


def _time_axis(rnn: RNN, inputs: jax.Array, time_major: bool) -> int:
    features = rnn.cell.num_feature_axes
    if inputs.ndim < features + 1:
        sizes = ["size"] * (features - 1) + ["features"]
        axes = ", ".join(["time", "...", *sizes] if time_major else ["...", "time", *sizes])
        raise ValueError(
            f"{checks.describe(rnn)}: got an input of shape {inputs.shape}, expected at least "
            f"{features + 1} axes, ({axes}). Add the missing axes, for example x[:, None] for a time axis of "
            "one step."
        )
    return 0 if time_major else inputs.ndim - features - 1


def _checked_lengths(rnn: RNN, seq_lengths: ArrayLike, batch_shape: tuple[int, ...]) -> jax.Array:
    """Returns the lengths as an array of the batch's shape."""
    lengths = jnp.asarray(seq_lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"{checks.describe(rnn)}: got seq_lengths of dtype {lengths.dtype}, expected integers. Pass the "
            "number of valid steps of each sequence; of a mask that is mask.sum(-1)."
        )
    try:
        return jnp.broadcast_to(lengths, batch_shape)
    except ValueError:
        raise ValueError(
            f"{checks.describe(rnn)}: got seq_lengths of shape {lengths.shape}, expected {batch_shape}, "
            "the batch axes of the input. Pass one length for each sequence."
        ) from None


def _check_same_types(cell: RNNCellBase, old: Carry, new: Carry) -> None:
    """Checks that a step returns a carry like the one it got, as a loop needs it."""
    old_leaves, old_tree = jax.tree.flatten(old)
    new_leaves, new_tree = jax.tree.flatten(new)
    if not all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in (*old_leaves, *new_leaves)):
        return  # modules or numbers, which the loop looks at itself
    types = [[jax.typeof(leaf) for leaf in leaves] for leaves in (old_leaves, new_leaves)]
    same = old_tree == new_tree and all(
        a.shape == b.shape and (a.dtype == b.dtype or a.weak_type) for a, b in zip(*types, strict=True)
    )
    if not same:
        before, after = (
            str(tree.unflatten([leaf.str_short() for leaf in leaves])).replace("'", "")
            for tree, leaves in zip((old_tree, new_tree), types, strict=True)
        )
        raise TypeError(
            f"{checks.describe(cell)}: got the carry {before} and returned {after} from a step, expected the "
            "same structure, shapes and dtypes.\n"
            "Begin with an initial_carry like the one returned, or make the dtypes agree: convert the "
            "inputs, or set dtype and param_dtype of the cell."
        )


def _check_history(rnn: RNN, history: Any, batch_shape: tuple[int, ...]) -> None:
    for leaf in jax.tree.leaves(history):
        if leaf.shape[1 : len(batch_shape) + 1] != batch_shape:
            raise ValueError(
                f"{checks.describe(rnn)}: got an array of shape {leaf.shape[1:]} in the carry of the cell, "
                f"expected the batch axes {batch_shape} first, since seq_lengths selects a step for each "
                "sequence. Give it these axes, or leave return_carry or seq_lengths out."
            )
