"""`Discretization`: numbers as the bins they fall into."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from easyflax.layers.category_encoding import encode, refuse_sparse
from easyflax.layers.image_layer import check_choice
from easyflax.layers.layer import Layer

__all__ = ["Discretization"]


class Discretization(Layer):
    """Replaces numbers by the bin that they fall into, bins closed below and open above.

    Args:
        bin_boundaries: where one bin ends and the next begins, ascending; `n` of them make `n + 1` bins.
        num_bins: instead of the boundaries: how many bins `adapt` is to find, with about equally many values.
        epsilon: how coarsely `adapt` summarizes the values: in about `1 / epsilon` of them.
        output_mode: "int" for the number of the bin, or see `CategoryEncoding`.
        sparse: only False.
        dtype: see `Layer`.
        name: see `Layer`.

    Raises:
        ValueError: there are both boundaries and `num_bins`, or neither, or an argument is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> Discretization(bin_boundaries=[0.0, 1.0])(jnp.array([-3.0, 0.0, 0.5, 7.0]))
        Array([0, 1, 1, 2], dtype=int32)
    """

    built: bool = True

    def __init__(
        self,
        bin_boundaries: Iterable[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        refuse_sparse(self, sparse)
        if (num_bins is None) == (bin_boundaries is None):
            raise ValueError(
                f"Discretization: got bin_boundaries={bin_boundaries!r} and num_bins={num_bins!r}, "
                "expected one of them. Pass the boundaries, or a number of bins and call adapt(data)."
            )
        if num_bins is not None and num_bins < 1:
            raise ValueError(
                f"Discretization: num_bins is {num_bins!r}, expected a positive integer. Pass how many "
                "bins you want."
            )
        modes = ("int", "one_hot", "multi_hot", "count")
        self.output_mode = check_choice(self, "output_mode", output_mode, modes)
        self.bin_boundaries = None if bin_boundaries is None else tuple(map(float, bin_boundaries))
        self.num_bins = num_bins
        self.epsilon = epsilon
        self.sparse = sparse

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Sets the boundaries to quantiles of the data, from a summary of it.

        Args:
            data: an array of any shape, or an iterable of batches.
            steps: how many batches to read; all by default.

        Raises:
            ValueError: the layer was made with boundaries, or there is no data.
        """
        if self.num_bins is None:
            raise ValueError(
                f"Discretization '{self.name}': adapt was called, but it was made with bin_boundaries. "
                "Make it with num_bins to have them found."
            )
        is_array = hasattr(data, "__array__") or not hasattr(data, "__iter__")
        batches = [data] if is_array else islice(data, steps)
        summary = np.zeros((2, 0), np.float32)
        for batch in batches:
            values = np.sort(np.asarray(batch, np.float32), axis=None)
            merged = np.concatenate([_summarized(values, self.epsilon), summary], axis=1)
            summary = _compressed(merged[:, np.argsort(merged[0])], self.epsilon)
        if not summary.size:
            raise ValueError(
                f"Discretization '{self.name}': adapt got no values, expected some to find "
                f"{self.num_bins} bins in. Pass data that is not empty."
            )
        self.bin_boundaries = tuple(_compressed(summary, 1.0 / self.num_bins)[0, :-1].tolist())

    def call(self, inputs: Any) -> jax.Array:
        """Returns the numbers of the bins, in the shape of the input, or their encoding.

        Raises:
            ValueError: there are no boundaries yet.
        """
        if self.bin_boundaries is None:
            raise ValueError(
                f"Discretization '{self.name}' has no bin boundaries yet. Call adapt(data) before, or pass "
                "bin_boundaries."
            )
        bins = jnp.digitize(jnp.asarray(inputs), jnp.asarray(self.bin_boundaries, jnp.float32))
        dtype = jnp.int32 if self.output_mode == "int" else self.compute_dtype
        return encode(bins, self.output_mode, len(self.bin_boundaries) + 1, dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with the boundaries that `adapt` found."""
        config = super().get_config()
        del config["trainable"]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Discretization:
        """Returns a layer of what `get_config` returned, with the boundaries that were found."""
        config = dict(config)
        found = config.pop("bin_boundaries", None) if config.get("num_bins") is not None else None
        layer = cls(**config)
        if found is not None:
            layer.bin_boundaries = tuple(found)
        return layer


def _summarized(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns about `1 / epsilon` of the sorted values, and how many each of them stands for."""
    step = max(values.size * epsilon, 1)
    kept = values[int(step - 1) :: int(step)]
    return np.stack([kept, np.full_like(kept, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns a summary of about `1 / epsilon` values, interpolated between those of a longer one."""
    if summary.shape[1] * epsilon < 1:
        return summary
    values, weights = summary
    total = np.cumsum(weights)
    quantiles = epsilon + np.arange(0.0, 1.0, epsilon)
    new_values = np.interp(quantiles, total / total[-1], values)
    new_weights = np.diff(np.interp(quantiles, total / total[-1], total), prepend=0)
    return np.stack([new_values, new_weights]).astype(np.float32)
