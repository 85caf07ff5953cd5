"""``/v1/realtime?intent=transcription``: what OpenAI's clients send and read.

An item of the conversation is an utterance, or with ``turn_detection`` null what was committed at once. Deltas are
the stable words alone, so they are only ever appended to.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.problems import Problem, storage_unavailable
from db.access.quotas import QuotaExceeded
from db.logs import describe
from live import events
from live.connection import FAILED, ClientGone, Connection, both
from live.messages import LiveOptions
from live.recording import AWAY, RecordingStopped
from live.services import Services
from live.session import LiveSession, TakenUp
from live.sessions import LiveSessions
from live.sources import PcmSource
from speech.engines import SAMPLE_RATE
from speech.text.languages import LANGUAGES

logger = logging.getLogger(__name__)

DEFAULT_RATE = 24_000
CONFIGURE_SECONDS = 30.0
"""That a client has to say what it wants and begin to speak."""


class Unusable(Exception):
    """An event cannot be used, which does not end the connection."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Format(_Part):
    type: Literal["audio/pcm"] = "audio/pcm"
    rate: int = Field(DEFAULT_RATE, ge=8_000, le=48_000)


class Transcription(_Part):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class TurnDetection(_Part):
    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None


class Wanted(_Part):
    """A session's settings, from either nesting of them."""

    format: Format = Format()
    transcription: Transcription = Transcription()
    turn_detection: TurnDetection | None = TurnDetection()


def settings_of(session: dict[str, Any], current: Wanted) -> Wanted:
    """Those of a ``session.update`` over the current ones. Raises Unusable.

    Newer clients nest them in ``audio.input``, older ones have ``input_audio_…`` on the top.
    """
    nested = session.get("audio")
    given = nested.get("input") if isinstance(nested, dict) else {}
    given = dict(given) if isinstance(given, dict) else {}
    if isinstance(form := session.get("input_audio_format"), str):
        if form != "pcm16":
            raise Unusable("unsupported_format", "Send 16-bit PCM; `pcm16` is the only format taken.", "format")
        given.setdefault("format", {})
    for old, new in (("input_audio_transcription", "transcription"), ("turn_detection", "turn_detection")):
        if old in session:
            given.setdefault(new, session[old])
    known = {name: value for name, value in given.items() if name in Wanted.model_fields}
    # a part that is null stands for what is usual, but for the detection of turns, which it switches off
    known = {name: value for name, value in known.items() if value is not None or name == "turn_detection"}
    try:
        return Wanted.model_validate(current.model_dump() | known)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise Unusable("invalid_value", f"{param}: {first['msg']}", param) from None


@dataclass(slots=True)
class Item:
    """An item of the conversation."""

    id: str
    previous: str | None
    told: str = ""
    """The deltas so far."""
    finals: list[str] = field(default_factory=list)
    """Of utterances that are part of it and over."""
    seconds: float = 0.0
    until: int = sys.maxsize
    """Where turns are not detected: the first utterance that is part of a later item."""
    flush: int | None = None
    """What settles it, once it is committed."""


class RealtimeStream:
    """One connection."""

    def __init__(self, services: Services, sessions: LiveSessions, connection: Connection) -> None:
        self._services, self._sessions, self._connection = services, sessions, connection
        self._id = f"sess_{uuid.uuid4().hex[:24]}"
        self._wanted = Wanted()
        self._session: LiveSession | None = None
        self._source: PcmSource | None = None
        self._begun = asyncio.Event()
        self._items: dict[int, Item] = {}
        """Open items by utterance; without the detection of turns, one under 0."""
        self._last: str | None = None
        self._commits: list[Item] = []
        """Items that are committed and not yet complete, where turns are not detected."""

    async def run(self) -> None:
        offered = self._connection.subprotocols
        await self._connection.accept("realtime" if "realtime" in offered else None)
        try:
            if self._connection.query.get("intent", "transcription") != "transcription":
                raise Problem(
                    422,
                    "intent_unknown",
                    "Intent unknown",
                    "This server transcribes: use `?intent=transcription`.",
                )
            self._caller = await self._connection.authenticate(_key_of(offered))
            await self._tell("session.created", session=self._described())
            await both(self._receive(), self._send())
        except ClientGone as gone:
            logger.info("%s: client gone: %s", self._id, gone)
        except Problem as problem:
            await self._fail(problem.code, problem.detail)
        except QuotaExceeded as error:
            await self._fail(error.code, str(error))
        except AWAY as error:
            logger.error("%s: a server is away: %s", self._id, describe(error))
            await self._fail("unavailable", storage_unavailable().detail)
        finally:
            if self._session is not None:
                self._session.detach(self)
                if self._session.outbox is None:
                    # nobody comes back to it: this protocol has no name for a session
                    await self._session.end("client_gone")

    async def _receive(self) -> None:
        """Raises ClientGone, Problem, QuotaExceeded."""
        while True:
            message = await self._connection.receive(None if self._session else CONFIGURE_SECONDS)
            self._connection.require(self._caller)
            event: dict[str, Any] = {}
            try:
                event = _parse(message)
                await self._take(event)
            except Unusable as error:
                await self._error(error, event.get("event_id"))
            except RecordingStopped as stopped:
                raise Problem(409, stopped.code, "Session over", str(stopped)) from stopped
            except TakenUp:
                await asyncio.Event().wait()  # what is left to say is said by who sends

    async def _take(self, event: dict[str, Any]) -> None:
        """Raises Unusable, RecordingStopped, Problem, QuotaExceeded."""
        match event.get("type"):
            case "session.update" | "transcription_session.update" as kind:
                await self._update(kind, event.get("session"))
            case "input_audio_buffer.append":
                await self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                if self._session is not None:
                    await self._session.drop_utterance()
                    self._items.clear()
                await self._tell("input_audio_buffer.cleared")
            case other:
                raise Unusable(
                    "unknown_event", f"Events of the type {str(other)[:80]!r} are not taken here.", "type"
                )

    async def _update(self, kind: str, session: object) -> None:
        if not isinstance(session, dict):
            raise Unusable("invalid_value", "session: an object is missing", "session")
        wanted = settings_of(session, self._wanted)
        if self._session is not None and wanted != self._wanted:
            raise Unusable("session_begun", "Sound has come: settings can be changed before it alone.", "session")
        self._wanted = wanted
        await self._tell(f"{kind}d", session=self._described())

    async def _append(self, audio: object) -> None:
        try:
            pcm = base64.b64decode(audio if isinstance(audio, str) else "", validate=True)
        except ValueError:  # binascii.Error among them, and text that is not ASCII
            raise Unusable("invalid_audio", "audio: base64 of 16-bit PCM is expected", "audio") from None
        if self._session is None:
            await self._begin()
        assert self._source is not None  # noqa: S101  (made with the session)
        await self._source.push(pcm)

    async def _begin(self) -> None:
        transcription = self._wanted.transcription
        language = (transcription.language or "").split("-")[0].lower()
        self._session = await self._sessions.open(
            self._caller,
            None,
            None,
            LiveOptions(language=language if language in LANGUAGES else None),
            cuts_utterances=self._wanted.turn_detection is not None,
            ends_in_silence=False,
        )
        self._outbox = self._session.attach(self)
        self._source = PcmSource(partial(self._session.feed, self), self._wanted.format.rate, 1)
        self._begun.set()

    async def _commit(self) -> None:
        if self._session is None or self._source is None:
            raise Unusable("input_audio_buffer_commit_empty", "There is no sound to commit.")
        if self._wanted.turn_detection is None:
            # what comes from now on is another item
            item = self._items.pop(0, None) or self._item()
            self._commits.append(item)
            await self._committed(item)
            item.flush = await self._session.flush()
            item.until = self._session.utterances
        else:
            await self._session.flush()

    async def _send(self) -> None:
        """Raises ClientGone."""
        await self._begun.wait()
        while True:
            since, event = await self._outbox.get()
            match event:
                case events.PartialHeard():
                    await self._partial(event, since)
                case events.FinalHeard():
                    await self._final(event, since)
                case events.UtteranceEmpty():
                    await self._empty(event, since)
                case events.Flushed():
                    for item in [each for each in self._commits if each.flush == event.number]:
                        self._commits.remove(item)
                        await self._complete(item, since)
                case events.Notice():
                    await self._left_to_the_queue(event, since)
                case events.Ended():
                    if event.error is not None:
                        await self._fail(event.error, event.message)
                    else:
                        await self._connection.close()
                    return

    async def _partial(self, event: events.PartialHeard, since: float) -> None:
        item = await self._item_of(event.utterance, since)
        await self._delta(item, (event.stable and events.text_of(event.stable)) or "", since)

    async def _final(self, event: events.FinalHeard, since: float) -> None:
        item = await self._item_of(event.utterance, since)
        await self._delta(item, event.content["text"], since)
        item.finals.append(event.content["text"])
        item.seconds += event.content["end"] - event.content["start"]
        if self._wanted.turn_detection is not None:
            del self._items[event.utterance]
            await self._stopped(item, event.content["end"], since)
            await self._complete(item, since)

    async def _empty(self, event: events.UtteranceEmpty, since: float) -> None:
        """An item that was begun is completed all the same."""
        if (
            self._wanted.turn_detection is not None
            and (item := self._items.pop(event.utterance, None)) is not None
        ):
            await self._stopped(item, 0.0, since)
            await self._complete(item, since)

    async def _left_to_the_queue(self, notice: events.Notice, since: float) -> None:
        """Nothing more will be heard of what is open; where turns are not detected, its commit completes it."""
        await self._error(Unusable(notice.code, notice.message), None)
        if self._wanted.turn_detection is None:
            return
        error = {"type": "server_error", "code": notice.code, "message": notice.message, "param": None}
        for item in self._items.values():
            await self._tell(
                "conversation.item.input_audio_transcription.failed",
                since,
                item_id=item.id,
                content_index=0,
                error=error,
            )
        self._items.clear()

    async def _item_of(self, utterance: int, since: float) -> Item:
        """The item that an utterance belongs to, which may be one that is committed."""
        if self._wanted.turn_detection is None:
            committed = next((item for item in self._commits if utterance < item.until), None)
            if committed is not None:
                return committed
            utterance = 0
        if utterance not in self._items:
            self._items[utterance] = self._item()
            if self._wanted.turn_detection is not None:
                item = self._items[utterance]
                await self._tell(
                    "input_audio_buffer.speech_started", since, item_id=item.id, audio_start_ms=self._ms
                )
        return self._items[utterance]

    @property
    def _ms(self) -> int:
        assert self._session is not None  # noqa: S101  (there are no items before)
        return self._session.recording.received * 1000 // SAMPLE_RATE

    def _item(self) -> Item:
        item = Item(f"item_{uuid.uuid4().hex[:20]}", self._last)
        self._last = item.id
        return item

    async def _delta(self, item: Item, text: str, since: float) -> None:
        """Tell what is new, where ``text`` is all of the item's current utterance that is stable."""
        whole = " ".join([*item.finals, text]) if text else " ".join(item.finals)
        if len(whole) > len(item.told) and whole.startswith(item.told):
            delta, item.told = whole[len(item.told) :], whole
            await self._tell(
                "conversation.item.input_audio_transcription.delta",
                since,
                item_id=item.id,
                content_index=0,
                delta=delta,
            )

    async def _stopped(self, item: Item, end: float, since: float) -> None:
        await self._tell(
            "input_audio_buffer.speech_stopped", since, item_id=item.id, audio_end_ms=round(1000 * end)
        )
        await self._committed(item)

    async def _committed(self, item: Item) -> None:
        await self._tell("input_audio_buffer.committed", item_id=item.id, previous_item_id=item.previous)

    async def _complete(self, item: Item, since: float) -> None:
        await self._tell(
            "conversation.item.input_audio_transcription.completed",
            since,
            item_id=item.id,
            content_index=0,
            transcript=" ".join(item.finals),
            usage={"type": "duration", "seconds": round(item.seconds, 3)},
        )

    def _described(self) -> dict[str, Any]:
        wanted = self._wanted.model_dump(mode="json")
        return {"id": self._id, "object": "realtime.session", "type": "transcription", "audio": {"input": wanted}}

    async def _tell(self, kind: str, since: float | None = None, **content: Any) -> None:
        event = {"type": kind, "event_id": f"event_{uuid.uuid4().hex[:20]}", **content}
        await self._connection.send_text(json.dumps(event, ensure_ascii=False), kind, since)

    async def _error(self, error: Unusable, event_id: object) -> None:
        kind = "server_error" if error.code.startswith("asr_") else "invalid_request_error"
        described = {"type": kind, "code": error.code, "message": str(error), "param": error.param}
        await self._tell("error", error=described | {"event_id": event_id if isinstance(event_id, str) else None})

    async def _fail(self, code: str, message: str) -> None:
        try:
            await self._error(Unusable(code, message), None)
        except ClientGone:
            return
        await self._connection.close(FAILED, code)


_object: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def _parse(message: str | bytes) -> dict[str, Any]:
    """Raises Unusable."""
    try:
        return _object.validate_json(message)
    except ValidationError:
        raise Unusable("invalid_event", "An event is a JSON object.") from None


def _key_of(subprotocols: list[str]) -> str | None:
    """The key that browsers send as the name of a protocol, as they can set no header."""
    prefix = "openai-insecure-api-key."
    return next((each.removeprefix(prefix) for each in subprotocols if each.startswith(prefix)), None)
