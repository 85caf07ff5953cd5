"""A bar for each recording under way, above which the finished ones are listed."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from longhand import Job


class Screen(AbstractContextManager["Screen"]):
    """On a terminal; elsewhere only the lines of finished recordings are printed, and nothing if ``silent``.

    ``total`` is None where nobody knows how many there will be.
    """

    def __init__(self, console: Console, total: int | None, *, silent: bool) -> None:
        self._console, self._silent = console, silent
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[stage]}"),
            console=console,
            disable=silent or not console.is_terminal,
        )
        self._all = self._progress.add_task("[bold]all[/]", total=total, stage="")

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, name: str) -> Bar:
        name = name.encode(errors="replace").decode()
        short = name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"
        return Bar(self._progress, self._progress.add_task(escape(short), total=None, stage="reading"))

    def end(self, bar: Bar, line: str | None, *, style: str = "") -> None:
        bar.remove()
        self._progress.advance(self._all)
        if line is not None and not self._silent:
            # names on a disk need not be text
            line = line.encode(errors="replace").decode()
            self._progress.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """Of one recording; each of its stages has an estimate of its own."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._stage = ""

    def uploading(self, sent: int, size: int) -> None:
        self._enter("uploading", size)
        self._progress.update(self._task, completed=sent)

    def following(self, job: Job) -> None:
        """Shows how far a job is."""
        counts = job["progress"]
        self._enter("transcribing", 100)
        stage = f"drafts {counts['drafted']}/{counts['chunks']}, finals {counts['final']}/{counts['chunks']}"
        shown = job["status"] if job["status"] != "processing" else stage
        self._progress.update(self._task, completed=counts["percent"], stage=shown)

    def _enter(self, stage: str, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._progress.reset(self._task, total=total, stage=stage)

    def remove(self) -> None:
        self._progress.remove_task(self._task)
