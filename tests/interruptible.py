"""Processes that a test interrupts."""

from __future__ import annotations

from collections.abc import Sequence


def interruptible(command: Sequence[str]) -> list[str]:
    """The command, with SIGINT as in a terminal: what a shell runs in the background ignores it."""
    return ["env", "--default-signal=INT", *command]
