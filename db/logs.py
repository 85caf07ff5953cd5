"""Logging without content: what people said, and what they are called, stays out of every log line."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import TextIO

from sqlalchemy.exc import DBAPIError

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
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


def configure_logging(stream: TextIO | None = None) -> None:
    """One handler on the root logger; libraries that log by themselves propagate to it."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(ContentFreeFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
