"""Real servers of stages, and what may lie between them and a client."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from cli.stack.process import HOST, Process, free_port
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.asr.v1.recognize_pb2_grpc import (
    RecognizeServicer,
    RecognizeStub,
    add_RecognizeServicer_to_server,
)
from tests.conftest import MODELS


class StageServer(Process):
    """A process with all stages, whose ASR understands tones."""

    name = "stages"

    def __init__(self, folder: Path, *options: str, port: int = 0, certificate: Path | None = None) -> None:
        super().__init__(folder / f"{free_port()}.log")
        self.port = port or free_port()
        self._options, self._authority = options, certificate

    @property
    def url(self) -> str:
        return f"grpc://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        module = "tests.live.stages.server"
        return [sys.executable, "-m", module, str(self.port), "--models", str(MODELS), *self._options]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def ready(self) -> bool:
        return self.log is not None and self.log.exists() and b"takes sessions" in self.log.read_bytes()

    def health(self) -> int:
        """What it says of itself: a status of ``grpc.health.v1``."""
        with grpc.insecure_channel(f"{HOST}:{self.port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer: health_pb2.HealthCheckResponse = check(health_pb2.HealthCheckRequest(), timeout=10)
        return answer.status

    def kill(self) -> None:
        """At once, as the kernel does."""
        assert self.pid is not None
        os.killpg(self.pid, signal.SIGKILL)
        self.wait_stopped(10)


class Wiretap:
    """Passes a TCP connection on, and keeps what the client sent."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        self.heard = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection((HOST, self._target))
                threading.Thread(target=self._pump, args=(client, server, self.heard), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, bytearray()), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, heard: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                heard += data
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class HostileNetwork(RecognizeServicer):
    """Stands before a server of ASR, and loses and swaps audio on the way to it."""

    def __init__(self, target: str, *, loss: float, swaps: float, seed: int = 1) -> None:
        """``loss`` and ``swaps``: of a hundred messages with audio, as a fraction."""
        self._target, self._loss, self._swaps = target, loss, swaps
        self._random = random.Random(seed)
        self.lost = self.swapped = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its URL."""
        server = grpc.aio.server()
        add_RecognizeServicer_to_server(self, server)
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        try:
            yield f"grpc://{HOST}:{port}"
        finally:
            await server.stop(0)

    async def Stream(
        self,
        request_iterator: AsyncIterator[asr.StreamRequest],
        context: grpc.aio.ServicerContext[asr.StreamRequest, asr.AsrEvent],
    ) -> AsyncIterator[asr.AsrEvent]:
        async with grpc.aio.insecure_channel(self._target.removeprefix("grpc://")) as channel:
            call = RecognizeStub(channel).Stream(self._damaged(request_iterator))
            await context.send_initial_metadata(())
            async for event in call:
                yield event

    async def _damaged(self, requests: AsyncIterator[asr.StreamRequest]) -> AsyncIterator[asr.StreamRequest]:
        held: asr.StreamRequest | None = None
        async for request in requests:
            is_audio = request.WhichOneof("request") in ("opus", "pcm")
            if is_audio and self._random.random() < self._loss:
                self.lost += 1
                continue
            if is_audio and held is None and self._random.random() < self._swaps:
                held = request
                continue
            yield request
            if held is not None:
                self.swapped += 1
                yield held
                held = None


@contextlib.contextmanager
def running(server: StageServer) -> Iterator[StageServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
