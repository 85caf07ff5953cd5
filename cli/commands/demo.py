"""``longhand demo``: a whole stack, one real recording, its transcript, and everything stopped again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.command import Failed, command
from cli.commands.jobs import show
from cli.commands.up import print_line
from cli.stack.process import StackError
from cli.stack.stack import PORTS, Plan, running_stack
from db.settings import get_settings
from longhand import Client, Job, LonghandError

RECORDING = Path(__file__).parents[2] / "tests" / "data" / "demo.flac"
FORMATS = ("txt", "srt", "vtt", "json")

console = Console()
app = typer.Typer()


@command(app)
def demo(
    file: Annotated[Path, typer.Argument(help="A recording; one of public domain if none.")] = RECORDING,
) -> None:
    """Start a stack on free ports, transcribe a recording, show and save the transcript, stop the stack."""
    if not file.is_file():
        raise Failed(f"There is no file {file}; name a recording: `longhand demo FILE`.")
    plan = Plan(get_settings().data_dir / "demo", ports=dict.fromkeys(PORTS, 0))
    try:
        with running_stack(plan, print_line) as stack:
            client = Client(stack.api_url)
            console.print(f"\nuploading {file}\n", highlight=False, soft_wrap=True)
            job = client.jobs.submit(file)
            show(client.jobs.events(job["id"]))
            _show(client, client.jobs.get(job["id"]), plan.data_dir / "transcripts" / file.stem)
            print_line("stopping the stack")
    except (StackError, LonghandError, Failed) as error:
        raise Failed(f"{error}\nLogs are in {plan.data_dir / 'logs'}.") from error


def _show(client: Client, job: Job, folder: Path) -> None:
    """Print the finished transcript and save it in every format."""
    folder.mkdir(parents=True, exist_ok=True)
    for format_ in FORMATS:
        (folder / f"{folder.name}.{format_}").write_bytes(client.jobs.transcript_as(job["id"], format_))
    console.rule("transcript")
    console.print((folder / f"{folder.name}.txt").read_text(), markup=False, highlight=False)
    console.rule()
    for role, engine in job["models"].items():
        if engine is not None:
            stand_in = f", in place of {engine['instead_of']}" if engine["instead_of"] else ""
            print_line(f"{role}: {engine['engine']} {engine['model']} ({engine['compute_type']}){stand_in}")
    for format_ in FORMATS:
        print_line(f"{format_:<5} {folder / f'{folder.name}.{format_}'}")
