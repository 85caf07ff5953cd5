"""``POST /v1/audio/alignments``: a form with ``file``, ``text`` and ``language``, answered by timed words.

Qwen3-ForcedAligner comes without a server: vLLM runs it offline, and its chat template drops the text. The form is
that of OpenAI's transcriptions, and ``docker/qwen3-aligner`` a server of it. Fields may also be called as in the
model's own package (``start_time``, ``end_time``).
"""

from __future__ import annotations

from typing import Any

from http_engines.endpoints import RemoteAligner
from http_engines.wire import audio
from http_engines.wire.question import Question, finite
from speech.engines import Samples
from speech.text.words import Word


def question(aligner: RemoteAligner, samples: Samples, text: str, language: str) -> Question[list[Word]]:
    fields = {"model": aligner.served_name, "text": text, "language": language}
    files = {"file": ("chunk.flac", audio.encode(samples, "flac"), audio.MEDIA_TYPES["flac"])}
    return Question("/v1/audio/alignments", {"data": fields, "files": files}, read)


def read(answer: Any) -> list[Word]:
    """Raises like ``Question.read``."""
    items = answer["words"] if "words" in answer else answer["items"]
    return [
        Word(
            str(item["word"] if "word" in item else item["text"]),
            finite(item["start"] if "start" in item else item["start_time"]),
            finite(item["end"] if "end" in item else item["end_time"]),
            1.0,
        )
        for item in items
    ]
