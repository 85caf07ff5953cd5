"""``longhand serve``: one stage of live sessions as a process of its own."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Stage(StrEnum):
    ASR = "asr"
    VAD = "vad"
    DENOISE = "denoise"
    LID = "lid"


def serve(
    stage: Annotated[Stage, typer.Argument(help="What to serve over gRPC.")],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine with mutual TLS alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 50051,
) -> None:
    """Serve ASR, voice detection, noise suppression or language identification to gateways of live sessions."""
    # in place of this process, so that signals reach it
    command = [sys.executable, "-m", "live.serve", stage, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606  (our own command line)
