"""`SpectralNormalization`: a layer around another one, whose kernel gets a largest singular value of one."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax import initializers
from easyflax.layers.abstract import specs_of_shapes
from easyflax.layers.layer import Layer
from easyflax.nnx.layers.spectral_norm import spectral_norm
from easyflax.serialization import deserialize

__all__ = ["SpectralNormalization"]


class SpectralNormalization(Layer):
    """Divides the kernel of a layer by its largest singular value, at each call in training.

    The singular value is found by power iteration, which starts from the vector that the last call ended
    with: the weight `vector_u`, `(1, features)`. All axes of the kernel but the last are taken as one. The
    kernel is changed in place; in `fit` the optimizer goes on from the kernel as it was, with the gradient by
    it.

    Args:
        layer: with a weight `kernel` or `embeddings`.
        power_iterations: steps of the iteration at each call.
        **kwargs: `name`, `dtype`, `trainable`, see `Layer`.

    Raises:
        TypeError: `layer` is no layer.
        ValueError: `power_iterations` is less than 1; when built, the layer has no such weight.

    Source: Miyato et al. 2018, algorithm 1, https://arxiv.org/abs/1802.05957
    """

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(
                f"SpectralNormalization: got a layer of type {type(layer).__name__}, expected one of "
                "easyflax.layers. Pass for example Dense(16); for modules of nnx there is nnx.SpectralNorm."
            )
        if power_iterations < 1:
            raise ValueError(
                f"SpectralNormalization: got power_iterations={power_iterations}, expected 1 or more. Leave "
                "it out for 1."
            )
        self.layer = layer
        self.power_iterations = power_iterations

    def build(self, input_shape: Any) -> None:
        self.layer.build_for((specs_of_shapes(input_shape, self.compute_dtype),), {})
        name = next((one for one in ("kernel", "embeddings") if hasattr(self.layer, one)), "")
        kernel = getattr(self.layer, name, None)
        if not isinstance(kernel, nnx.Variable):
            raise ValueError(
                f"SpectralNormalization: its layer {type(self.layer).__name__} '{self.layer.name}' has "
                "neither a kernel nor embeddings, expected one of them. Wrap a layer such as Dense or Conv2D."
            )
        self._kernel_name = name
        self.vector_u = self.add_weight(
            (1, kernel.shape[-1]),
            initializers.TruncatedNormal(stddev=0.02),
            dtype=kernel.dtype,
            trainable=False,
            name="vector_u",
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns what the layer returns; in training its kernel is normalised before."""
        if training:
            self._normalize()
        outputs = self.layer(inputs)
        if jnp.issubdtype(jnp.result_type(inputs), jnp.floating):
            outputs = outputs.astype(inputs.dtype)
        return outputs

    def _normalize(self) -> None:
        kernel, old_u = self.kernel[...], self.vector_u[...]
        normal, u, _ = spectral_norm(kernel, old_u, n_steps=self.power_iterations)
        self.kernel[...] = normal.astype(kernel.dtype)
        # A kernel of zeros has no singular vector, and from zeros the iteration would not get away again.
        self.vector_u[...] = jnp.where(jnp.any(kernel != 0), u, old_u).astype(old_u.dtype)

    @property
    def kernel(self) -> Any:
        """The weight of the layer inside that is normalised."""
        return getattr(self.layer, self._kernel_name)

    def _children_in_order(self) -> list[tuple[str, Any]]:
        """The kernel comes before the vector, and what else the layer inside has after it, as in Keras."""
        if not self.built:
            return [("layer", self.layer)]
        kernel = {self._kernel_name: self.kernel}
        return [("layer", kernel), ("vector_u", self.vector_u), ("layer", self.layer)]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "layer": deserialize(config["layer"])})
