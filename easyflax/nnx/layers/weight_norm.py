"""Weight normalisation: a layer whose weights have the norm that a scale says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from easyflax.nnx.core.filters import Filter, Path, PathContains, to_predicate
from easyflax.nnx.core.iteration import iter_graph
from easyflax.nnx.core.marks import data
from easyflax.nnx.core.module import Module, Pytree
from easyflax.nnx.core.rngs import Rngs, RngStream
from easyflax.nnx.core.variables import Param, Variable
from easyflax.nnx.layers import checks, initializers
from easyflax.nnx.layers.dtypes import PromoteDtype, promote_dtype
from easyflax.nnx.layers.moments import Axes, axes_tuple, positive_axes

__all__ = ["WeightNorm", "check_wrapped", "dotted", "l2_normalize", "unknown_weight", "weight_norm"]

default_variable_filter = PathContains("kernel")


def l2_normalize(
    x: jax.Array, axis: int | tuple[int, ...] | None = None, epsilon: float = 1e-12
) -> jax.Array:
    """Returns `x / sqrt(sum(x^2) + epsilon)`, of the shape of `x`; the sum is over `axis`, by default all."""
    return x * lax.rsqrt((x * x).sum(axis=axis, keepdims=True) + epsilon)


def weight_norm(
    weight: jax.Array,
    scale: jax.Array | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-12,
) -> jax.Array:
    """Returns `weight` divided by its norm over all axes but `feature_axes`, and multiplied by `scale`.

    Args:
        weight: any shape.
        scale: of the sizes of `weight` along `feature_axes`, or None for norms of one.
        feature_axes: an axis or several; with none, `()`, the whole weight has one norm.
        epsilon: added to the squared norm.
    """
    features = positive_axes(feature_axes, weight.ndim)
    y = l2_normalize(weight, tuple(i for i in range(weight.ndim) if i not in features), epsilon)
    if scale is None:
        return y
    return y * scale.reshape([size if i in features else 1 for i, size in enumerate(weight.shape)])


class WeightNorm(Module):
    """Wraps a layer, and gives its weights the norm 1, or that of a scale, before each call.

    The weights are changed in place: after a call the layer holds the normalised ones, and a gradient of the
    call is that by the weights before it.

    The scales are arrays in the dict `scales`, by the path of the weight in the layer, such as `("kernel",)`.
    They are no parameters, so that an optimizer of `nnx.Param` does not train them.

    Args:
        layer_instance: the layer, or any module that can be called.
        feature_axes: an axis of the weights or several: each position along them has its own norm and scale.
            None is one norm for the whole weight.
        use_scale: whether to multiply by the scales; without them all norms are 1.
        scale_init: makes a scale, `(key, shape) -> array`, of float32 by default.
        epsilon: added to the squared norm.
        dtype: of the normalised weights; by default what weight and scale promote to.
        param_dtype: kept as an attribute; the scales are of the dtype that `scale_init` chooses.
        variable_filter: selects, by path in the layer and value, the variables that are normalised.
        promote_dtype: brings `(weight, scale)` to one dtype.
        rngs: its `params` stream gives keys to a `scale_init` that draws, and is not advanced by that.

    Raises:
        TypeError: `layer_instance` is no module that can be called, or `rngs` is a bare seed or key.
        ValueError: a weight has no axis that `feature_axes` names.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> layer = nnx.WeightNorm(nnx.Linear(8, 4, rngs=rngs), rngs=rngs)
        >>> layer(jnp.ones((5, 8))).shape
        (5, 4)
        >>> jnp.linalg.norm(layer.layer_instance.kernel[...], axis=0).round(3).tolist()
        [1.0, 1.0, 1.0, 1.0]

    Source: Salimans and Kingma 2016, equation 2, https://arxiv.org/abs/1602.07868
    """

    def __init__(
        self,
        layer_instance: Any,
        *,
        feature_axes: Axes | None = -1,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        epsilon: float = 1e-12,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        variable_filter: Filter = default_variable_filter,
        promote_dtype: PromoteDtype = promote_dtype,
        rngs: Rngs,
    ) -> None:
        check_wrapped(self, layer_instance)
        checks.check_rngs(self, rngs, needed=use_scale)
        self.layer_instance = layer_instance
        self.feature_axes = () if feature_axes is None else feature_axes
        self.use_scale = use_scale
        self.scale_init = scale_init
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.variable_filter = to_predicate(variable_filter)
        self.promote_dtype = promote_dtype
        weights = list(self._weights())
        self.scales = data(self._make_scales(weights, rngs["params"])) if use_scale else None

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer returns, its weights normalised.

        Args:
            x: for the layer.
            *args: for the layer.
            **kwargs: for the layer.

        Raises:
            ValueError: the layer has another weight than when it was wrapped.
        """
        for path, weight in self._weights():
            value, scale = weight[...], self._scale(path)
            normal = weight_norm(value, scale, feature_axes=self.feature_axes, epsilon=self.epsilon)
            weight.set_value(self.promote_dtype((normal, scale), dtype=self.dtype)[0])
        return self.layer_instance(x, *args, **kwargs)

    def _weights(self) -> Iterator[tuple[Path, Variable[Any]]]:
        """The layer's variables that the filter selects, by path, each once."""
        for path, variable in list(iter_graph(self.layer_instance)):
            if isinstance(variable, Variable) and self.variable_filter(path, variable):
                self._check_axes(path, variable.shape)
                yield path, variable

    def _make_scales(
        self, weights: list[tuple[Path, Variable[Any]]], stream: RngStream
    ) -> dict[Path, jax.Array]:
        # Keys that are no other of the stream's, from one that stays to be drawn: most initializers of scales
        # need none, and the parameters of later layers must not depend on it.
        source = jax.random.fold_in(stream.key.get_value(), stream.count.get_value())
        scales = {}
        for number, (path, weight) in enumerate(weights):
            if isinstance(weight, Param):
                axes = positive_axes(self.feature_axes, weight.ndim)
                shape = tuple(weight.shape[axis] for axis in axes)
                scales[path] = self.scale_init(jax.random.fold_in(source, number), shape)
        return scales

    def _scale(self, path: Path) -> jax.Array | None:
        if self.scales is None:
            return None
        if path not in self.scales:
            raise unknown_weight(self, path, self.scales)
        return self.scales[path]

    def _check_axes(self, path: Path, shape: tuple[int, ...]) -> None:
        rank = len(shape)
        if any(not -rank <= axis < rank for axis in axes_tuple(self.feature_axes)):
            raise ValueError(
                f"{checks.describe(self)}: got feature_axes={self.feature_axes} for the weight "
                f"{dotted(path)} of shape {shape}, expected axes from {-rank} to {rank - 1}. Pass axes that "
                "each weight has, or a variable_filter that selects fewer."
            )


def dotted(path: Path) -> str:
    """Returns a path as messages show it: `'layers.0.kernel'`."""
    return f"'{'.'.join(map(str, path))}'"


def unknown_weight(wrapper: Module, path: Path, known: Iterable[Path]) -> ValueError:
    """Returns the error for a weight that the wrapped layer did not have when it was wrapped."""
    return ValueError(
        f"{checks.describe(wrapper)}: got a layer with the weight {dotted(path)}, expected the weights that "
        f"it had when it was wrapped: {', '.join(map(dotted, known)) or 'none'}. Wrap the layer again after "
        "its parameters have changed."
    )


def check_wrapped(wrapper: Module, layer: Any) -> None:
    """Checks that what a layer wraps is a module that can be called.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(layer, Pytree) or not callable(layer):
        kind = f"the class {layer.__name__}" if isinstance(layer, type) else f"a {type(layer).__name__}"
        raise TypeError(
            f"{type(wrapper).__name__}: got {kind} as layer_instance, expected a module that can be called. "
            "Pass a layer that is made already, for example nnx.Linear(2, 3, rngs=rngs)."
        )
