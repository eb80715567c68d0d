"""What the contenders of bench_inference offer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from contenders.screen import on_terminal


class Calls(NamedTuple):
    """Calls on arrays of the host, in batches of 32 rows; each waits for its result.

    Attributes:
        fit: trains an epoch.
        train_on_batch: trains with one batch.
        evaluate: returns loss and accuracy.
        predict: returns the logits as a NumPy array.
    """

    fit: Callable[[Any, Any], Any]
    train_on_batch: Callable[[Any, Any], Any]
    evaluate: Callable[[Any, Any], Any]
    predict: Callable[[Any], Any]


def calls_of_model(model: Any, *, bar: bool) -> Calls:
    """Returns the calls of a compiled model of Keras or easyflax, with its progress bar drawn or without."""

    def screen() -> AbstractContextManager[Any]:
        return on_terminal() if bar else nullcontext()

    def fit(x: Any, y: Any) -> Any:
        with screen():
            return model.fit(x, y, batch_size=32, verbose=int(bar))

    def evaluate(x: Any, y: Any) -> Any:
        with screen():
            return model.evaluate(x, y, batch_size=32, verbose=int(bar))

    def predict(x: Any) -> Any:
        with screen():
            return model.predict(x, batch_size=32, verbose=int(bar))

    return Calls(fit, model.train_on_batch, evaluate, predict)
