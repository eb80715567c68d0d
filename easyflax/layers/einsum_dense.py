"""`EinsumDense`: a product with a kernel along axes that an einsum equation names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import activations, constraints, initializers, regularizers
from easyflax.layers.layer import Layer, Shape
from easyflax.nnx.layers import checks

__all__ = ["EinsumDense"]

_EQUATION = re.compile(r"(\.\.\.)?([A-Za-z]+)(\.\.\.)?,([A-Za-z]+)->(\.\.\.)?([A-Za-z]+)(\.\.\.)?")


class EinsumDense(Layer):
    """An einsum of the input with a kernel, a bias and an activation: `y = activation(einsum(x, W) + b)`.

    The weights are `kernel`, whose axes are those of the second operand in the equation, and `bias`.

    Args:
        equation: `"ab,bc->ac"`, with an ellipsis on the left or the right of both input and output for axes
            that stay: `"...ab,bc->...ac"`.
        output_shape: the sizes of the output's axes without the batch, None where the input decides; an int
            for one axis.
        activation: a name or a function, see `easyflax.activations`; by default none.
        bias_axes: the letters of the output's axes that the bias has; by default there is no bias.
        kernel_initializer: see `easyflax.initializers`.
        bias_initializer: likewise.
        kernel_regularizer: see `easyflax.regularizers`.
        bias_regularizer: likewise.
        kernel_constraint: see `easyflax.constraints`.
        bias_constraint: likewise.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: the equation has another form, or does not fit the shapes.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de")
        >>> layer(jnp.ones((5, 3, 8))).shape, layer.kernel.shape, layer.bias.shape
        ((5, 3, 2, 4), (8, 2, 4), (2, 4))
    """

    supports_masking = False

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.equation = equation
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.activation = activations.get(activation)
        self.bias_axes = bias_axes
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        _parse(self)

    def build(self, input_shape: Shape) -> None:
        equation = _parse(self)
        sizes = _letter_sizes(self, equation, input_shape)
        self.kernel = self.add_weight(
            shape=tuple(sizes[letter] for letter in equation.kernel),
            initializer=_with_axes(self.kernel_initializer, equation),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.bias_axes:
            self.bias = self.add_weight(
                shape=_bias_shape(equation, self.bias_axes, sizes, len(input_shape)),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def call(self, inputs: jax.Array) -> jax.Array:
        kernel: nnx.Param[jax.Array] = self.kernel
        _check_reduced(self, _parse(self), inputs.shape, kernel.shape)
        outputs = jnp.einsum(self.equation, inputs, kernel[...].astype(inputs.dtype))
        if self.bias is not None:
            outputs += self.bias[...].astype(inputs.dtype)
        return self.activation(outputs)


class _Equation(NamedTuple):
    """The letters of an equation, and on which side of them an ellipsis stands: "left", "right" or ""."""

    inputs: str
    kernel: str
    outputs: str
    ellipsis: str


def _parse(layer: EinsumDense) -> _Equation:
    match = _EQUATION.fullmatch(layer.equation.replace(" ", ""))
    if match is not None:
        left, inputs, right, kernel, left_out, outputs, right_out = match.groups()
        sides = {"left": left, "right": right}, {"left": left_out, "right": right_out}
        given = [[side for side, dots in group.items() if dots] for group in sides]
        if given[0] == given[1] and len(given[0]) < 2:
            equation = _Equation(inputs, kernel, outputs, "".join(given[0]))
            _check_letters(layer, equation)
            return equation
    raise ValueError(
        f"{checks.describe(layer)}: got the equation {layer.equation!r}, expected one of the forms "
        "'ab,bc->ac', '...ab,bc->...ac' and 'ab...,bc->ac...'. Write it so, with the kernel second."
    )


def _check_letters(layer: EinsumDense, equation: _Equation) -> None:
    known = set(equation.inputs) | set(equation.outputs)
    stray = (set(equation.kernel) - known) | (
        set(equation.outputs) - set(equation.inputs) - set(equation.kernel)
    )
    stray |= set(layer.bias_axes or "") - set(equation.outputs)
    if stray:
        raise ValueError(
            f"{checks.describe(layer)}: got the letter {min(stray)!r} of the equation {layer.equation!r} or "
            f"of bias_axes={layer.bias_axes!r} in one place only, expected the kernel's letters in the input "
            "or the output, and those of the bias in the output. Correct the equation."
        )


def _letter_sizes(layer: EinsumDense, equation: _Equation, input_shape: Shape) -> dict[str, Any]:
    """Returns the size of each letter's axis: as `output_shape` states it, else as the input has it."""
    from_input = _aligned(equation.inputs, tuple(input_shape), equation.ellipsis)
    outputs = (input_shape[0], *layer.output_shape)  # without the axes of the ellipsis
    if equation.ellipsis == "left" and len(input_shape) > len(equation.inputs):
        outputs = layer.output_shape
    from_output = dict(zip(equation.outputs, outputs)) if len(outputs) == len(equation.outputs) else None
    if from_input is None or from_output is None:
        raise ValueError(
            f"{checks.describe(layer)}: got an input of shape {tuple(input_shape)} and output_shape="
            f"{layer.output_shape}, expected as many axes as the equation {layer.equation!r} has letters. "
            "State every axis of the output but the batch in output_shape."
        )
    sizes = {letter: from_output.get(letter) or from_input.get(letter) for letter in equation.inputs}
    sizes |= {letter: size for letter, size in from_output.items() if size is not None}
    for letter in equation.inputs:
        if None not in (from_input[letter], sizes[letter]) and from_input[letter] != sizes[letter]:
            raise ValueError(
                f"{checks.describe(layer)}: got size {from_input[letter]} of axis {letter!r} in the input, "
                f"expected {sizes[letter]} as in output_shape={layer.output_shape}. Make them equal, or put "
                "None there."
            )
    free = [letter for letter in equation.kernel if sizes.get(letter) is None]
    if free:
        raise ValueError(
            f"{checks.describe(layer)}: got no size for axis {free[0]!r} of the kernel in "
            f"{layer.equation!r}, expected it in the input, which is {tuple(input_shape)}, or in "
            f"output_shape={layer.output_shape}. State it."
        )
    return sizes


def _aligned(letters: str, shape: Sequence[Any], ellipsis: str) -> dict[str, Any] | None:
    """Returns the size of each letter; None if there are too many or too few axes."""
    if len(shape) < len(letters) or (not ellipsis and len(shape) != len(letters)):
        return None
    return dict(zip(letters, shape[-len(letters) :] if ellipsis == "left" else shape))


def _bias_shape(equation: _Equation, bias_axes: str, sizes: dict[str, Any], rank: int) -> tuple[int, ...]:
    """Returns a shape that broadcasts to the output: from the first axis of the bias on, 1 for the others."""
    first = min(equation.outputs.index(letter) for letter in bias_axes)
    shape = [sizes[letter] if letter in bias_axes else 1 for letter in equation.outputs[first:]]
    kept = rank - len(equation.inputs) if equation.ellipsis == "right" else 0
    return (*shape, *[1] * kept)


def _with_axes(initializer: Any, equation: _Equation) -> Any:
    """Tells an initializer that scales by the number of inputs which axes of the kernel these are."""
    if not isinstance(initializer, initializers.VarianceScaling):
        return initializer
    if initializer.input_axes is not None and initializer.output_axes is not None:
        return initializer
    outputs = [axis for axis, letter in enumerate(equation.kernel) if letter in equation.outputs]
    inputs = [axis for axis, letter in enumerate(equation.kernel) if letter not in equation.outputs]
    config = {**initializer.get_config(), "seed": initializer.seed}
    return initializer.from_config({**config, "input_axes": inputs, "output_axes": outputs})


def _check_reduced(
    layer: EinsumDense, equation: _Equation, shape: Sequence[int], kernel: Sequence[int]
) -> None:
    sizes = _aligned(equation.inputs, shape, equation.ellipsis) or {}
    for letter, size in zip(equation.kernel, kernel):
        if letter in equation.inputs and sizes.get(letter) != size:
            raise ValueError(
                f"{checks.describe(layer)}: got an input of shape {tuple(shape)}, expected size {size} of "
                f"axis {letter!r} in {layer.equation!r}, for which the kernel was made. Pass inputs of that "
                "size, or make a new layer."
            )
