"""Lines for the user while a progress bar may stand on the screen."""

from __future__ import annotations

import jax

__all__ = ["say"]


def say(message: str) -> None:
    """Prints a line above the progress bar, or plainly where there is none; of several processes one does."""
    if jax.process_index():
        return
    from tqdm.auto import tqdm  # slow to import, and not needed by silent runs

    tqdm.write(message)
