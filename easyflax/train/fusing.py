"""How many steps go to the device in one dispatch: by what a step computes and where, never by a clock.

A dispatch costs the host some tens of microseconds, so that fusing steps pays where a step takes little more.
How long one takes is estimated from its operations, at rates that perceptrons had on two cores. Equal runs
decide equally, on any machine of the kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from easyflax.train.specs import num_bytes

__all__ = ["estimated_seconds", "steps_together"]

LONGEST_STEP = 2e-3  # seconds; the dispatch of a longer one costs less than a few percent of it
GROUP = 1e-2  # seconds that a group of steps takes
MOST = 256
LARGEST_GROUP = 2**25  # bytes of data
# Of one core of a common machine; of an accelerator, far below its peak, since the steps are small.
RATES = {"cpu": (5e10, 2e10, 5e-8)}
ELSEWHERE = (5e12, 5e11, 3e-6)  # FLOPs a second, bytes a second, seconds of an operation


def steps_together(step: ClosedJaxpr, batch: Any, platform: str) -> int:
    """Returns how many steps to do in one dispatch, a power of two.

    Args:
        step: what is to run several times.
        batch: the data of a step, or shapes and dtypes.
        platform: where it runs, such as "cpu".
    """
    if step.effects or (platform == "cpu" and _has_convolutions(step.jaxpr)):
        return 1  # on the CPU a convolution in a loop takes up to 13 times as long
    seconds = estimated_seconds(step, platform)
    if seconds > LONGEST_STEP:
        return 1
    most = min(GROUP / seconds, MOST, LARGEST_GROUP / max(num_bytes(batch), 1))
    return 2 ** max(int(math.log2(max(most, 1))), 0)


def estimated_seconds(step: ClosedJaxpr, platform: str) -> float:
    """Returns about how long a step takes on the device.

    Products of matrices count with their FLOPs and bytes, everything else as being fused: with what it
    returns.
    """
    flops_rate, bytes_rate, overhead = RATES.get(platform, ELSEWHERE)
    total = 0.0
    for equation, times in _equations(step.jaxpr, 1):
        total += times * (_flops(equation) / flops_rate + _bytes(equation) / bytes_rate + overhead)
    return total


def _equations(jaxpr: Jaxpr, times: int) -> Iterator[tuple[JaxprEqn, int]]:
    """Yields all operations, and how often each runs as far as that is known."""
    for equation in jaxpr.eqns:
        inner = list(_jaxprs_in(equation))
        if not inner:
            yield equation, times
        again = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for one in inner:
            yield from _equations(one, times * again)


def _jaxprs_in(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one


def _has_convolutions(jaxpr: Jaxpr) -> bool:
    return any(one.primitive.name == "conv_general_dilated" for one, _ in _equations(jaxpr, 1))


def _flops(equation: JaxprEqn) -> float:
    size = sum(math.prod(_shape(out)) for out in equation.outvars)
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2.0 * size * math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        return 2.0 * size * math.prod(kernel) / kernel[outputs]
    return float(size)


def _bytes(equation: JaxprEqn) -> float:
    is_product = equation.primitive.name in ("dot_general", "conv_general_dilated")
    read = equation.invars if is_product else []
    return float(sum(math.prod(_shape(one)) * _itemsize(one) for one in [*equation.outvars, *read]))


def _shape(variable: Any) -> tuple[int, ...]:
    return getattr(variable.aval, "shape", ())


def _itemsize(variable: Any) -> int:
    dtype = getattr(variable.aval, "dtype", None)
    if dtype is None or jax.numpy.issubdtype(dtype, jax.dtypes.extended):
        return 8
    return dtype.itemsize
