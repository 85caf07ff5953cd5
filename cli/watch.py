"""A job in the terminal: drafts as they come, replaced by finals, above a progress bar."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from longhand import Event

Segment = Mapping[str, Any]


class View:
    """The state of a transcript as its events arrive."""

    def __init__(self) -> None:
        self.drafts: dict[int, list[Segment]] = defaultdict(list)
        self.finals: dict[int, list[Segment]] = defaultdict(list)
        self.percent = 0
        self.outcome: str | None = None
        self.error: Mapping[str, str] | None = None

    def apply(self, event: Event) -> None:
        data = event.data
        match event.type:
            case "segment.draft":
                self.drafts[data["chunk"]].append(data)
            case "segment.final":
                # a chunk's finals replace its drafts, however many there are of each
                self.drafts.pop(data["chunk"], None)
                self.finals[data["chunk"]].append(data)
            case "speakers.assigned":
                # the finals of these chunks anew, divided where the speaker changes; printed ones stay as they are
                for chunk in {segment["chunk"] for segment in data["segments"]} & self.finals.keys():
                    self.finals[chunk] = [s for s in data["segments"] if s["chunk"] == chunk]
            case "job.completed" | "job.failed" | "job.cancelled":
                self.outcome = event.type.removeprefix("job.")
                self.error = data.get("error")
        if "progress" in data:
            self.percent = data["progress"]["percent"]

    def settled(self) -> list[Segment]:
        """Final segments that no draft precedes any more, removed from the view to be printed permanently."""
        first_draft = min(self.drafts, default=None)
        done = [chunk for chunk in sorted(self.finals) if first_draft is None or chunk < first_draft]
        return [segment for chunk in done for segment in self.finals.pop(chunk)]

    def pending(self) -> list[tuple[Segment, bool]]:
        """The remaining segments in order, and whether each is final."""
        rows = [(segment, True) for chunk in self.finals.values() for segment in chunk]
        rows += [(segment, False) for chunk in self.drafts.values() for segment in chunk]
        return sorted(rows, key=lambda row: row[0]["index"])


def line(segment: Segment, final: bool) -> Text:
    minutes, seconds = divmod(int(segment["start"]), 60)
    text = Text(f"{minutes:3}:{seconds:02}  ", style="cyan")
    if segment["speaker"]:
        text.append(f"{segment['speaker']}: ", style="bold")
    return text.append(segment["text"], style="" if final else "dim italic")


def follow(events: Iterable[Event], console: Console) -> View:
    """Show a job until its last event."""
    view = View()
    if not console.is_terminal:
        for event in events:
            view.apply(event)
            _plain(event, view, console)
        return view
    bar = Progress(
        TextColumn("transcribing"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console
    )
    task = bar.add_task("", total=100)
    with Live(console=console, refresh_per_second=8) as live:
        for event in events:
            view.apply(event)
            # a chunk's finals come together, with progress behind them
            if event.type in ("job.progress", "job.completed"):
                for segment in view.settled():
                    console.print(line(segment, final=True))
            bar.update(task, completed=view.percent)
            live.update(_screen(view, bar, console.height - 4))
    return view


def _screen(view: View, bar: Progress, rows: int) -> RenderableType:
    shown = view.pending()[: max(rows, 1)]
    return Group(*(line(segment, final) for segment, final in shown), bar)


def _plain(event: Event, view: View, console: Console) -> None:
    """Plain output, where nothing can be replaced: each version of a segment is a line of its own."""
    if event.type.startswith("segment."):
        kind = event.type.removeprefix("segment.")
        console.print(f"{kind:<6}{line(event.data, final=True)}", markup=False, highlight=False, soft_wrap=True)
    elif event.type == "speakers.assigned":
        labels = [speaker["name"] or speaker["label"] for speaker in event.data["speakers"]]
        console.print(f"speakers  {', '.join(labels) or 'none'}", highlight=False)
    elif event.type == "job.progress":
        console.print(f"{view.percent:3} %", highlight=False)
