"""Trains in a process of its own, that the measurements of starting and of memory begin.

Run: `python tests/bench/child.py CONTENDER MODEL STEPS [BATCH_SIZE]`, where the model is one of those in
contenders/problems.py or the widths of a perceptron such as `64,64`. The contender initializes the weights.
Prints the most memory that the process held, in bytes.
"""

from __future__ import annotations

import importlib
import resource
import sys

from contenders.problems import make_mlp, make_problem

if __name__ == "__main__":
    file, model, steps, batch_size = [*sys.argv[1:], "32"][:4]
    options = {"batch_size": int(batch_size), "copies_weights": False}
    if model[0].isdigit():
        problem = make_mlp([int(width) for width in model.split(",")], int(steps), **options)
    else:
        problem = make_problem(model, int(steps), **options)
    importlib.import_module(f"contenders.{file}").trainer(problem)()
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
