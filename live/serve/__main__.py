"""``python -m live.serve asr|vad|denoise|lid [--host HOST] [--port PORT]``: one stage, over gRPC."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping

import grpc

from db.exposure import Exposed, check_stage
from db.private_files import keep_files_private
from db.settings import Settings, get_settings
from db.telemetry.exposition import serve_metrics
from db.telemetry.process import TracesUnavailable, start_telemetry
from live.assembly import LocalStages, identity_of
from live.serve.asr import RecognizeService
from live.serve.denoise import SuppressService
from live.serve.language import IdentifyService
from live.serve.server import serve
from live.serve.sessions import Sessions
from live.serve.vad import DetectService
from live.wire.asr.v1.recognize_pb2_grpc import add_RecognizeServicer_to_server
from live.wire.denoise.v1.suppress_pb2_grpc import add_SuppressServicer_to_server
from live.wire.lid.v1.identify_pb2_grpc import add_IdentifyServicer_to_server
from live.wire.vad.v1.detect_pb2_grpc import add_DetectServicer_to_server
from speech.engines import EngineUnavailable

Register = Callable[[LocalStages, Sessions, grpc.aio.Server], None]


def _asr(stages: LocalStages, sessions: Sessions, server: grpc.aio.Server) -> None:
    add_RecognizeServicer_to_server(RecognizeService(stages.asr(), sessions), server)


def _vad(stages: LocalStages, sessions: Sessions, server: grpc.aio.Server) -> None:
    add_DetectServicer_to_server(DetectService(stages.vad(), sessions), server)


def _denoise(stages: LocalStages, sessions: Sessions, server: grpc.aio.Server) -> None:
    add_SuppressServicer_to_server(SuppressService(stages.denoise(), sessions), server)


def _lid(stages: LocalStages, sessions: Sessions, server: grpc.aio.Server) -> None:
    language = stages.language()
    if language is None:
        raise EngineUnavailable(
            "The draft engine detects no languages by itself; let LONGHAND_DRAFT_ENGINE be whisper."
        )
    add_IdentifyServicer_to_server(IdentifyService(language, sessions), server)


STAGES: Mapping[str, Register] = {"asr": _asr, "vad": _vad, "denoise": _denoise, "lid": _lid}


async def run(stage: str, settings: Settings, *, host: str, port: int) -> None:
    """Raises EngineUnavailable; OSError where the address cannot be listened on."""
    stages = LocalStages(settings)
    sessions = Sessions(settings.live_asr_session_count if stage == "asr" else settings.stage_sessions)
    await serve(
        stage,
        lambda server: STAGES[stage](stages, sessions, server),
        sessions,
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        identity=identity_of(settings),
        drain_seconds=settings.drain_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50051)
    given = parser.parse_args()
    keep_files_private()
    settings = get_settings()
    try:
        start_telemetry(given.stage, settings)
        check_stage(settings, given.host)
        serve_metrics(settings)
        asyncio.run(run(given.stage, settings, host=given.host, port=given.port))
    except (Exposed, TracesUnavailable, EngineUnavailable, OSError) as error:
        raise SystemExit(f"The stage {given.stage} cannot start: {error}") from None


if __name__ == "__main__":
    main()
