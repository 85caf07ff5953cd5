"""``/ws/stream``: our own messages, and those of clients that send nothing but sound."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from anyio import to_thread
from pydantic import BaseModel, ValidationError

from api.access.caller import Caller
from api.problems import Problem, storage_unavailable
from db import live
from db.access.quotas import QuotaExceeded
from db.logs import describe
from live import events, messages
from live.connection import FAILED, ClientGone, Connection, both
from live.recording import AWAY, RecordingStopped
from live.services import Services
from live.session import LiveSession, TakenUp
from live.sessions import LiveSessions
from live.sources import ContainerSource, PcmSource, Source, SourceError
from speech.engines import SAMPLE_RATE

logger = logging.getLogger(__name__)

START_SECONDS = 10.0
"""That a client has for its first message."""


class Refused(Exception):
    """What a client sent cannot be used. ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NativeStream:
    """One connection."""

    def __init__(self, services: Services, sessions: LiveSessions, connection: Connection) -> None:
        self._services, self._sessions, self._connection = services, sessions, connection
        self._flow_id = ""
        self._simple = False
        self._texts: list[str] = []
        """Finals so far, for a client of the simple shape."""
        self._partial = ""
        self._last_seq = 0

    async def run(self) -> None:
        await self._connection.accept()
        session: LiveSession | None = None
        source: Source | None = None
        try:
            start, first = await self._start()
            caller = await self._connection.authenticate(start.auth.token)
            options = start.options
            if options.language is None:
                options = options.model_copy(update={"language": start.hints.user_lang_pref})
            session = await self._sessions.open(
                caller, start.flowId, start.after, options, domain=start.hints.domain
            )
            self._flow_id = session.options.flow_id
            outbox = session.attach(self)
            await self._welcome(session, start)
            source = self._source(session, start.audio)
            if first:
                await source.push(first)
            await both(
                self._receive(session, source, caller),
                self._send(session, outbox, frozenset(start.returned)),
            )
        except ClientGone as gone:
            logger.info("flow %s: client gone: %s", self._flow_id, gone)
        except Problem as problem:
            await self._fail(problem.code, problem.detail)
        except (QuotaExceeded, RecordingStopped, Refused, SourceError) as error:
            await self._fail(error.code, str(error))
        except AWAY as error:
            logger.error("flow %s: a server is away: %s", self._flow_id, describe(error))
            await self._fail("unavailable", storage_unavailable().detail)
        finally:
            if source is not None:
                await source.close()
            if session is not None:
                session.detach(self)

    async def _start(self) -> tuple[messages.Start, bytes]:
        """What the client asks for, and the sound that came with it. Raises ClientGone, Refused, Problem."""
        if self._connection.has_credential:
            # before anything is taken from whoever has a bad one
            await self._connection.authenticate()
        message = await self._connection.receive(START_SECONDS)
        if isinstance(message, bytes):
            self._simple = True
            return self._start_of_query(), message
        start = self._parse(message)
        if not isinstance(start, messages.Start):
            raise Refused("start_missing", "Begin with a message of the type `start`, or with sound.")
        return start, b""

    def _start_of_query(self) -> messages.Start:
        """Of the simple shape: what its URL says. Raises Refused."""
        query = self._connection.query
        audio = {name: query[name] for name in ("codec", "sr", "channels") if name in query}
        try:
            return messages.Start.model_validate(
                {
                    "audio": audio,
                    "return": ["asr"],
                    "hints": {"user_lang_pref": query.get("language")},
                    **({"flowId": query["flowId"]} if "flowId" in query else {}),
                }
            )
        except ValidationError as error:
            raise _invalid(error) from None

    def _parse(self, message: str) -> messages.Start | messages.Flush | messages.End:
        """Raises Refused."""
        try:
            return messages.incoming.validate_json(message)
        except ValidationError as error:
            raise _invalid(error) from None

    def _source(self, session: LiveSession, audio: messages.AudioFormat) -> Source:
        if audio.codec == "pcm_s16le":
            return PcmSource(partial(session.feed, self), audio.sr, audio.channels)
        limit = self._services.settings.max_duration
        return ContainerSource(partial(session.feed, self), self._services.decoder, audio.codec, limit)

    async def _welcome(self, session: LiveSession, start: messages.Start) -> None:
        """Where the session stands: an ack, and the finals that the client lacks."""
        if self._simple:
            return
        await self._tell(self._ack(session))
        if start.after is None:
            return
        sessions = self._services.for_tenant(session.options.tenant)

        def read() -> list[dict[str, Any]]:
            with sessions() as database:
                return [*live.finals_after(database, session.job_id, start.after or 0)]

        for content in await to_thread.run_sync(read, limiter=self._services.threads):
            self._last_seq = content["seq"]
            await self._tell(messages.AsrFinal(flowId=self._flow_id, **content))

    async def _receive(self, session: LiveSession, source: Source, caller: Caller) -> None:
        """Until the session is over. Raises ClientGone, Refused, SourceError, Problem."""
        while not session.over.is_set():
            message = await self._connection.receive()
            self._connection.require(caller)
            try:
                if isinstance(message, bytes):
                    await source.push(message)
                    continue
                wanted = self._parse(message)
                if isinstance(wanted, messages.Start):
                    raise Refused("already_started", "The session is open already; open another connection.")
                if isinstance(source, PcmSource) or isinstance(wanted, messages.End):
                    await source.finish()
                if isinstance(wanted, messages.End):
                    await session.end("ended")
                else:
                    await session.flush()
            except RecordingStopped as stopped:
                await session.fail(stopped.code, str(stopped))
            except TakenUp:
                break
        await asyncio.Event().wait()  # what is left to say is said by who sends

    async def _send(self, session: LiveSession, outbox: events.Outbox, wanted: frozenset[str]) -> None:
        """Until the session has ended. Raises ClientGone."""
        while True:
            since, event = await outbox.get()
            if self._simple:
                await self._send_simple(event, since)
            else:
                for message in self._messages(session, event, wanted):
                    await self._tell(message, since)
            if isinstance(event, events.Ended):
                if event.error is not None:
                    await self._connection.close(FAILED, event.error)
                else:
                    await self._connection.close()
                return

    def _messages(self, session: LiveSession, event: events.Event, wanted: frozenset[str]) -> list[BaseModel]:
        flow = self._flow_id
        match event:
            case events.Stored():
                return [self._ack(session)]
            case events.LanguageHeard() if "lid" in wanted:
                return [messages.Lid(flowId=flow, language=event.language, probability=event.probability)]
            case events.PartialHeard() if "asr" in wanted:
                return [_partial(flow, event)]
            case events.FinalHeard() if "asr" in wanted and event.seq > self._last_seq:
                self._last_seq = event.seq
                content = event.content | {"seq": event.seq, "utterance": event.utterance}
                return [messages.AsrFinal(flowId=flow, **content)]
            case events.Notice():
                error = messages.Error(flowId=flow, code=event.code, message=event.message, fatal=False)
                return [error, self._record_url(session)]
            case events.Ended():
                return self._farewell(session, event, wanted)
        return []

    def _farewell(self, session: LiveSession, event: events.Ended, wanted: frozenset[str]) -> list[BaseModel]:
        told: list[BaseModel] = [self._record_url(session)] if "record_url" in wanted else []
        told.append(messages.Metrics(flowId=self._flow_id, **event.metrics)) if event.metrics else None
        if event.error is None:
            return [*told, messages.Ended(flowId=self._flow_id, job_id=str(session.job_id), reason=event.reason)]
        return [
            *told,
            messages.Error(flowId=self._flow_id, code=event.error, message=event.message, fatal=True),
        ]

    async def _send_simple(self, event: events.Event, since: float) -> None:
        match event:
            case events.PartialHeard():
                self._partial = events.text_of(event.stable + event.unstable)
            case events.FinalHeard():
                self._texts.append(event.content["text"])
                self._partial = ""
            case events.Ended() if event.error is None:
                final = messages.SimpleFinal(final=" ".join(self._texts))
                return await self._connection.send(final, "final", since)
            case _:
                return
        text = " ".join(filter(None, [*self._texts, self._partial]))
        await self._connection.send(messages.SimplePartial(partial=text), "partial", since)

    def _ack(self, session: LiveSession) -> messages.Ack:
        recording = session.recording
        return messages.Ack(
            flowId=self._flow_id,
            job_id=str(session.job_id),
            received=recording.received * 1000 // SAMPLE_RATE,
            stored=recording.stored * 1000 // SAMPLE_RATE,
        )

    def _record_url(self, session: LiveSession) -> messages.RecordUrl:
        base = self._services.settings.public_base.rstrip("/")
        job = str(session.job_id)
        return messages.RecordUrl(flowId=self._flow_id, job_id=job, url=f"{base}/v1/jobs/{job}/audio")

    async def _tell(self, message: BaseModel, since: float | None = None) -> None:
        await self._connection.send(message, getattr(message, "type", ""), since)

    async def _fail(self, code: str, message: str) -> None:
        if not self._simple:
            error = messages.Error(flowId=self._flow_id, code=code, message=message, fatal=True)
            try:
                await self._tell(error)
            except ClientGone:
                return
        await self._connection.close(FAILED, code)


def _partial(flow_id: str, event: events.PartialHeard) -> messages.AsrPartial:
    text, stable = events.text_of(event.stable + event.unstable), events.text_of(event.stable)
    return messages.AsrPartial(
        flowId=flow_id,
        utterance=event.utterance,
        text=text,
        stable=stable,
        unstable=text[len(stable) :].lstrip(),
        end=round(event.end, 3),
    )


def _invalid(error: ValidationError) -> Refused:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return Refused("invalid_message", f"{where}: {first['msg']}" if where else str(first["msg"]))
