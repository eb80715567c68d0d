"""Progress bars to choose from, in place of the one that `fit` shows by itself."""

from __future__ import annotations

from typing import Any

from easyflax.train.progress import Display, Progress, make_display

__all__ = ["ProgressBar", "RichProgressBar"]


class ProgressBar(Progress):
    """Shows epochs, evaluations and predictions as a bar of tqdm, whatever `verbose` is.

    Where nobody watches, as in a file, there is a line each ten seconds and one at the end of each epoch.

    Args:
        refresh_seconds: the time from one drawing to the next, 0.1 by default.

    Raises:
        ValueError: it is negative.

    Examples:
        >>> bar = ProgressBar(refresh_seconds=1.0)  # model.fit(x, y, callbacks=[bar])
    """

    kind: Any = 1  # as `verbose` spells it

    def __init__(self, refresh_seconds: float | None = None):
        super().__init__()
        if refresh_seconds is not None and refresh_seconds < 0:
            raise ValueError(
                f"{type(self).__name__}: refresh_seconds is {refresh_seconds!r}, expected at least 0. Pass "
                "for example 0.5."
            )
        self.refresh_seconds = refresh_seconds

    def _new_display(self) -> Display:
        display = make_display(self.kind)
        if self.refresh_seconds is not None:
            display.seconds_between = self.refresh_seconds
        return display


class RichProgressBar(ProgressBar):
    """Shows epochs, evaluations and predictions as a coloured bar of rich, the values below it.

    Args:
        refresh_seconds: the time from one drawing to the next, 0.25 by default.

    Raises:
        ValueError: it is negative.
    """

    kind: Any = "rich"
