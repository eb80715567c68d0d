"""`nnx.custom_vjp`: functions of modules with a reverse-mode derivative of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import jax

from easyflax.nnx.core.signatures import P, R
from easyflax.nnx.transforms.autodiff import Argnums
from easyflax.nnx.transforms.custom_derivatives import CustomDerivative, Operands, aligned, freeze, thaw
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.tangents import (
    Part,
    Static,
    make_leaf,
    origins_of,
    shape_of,
    split_pair,
    zeros_for,
)

_MISSING: Any = object()


@overload
def custom_vjp(fun: Callable[P, R], *, nondiff_argnums: Argnums = ()) -> CustomVjp[P, R]: ...
@overload
def custom_vjp(*, nondiff_argnums: Argnums = ()) -> Callable[[Callable[P, R]], CustomVjp[P, R]]: ...
def custom_vjp(fun: Any = _MISSING, *, nondiff_argnums: Argnums = ()) -> Any:
    """Gives a function of modules and arrays a derivative of its own, as `jax.custom_vjp` does for arrays.

    The derivative is set by `fun.defvjp(fwd, bwd)`:

    * `fwd` takes the arguments of the function and returns `(output, residuals)`. Modules may be among the
      residuals. Changes that it makes to modules are kept, as those of the function are.
    * `bwd` takes the residuals and `(input_updates_g, output_g)`, and returns a tuple with a cotangent for
      each
      argument: for a module a `State` (or a module) of what is differentiated in it; None stands for zeros.

    `input_updates_g` has the structure of the arguments, with a `State` for each module and None elsewhere.
    It holds the cotangents of the values that the function gave to variables, zeros for variables that it did
    not change. Since it has the structure of what `bwd` returns, it can be filled and returned. In `output_g`
    there is a `State` for each module too.

    Args:
        fun: the function; without it, a decorator is returned.
        nondiff_argnums: positions of arguments that are not differentiated; `bwd` gets them before the
            residuals, and returns nothing for them. An `nnx.DiffState` says what is differentiated in a
            module.

    Raises:
        ValueError: no rule is set; a cotangent has another structure or shape than its argument; something
            that is not differentiated here is differentiated outside; a variable is reached from what is
            differentiated and from what is not.
        TypeError: a cotangent has another dtype; a keyword-only argument.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> @nnx.custom_vjp
        ... def scaled(model, x):
        ...     return model.scale * x
        >>> def fwd(model, x):
        ...     return scaled(model, x), (model, x)
        >>> def bwd(residuals, g):
        ...     (model_g, _), output_g = g
        ...     model, x = residuals
        ...     model_g.scale[...] = jnp.clip(output_g * x, -1, 1)  # clipped
        ...     return model_g, output_g * model.scale
        >>> scaled.defvjp(fwd, bwd)
        >>> model = nnx.Dict(scale=nnx.Param(jnp.array(2.0)))
        >>> model_grad, x_grad = nnx.grad(scaled, argnums=(0, 1))(model, 5.0)
        >>> float(model_grad.scale[...]), float(x_grad)
        (1.0, 2.0)
    """
    if fun is _MISSING:
        return lambda fun: CustomVjp(fun, nondiff_argnums)
    return CustomVjp(fun, nondiff_argnums)


class CustomVjp(CustomDerivative[P, R]):
    """A function with a derivative set by `defvjp`; call it like the function."""

    def __init__(self, fun: Callable[P, R], nondiff_argnums: Any = ()) -> None:
        super().__init__(fun, nondiff_argnums, "custom_vjp")
        self._rules: list[tuple[Callable[..., Any], Callable[..., Any], bool]] = []  # shared by bound copies

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any], symbolic_zeros: bool = False) -> None:
        """Sets the rules; see `nnx.custom_vjp`.

        Args:
            fwd: takes the arguments and returns `(output, residuals)`.
            bwd: takes residuals and cotangents and returns the arguments' cotangents.
            symbolic_zeros: whether `fwd` gets `CustomVJPPrimal`s and `bwd` may get `SymbolicZero`s in place
                of arrays, as in `jax.custom_vjp.defvjp`.
        """
        self._rules[:] = [(self._unbound(fwd, "defvjp"), self._unbound(bwd, "defvjp"), symbolic_zeros)]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._rules:
            raise ValueError(
                f"{self.name} has no rules, expected {self.name}.defvjp(fwd, bwd) before the first "
                "call.\nCall it after the definition of the function."
            )
        call, operands = self._pack(args, kwargs)
        fun = self._fun
        seen: list[Outcome] = []

        def primal(*flat: Any) -> Any:
            values, args = operands.join(*flat)
            out, changed, outcome = run(fun, operands.spec, values, args, {}, transform="custom_vjp")
            seen.append(outcome)
            return out, changed, outcome

        fwd, bwd, symbolic_zeros = self._rules[0]
        primal.__name__ = primal.__qualname__ = self.name
        rules = _Rules(operands, fwd, bwd, seen, symbolic_zeros)
        function = jax.custom_vjp(primal)
        function.defvjp(rules.forward, rules.backward, symbolic_zeros=symbolic_zeros)
        return unpack(call, *function(*operands.flatten(call)))


class _Rules:
    """The user's rules, as rules for the function of flat operands."""

    def __init__(
        self,
        operands: Operands,
        fwd: Callable[..., Any],
        bwd: Callable[..., Any],
        seen: list[Outcome],
        symbolic_zeros: bool,
    ) -> None:
        self._name, self._operands, self._seen = operands.name, operands, seen
        self._fwd, self._bwd, self._symbolic_zeros = fwd, bwd, symbolic_zeros
        self._graphdef = operands.spec.graphdef

    def forward(self, leaves: Any, trees: Any, held: Any) -> Any:
        """Returns what the function returns, and the residuals with what `backward` has to know."""
        operands, plain = self._operands, (leaves, trees, held)
        if self._symbolic_zeros:
            plain = jax.tree.map(lambda primal: primal.value, plain)
            leaves = [
                primal if leaf < len(self._graphdef.variables) else primal.value  # no variable to hold it
                for leaf, primal in zip(operands.leaves, leaves, strict=True)
            ]
            held = plain[2]
        values, args = operands.join(leaves, trees, held)
        kept: list[Any] = []

        def fwd(*args: Any) -> Any:
            out, residual = split_pair(
                self._fwd(*args), f"The fwd rule of {self._name}", "output", "residuals"
            )
            kept.append(freeze((operands.dynamic(args), residual)))
            return out

        out, changed, outcome = run(fwd, operands.spec, values, args, {}, transform="custom_vjp")
        changed, outcome = aligned(operands, self._seen, values, changed, outcome)
        shapes, treedef = jax.tree.flatten(shape_of((operands.join(*plain)[0], plain[1])))
        return (out, changed, outcome), (kept[-1], Static((outcome, tuple(shapes), treedef)))

    def backward(self, residual: Any, cotangents: Any) -> Any:
        """Returns the cotangents of the operands."""
        operands, (frozen, static) = self._operands, residual
        outcome, shapes, treedef = static.value
        values, trees = treedef.unflatten(shapes)
        dynamic, residuals = thaw(frozen)
        constants = operands.constants(iter(dynamic), objects=True)
        zeros: list[Any] = []
        result = self._bwd(*constants, residuals, self._cotangents(outcome, values, cotangents, zeros))
        if not isinstance(result, (tuple, list)) or len(result) != len(operands.parts):
            got = f"a {type(result).__name__}"
            if isinstance(result, (tuple, list)):
                got += f" of length {len(result)}"
            raise TypeError(
                f"The bwd rule of {self._name} returned {got}, expected a tuple with a cotangent for each "
                f"of the {len(operands.parts)} arguments that are differentiated.\nReturn one for each; "
                "None for zeros."
            )
        by_leaf: dict[int, Any] = {}
        rests = []
        for part, given, tree in zip(operands.parts, result, trees, strict=True):
            label = f"The cotangent of {part.where} that the bwd rule of {self._name} returned"
            found, rest = part.read(given, values.__getitem__, tree, label)
            by_leaf.update(found)
            rests.append(rest)
        # A zero that came back is for jax to make, which knows over which mesh axes it varies in shard_map.
        known = set(map(id, zeros))
        of_leaves = [by_leaf.get(leaf) for leaf in operands.leaves]
        return [None if id(value) in known else value for value in of_leaves], rests, None

    def _cotangents(
        self, outcome: Outcome, values: Any, cotangents: Any, zeros: list[Any]
    ) -> tuple[tuple[Any, ...], Any]:
        """Returns `(input_updates_g, output_g)`, and appends what is zero in it to `zeros`."""
        out, changed, _ = cotangents
        after, origins = outcome.after or self._graphdef, origins_of(outcome, self._graphdef)
        new = dict(zip(outcome.leaves, changed, strict=True))

        def cotangent_of(leaf: int) -> Any:
            if leaf in new:
                return make_leaf(after, leaf, new[leaf])
            zeros.append(zeros_for(values[origins[leaf]]))
            return make_leaf(after, leaf, zeros[-1])

        taken: set[int] = set()
        updates = tuple(
            Part(part.where, part.tree, after, after.roots, taken).states(cotangent_of)
            for part in self._operands.parts
        )
        output = Part("the output", out, after, outcome.outputs, taken)
        return updates, output.states(cotangent_of, out)
