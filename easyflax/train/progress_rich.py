"""Progress drawn by rich: a bar in colours with the values below it."""

from __future__ import annotations

from typing import Any, TextIO

from easyflax.train.progress_text import Moment, duration, packed, spelled


class RichDisplay:
    """Draws a bar for each epoch, evaluation or prediction, and leaves a line of it.

    Args:
        file: a terminal.
    """

    shares_a_line = True
    seconds_between = 0.25  # a drawing takes ten times as long as one by tqdm

    def __init__(self, file: TextIO):
        from rich.console import Console

        self._console = Console(file=file, highlight=False)
        self._live: Any = None

    def draw(self, moment: Moment) -> None:
        """Draws the bar and the values."""
        from rich.live import Live

        drawn = running(moment, self._console.width)
        if self._live is not None:
            self._live.update(drawn, refresh=True)
            return
        self._live = Live(
            drawn,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def finish(self, moment: Moment) -> None:
        """Replaces the bar by the line that stays."""
        self.hide()
        self._console.print(finished(moment, self._console.width))

    def hide(self) -> None:
        """Takes the bar away, until it is drawn again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._live is not None:
            self._live.transient = False
            self.hide()


def running(moment: Moment, columns: int) -> Any:
    """Returns the bar of a moment, with the values below it."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=moment.total, completed=moment.done, width=24)
    times = Text(moment.clock, style="cyan")
    row.add_row(Text(moment.title, style="bold"), bar, moment.count, times, Text(moment.pace, style="dim"))
    return Group(row, _lines(_values(moment), columns)) if moment.words else row


def finished(moment: Moment, columns: int) -> Any:
    """Returns the line that stays."""
    from rich.text import Text

    count = f" {moment.done}/{moment.total or moment.done}" if moment.done else ""
    head = [(moment.title, "bold"), count, (f" {duration(moment.seconds)}", "cyan")]
    if moment.pace:
        head.append((f" {moment.pace}", "dim"))
    return _lines([Text.assemble(*head), *_values(moment)], columns)


def _values(moment: Moment) -> list[Any]:
    from rich.text import Text

    note = [Text(moment.note, style="italic")] if moment.note else []
    values = [Text.assemble((name, "dim"), " ", (text, "bold")) for name, text in spelled(moment.logs)]
    return note + values


def _lines(parts: list[Any], columns: int) -> Any:
    """Returns one text, broken between its parts where it is too long."""
    from rich.text import Text

    return Text("\n  ").join(Text("  ").join(line) for line in packed(parts, columns, gap=2))
