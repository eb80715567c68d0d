"""The affine map that an equation of Einstein's summation convention describes."""

from __future__ import annotations

import functools
import math
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import Param
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.inlining import is_replaced
from easyflax.nnx.layers.linear import default_bias_init, default_kernel_init, product

__all__ = ["Einsum", "einsum"]

Shape = Sequence[int]


class _Names(NamedTuple):
    """The letters of an equation, one for each axis: those that `...` stands for have letters as well."""

    x: str
    kernel: str
    out: str


def einsum(
    equation: str,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
    einsum_op: Callable[..., jax.Array] = jnp.einsum,
    out_sharding: Any = None,
) -> jax.Array:
    """Returns `einsum_op(equation, x, kernel)`, plus `bias` along those axes of it that the kernel has.

    Args:
        equation: with two operands and `->`, without spaces: `"nta,hab->nthb"`.
        x: the first operand.
        kernel: the second.
        bias: with as many entries as the kernel's axes that are left have, or None.
        precision: of the product, see `jax.lax.Precision`.
        preferred_element_type: the dtype that the product accumulates in and returns.
        einsum_op: computes the sum of products, with the signature of `jnp.einsum`.
        out_sharding: sharding of the result, for meshes with explicit axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.nnx.layers.einsum import einsum
        >>> einsum("nta,hab->nthb", jnp.ones((5, 6, 2)), jnp.ones((3, 2, 4)), jnp.ones((3, 4))).shape
        (5, 6, 3, 4)
    """
    names = _expand(equation, x.ndim, kernel.ndim)
    options: dict[str, Any] = {"precision": precision}
    if preferred_element_type is not None:
        options["preferred_element_type"] = preferred_element_type
    if out_sharding is not None:
        options["out_sharding"] = out_sharding
    plain = einsum_op is jnp.einsum and not is_replaced(jnp.einsum) and out_sharding is None
    if plain and _is_product(names, x, kernel):
        y = _as_product(names, x, kernel, options)
    else:
        y = einsum_op(equation, x, kernel, **options)
    return y if bias is None else y + jnp.reshape(bias, _bias_shape(names, kernel.shape))


@functools.lru_cache(maxsize=1024)
def _expand(equation: str, x_rank: int, kernel_rank: int) -> _Names:
    operands, out = equation.split("->")
    x, kernel = operands.split(",")
    more = [
        rank - len(names.replace("...", "")) if "..." in names else 0
        for names, rank in ((x, x_rank), (kernel, kernel_rank))
    ]
    letters = "".join(letter for letter in string.ascii_letters if letter not in equation)[: max(*more, 0)]
    of_x, of_kernel = (letters[len(letters) - max(n, 0) :] for n in more)  # aligned at their ends
    return _Names(x.replace("...", of_x), kernel.replace("...", of_kernel), out.replace("...", letters))


def _bias_shape(names: _Names, kernel_shape: Shape) -> tuple[int, ...]:
    sizes = dict(zip(names.kernel, kernel_shape, strict=True))
    return tuple(sizes.get(name, 1) for name in names.out)


def _is_product(names: _Names, x: jax.Array, kernel: jax.Array) -> bool:
    """Whether one `dot_general` does it: nothing to sum beforehand, no diagonals, no axes of size 1 to
    repeat."""
    x_sizes, kernel_sizes = dict(zip(names.x, x.shape)), dict(zip(names.kernel, kernel.shape))
    return (
        x.dtype == kernel.dtype
        and len(x_sizes) == x.ndim
        and len(kernel_sizes) == kernel.ndim
        and all(name in names.out for name in x_sizes.keys() ^ kernel_sizes.keys())
        and all(x_sizes[name] == kernel_sizes[name] for name in x_sizes.keys() & kernel_sizes.keys())
    )


def _as_product(names: _Names, x: jax.Array, kernel: jax.Array, options: dict[str, Any]) -> jax.Array:
    """What `jnp.einsum` computes, to the order of operands and axes, without its search for that order."""
    kernel_first, dimensions, order = _plan(names)
    lhs, rhs = (kernel, x) if kernel_first else (x, kernel)
    y = product(lhs, rhs, dimensions, **{"preferred_element_type": x.dtype, **options})
    return lax.transpose(y, order) if kernel_first else y


@functools.lru_cache(maxsize=1024)
def _plan(names: _Names) -> tuple[bool, lax.DotDimensionNumbers, tuple[int, ...]]:
    """Whether the kernel comes first, which axes are summed and of the batch, and the order of the others."""
    shared = set(names.x) & set(names.kernel)
    summed = "".join(sorted(shared - set(names.out)))
    batch = "".join(name for name in names.out if name in shared)
    x_only, kernel_only = ("".join(n for n in operand if n not in shared) for operand in names[:2])
    kernel_first = batch + x_only + kernel_only != names.out
    lhs, rhs = (names.kernel, names.x) if kernel_first else (names.x, names.kernel)
    dimensions = (
        (_places(lhs, summed), _places(rhs, summed)),
        (_places(lhs, batch), _places(rhs, batch)),
    )
    return kernel_first, dimensions, _places(batch + kernel_only + x_only, names.out)


def _places(names: str, chosen: str) -> tuple[int, ...]:
    return tuple(map(names.index, chosen))


class Einsum(Module):
    """An affine map that an equation describes: `y = einsum(equation, x, kernel) + bias`.

    The parameters are `kernel` and `bias`, of the shapes that are given. The bias is added along those axes
    of the output that the kernel has, in the output's order.

    Args:
        einsum_str: the equation, with the input as the first operand, the kernel as the second, and `->`; or
            None where each call gives one.
        kernel_shape: sizes of the kernel's axes.
        bias_shape: sizes of the bias' axes, or None for no bias.
        dtype: the dtype to compute in; by default what input and parameters promote to.
        param_dtype: the dtype that the parameters are stored in.
        precision: of the product, see `jax.lax.Precision`.
        kernel_init: makes the kernel, `(key, shape, dtype) -> array`.
        bias_init: makes the bias.
        promote_dtype: brings `(inputs, kernel, bias)` to one dtype.
        einsum_op: computes the sum of products, with the signature of `jnp.einsum`.
        preferred_element_type: the dtype that the product accumulates in and returns.
        rngs: its `params` stream gives the keys, the kernel's first.
        kernel_metadata: metadata for the variable `kernel`.
        bias_metadata: metadata for the variable `bias`.

    Raises:
        TypeError, ValueError: the equation is not of that form, a size is no positive integer, or `rngs` is a
            bare seed or key.
        AttributeError: `rngs` has neither a stream `params` nor a default.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> layer = nnx.Einsum("nta,hab->nthb", (8, 2, 4), (8, 4), rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((16, 11, 2))).shape
        (16, 11, 8, 4)
        >>> layer(jnp.ones((3, 16, 11, 2)), "...a,hab->...hb").shape
        (3, 16, 11, 8, 4)

    Source: Einstein 1916, "Die Grundlage der allgemeinen Relativitaetstheorie", section 5,
    https://doi.org/10.1002/andp.19163540702
    """

    def __init__(
        self,
        einsum_str: str | None,
        kernel_shape: Shape,
        bias_shape: Shape | int | None = None,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        precision: lax.PrecisionLike = None,
        kernel_init: initializers.Initializer = default_kernel_init,
        bias_init: initializers.Initializer = default_bias_init,
        promote_dtype: PromoteDtype = promote_dtype,
        einsum_op: Callable[..., jax.Array] = jnp.einsum,
        preferred_element_type: DTypeLike | None = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = MappingProxyType({}),
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.einsum_str = None if einsum_str is None else _checked_equation(self, einsum_str)
        self.kernel_shape = _checked_shape(self, "kernel_shape", kernel_shape)
        self.bias_shape = None if bias_shape is None else _checked_shape(self, "bias_shape", bias_shape)
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype
        self.einsum_op = einsum_op
        self.preferred_element_type = preferred_element_type
        checks.check_rngs(self, rngs)
        self.kernel = Param(kernel_init(rngs.params(), self.kernel_shape, param_dtype), **kernel_metadata)
        self.bias = (
            None
            if self.bias_shape is None
            else Param(bias_init(rngs.params(), self.bias_shape, param_dtype), **bias_metadata)
        )

    def __call__(
        self, inputs: ArrayLike, einsum_str: str | None = None, out_sharding: Any = None
    ) -> jax.Array:
        """Returns the map of `inputs`, with the axes that stand after `->`.

        Args:
            inputs: with the axes of the equation's first operand; integers are converted to floats.
            einsum_str: an equation for this call, which goes before the layer's own.
            out_sharding: sharding of the result, for meshes with explicit axes.

        Raises:
            ValueError: there is no equation, or input, kernel or bias do not fit it.
        """
        given = self.einsum_str if einsum_str is None else einsum_str
        equation = _checked_equation(self, given)
        kernel = self.kernel[...]
        bias = None if self.bias is None else self.bias[...]
        _check_operands(self, equation, np.shape(inputs), kernel.shape)
        if bias is not None:
            _check_bias(self, equation, np.ndim(inputs), kernel.shape, bias.shape)
        x, kernel, bias = self.promote_dtype((inputs, kernel, bias), dtype=self.dtype)
        return einsum(
            equation,
            x,
            kernel,
            bias,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            einsum_op=self.einsum_op,
            out_sharding=out_sharding,
        )


def _checked_shape(layer: Einsum, argument: str, shape: Shape | int) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    checks.check_sizes(layer, **{f"{argument}[{axis}]": size for axis, size in enumerate(sizes)})
    return sizes


_FORM = re.compile(r"[^\W\d_]*(\.\.\.)?[^\W\d_]*")  # letters of any alphabet


def _checked_equation(layer: Einsum, equation: str | None) -> str:
    """The equation without spaces, after a look at its form."""
    if not isinstance(equation, str):
        raise ValueError(
            f"{checks.describe(layer)}: got einsum_str={equation!r}, expected an equation such as "
            "'nta,hab->nthb'. Pass one to the constructor or to the call."
        )
    equation = equation.replace(" ", "")
    if problem := _problem(equation):
        raise ValueError(
            f"{checks.describe(layer)}: got einsum_str {equation!r} with {problem}. Pass an equation such as "
            "'nta,hab->nthb'."
        )
    return equation


@functools.lru_cache(maxsize=1024)
def _problem(equation: str) -> str | None:
    parts = equation.split("->")
    if len(parts) != 2:
        return f"{len(parts) - 1} times '->', expected it once, before the axes of the output"
    operands, out = parts
    if operands.count(",") != 1:
        return f"{operands.count(',') + 1} operands, expected two, the input and the kernel"
    if not all(_FORM.fullmatch(part) for part in (*operands.split(","), out)):
        return "other characters, expected a letter for each axis, and '...' at most once in each part"
    wrong = {name for name in out.replace("...", "") if out.count(name) > 1 or name not in operands}
    return f"{sorted(wrong)} after '->', expected each of them once there, and before it" if wrong else None


def _check_operands(layer: Einsum, equation: str, shape: Shape, kernel_shape: Shape) -> None:
    name, operands = checks.describe, equation.split("->")[0].split(",")
    for operand, sizes, advice in (
        (operands[0], shape, "Pass an input of that many axes"),
        (operands[1], kernel_shape, "Rebuild the layer with a kernel_shape of that many axes"),
    ):
        letters = len(operand.replace("...", ""))
        if len(sizes) < letters or (len(sizes) > letters and "..." not in operand):
            raise ValueError(
                f"{name(layer)}: got the shape {tuple(sizes)} for the operand {operand!r} of {equation!r}, "
                f"expected {letters} axes{' or more' if '...' in operand else ''}. {advice}, or another "
                "einsum_str."
            )
    names = _expand(equation, len(shape), len(kernel_shape))
    known: dict[str, int] = {}
    for letter, size in zip(names.x + names.kernel, (*shape, *kernel_shape), strict=True):
        other = known.get(letter, 1)
        if 1 != other != size != 1:
            place = f"where {letter!r} stands" if letter in equation else "under '...'"
            raise ValueError(
                f"{name(layer)}: got an input of shape {tuple(shape)} and a kernel of shape "
                f"{tuple(kernel_shape)} for {equation!r}, expected equal sizes {place}, not {other} and "
                f"{size}. Pass an input that fits, or rebuild the layer with a kernel_shape that does."
            )
        known[letter] = max(other, size)


def _check_bias(layer: Einsum, equation: str, rank: int, kernel_shape: Shape, bias_shape: Shape) -> None:
    names = _expand(equation, rank, len(kernel_shape))
    if math.prod(bias_shape) != math.prod(_bias_shape(names, kernel_shape)):
        sizes = dict(zip(names.kernel, kernel_shape, strict=True))
        expected = tuple(sizes[name] for name in names.out if name in sizes)
        raise ValueError(
            f"{checks.describe(layer)}: got a bias of shape {tuple(bias_shape)} for {equation!r}, expected "
            f"{expected}, the sizes of those axes of the kernel that are left. Rebuild the layer with "
            f"bias_shape={expected}."
        )
