"""``python -m tests.live.stages.server PORT``: all stages in one process, whose ASR understands tones."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import grpc

from db.logs import configure_logging
from live.inprocess.denoise import InProcessDenoising
from live.inprocess.detection import InProcessLanguage, InProcessVad
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.serve.asr import RecognizeService
from live.serve.denoise import SuppressService
from live.serve.language import IdentifyService
from live.serve.server import serve
from live.serve.sessions import Sessions
from live.serve.vad import DetectService
from live.wire import receiving
from live.wire.asr.v1.recognize_pb2_grpc import add_RecognizeServicer_to_server
from live.wire.channels import Identity
from live.wire.denoise.v1.suppress_pb2_grpc import add_SuppressServicer_to_server
from live.wire.lid.v1.identify_pb2_grpc import add_IdentifyServicer_to_server
from live.wire.vad.v1.detect_pb2_grpc import add_DetectServicer_to_server
from speech.audio.denoise import GtcrnModel
from speech.audio.vad.silero import SileroModel
from speech.models.catalogue import Catalogue
from tests.live.fakes import CountingEngine
from tests.live.stages.tones import ToneTranscriber


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--counting", action="store_true", help="say how loud it is, instead of reading tones")
    parser.add_argument("--engine-seconds", type=float, default=0.0)
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--identity", type=Path, nargs=3, default=(None, None, None))
    arguments = parser.parse_args()
    configure_logging()
    # a machine that is busy holds messages back for longer than a network does
    receiving.REORDER_SECONDS = 5.0
    catalogue = Catalogue(arguments.models)
    tones, pool = ToneTranscriber(arguments.engine_seconds), EnginePool(2)
    engine = CountingEngine() if arguments.counting else tones
    sessions = Sessions(arguments.sessions)

    def register(server: grpc.aio.Server) -> None:
        recognizer = InProcessRecognizer(engine, pool, sessions=arguments.sessions, interval_seconds=0.05)
        vad = InProcessVad(SileroModel(catalogue.locate("silero-vad") / "silero_vad.onnx"))
        denoising = InProcessDenoising(GtcrnModel(catalogue.locate("gtcrn") / "gtcrn_simple.onnx"))
        add_RecognizeServicer_to_server(RecognizeService(recognizer, sessions), server)
        add_DetectServicer_to_server(DetectService(vad, sessions), server)
        add_SuppressServicer_to_server(SuppressService(denoising, sessions), server)
        add_IdentifyServicer_to_server(IdentifyService(InProcessLanguage(tones, pool), sessions), server)

    await serve(
        "all",
        register,
        sessions,
        address=f"127.0.0.1:{arguments.port}",
        identity=Identity(*arguments.identity),
        drain_seconds=arguments.drain_seconds,
    )


if __name__ == "__main__":
    asyncio.run(main())
