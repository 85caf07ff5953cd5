"""From tokens to words, phrases and a hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from speech.asr.sensevoice.ctc import Tags
from speech.asr.sensevoice.tokens import (
    BYTE_PATTERN,
    CONTROL_PIECES,
    TAG_PATTERN,
    WORD_PREFIX,
    Token,
    detokenize,
)
from speech.text.script import ends_sentence, is_cjk, join_words, split_characters
from speech.text.words import Hypothesis, Phrase, Word

MAX_LAST_TOKEN_SECONDS = 0.24
"""Assumed length of a word's last token: CTC gives the start of a token, not its end."""


def build_hypothesis(tokens: Sequence[Token], tags: Tags, *, duration: float) -> Hypothesis:
    """Tokens become words, and words phrases, up to ``duration`` seconds."""
    with_text = [t for t in tokens if t.piece not in CONTROL_PIECES and not TAG_PATTERN.fullmatch(t.piece)]
    words = tuple(_words(with_text, duration))
    signals = {"language_probability": tags.language_probability}
    if tokens:
        signals["avg_logprob"] = float(np.mean(np.log([max(t.confidence, 1e-9) for t in tokens])))
    return Hypothesis(
        tags.language, tuple(_phrases(words)), signals, emotion=tags.emotion, event=tags.event, itn=tags.itn
    )


def _words(tokens: Sequence[Token], duration: float) -> Iterator[Word]:
    groups = _group_by_word(tokens)
    for position, group in enumerate(groups):
        text = detokenize(token.piece for token in group).strip()
        if not text:
            continue
        start = min(group[0].start, duration)
        next_start = groups[position + 1][0].start if position + 1 < len(groups) else duration
        end = min(max(start, group[-1].start + MAX_LAST_TOKEN_SECONDS), max(next_start, start), duration)
        confidence = sum(token.confidence for token in group) / len(group)
        glued = not group[0].piece.startswith(WORD_PREFIX)
        yield from split_characters(Word(text, start, end, confidence, glued))


def _group_by_word(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of one word together; punctuation and single bytes with the token before them."""
    groups: list[list[Token]] = []
    for token in tokens:
        piece = token.piece.lstrip(WORD_PREFIX)
        continues = bool(BYTE_PATTERN.fullmatch(piece)) or (bool(piece) and not any(map(str.isalnum, piece)))
        begins = token.piece.startswith(WORD_PREFIX) or is_cjk(piece[:1] or " ")
        after_cjk = bool(groups) and is_cjk(groups[-1][-1].piece[-1:] or " ")
        if groups and (continues or not (begins or after_cjk)):
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _phrases(words: Sequence[Word]) -> Iterator[Phrase]:
    """A phrase for each sentence."""
    group: list[Word] = []
    for word in words:
        group.append(word)
        if ends_sentence(word.text) or word is words[-1]:
            confidence = sum(w.confidence for w in group) / len(group)
            yield Phrase(group[0].start, group[-1].end, join_words(group), tuple(group), confidence)
            group = []
