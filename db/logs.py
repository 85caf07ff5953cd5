"""Logging without content: what people said, and what they are called, stays out of every log line."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from sqlalchemy.exc import DBAPIError

from db.telemetry import tracing

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
EVENT = "longhand"
"""The attribute of a record that holds fields of its line as JSON."""

events = logging.getLogger("longhand.events")
"""One line for each step and request that ended. Text has none of them: there, what went wrong is what matters."""

_bound: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def describe(error: BaseException) -> str:
    """The kind of an error and where it was raised: its message may quote a transcript, as Postgres does."""
    kind = type(error).__name__
    if isinstance(error, DBAPIError):
        kind = f"{kind} {getattr(error.orig, 'sqlstate', None) or ''}".rstrip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{kind} at {frames[-1].filename}:{frames[-1].lineno}" if frames else kind


class ContentFreeFormatter(logging.Formatter):
    """Prints tracebacks with the kinds of their exceptions, and without their messages."""

    def formatException(self, ei: ExceptionInfo) -> str:
        chain: list[BaseException] = []
        error = ei[1]
        while error is not None and error not in chain:
            chain.append(error)
            error = error.__cause__ or error.__context__
        parts = [
            "Traceback (most recent call last):\n"
            + "".join(traceback.format_tb(one.__traceback__))
            + describe(one)
            for one in reversed(chain)
        ]
        return "\n\n".join(parts)


class JsonFormatter(ContentFreeFormatter):
    """One JSON object on one line, with what ``about`` and ``log_event`` say of its job, step and time."""

    def __init__(self) -> None:
        super().__init__()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "worker": self._worker,
            "trace_id": tracing.trace_id(),
            **(_bound.get() or {}),
            **getattr(record, EVENT, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        kept = {name: value for name, value in line.items() if value is not None}
        return json.dumps(kept, ensure_ascii=False, default=str)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Lines as JSON that this thread or task logs in the block have these fields."""
    token = _bound.set((_bound.get() or {}) | fields)
    try:
        yield
    finally:
        _bound.reset(token)


def log_event(message: str, seconds: float, **fields: object) -> None:
    """A line for something that ended after so many seconds."""
    events.info(message, extra={EVENT: {**fields, "ms": round(1000 * seconds, 1)}})


def configure_logging(form: Literal["text", "json"] = "text", stream: TextIO | None = None) -> None:
    """One handler on the root logger; libraries that log by themselves propagate to it."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter() if form == "json" else ContentFreeFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    events.setLevel(logging.INFO if form == "json" else logging.WARNING)
