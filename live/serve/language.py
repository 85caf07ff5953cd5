"""``lid.v1.Identify``."""

from __future__ import annotations

from live.serve.sessions import Context, Sessions
from live.stages import LanguageIdentification
from live.wire.lid.v1 import identify_pb2 as lid
from live.wire.lid.v1.identify_pb2_grpc import IdentifyServicer
from live.wire.messages import from_audio_message


class IdentifyService(IdentifyServicer):
    """Answers each call by a stage of language identification."""

    def __init__(self, identification: LanguageIdentification, sessions: Sessions) -> None:
        self._identification, self._sessions = identification, sessions

    async def Language(self, request: lid.LanguageRequest, context: Context) -> lid.LanguageResponse:
        async with self._sessions.admit(context):
            frame = from_audio_message(request.audio)
            found = await self._identification.identify(frame.flow_id, frame.samples)
        if found is None:
            return lid.LanguageResponse()
        return lid.LanguageResponse(language=found.language, probability=found.probability)
