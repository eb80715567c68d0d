"""`ProfileMethods`: where the time of a training step goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from easyflax.data import as_source
from easyflax.models.arguments import check_count_or_none
from easyflax.models.compiled import Compiled
from easyflax.models.step_profile import StepProfile
from easyflax.models.trained import TrainedModel
from easyflax.train.callback_list import Callbacks

__all__ = ["ProfileMethods"]


class ProfileMethods(TrainedModel):
    """Times the steps of a model."""

    __slots__ = ()

    _to_train: Callable[[str], Compiled]

    def profile(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        callbacks: Callbacks = None,
        shuffle: bool = True,
        class_weight: Any = None,
        steps: int | None = None,
    ) -> StepProfile:
        """Tells where the time of a training step goes, and how much of the machine it uses.

        The model is trained for some steps, with its own `train_step` if it has one, and put back as it was:
        weights, optimizer, metrics and random streams are the same to the bit. What is compiled stays for
        `fit`. It takes as much memory again as weights and optimizer do.

        Args:
            x: as for `fit`, so that what it takes to read it shows. A generator or iterator is read on;
                what begins anew for each pass, such as a function that returns one, is as it was.
            y: as for `fit`.
            sample_weight: as for `fit`.
            batch_size: rows of a step, 32 by default.
            callbacks: whose hooks are timed: they are called as in a short fit of two epochs, and what they
                write they write.
            shuffle: reads rows in another order, as `fit` does.
            class_weight: as for `fit`.
            steps: how many to time, in whole groups where several go to the device together; by default as
                many as take about half a second, once for the parts and once for `fit`.

        Returns:
            a `StepProfile`: `print` shows it as a table, notebooks by themselves. The parts of a step are in
            `parts`, in seconds, what bounds it in `bound` and `advice`, all numbers in `as_dict()`.

        Raises:
            NotCompiledError: `compile` was not called.
            RuntimeError: a `fit` of this model is running.
            ValueError: an argument, the shapes or the labels do not fit.

        Examples:
            >>> import numpy as np
            >>> from easyflax.layers import Dense
            >>> from easyflax.models import Sequential
            >>> model = Sequential([Dense(8, activation="relu"), Dense(1)])
            >>> model.compile("adam", "mse")
            >>> profile = model.profile(np.ones((64, 4), "float32"), np.ones((64, 1), "float32"), steps=3)
            >>> list(profile.parts)
            ['data', 'transfer', 'dispatch', 'device', 'callbacks', 'epochs']
        """
        from easyflax.models.profiling import profile_training  # needed by few programs

        compiled = self._to_train("profile")
        if self._session is not None:
            raise RuntimeError(
                "profile was called within fit of the same model, expected before or after it. The callbacks "
                "Profiler and ThroughputMonitor look at a running fit."
            )
        num_steps = check_count_or_none("steps", steps, "profile")
        source = as_source(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            fallback_batch_size=32,
            shuffle=shuffle,
            seed=compiled.seed,
            steps=_MANY,
            class_weight=class_weight,
            caller="profile",
        )
        return profile_training(self, source, callbacks, num_steps)


_MANY = 2**31  # of data without end no more is read than is asked for
