"""``longhand up``: the stack in the foreground, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.stack.process import StackError
from cli.stack.stack import PARTS, PORTS, Plan, running_stack
from cli.stack.supervisor import Stop
from db.settings import get_settings

console = Console(highlight=False)


def print_line(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _port(name: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}-port", envvar=f"LONGHAND_{name.upper()}_PORT", help=f"Port of {name}; 0 for any free one."
    )
    return option


def live(
    data_dir: Annotated[Path | None, typer.Option(help="Where models are.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    live_port: Annotated[int, _port("live")] = PORTS["live"],
) -> None:
    """Run the server of live sessions alone, against servers named in the environment."""
    up(only="live", data_dir=data_dir, host=host, live_port=live_port)


def up(
    only: Annotated[
        str | None,
        typer.Option(help=f"Parts to run, separated by commas, of: {', '.join(PARTS)}. The rest is elsewhere."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data and logs are kept.")] = None,
    host: Annotated[
        str, typer.Option(help="Address that the API, live sessions and Flower listen on.")
    ] = "127.0.0.1",
    api_port: Annotated[int, _port("api")] = PORTS["api"],
    live_port: Annotated[int, _port("live")] = PORTS["live"],
    flower_port: Annotated[int, _port("flower")] = PORTS["flower"],
    postgres_port: Annotated[int, _port("postgres")] = PORTS["postgres"],
    redis_port: Annotated[int, _port("redis")] = PORTS["redis"],
    s3_port: Annotated[int, _port("s3")] = PORTS["s3"],
    observe: Annotated[
        bool, typer.Option("--observe", help="Prometheus and Grafana too, where they are on PATH.")
    ] = False,
    prometheus_port: Annotated[int, _port("prometheus")] = PORTS["prometheus"],
    grafana_port: Annotated[int, _port("grafana")] = PORTS["grafana"],
) -> None:
    """Run the whole stack on this machine, or parts of it against servers named in the environment."""
    ports = {"api": api_port, "live": live_port, "flower": flower_port}
    ports |= {"postgres": postgres_port, "redis": redis_port, "s3": s3_port}
    ports |= {"prometheus": prometheus_port, "grafana": grafana_port}
    settings = get_settings()
    plan = Plan(
        data_dir=data_dir or settings.data_dir,
        parts=[part.strip() for part in only.split(",") if part.strip()] if only else PARTS,
        ports=ports,
        host=host,
        observe=observe,
        logs_to_terminal=only is not None,
    )
    stop = Stop()
    stop.on_signals()
    try:
        with running_stack(plan, print_line, stop) as stack:
            if not only:
                print_line(f"Longhand is up: {stack.api_url}/, its API at /docs. Ctrl-C stops it.")
            stack.supervisor.watch()
            print_line("stopping")
    except StackError as error:
        if stop.wanted:
            # what was under way in this terminal has been interrupted too, and failed
            print_line("stopped while starting")
            return
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
