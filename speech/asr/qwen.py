"""What Qwen3-ASR is asked and what it says, whoever runs it: ``language English<asr_text>What was said.``

The form is that of the model's own package, ``parse_asr_output`` of https://github.com/QwenLM/Qwen3-ASR, and of
its chat template: all system messages are the context, the user's message is the audio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from speech.text.cleaning import single_line
from speech.text.languages import NAMES

TEXT_TAG = "<asr_text>"
PREFIX = re.compile(r"language\s{1,9}([\w ,/&-]{1,80}?)\s{0,9}<asr_text>", re.IGNORECASE)
"""Of each run of text in one language. Nothing in it repeats without end, so that no text takes long to search."""

BARE_PREFIX = re.compile(r"language\s+[\w ,-]{1,40}", re.IGNORECASE)
"""All that is left of an answer that was cut off before its text."""

CONTROL = re.compile(r"<\|[^|<>]{1,40}\|>|</?asr_text>|<blank\d*>", re.IGNORECASE)
BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What is left of a character whose bytes were cut."""

MAX_CHARACTERS = 8_000
"""Nobody says as much in 30 s."""

ENDLESS = re.compile(r"(.{1,8}?)\1{19,}", re.DOTALL)
"""The same few characters twenty times: the model's own package takes that for a failure of the decoder, too."""

LANGUAGES = frozenset(
    {
        *("zh", "en", "yue", "ar", "de", "fr", "es", "pt", "id", "it", "ko", "ru", "th", "vi", "ja"),
        *("tr", "hi", "ms", "nl", "sv", "da", "fi", "pl", "cs", "tl", "fa", "el", "ro", "hu", "mk"),
    }
)
"""Those of the model that jobs can name; it also knows Uyghur."""

_CODES = {name: code for code, name in NAMES.items()} | {"filipino": "tl"}
_NAMES = {code: name for name, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """Text in one language; None where the model does not say which."""

    text: str
    language: str | None


def language_name(code: str) -> str:
    """As the model writes it: ``English``."""
    return _NAMES[code].capitalize()


def language_code(name: str) -> str | None:
    """Of a name or a code, whatever its case; the first of several. None for those that are not known."""
    first = re.split(r"[,/&]", name)[0].strip().lower()
    return first if first in NAMES else _CODES.get(first)


def forced_prefix(code: str) -> str:
    """With it as the beginning of its answer, the model writes plain text in that language."""
    return f"language {language_name(code)}{TEXT_TAG}"


def context(hotwords: Sequence[str], preceding: str = "") -> str:
    """Terms as a bare list, which is what the model knows; nothing that reads like an instruction."""
    return " ".join(filter(None, (preceding, ", ".join(hotwords))))


def parse(answer: str, forced: str | None = None) -> list[Part]:
    """The parts of an answer, without what is no text; none for silence.

    ``forced``: the language whose prefix stood before the answer.
    """
    answer = answer[:MAX_CHARACTERS].strip()
    if BARE_PREFIX.fullmatch(answer):
        return []
    head, *pieces = PREFIX.split(answer)
    name, tag, rest = head.partition(TEXT_TAG)
    named: list[tuple[str | None, str]] = [(forced, head)]
    if tag and (language := language_code(name)):
        # the first word of the prefix is missing
        named = [(language, rest)]
    named += [(language_code(name), text) for name, text in zip(pieces[::2], pieces[1::2], strict=True)]
    parts: list[Part] = []
    for language, text in named:
        cleaned = _clean(text)
        if not cleaned:
            continue
        if parts and parts[-1].language == language:
            parts[-1] = Part(f"{parts[-1].text} {cleaned}", language)
        else:
            parts.append(Part(cleaned, language))
    return parts


def _clean(text: str) -> str:
    text = single_line(CONTROL.sub(" ", text).replace(BROKEN, ""))
    return ENDLESS.sub(r"\1", text)
