"""`Bidirectional`: a recurrent layer that reads sequences in both directions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import easyflax.nnx as nnx
from easyflax.layers import abstract
from easyflax.layers.layer import Layer
from easyflax.layers.rnn import first_shape, with_states_apart
from easyflax.serialization import custom_object_scope, deserialize

__all__ = ["Bidirectional"]

_MERGE: dict[str | None, Callable[[jax.Array, jax.Array], Any]] = {
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    None: lambda forward, backward: (forward, backward),
}
_SAME = ("stateful", "return_sequences", "return_state")


class Bidirectional(Layer):
    """Calls two recurrent layers, one of which begins at the end, and puts their outputs together.

    Both are new, with the configuration of `layer`. Their outputs at steps that a mask leaves out are zero
    where all steps are returned. Called with `initial_state=`, or on a list of sequences and states, the
    first half of the states goes to the forward layer.

    Args:
        layer: an `RNN`, `LSTM`, `GRU` or the like, or a layer with the attributes `go_backwards`,
            `return_sequences`, `return_state` and `stateful`.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs as a tuple.
        weights: first values of the weights, the first half for the forward layer.
        backward_layer: the layer for the other direction; it is used as it is.
        **kwargs: `name`, `dtype`, `trainable`, `activity_regularizer`, see `Layer`.

    Raises:
        ValueError: a layer is none, the two do not go together, or `merge_mode` is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> from easyflax.layers import LSTM
        >>> Bidirectional(LSTM(4, return_sequences=True))(jnp.ones((2, 5, 3))).shape
        (2, 5, 8)

    Source: Schuster and Paliwal 1997, https://doi.org/10.1109/78.650093
    """

    supports_masking = True

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, one in (("layer", layer), ("backward_layer", backward_layer)):
            _check_layer(name, one)
        if merge_mode not in _MERGE:
            raise ValueError(
                f"Bidirectional: got merge_mode={merge_mode!r}, expected one of {list(_MERGE)}. Choose one."
            )
        self.forward_layer = _made_again(layer, "forward")
        self.backward_layer = backward_layer or _made_again(layer, "backward", go_backwards=True)
        _check_pair(self.forward_layer, self.backward_layer)
        for one in (self.forward_layer, self.backward_layer):
            if hasattr(one, "zero_output_for_mask"):
                one.zero_output_for_mask = one.return_sequences
        self.merge_mode = merge_mode
        self.stateful = layer.stateful
        self.return_sequences = layer.return_sequences
        self.return_state = layer.return_state
        if weights:
            self._first_weights = nnx.List(weights)

    @property
    def states(self) -> Any:
        """The states that the two stateful layers keep; None if there are none."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return (*forward, *backward) if forward is not None and backward is not None else None

    def reset_state(self) -> None:
        """Sets the states that stateful layers keep to zero.

        Raises:
            AttributeError: the layer is not stateful.
        """
        if not self.stateful:
            raise AttributeError(
                f"Bidirectional '{self.name}' keeps no states, expected stateful=True in its layer. "
                "Make it so."
            )
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def _make_weights(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sequences = args[0] if args else kwargs["sequences"]
        sequences = sequences[0] if isinstance(sequences, list | tuple) else sequences
        self._build_both(sequences)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        del initial_state_shape
        self._build_both(abstract.specs_of_shapes(first_shape(sequences_shape), self.compute_dtype))

    def _build_both(self, sequences: Any) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            layer.build_for((sequences,), {})
        if hasattr(self, "_first_weights"):
            half = len(self._first_weights) // 2
            self.forward_layer.set_weights(self._first_weights[:half])
            self.backward_layer.set_weights(self._first_weights[half:])
            del self._first_weights

    def __call__(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns what `call` does; sequences and states may come as one list here."""
        sequences, kwargs = with_states_apart(sequences, kwargs)
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self, sequences: jax.Array, initial_state: Any = None, mask: Any = None, training: bool | None = None
    ) -> Any:
        """Returns the outputs, and the last states of both layers where they return them.

        Args:
            sequences: `(batch, time, ...)`.
            initial_state: the states to begin with, those of the forward layer first.
            mask: `(batch, time)`, False for steps to leave out.
            training: whether dropout is applied.
        """
        half = len(initial_state) // 2 if initial_state is not None else 0
        states = (None, None) if initial_state is None else (initial_state[:half], initial_state[half:])
        results = []
        for layer, state in zip((self.forward_layer, self.backward_layer), states):
            options = {"mask": mask, "initial_state": state}
            given = {name: value for name, value in options.items() if value is not None}
            results.append(layer(sequences, training=training, **given))
        (forward, *first), (backward, *second) = ((one if self.return_state else (one,)) for one in results)
        if self.return_sequences:
            backward = jnp.flip(backward, axis=1)
        dtype = self.compute_dtype
        merged = _MERGE[self.merge_mode](forward.astype(dtype), backward.astype(dtype))
        if not self.return_state:
            return merged
        return (*(merged if self.merge_mode is None else (merged,)), *first, *second)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the outputs, if those of all steps are returned; states have none."""
        del inputs
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        mask = mask if self.return_sequences else None
        if self.merge_mode is None:
            return [mask, mask]
        return [mask] if self.return_state else mask

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("weights", None)  # weights are no configuration
        return config

    @property
    def layer(self) -> Any:
        """The forward layer."""
        return self.forward_layer

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**deserialize(config))


def _made_again(layer: Any, direction: str, **changes: Any) -> Any:
    """Returns a new layer of the same configuration, named after its direction."""
    name = f"{direction}_{layer.name.removeprefix(f'{direction}_')}"
    with custom_object_scope(dict(_own_objects(layer))):
        return type(layer).from_config({**layer.get_config(), "name": name, **changes})


def _own_objects(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yields what a configuration may name by its name: classes of modules, and functions they hold."""
    for _, module in nnx.iter_modules(layer):
        yield type(module).__name__, type(module)
        yield from ((one.__name__, one) for one in vars(module).values() if inspect.isfunction(one))


def _check_layer(name: str, layer: Any) -> None:
    needed = ("go_backwards", *_SAME)
    if name == "backward_layer" and layer is None:
        return
    missing = [attribute for attribute in needed if not hasattr(layer, attribute)]
    if not isinstance(layer, Layer) or missing:
        raise ValueError(
            f"Bidirectional: got {name}={type(layer).__name__}, expected a recurrent layer, which has "
            f"{', '.join(needed)}. Pass for example LSTM(16)."
        )


def _check_pair(forward: Any, backward: Any) -> None:
    if forward.go_backwards == backward.go_backwards:
        raise ValueError(
            f"Bidirectional: got two layers with go_backwards={forward.go_backwards}, expected one each way. "
            "Give backward_layer the other value."
        )
    for name in _SAME:
        if getattr(forward, name) != getattr(backward, name):
            raise ValueError(
                f"Bidirectional: got layers with {name}={getattr(forward, name)} and {name}="
                f"{getattr(backward, name)}, expected the same. Make them equal."
            )
