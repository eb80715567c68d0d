"""What a dataset yields, taken apart into inputs, targets and sample weights."""

from __future__ import annotations

from typing import Any


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Returns inputs, targets and sample weights of what a dataset yields; None for those it does not have.

    Args:
        data: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, as a tuple or a list; anything else is `x`.

    Raises:
        ValueError: it is a tuple or list of no or of more than three entries.

    Examples:
        >>> unpack_x_y_sample_weight(("x", "y"))
        ('x', 'y', None)
    """
    if not isinstance(data, tuple | list):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"The data have {len(data)} parts, expected (x,), (x, y) or (x, y, sample_weight). Put several "
            f"inputs or targets into a tuple or a dict of their own, as in ((a, b), y)."
        )
    x, y, sample_weight = (*data, None, None)[:3]
    return x, y, sample_weight


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Returns what a dataset yields for these, so that `unpack_x_y_sample_weight` gives them back.

    Args:
        x: inputs.
        y: targets, or None.
        sample_weight: how much each row counts, or None.

    Examples:
        >>> pack_x_y_sample_weight("x"), pack_x_y_sample_weight(["a", "b"]), pack_x_y_sample_weight("x", "y")
        ('x', (['a', 'b'],), ('x', 'y'))
    """
    if y is None and sample_weight is None:
        return (x,) if isinstance(x, tuple | list) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
