"""What all recurrent cells share: one step `(carry, inputs) -> (carry, output)`, and the first carry."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs, RngStream
from easyflax.nnx.core.variables import reading_dtype
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.activations import tanh
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.linear import Linear

__all__ = ["HiddenStateCell", "RNNCellBase", "SimpleCell", "carry_stream", "modified_orthogonal"]

Carry = Any  # a tree of arrays

default_kernel_init = initializers.lecun_normal()
default_bias_init = initializers.zeros_init()


def modified_orthogonal(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Returns a random orthogonal matrix of any floating dtype, drawn in jax's default one and converted.

    Args:
        key: decides which.
        shape: `(..., rows, columns)`.
        dtype: also one that jax has no QR decomposition for, such as bfloat16.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from easyflax.nnx.layers.recurrent_cells import modified_orthogonal
        >>> q = modified_orthogonal(jax.random.key(0), (3, 3), jnp.bfloat16)
        >>> q.dtype, bool(jnp.allclose(q.T @ q, jnp.eye(3), atol=0.02))
        (dtype(bfloat16), True)

    Source: Saxe et al. 2013, https://arxiv.org/abs/1312.6120
    """
    return initializers.orthogonal()(key, tuple(shape)).astype(dtype)


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Returns a random orthogonal matrix, drawn in `dtype` where jax has a QR decomposition for it."""
    return initializers.orthogonal()(key, tuple(shape), jnp.promote_types(dtype, jnp.float32)).astype(dtype)


default_recurrent_kernel_init = cast(initializers.Initializer, orthogonal)


class RNNCellBase(Module):
    """The base class of recurrent cells: what `nnx.RNN` calls for each step.

    A cell of your own defines `__call__`, `initialize_carry` and `num_feature_axes`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> class Sum(nnx.RNNCellBase):
        ...     num_feature_axes = 1
        ...
        ...     def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        ...         return jnp.zeros(input_shape)
        ...
        ...     def __call__(self, carry, inputs):
        ...         carry = carry + inputs
        ...         return carry, carry
        >>> nnx.RNN(Sum())(jnp.ones((1, 4, 1)))[0, :, 0].tolist()
        [1.0, 2.0, 3.0, 4.0]
    """

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: initializers.Initializer | None = None,
    ) -> Carry:
        """Returns the carry before the first step.

        Args:
            input_shape: the shape of the input of one step, `(*batch, *features)`.
            rngs: gives the keys.
            carry_init: makes the arrays, `(key, shape, dtype) -> array`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define initialize_carry.")

    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        """Returns `(new carry, output)` of one step.

        Args:
            carry: what the step before returned.
            inputs: `(*batch, *features)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")

    @property
    def num_feature_axes(self) -> int:
        """How many axes of the input, the last ones, are not batch axes."""
        raise NotImplementedError(f"{type(self).__name__} must define num_feature_axes.")


def carry_stream(layer: Module, rngs: Any) -> RngStream | None:
    """Returns the stream `carry` of `rngs`; a stream, or None, as it is.

    Raises:
        AttributeError: there is no such stream, nor a default.
        TypeError: `rngs` is something else, such as a seed or key.
    """
    if rngs is None or isinstance(rngs, RngStream):
        return rngs
    if not isinstance(rngs, Rngs):
        raise TypeError(
            f"{checks.describe(layer)}: got rngs of type {type(rngs).__name__}, expected nnx.Rngs or an "
            "nnx.RngStream. Wrap a seed or key: rngs=nnx.Rngs(0)."
        )
    return rngs.carry


class HiddenStateCell(RNNCellBase):
    """A cell whose carry is one or two arrays with `hidden_features` in their last axis.

    The base of the cells here: it holds their options, checks a step, and makes the first carry.
    """

    in_features: int
    hidden_features: int
    carry_names: ClassVar[tuple[str, ...]] = ("h",)

    def _set_options(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        carry_init: initializers.Initializer | None,
        promote_dtype: PromoteDtype,
        keep_rngs: bool,
        rngs: Rngs,
    ) -> None:
        checks.check_sizes(self, in_features=in_features, hidden_features=hidden_features)
        checks.check_rngs(self, rngs)
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype
        if carry_init is not None:
            warnings.warn(
                f"{type(self).__name__}: carry_init is part of the cell's structure when it is passed to the "
                "constructor, and two cells with different functions count as different. Pass it to "
                "initialize_carry.",
                stacklevel=3,
            )
        self.carry_init = carry_init
        if keep_rngs:
            warnings.warn(
                f"{type(self).__name__}: keep_rngs is deprecated. Pass rngs to initialize_carry, or to the "
                "call of nnx.RNN.",
                stacklevel=3,
            )
        stream = carry_stream(self, rngs) if keep_rngs else None
        self.rngs = None if stream is None else stream.fork()

    @property
    def num_feature_axes(self) -> int:
        """1: the last axis holds the features, all others are batch axes."""
        return 1

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: initializers.Initializer | None = None,
    ) -> Any:
        """Returns the carry before the first step, of dtype `param_dtype`; one key is drawn for each array.

        Args:
            input_shape: the shape of the input of one step, `(*batch, in_features)`.
            rngs: its stream `carry` gives the keys; without it, the stream that the cell keeps.
            carry_init: makes the arrays, `(key, shape, dtype) -> array`; by default the constructor's, or
                zeros.

        Raises:
            AttributeError: `rngs` has no stream `carry`, and no default.
            TypeError: `input_shape` is no shape, or `rngs` is a bare seed or key.
            ValueError: `input_shape` has too few axes, or there are no `rngs`.
        """
        shape = self._carry_shape(_checked_shape(self, input_shape))
        stream = carry_stream(self, self.rngs if rngs is None else rngs)
        if stream is None:
            raise ValueError(
                f"{checks.describe(self)}: got no rngs, expected random keys for the carry. Pass "
                "rngs=nnx.Rngs(0), also if the carry is all zeros."
            )
        init = carry_init or self.carry_init or initializers.zeros_init()
        dtype = self.param_dtype if self.dtype is not None else reading_dtype() or self.param_dtype
        parts = tuple(init(stream(), shape, dtype) for _ in self.carry_names)
        return parts[0] if len(parts) == 1 else parts

    def _carry_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each array of the carry for inputs of a shape."""
        return (*input_shape[:-1], self.hidden_features)

    def _check_step(self, carry: Any, inputs: Any) -> None:
        """Checks the shapes that a step is called with."""
        axes = self.num_feature_axes
        checks.check_features(self, inputs, self.in_features, argument="in_features", spatial_axes=axes - 1)
        expected = self._carry_shape(np.shape(inputs))
        parts = _parts(carry, len(self.carry_names), len(expected))
        shapes = None if parts is None else [np.shape(part) for part in parts]
        if shapes is None or not all(_fits(shape, expected, axes) for shape in shapes):
            names = ", ".join(self.carry_names)
            form = f"one array {names}" if len(self.carry_names) == 1 else f"a tuple ({names})"
            raise ValueError(
                f"{checks.describe(self)}: got {_describe(carry)} as carry for an input of shape "
                f"{np.shape(inputs)}, expected {form} of shape {expected}.\n"
                f"Make it with cell.initialize_carry({np.shape(inputs)}, rngs)."
            )


def _parts(carry: Any, count: int, rank: int) -> list[Any] | None:
    """The arrays of a carry; None if there are not `count`. One array of all, stacked, has an axis more."""
    parts = [carry]
    if count > 1:
        is_array = isinstance(carry, (jax.Array, np.ndarray))
        if not np.iterable(carry) or (is_array and np.ndim(carry) != rank + 1):
            return None
        parts = list(carry)
    is_flat = all(jax.tree.structure(part) == jax.tree.structure(0) for part in parts)
    return parts if len(parts) == count and is_flat else None


def _fits(shape: tuple[int, ...], expected: tuple[int, ...], axes: int) -> bool:
    """Whether the last `axes` sizes are the expected ones, and those before broadcast."""
    try:
        np.broadcast_shapes(shape[:-axes], expected[:-axes])
    except ValueError:
        return False
    return shape[-axes:] == expected[-axes:]


def _describe(carry: Any) -> str:
    if jax.tree.structure(carry) == jax.tree.structure(0):
        return f"{type(carry).__name__} of shape {np.shape(carry)}"
    return f"shapes {jax.tree.map(np.shape, carry)}"


def _checked_shape(cell: HiddenStateCell, input_shape: Any) -> tuple[int, ...]:
    """Returns the shape as a tuple of integers."""
    needed = cell.num_feature_axes
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        raise TypeError(
            f"{checks.describe(cell)}: got input_shape of type {type(input_shape).__name__}, expected the "
            "shape of the input of one step, a tuple of integers. Pass for example x[:, 0].shape, and rngs "
            "after it."
        ) from None
    if len(shape) < needed or any(size < 0 for size in shape):
        layout = ", ".join(["..."] + ["size"] * (needed - 1) + [str(cell.in_features)])
        raise ValueError(
            f"{checks.describe(cell)}: got input_shape={shape}, expected {needed} or more sizes, "
            f"({layout}). Pass the shape of the input of one step, without the time axis."
        )
    return shape


class SimpleCell(HiddenStateCell):
    """The recurrent cell of Elman: `h' = tanh(W_i x + b_i + W_h h)`.

    The layers are `dense_i` (with the bias) and `dense_h`; the carry is `h`, and so is the output.

    Args:
        in_features: size of the last axis of the input.
        hidden_features: size of the last axis of the carry and of the output.
        dtype: the dtype of the products; None for what input, carry and parameters promote to.
        param_dtype: the dtype that the parameters are stored in, and that the carry begins with.
        carry_init: makes the first carry; better passed to `initialize_carry`.
        residual: whether `h` is added before the activation.
        activation_fn: in place of `tanh`.
        kernel_init: makes the kernel of `dense_i`, `(key, shape, dtype) -> array`.
        recurrent_kernel_init: makes the kernel of `dense_h`.
        bias_init: makes the bias.
        promote_dtype: brings the arguments of each layer to one dtype.
        keep_rngs: whether to keep a stream forked from `rngs.carry`, for `initialize_carry`; deprecated.
        rngs: its `params` stream gives the keys, those of `dense_h` first.
        kernel_metadata: metadata for the kernel of `dense_i`.
        recurrent_kernel_metadata: metadata for the kernel of `dense_h`.
        bias_metadata: metadata for the bias.

    Raises:
        TypeError, ValueError: a size is no positive integer, or `rngs` is a bare seed or key.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> cell = nnx.SimpleCell(3, 4, rngs=nnx.Rngs(0))
        >>> carry = cell.initialize_carry((2, 3), nnx.Rngs(0))
        >>> carry, y = cell(carry, jnp.ones((2, 3)))
        >>> carry.shape, y.shape
        ((2, 4), (2, 4))

    Source: Elman 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: DTypeLike | None = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: initializers.Initializer | None = None,
        residual: bool = False,
        activation_fn: Callable[..., Any] = tanh,
        kernel_init: initializers.Initializer = default_kernel_init,
        recurrent_kernel_init: initializers.Initializer = default_recurrent_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        promote_dtype: PromoteDtype = promote_dtype,
        keep_rngs: bool = False,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        recurrent_kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "promote_dtype": promote_dtype}
        self._set_options(
            in_features, hidden_features, carry_init=carry_init, keep_rngs=keep_rngs, rngs=rngs, **options
        )
        self.residual = residual
        self.activation_fn = activation_fn
        self.dense_h = Linear(
            hidden_features,
            hidden_features,
            use_bias=False,
            kernel_init=recurrent_kernel_init,
            kernel_metadata=recurrent_kernel_metadata,
            rngs=rngs,
            **options,
        )
        self.dense_i = Linear(
            in_features,
            hidden_features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **options,
        )

    def __call__(self, carry: jax.Array, inputs: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Returns `(h', h')`.

        Args:
            carry: the hidden state `h`, `(*batch, hidden_features)`.
            inputs: `(*batch, in_features)`.

        Raises:
            ValueError: `inputs` or `carry` have other shapes.
        """
        self._check_step(carry, inputs)
        h = self.dense_i(inputs) + self.dense_h(carry)
        h = self.activation_fn(h + carry if self.residual else h)
        return h, h
