"""Servers of ASR by language and domain, and which of them gets a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from live import metrics
from live.remote.breaker import CircuitBreaker
from live.remote.calls import StageCall, in_time
from live.stages import AsrEvent, AsrStart, AudioFrame, StageBusy, StageDead, StageError
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.asr.v1.recognize_pb2_grpc import RecognizeStub
from live.wire.channels import Identity, open_channel
from live.wire.messages import from_event_message, to_start_message
from live.wire.opus import OpusEncoder
from live.wire.sending import AudioSender, Encoder

BREAKER_FAILURES = 3
BREAKER_SECONDS = 5.0

ANY = "*"
"""Of a route: whatever no other route is for."""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How audio goes to ASR, and how long it may take to answer."""

    make_encoder: Callable[[], Encoder] | None = OpusEncoder
    """None for PCM."""
    frame_ms: int = 20
    """Of one packet of Opus."""
    open_seconds: float = 3.0
    """Until a session is admitted."""
    final_seconds: float = 30.0
    """From the end of an utterance to its final."""
    reconnect_seconds: float = 10.0
    """How long a server is looked for that takes over from one that ended in mid session."""


@dataclass(eq=False)
class Server:
    """One server of ASR, as this process sees it."""

    url: str
    channel: grpc.aio.Channel
    sessions: int = 0
    """Open from here."""
    breaker: CircuitBreaker = field(
        default_factory=lambda: CircuitBreaker(failures=BREAKER_FAILURES, seconds=BREAKER_SECONDS)
    )


class Link:
    """One stream to one server."""

    def __init__(
        self, server: Server, call: StageCall[asr.StreamRequest, asr.AsrEvent], options: LinkOptions
    ) -> None:
        self._server, self._call = server, call
        self._sender = AudioSender(
            make_encoder=options.make_encoder,
            frame_ms=options.frame_ms,
            on_failure=metrics.pcm_to_opus_fail.inc,
        )
        self._released = False
        server.sessions += 1
        metrics.asr_inflight_sessions.inc()

    async def send(self, frame: AudioFrame) -> None:
        """Raises StageBusy, StageDead."""
        for request in self._sender.frame(frame):
            await self._call.send(request)

    async def end_utterance(self) -> None:
        """Raises StageBusy, StageDead."""
        for request in self._sender.end():
            await self._call.send(request)

    async def done(self) -> None:
        """No more audio. Raises StageBusy, StageDead."""
        await self._call.done()

    async def receive(self) -> AsrEvent | None:
        """The next event; None once the server has ended the stream well. Raises StageBusy, StageDead."""
        while (message := await self._call.receive()) is not None:
            if (event := from_event_message(message)) is not None:
                return event
        return None

    def succeeded(self) -> None:
        """The server does what it is for."""
        self._server.breaker.succeeded()

    def failed(self) -> None:
        """It ended the stream too early, or does not answer."""
        self._server.breaker.failed()
        self.release()

    def release(self) -> None:
        """End the stream, whatever is under way; idempotent."""
        if not self._released:
            self._released = True
            self._server.sessions -= 1
            metrics.asr_inflight_sessions.dec()
            self._call.cancel()


class Pool:
    """Servers by what they are for. A session goes to the least busy of the closest route that has room."""

    def __init__(self, routes: Mapping[str, Sequence[str]], *, identity: Identity, options: LinkOptions) -> None:
        """``routes``: URLs by ``language/domain``, ``language``, ``*/domain`` or ``*``. Raises BadAddress."""
        self.options = options
        servers = {url: Server(url, open_channel(url, identity)) for urls in routes.values() for url in urls}
        self._servers = servers
        self._routes = {route: [servers[url] for url in urls] for route, urls in routes.items()}

    async def connect(self, start: AsrStart) -> Link:
        """Raises StageBusy where any server is merely busy or left alone for now, else StageDead."""
        refusal: StageError = StageDead(
            f"no route of ASR is for {start.language or start.expected or 'no language'}"
        )
        for server in self._candidates(start):
            if not server.breaker.admits():
                refusal = StageBusy(f"{server.url} has failed, and is left alone for a moment")
                continue
            try:
                return await self._open(server, start)
            except StageBusy as error:
                server.breaker.answered()
                refusal = error
            except StageDead as error:
                server.breaker.failed()
                refusal = refusal if isinstance(refusal, StageBusy) else error
        raise refusal

    async def close(self) -> None:
        for server in self._servers.values():
            await server.channel.close()

    def _candidates(self, start: AsrStart) -> Iterator[Server]:
        language = start.language or start.expected or ANY
        domain = start.domain or ANY
        tried: set[str] = set()
        for route in (f"{language}/{domain}", language, f"{ANY}/{domain}", ANY):
            for server in sorted(self._routes.get(route, ()), key=lambda server: server.sessions):
                if server.url not in tried:
                    tried.add(server.url)
                    yield server

    async def _open(self, server: Server, start: AsrStart) -> Link:
        call = StageCall(server.url, RecognizeStub(server.channel).Stream())
        try:
            async with in_time(server.url, self.options.open_seconds):
                await call.send(asr.StreamRequest(start=to_start_message(start)))
                await call.admitted()
        except BaseException:
            call.cancel()
            raise
        server.breaker.answered()
        return Link(server, call, self.options)
