"""Arrays of other libraries as NumPy arrays: pandas, torch, TensorFlow, and whatever has `__array__`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from easyflax.data.kinds import is_a, type_name


def as_numpy(array: Any, name: str) -> np.ndarray:
    """Returns `array` as a NumPy array, without a copy where its library allows that.

    Args:
        array: a NumPy or JAX array, a tensor of torch or TensorFlow, a pandas DataFrame (one array of two
            axes) or Series (one column, `(rows, 1)`), or anything else with `__array__`.
        name: what the user calls it, such as `"x"`, for the error messages.

    Raises:
        ValueError: it is none of these, or a DataFrame with missing values.
    """
    if isinstance(array, np.ndarray):
        return array
    if is_a(array, "pandas", "DataFrame"):
        return _frame(array, name)
    if is_a(array, "pandas", "Series"):
        return _frame(array.to_frame(), name)
    if is_a(array, "torch", "Tensor"):
        return _torch(array)
    if hasattr(array, "__array__"):
        return np.asarray(array)
    raise ValueError(
        f"{name} is of type {type_name(array)}, expected a NumPy or JAX array, or a dict, list or tuple of "
        f"arrays. Convert it first, for example with {_conversion(array)}."
    )


def _conversion(array: Any) -> str:
    return "its toarray()" if hasattr(array, "toarray") else "np.asarray"


def _torch(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # which torch does not give to NumPy
        return tensor.float().numpy().astype(jnp.bfloat16)
    return tensor.numpy()


def _frame(frame: Any, name: str) -> np.ndarray:
    dtypes = [getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes]  # `Int64` holds int64
    for column, dtype in zip(frame.columns, dtypes):
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
            raise ValueError(
                f"{name} has a column {column!r} of dtype {dtype}, expected numbers. Encode strings and "
                f"categories as integers, or leave the column out."
            )
    if dtypes and np.result_type(*dtypes).kind != "f" and frame.isna().to_numpy().any():
        missing = [column for column in frame.columns if frame[column].isna().any()]
        raise ValueError(
            f"{name} misses values in column {missing[0]!r}, expected an integer in every row. Fill them "
            f"with fillna, or drop the rows."
        )
    return frame.to_numpy(dtype=np.result_type(*dtypes)) if dtypes else frame.to_numpy()
