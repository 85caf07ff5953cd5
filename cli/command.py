"""How commands are made: a client where they need one, output for people or for programs, and exit codes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import httpx
import typer
from rich.console import Console, RenderableType
from rich.table import Table

from longhand import ApiError, Client, Forbidden, LonghandError, Unauthorized, Unreachable

# names and messages of others are text, not markup
console = Console(markup=False, highlight=False)
errors = Console(markup=False, highlight=False, stderr=True)

LOCAL = "http://127.0.0.1:8000"

RETRIES = 2
"""Fewer than for programs: somebody waits."""

Url = Annotated[str, typer.Option("--url", envvar="LONGHAND_URL", help="The server.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="LONGHAND_KEY",
        help="An API key; local users can read it here, not in the variable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class ExitCode(IntEnum):
    """What a command ends with; docs/cli.md has them too."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4


class Failed(Exception):
    """Ends a command with one sentence."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = code


@dataclass(frozen=True, slots=True)
class Server:
    """Where a command's client connects to, and with which key."""

    url: str
    key: str | None

    def __post_init__(self) -> None:
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise typer.BadParameter(f"{self.url!r} is no URL: {error}") from error

    def client(self) -> Client:
        return Client(self.url, self.key, retries=RETRIES)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command prints: ``data`` with ``--json``, ``text`` for people; a str is printed as it is."""

    data: object
    text: RenderableType | None = None
    exit_code: ExitCode = ExitCode.DONE


Function = TypeVar("Function", bound=Callable[..., Output | None])


def command(app: typer.Typer, name: str | None = None) -> Callable[[Function], Function]:
    """Make a command of a function, which returns what is to be printed.

    A parameter annotated ``Client`` or ``Server`` becomes the options ``--url`` and ``--key``. Every command has
    ``--json``, and those that print while they work take it as ``as_json``. Errors end with their exit codes.
    """

    def register(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        given = inspect.signature(function).parameters
        connected = {name: hints[name] for name in given if hints[name] in (Client, Server)}

        @wraps(function)
        def run(**arguments: Any) -> None:
            as_json = arguments["as_json"] if "as_json" in given else arguments.pop("as_json")
            with ExitStack() as stack:
                if connected:
                    server = Server(arguments.pop("url"), arguments.pop("key"))
                    for parameter, kind in connected.items():
                        arguments[parameter] = server if kind is Server else stack.enter_context(server.client())
                try:
                    output = function(**arguments)
                except (Failed, LonghandError) as error:
                    _print_error(error, as_json=as_json)
                    raise typer.Exit(exit_code_of(error)) from error
            if output is not None:
                _print(output, as_json=as_json)
                raise typer.Exit(output.exit_code)

        added: list[tuple[str, object, object]] = [("url", Url, LOCAL), ("key", Key, None)] if connected else []
        shown = [
            parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in given.items()
            if name not in connected and name != "as_json"
        ] + [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
            for name, hint, default in [*added, ("as_json", AsJson, False)]
        ]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        app.command(name)(run)
        return function

    return register


def exit_code_of(error: Failed | LonghandError) -> ExitCode:
    match error:
        case Failed():
            return error.exit_code
        case Unreachable():
            return ExitCode.UNREACHABLE
        case Unauthorized() | Forbidden():
            return ExitCode.DENIED
        case _:
            return ExitCode.FAILED


def describe(error: Failed | LonghandError) -> Mapping[str, object]:
    """An error as JSON."""
    described: dict[str, object] = {"message": str(error)}
    if isinstance(error, ApiError):
        described |= {"code": error.code, "status": error.status, "retry_after": error.retry_after}
    return {"error": described}


def print_json(data: object) -> None:
    typer.echo(json.dumps(data))


def _print(output: Output, *, as_json: bool) -> None:
    if as_json:
        print_json(output.data)
    elif isinstance(output.text, str):
        typer.echo(output.text)
    elif output.text is not None:
        console.print(output.text)


def _print_error(error: Failed | LonghandError, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(describe(error)), err=True)
    else:
        errors.print(str(error), style="red", soft_wrap=True)


def table_of(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def listing(*headings: str) -> Table:
    """A table whose first column is an id, which is never cut short: it is there to be copied."""
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, no_wrap=place == 0, min_width=0 if place else 36)
    return table


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a value that is JSON is taken as such. Raises Failed."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failed(f"The option {pair!r} has no value; write NAME=VALUE.", ExitCode.USAGE)
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
