"""`fit` of Lightning, with accuracy and loss added up as its own guides do without torchmetrics."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from contenders.problems import Problem
from contenders.screen import Terminal, on_terminal
from contenders.torch_step import make_model, make_optimizer, make_tensors
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

try:
    from lightning import LightningModule, Trainer
except ImportError:
    from pytorch_lightning import LightningModule, Trainer

NAME = "lightning fit"


class Classifier(LightningModule):
    """A model with its training step."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.model = make_model(problem)
        self.losses, self.correct = torch.zeros(()), torch.zeros((), dtype=torch.long)

    def training_step(self, batch: Any, index: int) -> Any:
        """Returns the loss, and adds up."""
        x, y = batch
        logits = self.model(x)
        loss = functional.cross_entropy(logits, y)
        self.losses += loss.detach()
        self.correct += (logits.detach().argmax(-1) == y).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam."""
        return make_optimizer(self)


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning|pytorch_lightning")
    module = Classifier(problem)
    loader = DataLoader(TensorDataset(*make_tensors(problem)), problem.batch_size, shuffle=shuffle)
    fitting = Trainer(
        max_epochs=0, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )

    def epoch() -> float:
        module.losses.zero_()
        module.correct.zero_()
        fitting.fit_loop.max_epochs = fitting.fit_loop.epoch_progress.current.completed + 1
        with on_terminal(), contextlib.redirect_stderr(cast(Any, Terminal())):
            fitting.fit(module, loader)
        return float(module.losses) / problem.steps

    return epoch
