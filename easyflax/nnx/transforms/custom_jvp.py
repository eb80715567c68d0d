"""`nnx.custom_jvp`: functions of modules with a forward-mode derivative of their own."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, overload

import jax

from easyflax.nnx.core.signatures import P, R
from easyflax.nnx.transforms.autodiff import Argnums
from easyflax.nnx.transforms.custom_derivatives import CustomDerivative, Operands, aligned
from easyflax.nnx.transforms.lift import Outcome, run, unpack
from easyflax.nnx.transforms.packing import is_object, is_slot
from easyflax.nnx.transforms.tangents import (
    Part,
    Path,
    by_path,
    checked,
    make_leaf,
    origins_of,
    shown,
    split_pair,
    with_zeros,
    zeros_for,
)

_MISSING: Any = object()


@overload
def custom_jvp(fun: Callable[P, R], *, nondiff_argnums: Argnums = ()) -> CustomJvp[P, R]: ...
@overload
def custom_jvp(*, nondiff_argnums: Argnums = ()) -> Callable[[Callable[P, R]], CustomJvp[P, R]]: ...
def custom_jvp(fun: Any = _MISSING, *, nondiff_argnums: Argnums = ()) -> Any:
    """Gives a function of modules and arrays a derivative of its own, as `jax.custom_jvp` does for arrays.

    The derivative is set by `fun.defjvp(rule)`, or for each argument by `fun.defjvps(rule0, rule1, ...)`.
    `rule` takes a tuple of the arguments and a tuple of their tangents, and returns `(output, tangent of the
    output)`. It serves forward mode (`nnx.jvp`) and reverse mode (`nnx.grad`, `nnx.vjp`) alike.

    * The tangent of a module is a `State` of what is differentiated in it. For a module in the output, the
      rule returns a `State` (or a module); None stands for zeros.
    * Changes that the rule makes to modules are kept, as those of the function are. They are constants to the
      derivative, unless the rule also sets the tangent of the variable in the state that it was passed.

    Args:
        fun: the function; without it, a decorator is returned.
        nondiff_argnums: positions of arguments that are not differentiated; the rule gets them first, before
            primals and tangents. An `nnx.DiffState` says what is differentiated in a module.

    Raises:
        ValueError: no rule is set; a tangent has another structure or shape than the output; something that
            is not differentiated here is differentiated outside; a variable is reached from what is
            differentiated and from what is not.
        TypeError: a tangent has another dtype; a keyword-only argument.

    Example:

        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> @nnx.custom_jvp
        ... def scaled(model, x):
        ...     return model.scale * x
        >>> @scaled.defjvp
        ... def rule(primals, tangents):
        ...     (model, x), (model_t, x_t) = primals, tangents
        ...     return scaled(model, x), jnp.clip(x, -1, 1) * model_t.scale + model.scale * x_t
        >>> model = nnx.Dict(scale=nnx.Param(jnp.array(2.0)))
        >>> model_grad, x_grad = nnx.grad(scaled, argnums=(0, 1))(model, 5.0)
        >>> float(model_grad.scale[...]), float(x_grad)
        (1.0, 2.0)
    """
    if fun is _MISSING:
        return lambda fun: CustomJvp(fun, nondiff_argnums)
    return CustomJvp(fun, nondiff_argnums)


class CustomJvp(CustomDerivative[P, R]):
    """A function with a derivative set by `defjvp` or `defjvps`; call it like the function."""

    def __init__(self, fun: Callable[P, R], nondiff_argnums: Any = ()) -> None:
        super().__init__(fun, nondiff_argnums, "custom_jvp")
        self._rules: list[tuple[Callable[..., Any], bool]] = []  # shared by bound copies

    def defjvp(self, rule: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Sets the rule, and returns it, so that this can be used as a decorator; see `nnx.custom_jvp`.

        Args:
            rule: takes primals and tangents and returns `(output, tangent of the output)`.
            symbolic_zeros: whether tangents may be `SymbolicZero`s, as in `jax.custom_jvp.defjvp`.
        """
        self._rules[:] = [(self._unbound(rule, "defjvp"), symbolic_zeros)]
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Sets a rule for each argument; the tangent of the output is their sum.

        Args:
            *rules: each takes the tangent of its argument, the output, and all arguments, and returns a
                tangent of the output; None where an argument has no influence.

        Raises:
            TypeError: some arguments are not differentiated; their number differs from that of the arguments.

        Example:

            >>> import jax.numpy as jnp
            >>> from easyflax import nnx
            >>> f = nnx.custom_jvp(lambda model, x: model.scale * x)
            >>> f.defjvps(lambda t, out, model, x: t.scale * x, None)
            >>> nnx.grad(f, argnums=1)(nnx.Dict(scale=nnx.Param(jnp.array(2.0))), 5.0).item()
            0.0
        """
        if any(filter is None for filter in self._nondiff.values()):
            raise TypeError(
                f"defjvps of {self.name} got a rule for each argument, expected that all are "
                "differentiated, but nondiff_argnums names some.\nUse defjvp."
            )
        plain = [None if rule is None else self._unbound(rule, "defjvps") for rule in rules]

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            if len(plain) != len(primals):
                raise TypeError(
                    f"defjvps of {self.name} got {len(plain)} rules, expected one for each of the "
                    f"{len(primals)} arguments.\nPass None for an argument that has no influence."
                )
            out = self._call(primals, {})
            found = [
                one(tangent, out, *primals)
                for one, tangent in zip(plain, tangents, strict=True)
                if one is not None
            ]
            return out, functools.reduce(_add, found) if found else None

        self.defjvp(rule)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._rules:
            raise ValueError(
                f"{self.name} has no rule, expected {self.name}.defjvp(rule) before the first call.\nCall "
                "it after the definition of the function."
            )
        call, operands = self._pack(args, kwargs)
        fun = self._fun
        seen: list[Outcome] = []

        def primal(*flat: Any) -> Any:
            values, args = operands.join(*flat)
            out, changed, outcome = run(fun, operands.spec, values, args, {}, transform="custom_jvp")
            seen.append(outcome)
            return out, changed, outcome

        rule, symbolic_zeros = self._rules[0]
        primal.__name__ = primal.__qualname__ = self.name
        function = jax.custom_jvp(primal)
        function.defjvp(_Rule(operands, rule, seen).push, symbolic_zeros=symbolic_zeros)
        return unpack(call, *function(*operands.flatten(call)))


def _add(first: Any, second: Any) -> Any:
    """Returns the sum of two tangents."""
    return jax.tree.map(operator.add, first, second)


class _Rule:
    """The user's rule, as a rule for the function of flat operands."""

    def __init__(self, operands: Operands, rule: Callable[..., Any], seen: list[Outcome]) -> None:
        self._name, self._operands, self._rule, self._seen = operands.name, operands, rule, seen
        self._graphdef = operands.spec.graphdef

    def push(self, primals: Any, tangents: Any) -> tuple[Any, Any]:
        """Returns what the function returns, and the tangents of that."""
        operands, graphdef = self._operands, self._graphdef
        given = dict(zip(operands.leaves, tangents[0], strict=True))
        values, args = operands.join(*primals)
        kept: list[Any] = []

        def rule(*args: Any) -> Any:
            inputs = tuple(
                part.states(lambda leaf: make_leaf(graphdef, leaf, given[leaf]), tree)
                for part, tree in zip(operands.parts, tangents[1], strict=True)
            )
            constants = [args[position] for position in operands.nondiff]
            result = self._rule(*constants, operands.chosen(args), inputs)
            out, tangent = split_pair(result, f"The rule of {self._name}", "output", "tangent of the output")
            kept.append((inputs, tangent))
            return out

        out, changed, outcome = run(rule, operands.spec, values, args, {}, transform="custom_jvp")
        changed, outcome = aligned(operands, self._seen, values, changed, outcome)
        after = outcome.after or graphdef
        new = dict(zip(outcome.leaves, changed, strict=True))
        origins = origins_of(outcome, graphdef)
        inputs, tangent = kept[-1]
        part = Part("the output", out, after, outcome.outputs, set())
        of_output, rest = part.read(
            tangent,
            lambda leaf: new[leaf] if leaf in new else values[origins[leaf]],
            out,
            f"The tangent of the output that the rule of {self._name} returned",
        )
        found = {**self._assigned(inputs, after, new, origins, given), **of_output}
        for leaf in outcome.leaves:
            if leaf not in found:
                origin = origins[leaf]
                is_same = (
                    origin in given and new[leaf] is values[origin]
                )  # the function changes it, not the rule
                found[leaf] = given[origin] if is_same else zeros_for(new[leaf])
        of_changed = [found[leaf] for leaf in outcome.leaves]
        return (out, changed, outcome), (with_zeros(rest, out), of_changed, outcome)

    def _assigned(
        self,
        inputs: Sequence[Any],
        after: Any,
        new: dict[int, Any],
        origins: Sequence[Any],
        given: dict[int, Any],
    ) -> dict[int, Any]:
        """Returns the tangents of changed leaves that the rule set in the states that it was passed."""
        result: dict[int, Any] = {}
        for part, tangent in zip(self._operands.parts, inputs, strict=True):
            leaves, treedef = jax.tree.flatten(part.tree, is_leaf=is_slot)
            states = [
                state
                for slot, state in zip(leaves, treedef.flatten_up_to(tangent), strict=True)
                if is_slot(slot)
            ]
            paths = Part(part.where, part.tree, after, after.roots, set()).leaves
            for state, pairs in zip(states, paths, strict=True):
                where = f"The tangent of {part.where} that the rule of {self._name} set"
                set_there: dict[Path, Any] = by_path(state, where) if is_object(state) else {}
                for path, leaf in pairs:
                    value = set_there.get(path)
                    if leaf in new and value is not None and value is not given.get(origins[leaf]):
                        value = checked(value, new[leaf], f"{where}, '{shown(path)}',")
                        if value is not None:
                            result[leaf] = value
        return result
