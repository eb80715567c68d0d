"""Training on four small models: `fit` of easyflax against the loops that people write and other libraries.

Run: `python tests/bench/bench_fit.py [--quick] [--models tiny_mlp] [--contenders keras_fit,easyflax_fit]`.
A call of a contender is one epoch from NumPy arrays of the host, shuffled, with Adam and accuracy, on one
device; `fit` keeps its default settings and draws its progress bar. All begin with the same weights, and the
losses of the first steps are compared. Contenders whose library is not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from contenders.loading import check_agreement, load, trainers
from contenders.problems import make_problem
from report import Goal, table
from timing import interleaved

FILES = (
    "handwritten",
    "handwritten_in_order",
    "scanned_steps",
    "scanned_epoch",
    "flax_nnx_jit",
    "flax_cached_partial",
    "keras_fit",
    "keras_fused",
    "torch_eager",
    "lightning_fit",
    "easyflax_fit",
    "easyflax_hook",
)
# The steps of an epoch, and the rounds.
SIZES = {"tiny_mlp": (2048, 15), "deep_mlp": (512, 11), "cnn": (64, 7), "transformer": (64, 9)}
QUICK = {"tiny_mlp": (256, 3), "deep_mlp": (64, 3), "cnn": (4, 2), "transformer": (4, 2)}

BASELINE, FIT, HOOK = "hand-written loop", "easyflax fit", "easyflax fit, on_train_batch_end"
GOALS = {
    "tiny_mlp": [
        Goal(FIT, "at least", 3.0, BASELINE),
        Goal(FIT, "at least", 0.9, "epoch in one scan"),
        Goal(HOOK, "at least", 0.95, BASELINE),
    ],
    "deep_mlp": [Goal(FIT, "at least", 1.5, BASELINE), Goal(HOOK, "at least", 0.95, BASELINE)],
}


def best_of_jax(times: Mapping[str, Sequence[float]]) -> str:
    """Returns the name of the fastest contender on JAX that is not ours."""
    others = [name for name in times if not name.startswith(("easyflax", "torch", "lightning"))]
    return min(others, key=lambda name: statistics.median(times[name]))


def measure(model: str, files: Sequence[str], quick: bool) -> str:
    """Returns the table of a model."""
    steps, rounds = (QUICK if quick else SIZES)[model]
    contenders = load(files)
    check_agreement(contenders, model)
    epochs = trainers(contenders, make_problem(model, steps))
    times = interleaved(epochs, rounds=rounds, calls=1, warm_ups=2)
    goals = GOALS.get(model) or [Goal(FIT, "at least", 0.98, best_of_jax(times))]
    title = f"{model}, an epoch of {steps} steps"
    return table(times, BASELINE, title, unit="us", per=steps, goals=goals).replace(
        "median us", "median us a step"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    parser.add_argument("--models", default=",".join(SIZES), help="some of the models")
    parser.add_argument("--contenders", default=",".join(FILES), help="some of the contenders' files")
    options = parser.parse_args()
    for model in options.models.split(","):
        print(measure(model, options.contenders.split(","), options.quick), flush=True, end="\n\n")
