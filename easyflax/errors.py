"""Every exception class that easyflax raises on its own account.

    Exception
      EasyflaxError            catch this to catch them all
        TraceContextError      a variable was changed from a trace that does not own it  (RuntimeError)
        NotCompiledError       fit, evaluate or train_on_batch before compile            (RuntimeError)
        NonFiniteLossError     the loss became NaN or infinite         (FloatingPointError, RuntimeError)
        CheckpointError        a checkpoint is missing, damaged or of another model      (RuntimeError)
        DownloadError          a data set could not be fetched, or is not the known one  (OSError)

The class in parentheses is the built-in one that each also is. Where a built-in type alone fits
(`TypeError`, `ValueError`, `KeyError`), easyflax raises that. Every message has the same three parts: what
was got, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "DownloadError",
    "EasyflaxError",
    "NonFiniteLossError",
    "NotCompiledError",
    "TraceContextError",
    "unknown_name_message",
]


class EasyflaxError(Exception):
    """The base class of easyflax's own errors."""


class TraceContextError(EasyflaxError, RuntimeError):
    """A variable was changed from inside a JAX trace that does not own it."""


class NotCompiledError(EasyflaxError, RuntimeError):
    """A model was asked to train or evaluate before `compile`."""


class NonFiniteLossError(EasyflaxError, FloatingPointError, RuntimeError):
    """The training loss became NaN or infinite."""


class CheckpointError(EasyflaxError, RuntimeError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class DownloadError(EasyflaxError, OSError):
    """A file could not be downloaded, or what came is not the known file."""


def unknown_name_message(kind: str, got: str, known: Iterable[str]) -> str:
    """Returns the message for a name that is not in a registry, with the nearest known one.

    Args:
        kind: what the name is for, such as `"loss"`.
        got: the name that was given.
        known: the names that would have been accepted.

    Examples:
        >>> print(unknown_name_message("optimizer", "Adan", ["adam", "sgd"]))
        Unknown optimizer 'Adan': expected one of 'adam', 'sgd'. Did you mean 'adam'?
        >>> print(unknown_name_message("optimizer", "?", ["adam", "sgd"]))
        Unknown optimizer '?': expected one of 'adam', 'sgd'. Pass one of these names.
    """
    names = sorted(known)
    # Compared without case, so that "Adam" finds "adam"; listed as they are spelled.
    by_lower = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(str(got).lower(), list(by_lower), n=1)
    advice = f"Did you mean {by_lower[nearest[0]]!r}?" if nearest else "Pass one of these names."
    return f"Unknown {kind} {got!r}: expected one of {', '.join(map(repr, names))}. {advice}"
