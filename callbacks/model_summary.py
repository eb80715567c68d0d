"""Shows the table of the model's layers before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from easyflax.callbacks.message import say
from easyflax.models.arguments import check_count
from easyflax.train.callback import Callback

__all__ = ["ModelSummary"]


class ModelSummary(Callback):
    """Prints `model.summary()` at the beginning of `fit`, when the shapes of the data are known.

    Args:
        max_depth: how many levels of models within models are shown: 1 for the layers of the model itself.
        show_trainable: adds a column that says whether a layer is trained.
        flops: adds the floating-point operations of each layer for one row.
        print_fn: called with the text, instead of printing it.

    Raises:
        ValueError: `max_depth` is no integer of at least 1.
    """

    def __init__(
        self,
        max_depth: int = 1,
        *,
        show_trainable: bool = False,
        flops: bool = False,
        print_fn: Callable[[str], Any] | None = None,
    ):
        super().__init__()
        self.max_depth = check_count("max_depth", max_depth, 1, type(self).__name__)
        self.show_trainable = show_trainable
        self.flops = flops
        self.print_fn = print_fn

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if jax.process_index() == 0:
            self.model.summary(
                print_fn=self.print_fn or say,
                show_trainable=self.show_trainable,
                flops=self.flops,
                max_depth=self.max_depth,
            )
