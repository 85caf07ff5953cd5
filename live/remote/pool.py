"""Servers of ASR by language and domain, and which of them gets a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from live.remote.breaker import CircuitBreaker
from live.remote.calls import StageCall, in_time
from live.stages import AsrStart, StageBusy, StageDead, StageError
from live.wire.asr.v1 import recognize_pb2 as asr
from live.wire.asr.v1.recognize_pb2_grpc import RecognizeStub
from live.wire.channels import Identity, Peer
from live.wire.messages import to_start_message

BREAKER_FAILURES = 3
BREAKER_SECONDS = 5.0

ANY = "*"
"""Of a route: whatever no other route is for."""

Call = StageCall[asr.StreamRequest, asr.AsrEvent]


@dataclass(eq=False)
class Server:
    """One server of ASR, as this process sees it."""

    peer: Peer
    sessions: int = 0
    """Open from here."""
    breaker: CircuitBreaker = field(
        default_factory=lambda: CircuitBreaker(failures=BREAKER_FAILURES, seconds=BREAKER_SECONDS)
    )

    @property
    def url(self) -> str:
        return self.peer.url

    async def open(self, start: AsrStart, *, seconds: float) -> Call:
        """A stream that is admitted. Raises StageBusy, StageDead."""
        call = StageCall(self.url, RecognizeStub(self.peer.channel).Stream())
        try:
            async with in_time(self.url, seconds):
                await call.admitted()
                await call.send(asr.StreamRequest(start=to_start_message(start)))
        except BaseException as error:
            call.cancel()
            if isinstance(error, StageBusy):
                self.breaker.answered()
            elif isinstance(error, StageDead):
                self.breaker.failed()
            else:
                self.breaker.abandoned()
            raise
        self.breaker.answered()
        return call


class Pool:
    """Servers by what they are for. A session goes to the least busy of the closest route that has room."""

    def __init__(self, routes: Mapping[str, Sequence[str]], identity: Identity, *, seconds: float) -> None:
        """``routes``: URLs by ``language/domain``, ``language``, ``*/domain`` or ``*``; ``seconds``: that being
        admitted to one server may take. Raises BadAddress.
        """
        urls = {url for route in routes.values() for url in route}
        self._servers = {url: Server(Peer(url, identity)) for url in urls}
        self._routes = {route: [self._servers[url] for url in urls] for route, urls in routes.items()}
        self._seconds = seconds

    async def connect(self, start: AsrStart) -> tuple[Server, Call]:
        """Raises StageBusy where a server is merely busy, or left alone for now; else StageDead."""
        refusal: StageError = StageDead(
            f"no route of ASR is for {start.language or start.expected or 'any language'}"
        )
        for server in self._candidates(start):
            try:
                if not server.breaker.admits():
                    raise StageBusy(f"{server.url} has failed, and is left alone for a moment")
                return server, await server.open(start, seconds=self._seconds)
            except StageError as error:
                refusal = refusal if isinstance(refusal, StageBusy) else error
        raise refusal

    async def close(self) -> None:
        for server in self._servers.values():
            await server.peer.close()

    def _candidates(self, start: AsrStart) -> Iterator[Server]:
        language = start.language or start.expected or ANY
        domain = start.domain or ANY
        tried: set[str] = set()
        for route in (f"{language}/{domain}", language, f"{ANY}/{domain}", ANY):
            for server in sorted(self._routes.get(route, ()), key=lambda server: server.sessions):
                if server.url not in tried:
                    tried.add(server.url)
                    yield server
