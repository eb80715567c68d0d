"""Averages of weights in the place of the weights themselves, for a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from easyflax.train.callback import Callback

__all__ = ["EvaluatesAverages", "WeightSwap", "set_params"]


class WeightSwap:
    """Puts other parameters into a model, and its own back."""

    def __init__(self) -> None:
        self._own: dict[str, Any] | None = None

    @property
    def is_in(self) -> bool:
        """Whether others are in the model."""
        return self._own is not None

    def put_in(self, model: Any, put: Callable[[], None]) -> None:
        """Keeps the model's own parameters and calls `put`; nothing happens where others are in it."""
        if self._own is None:
            self._own = model.get_state(weights_only=True)["params"]
            put()

    def put_back(self, model: Any) -> None:
        """Gives the model its own parameters back, if others are in it."""
        if self._own is not None:
            set_params(model, self._own)
            self._own = None

    def forget(self) -> None:
        """Lets the others stay for good."""
        self._own = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the model's own parameters if others are in it."""
        return {} if self._own is None else {"own": self._own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self._own = state.get("own")


def set_params(model: Any, params: Mapping[str, Any]) -> None:
    """Sets some of a model's parameters, by path."""
    state = model.get_state(weights_only=True)
    model.set_state({**state, "params": {**state["params"], **params}})


class EvaluatesAverages(Callback):
    """A callback that has averages in the model while it is evaluated or predicts."""

    def __init__(self) -> None:
        super().__init__()
        self._swap = WeightSwap()

    def _put_in(self) -> None:
        """Puts the averages in the place of the weights."""
        raise NotImplementedError

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._put_in()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._swap.put_back(self.model)

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._put_in()

    def on_predict_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        self._swap.put_back(self.model)

    def on_exception(self, exception: BaseException) -> None:
        del exception
        self._swap.put_back(self.model)
