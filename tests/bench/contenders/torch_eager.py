"""A hand-written loop of PyTorch, not compiled, with accuracy added up without waiting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from contenders.problems import Problem
from contenders.torch_step import make_model, make_optimizer, make_tensors
from torch.nn import functional

NAME = "torch eager"


def trainer(problem: Problem, *, shuffle: bool = True) -> Callable[[], float]:
    """Returns a function that trains an epoch and returns its mean loss."""
    model = make_model(problem)
    optimizer = make_optimizer(model)
    x, y = make_tensors(problem)
    rng = np.random.default_rng(0)

    def epoch() -> float:
        order = torch.from_numpy(rng.permutation(len(x)) if shuffle else np.arange(len(x)))
        losses, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for rows in order.split(problem.batch_size):
            targets = y[rows]
            optimizer.zero_grad()
            logits = model(x[rows])
            loss = functional.cross_entropy(logits, targets)
            loss.backward()
            optimizer.step()
            losses += loss.detach()
            correct += (logits.detach().argmax(-1) == targets).sum()
        assert 0 <= int(correct) <= len(x)
        return float(losses) / problem.steps

    return epoch
