"""Spectral normalisation: a layer whose weights have a largest singular value of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from easyflax.nnx.core.filters import Path
from easyflax.nnx.core.iteration import iter_graph
from easyflax.nnx.core.marks import data
from easyflax.nnx.core.module import Module
from easyflax.nnx.core.rngs import Rngs
from easyflax.nnx.core.variables import BatchStat, Param
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import canonicalize_dtype
from easyflax.nnx.layers.weight_norm import check_wrapped, dotted, l2_normalize, unknown_weight

__all__ = ["SpectralNorm", "spectral_norm"]


def spectral_norm(
    weight: jax.Array, u: jax.Array, *, n_steps: int = 1, epsilon: float = 1e-12
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `weight` divided by its largest singular value, found by power iteration, which it returns too.

    No gradient passes through the singular vectors, so that of the singular value is `v u^T`.

    Args:
        weight: two axes or more; all but the last are taken as one.
        u: `(1, weight.shape[-1])`, where the iteration starts.
        n_steps: how many iterations, one at least.
        epsilon: added to squared norms.

    Returns:
        the weight, of its shape; the singular vector `u` that the iteration ended with; the singular value.
    """
    matrix = weight.reshape(-1, weight.shape[-1])  # (rows, features)
    v = u
    for _ in range(n_steps):
        v = l2_normalize(jnp.matmul(u, matrix.T), epsilon=epsilon)  # (1, rows)
        u = l2_normalize(jnp.matmul(v, matrix), epsilon=epsilon)  # (1, features)
    u, v = lax.stop_gradient(u), lax.stop_gradient(v)
    sigma = jnp.matmul(jnp.matmul(v, matrix), u.T)[0, 0]
    return (matrix / jnp.where(sigma != 0, sigma, 1)).reshape(weight.shape), u, sigma


class SpectralNorm(Module):
    """Wraps a layer, and divides its weights by their largest singular value before each call.

    The singular value is approximated by power iteration, which starts from the vector that the last call
    ended with. The weights (all parameters with two axes or more; those with three and more are taken as
    matrices of their last axis and all others) are changed in place: after a call the layer holds the
    normalised ones, and a gradient of the call is that by the weights before it.

    The batch statistics are in the dict `batch_stats`, by the path of the weight in the layer, here
    `("kernel",)`: the vector at `("kernel", "u")`, of shape `(1, features)`, and the singular value at
    `("kernel", "sigma")`. With `update_stats=True` (the default, and what `model.train()` sets) a call
    updates them; with False (`model.eval()`) it does not.

    Args:
        layer_instance: the layer, or any module that can be called.
        n_steps: iterations a call; with 0 the weights stay as they are.
        epsilon: added to squared norms.
        dtype: that the normalised weights are rounded to, before they are stored in their own; by default
            what weights and statistics promote to.
        param_dtype: the dtype that the statistics are stored in.
        error_on_non_matrix: whether a weight with more than two axes is an error.
        update_stats: see above; kept as the attribute `use_running_average`, its opposite.
        rngs: its `params` stream gives the keys, one for each weight, in the order of paths.

    Raises:
        TypeError: `layer_instance` is no module that can be called, or `rngs` is a bare seed or key.
        ValueError: a weight with more than two axes, where that is an error.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> layer = nnx.SpectralNorm(nnx.Linear(4, 5, rngs=rngs), n_steps=20, rngs=rngs)
        >>> layer(jnp.ones((3, 4))).shape
        (3, 5)
        >>> round(float(jnp.linalg.norm(layer.layer_instance.kernel[...], ord=2)), 3)
        1.0

    Source: Miyato et al. 2018, algorithm 1, https://arxiv.org/abs/1802.05957
    """

    def __init__(
        self,
        layer_instance: Any,
        *,
        n_steps: int = 1,
        epsilon: float = 1e-12,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        error_on_non_matrix: bool = False,
        update_stats: bool = True,
        rngs: Rngs,
    ) -> None:
        check_wrapped(self, layer_instance)
        self.layer_instance = layer_instance
        self.n_steps = n_steps
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.error_on_non_matrix = error_on_non_matrix
        self.use_running_average = not update_stats
        weights = list(self._weights())
        checks.check_rngs(self, rngs, needed=bool(weights))
        stats: dict[Path, BatchStat[jax.Array]] = {}
        for path, weight in weights:
            key = rngs.params()
            u = initializers.normal()(key, (1, weight.shape[-1]), param_dtype)
            stats[(*path, "u")] = BatchStat(u)
            stats[(*path, "sigma")] = BatchStat(initializers.ones(key, (), param_dtype))
        self.batch_stats = data(stats)

    def __call__(self, x: Any, update_stats: bool | None = None) -> Any:
        """Returns what the layer returns, its weights normalised.

        Args:
            x: for the layer.
            update_stats: goes before `use_running_average`.

        Raises:
            ValueError: the layer has another weight than when it was wrapped, or one with more than two axes
                where that is an error.
        """
        update_stats = not self.use_running_average if update_stats is None else update_stats
        for path, weight in self._weights():
            value = weight[...]
            u_stat, sigma_stat = self._stats(path)
            normal, u, sigma = spectral_norm(value, u_stat[...], n_steps=self.n_steps, epsilon=self.epsilon)
            if update_stats:
                u_stat[...] = u.astype(u_stat.dtype)
                sigma_stat[...] = sigma.astype(sigma_stat.dtype)
            normal = normal.astype(canonicalize_dtype(normal, u, sigma, dtype=self.dtype))
            weight[...] = normal.astype(weight.dtype)
        return self.layer_instance(x)

    def _weights(self) -> Iterator[tuple[Path, Param[Any]]]:
        """The layer's parameters with two axes or more, by path, each once."""
        if self.n_steps < 1:
            return
        for path, weight in list(iter_graph(self.layer_instance)):
            if isinstance(weight, Param) and weight.ndim > 1:
                self._check_rank(path, weight.shape)
                yield path, weight

    def _check_rank(self, path: Path, shape: tuple[int, ...]) -> None:
        if self.error_on_non_matrix and len(shape) > 2:
            raise ValueError(
                f"{checks.describe(self)}: got the weight {dotted(path)} of shape {shape}, "
                "expected two axes, since error_on_non_matrix is True. Pass error_on_non_matrix=False to "
                "take all axes but the last as one."
            )

    def _stats(self, path: Path) -> tuple[BatchStat[jax.Array], BatchStat[jax.Array]]:
        found = self.batch_stats.get((*path, "u")), self.batch_stats.get((*path, "sigma"))
        if found[0] is None or found[1] is None:
            raise unknown_weight(self, path, [key[:-1] for key in self.batch_stats if key[-1] == "u"])
        return found[0], found[1]
