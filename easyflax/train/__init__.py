"""The training engine: pure steps, the state they replace, the loops, callbacks, history and progress.

binding.py     the user's module taken apart into arrays, and its variables lent to the engine
objective.py   what to compute, from what was named at compile, checked against one batch
step.py        the train, evaluation and prediction steps: pure, jitted, donated
session.py     the train state of one fit;  engine.py: what lasts from fit to fit
loop.py        the loops over batches, and where hooks are called
"""

from easyflax.train.callback import Callback
from easyflax.train.history import History

__all__ = ["Callback", "History"]
