"""The models in PyTorch, for the contenders that use it; their weights are its own."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from contenders.problems import BLOCKS, CHANNELS, CLASSES, HEADS, VOCABULARY, WIDTH, Problem
from torch import nn


class Encoder(nn.Module):
    """An encoder of tokens that classifies by the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.Sequential(*(_block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Any) -> Any:
        """Returns the logits."""
        return self.head(self.norm(self.blocks(self.embed(tokens))).mean(1))


def _block() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)


def make_model(problem: Problem) -> nn.Module:
    """Returns the model, with as many weights as that of the others."""
    torch.manual_seed(0)
    model = {"cnn": _cnn, "transformer": Encoder}.get(problem.name, lambda: _mlp(problem))()
    assert sum(p.numel() for p in model.parameters()) == sum(array.size for array in problem.weights)
    return model


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Returns the same Adam as that of the others."""
    return torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)


def make_tensors(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns inputs and classes, not copied unless images must change their layout."""
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y).long()
    return (x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x), y


def _mlp(problem: Problem) -> nn.Module:
    widths = [problem.x.shape[1], *problem.hidden]
    parts = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(widths[-1], CLASSES))


def _cnn() -> nn.Module:
    first, second = CHANNELS
    return nn.Sequential(
        *(nn.Conv2d(1, first, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(5 * 5 * second, CLASSES),
    )
