"""The table that shows a `StepProfile`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from easyflax.models.quantities import (
    readable_bytes,
    readable_count,
    readable_seconds,
    readable_share,
)
from easyflax.models.step_profile import StepProfile

__all__ = ["as_html", "as_text", "profile_table"]

_WIDTH = 100
_BAR = 16
_COLORS = {
    "data": "green",
    "transfer": "cyan",
    "dispatch": "yellow",
    "device": "blue",
    "callbacks": "magenta",
    "epochs": "red",
}


def profile_table(profile: StepProfile) -> Any:
    """Returns the profile as something that rich prints."""
    return Group(_title(profile), _times(profile), _facts(profile), "", _advice(profile))


def as_text(profile: StepProfile) -> str:
    """Returns the profile as plain text."""
    console = Console(width=_WIDTH, color_system=None, force_jupyter=False, file=io.StringIO())
    with console.capture() as capture:
        console.print(profile_table(profile))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def as_html(profile: StepProfile) -> str:
    """Returns the profile as HTML."""
    console = Console(width=_WIDTH, record=True, force_jupyter=False, file=io.StringIO(), force_terminal=True)
    console.print(profile_table(profile))
    style = "font-family:Menlo,'DejaVu Sans Mono',consolas,monospace;line-height:1.2"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')


def _advice(profile: StepProfile) -> Text:
    what, _, advice = profile.advice.partition(": ")
    return Text.assemble((f"{what}: ", f"bold {_COLORS.get(profile.bound, 'blue')}"), advice)


def _title(profile: StepProfile) -> Text:
    devices = profile.device_kind if profile.devices == 1 else f"{profile.devices} x {profile.device_kind}"
    batch = f"{profile.rows:,} rows, {readable_bytes(profile.batch_bytes)}"
    return Text.assemble(
        ("A training step", "bold"), f' of "{profile.model}" on {devices}, a batch of {batch}'
    )


def _times(profile: StepProfile) -> Table:
    table = Table()
    table.add_column("Part", no_wrap=True)
    table.add_column("A step", justify="right", no_wrap=True)
    table.add_column("Share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=_BAR)
    table.add_column("What it is", overflow="fold")
    whole = profile.total_seconds or 1.0
    for name, seconds in profile.parts.items():
        bar = Text("█" * round(_BAR * seconds / whole), style=_COLORS[name])
        share = readable_share(seconds / whole)
        table.add_row(name, readable_seconds(seconds), share, bar, _what(profile, name))
    table.add_section()
    table.add_row("together", readable_seconds(profile.total_seconds), "100 %", "", "one after the other")
    if profile.fit_seconds is not None:
        in_fit, share = readable_seconds(profile.fit_seconds), readable_share(profile.fit_seconds / whole)
        speed = f"as far as they overlap: {readable_count(profile.rows_per_second)} rows a second"
        table.add_row("in fit", in_fit, share, "", speed, style="bold")
    return table


def _what(profile: StepProfile, part: str) -> str:
    if part == "callbacks":
        return _callbacks(profile)
    if part == "dispatch":
        together = profile.steps_per_dispatch
        hand_over = "hand the step over" if together == 1 else f"hand over {together} steps at a time"
        return hand_over if profile.is_compiled else "is in the next line"
    if part == "device":
        return "compute" if profile.is_compiled else "compute in Python: nothing is compiled"
    return {
        "data": "read the batch",
        "transfer": "bring it to the device",
        "epochs": "end an epoch and begin another, by step",
    }[part]


def _callbacks(profile: StepProfile) -> str:
    lines = []
    for name, spent in profile.callbacks.items():
        times = {"a step": spent.step, "an epoch": spent.epoch}
        found = [f"{readable_seconds(seconds)} {of}" for of, seconds in times.items() if seconds]
        lines.append(f"{name}: {', '.join(found) or 'nothing'}")
    return "\n".join(lines) or "none were given"


def _facts(profile: StepProfile) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for row in _fact_rows(profile):
        table.add_row(*row)
    return table


def _fact_rows(profile: StepProfile) -> Iterator[tuple[str, str, str]]:
    if profile.costs is not None:
        least = "≥ " if profile.has_loop else ""
        flops, read = profile.costs.flops, profile.costs.bytes_accessed
        yield "FLOPs", "unknown" if flops is None else least + readable_count(flops), _speed(profile)
        yield "Bytes", "unknown" if read is None else least + readable_bytes(read), _bandwidth(profile)
        if profile.has_loop:
            yield "", "", "what a loop repeats, as in a recurrent layer, counts once"
    if profile.memory is not None:
        memory = profile.memory
        where = "on each device: " if profile.devices > 1 else ""
        state, temporary = readable_bytes(memory.arguments), readable_bytes(memory.temporary)
        yield "Memory", readable_bytes(memory.total), f"{where}state and batch {state}, temporary {temporary}"
    if profile.is_compiled:
        yield "Compile", readable_seconds(profile.compile_seconds), ""


def _speed(profile: StepProfile) -> str:
    share, in_fit = profile.share_of_peak, profile.share_of_peak_in_fit
    if share is None or profile.peak is None or profile.flops_per_second is None:
        return ""
    speed, peak = (
        f"{readable_count(rate)}FLOP/s" for rate in (profile.flops_per_second, profile.peak.flops_per_second)
    )
    of_peak = f"{speed}, {readable_share(share)} of the {peak} measured in {profile.peak.dtype}"
    return of_peak if in_fit is None else f"{of_peak}; in fit {readable_share(in_fit)}"


def _bandwidth(profile: StepProfile) -> str:
    share = profile.share_of_bandwidth
    if share is None or profile.peak is None or profile.bytes_per_second is None:
        return ""
    speed, peak = (
        f"{readable_bytes(rate)}/s" for rate in (profile.bytes_per_second, profile.peak.bytes_per_second)
    )
    from_caches = "; much of it in caches" if share > 1 else ""
    return f"{speed} read and written, {readable_share(share)} of the {peak} measured{from_caches}"
