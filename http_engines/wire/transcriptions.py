"""``POST /v1/audio/transcriptions`` as OpenAI has it: vLLM, speaches, whisper.cpp, Groq, Longhand itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from http_engines.endpoints import RemoteModel
from http_engines.wire import audio
from http_engines.wire.question import Question, finite
from speech.asr import qwen
from speech.asr.untimed import Heard
from speech.engines import Utterance
from speech.text.retiming import words_of
from speech.text.words import Word

SIGNALS = {"avg_logprob": min, "no_speech_prob": min, "compression_ratio": max, "temperature": max}
"""Of segments, and which of several counts."""


def question(model: RemoteModel, utterance: Utterance, context: str) -> Question[Heard]:
    fields: dict[str, Any] = {"model": model.served_name, "temperature": "0"}
    fields["response_format"] = "verbose_json" if model.words else "json"
    if model.words:
        fields["timestamp_granularities[]"] = ["word", "segment"]
    if utterance.language:
        fields["language"] = utterance.language
    if context:
        fields["prompt"] = context
    sound = audio.encode(utterance.samples, model.format)
    files = {"file": (f"chunk.{model.format}", sound, audio.MEDIA_TYPES[model.format])}
    return Question(
        "/v1/audio/transcriptions",
        {"data": fields, "files": files},
        lambda answer: read(answer, utterance.language),
    )


def read(answer: Any, forced: str | None) -> Heard:
    """Raises like ``Question.read``."""
    raw = answer["text"]
    if not isinstance(raw, str):
        raise TypeError("the text is no text")
    segments = answer.get("segments") or []
    spoken = answer.get("language")
    language = qwen.language_code(spoken) if isinstance(spoken, str) else None
    parts = qwen.parse(raw, language or forced)
    words = answer.get("words") or [word for segment in segments for word in segment.get("words") or []]
    units = [Word(str(w["word"]).strip(), finite(w["start"]), finite(w["end"]), _sureness(w)) for w in words]
    signals = {
        name: choose(values)
        for name, choose in SIGNALS.items()
        if (values := [float(s[name]) for s in segments if isinstance(s.get(name), int | float)])
    }
    # vLLM says -1 where it does not know
    if signals.get("compression_ratio", 0) < 0:
        del signals["compression_ratio"]
    said = [word.text for part in parts for word in words_of(part.text)]
    return Heard(parts, raw, units, _confidences(said, units, segments), signals)


def _sureness(word: Mapping[str, Any]) -> float:
    probability = word.get("probability")
    return float(probability) if isinstance(probability, int | float) else -1.0


def _confidences(said: Sequence[str], units: Sequence[Word], segments: Sequence[Any]) -> list[float]:
    """The server's own for each word, or that of each segment for its words; none where neither is known."""
    if units and len(units) == len(said) and all(unit.confidence >= 0 for unit in units):
        return [min(unit.confidence, 1.0) for unit in units]
    by_segment = [
        math.exp(min(float(segment["avg_logprob"]), 0.0))
        for segment in segments
        if isinstance(segment.get("avg_logprob"), int | float)
        for _ in words_of(str(segment.get("text", "")))
    ]
    return by_segment if len(by_segment) == len(said) else []
