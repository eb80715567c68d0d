"""Progress in notebooks: drawn in one output of the cell, of which the last line stays as text.

So the results are there in a saved notebook too, wherever it is shown, and no dead widgets are left.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

from easyflax.train.progress_bar import after_the_bar, as_format
from easyflax.train.progress_rich import finished, running
from easyflax.train.progress_text import Moment

_COLUMNS = 100
_STYLE = "white-space:pre-wrap;line-height:1.4;margin:0;font-family:Menlo,'DejaVu Sans Mono',monospace"


def is_notebook() -> bool:
    """Says whether the outputs of this process are those of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class _Output:
    """An output of the running cell, whose content can be replaced."""

    def __init__(self) -> None:
        self._display = import_module("IPython.display").display
        self._handle: Any = None

    def show(self, content: Any, **options: Any) -> None:
        """Shows an object, or with `raw=True` texts by their types, in place of what was there before."""
        if self._handle is None:
            self._handle = self._display(content, display_id=True, **options)
        else:
            self._handle.update(content, **options)

    def leave(self) -> None:
        """Leaves what is shown for good."""
        self._handle = None


class NotebookBar:
    """Draws a widget of tqdm.

    Args:
        tqdm: the class.
    """

    shares_a_line = False
    seconds_between = 0.1

    def __init__(self, tqdm: Any):
        self._tqdm = tqdm
        self._bar: Any = None
        self._output = _Output()

    def draw(self, moment: Moment) -> None:
        """Draws the widget."""
        before, after = f"{moment.title} {moment.count}", after_the_bar(moment)
        bar_format = f"{as_format(before)} {{bar}} {as_format(after)}"
        if self._bar is None:
            self._bar = self._tqdm(total=moment.total, display=False, bar_format=bar_format, mininterval=0)
            self._output.show(self._bar.container)
        self._bar.n, self._bar.bar_format = moment.done, bar_format
        self._bar.refresh()

    def finish(self, moment: Moment) -> None:
        """Replaces the widget by the line that stays."""
        self._output.show({"text/plain": moment.last_line()}, raw=True)
        self.close()

    def hide(self) -> None:
        """Does nothing: others print elsewhere."""

    def close(self) -> None:
        """Leaves the widget as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._output.leave()
        self._bar = None


class NotebookRich:
    """Draws what rich draws, as HTML, which needs no widgets."""

    shares_a_line = False
    seconds_between = 0.25

    def __init__(self) -> None:
        self._output = _Output()

    def draw(self, moment: Moment) -> None:
        """Draws the bar and the values."""
        self._output.show(_texts(running(moment, _COLUMNS)), raw=True)

    def finish(self, moment: Moment) -> None:
        """Replaces the bar by the line that stays."""
        self._output.show(_texts(finished(moment, _COLUMNS)), raw=True)
        self._output.leave()

    def hide(self) -> None:
        """Does nothing: others print elsewhere."""

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._output.leave()


def _texts(drawn: Any) -> dict[str, str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=_COLUMNS, highlight=False, force_jupyter=False)
    console.print(drawn)
    html = console.export_html(
        inline_styles=True, code_format=f'<pre style="{_STYLE}">{{code}}</pre>', clear=False
    )
    return {"text/html": html, "text/plain": console.export_text().rstrip("\n")}
