"""Taking personal data out of hypotheses and texts, and putting it back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from speech.text.redaction.detection import find
from speech.text.redaction.kinds import PLACEHOLDER, Found, PersonalData, placeholders
from speech.text.script import is_cjk, join_words, normalise
from speech.text.words import Hypothesis, Phrase, Segment, Source, Word, mean_confidence

MAX_PASSES = 4
"""What is left beside a placeholder may be another find; more of it than this there never is."""

PREFERENCE = (Source.REFINED, Source.DRAFT)

MAX_DISTANCE_SECONDS = 1.0
"""Between a placeholder and the original that belongs to it, where another reading had other times."""


@dataclass(frozen=True, slots=True)
class Original:
    """What was taken out of a hypothesis, with the time of the words that held it."""

    kind: PersonalData
    text: str
    start: float
    end: float

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "text": self.text, "start": self.start, "end": self.end}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Original:
        return cls(PersonalData(data["kind"]), data["text"], data["start"], data["end"])


def redact_text(text: str, kinds: Collection[PersonalData], regions: Sequence[str]) -> str:
    """The text with placeholders."""
    for _ in range(MAX_PASSES):
        found = find(text, kinds, regions)
        if not found:
            break
        text = _replace(text, found, 0)
    return text


def _replace(text: str, found: Sequence[Found], offset: int) -> str:
    """``offset``: where in the text that was searched this one begins."""
    for each in reversed(found):
        text = text[: each.start - offset] + each.kind.placeholder + text[each.end - offset :]
    return text


def redact(
    hypothesis: Hypothesis, kinds: Collection[PersonalData], regions: Sequence[str]
) -> tuple[Hypothesis, list[Original]]:
    """The hypothesis with placeholders, and what they stand for.

    All words that hold a part of a find become one, from the first's start to the last's end, in the phrase of the
    first; what else these words hold stays in it. A hypothesis without finds is returned as it is.
    """
    if not kinds:
        return hypothesis, []
    hypothesis, originals = _redact_words(hypothesis, kinds, regions)
    return _redact_loose_texts(hypothesis, kinds, regions), originals


@dataclass(frozen=True, slots=True)
class _Placed:
    """A word in the text of the whole hypothesis, and the phrase that it is in."""

    word: Word
    phrase: int
    start: int
    """Of the word's first character; behind ``space`` blanks."""
    space: int

    @property
    def end(self) -> int:
        return self.start + len(self.word.text)


def _place(hypothesis: Hypothesis) -> tuple[str, list[_Placed]]:
    """The text as :func:`join_words` writes it, with the place of each word."""
    text, placed = "", []
    for number, phrase in enumerate(hypothesis.phrases):
        for word in phrase.words:
            no_space = word.glued or not text or not word.text or (is_cjk(text[-1]) and is_cjk(word.text[0]))
            space = 0 if no_space else 1
            placed.append(_Placed(word, number, len(text) + space, space))
            text += " " * space + word.text
    return text, placed


def _redact_words(
    hypothesis: Hypothesis, kinds: Collection[PersonalData], regions: Sequence[str]
) -> tuple[Hypothesis, list[Original]]:
    originals: list[Original] = []
    for _ in range(MAX_PASSES):
        text, placed = _place(hypothesis)
        found = find(text, kinds, regions)
        if not found:
            break
        words: list[list[Word]] = [[] for _ in hypothesis.phrases]
        touched: set[int] = set()
        after_find = False
        for group, within in _groups(placed, found):
            first, last = group[0], group[-1]
            # what a placeholder stands for may have been without a blank beside it, where the placeholder gets one
            beside_find = bool(within) or after_find
            # in Chinese no blank precedes a number, and none shall precede what stands for it
            glued = first.word.glued or (beside_find and first.start > 0 and not first.space)
            word = replace(first.word, glued=glued)
            if within:
                touched.update(each.phrase for each in group)
                originals += [
                    Original(f.kind, text[f.start : f.end], first.word.start, last.word.end) for f in within
                ]
                word = replace(
                    word,
                    text=_replace(text[first.start : last.end], within, first.start),
                    end=last.word.end,
                    confidence=mean_confidence([each.word for each in group]),
                )
            words[first.phrase].append(word)
            after_find = bool(within)
        hypothesis = replace(hypothesis, phrases=tuple(_phrases(hypothesis.phrases, words, touched)))
    return hypothesis, originals


def _groups(placed: Sequence[_Placed], found: Sequence[Found]) -> Iterator[tuple[list[_Placed], list[Found]]]:
    """Each word that holds nothing of a find alone; those that share finds together, with these."""
    position = 0
    while position < len(placed):
        group, end = [placed[position]], placed[position].end
        within: list[Found] = []
        while more := [f for f in found if f not in within and f.start < end and f.end > group[0].start]:
            within += more
            while position + len(group) < len(placed) and placed[position + len(group)].start < within[-1].end:
                group.append(placed[position + len(group)])
            end = group[-1].end
        yield group, within
        position += len(group)


def _phrases(
    phrases: Sequence[Phrase], words: Sequence[Sequence[Word]], touched: Collection[int]
) -> Iterator[Phrase]:
    """The phrases with their new words; without those that have none left."""
    taken_until = 0.0
    for number, (phrase, mine) in enumerate(zip(phrases, words, strict=True)):
        if number not in touched:
            yield phrase
        elif mine:
            yield replace(
                phrase,
                start=max(phrase.start, min(taken_until, mine[0].start)),
                end=max(phrase.end, mine[-1].end),
                text=join_words(mine),
                words=tuple(mine),
                confidence=mean_confidence(mine),
            )
            taken_until = mine[-1].end


def _redact_loose_texts(
    hypothesis: Hypothesis, kinds: Collection[PersonalData], regions: Sequence[str]
) -> Hypothesis:
    """The same for the text of phrases that says more than their words do."""
    return replace(
        hypothesis,
        phrases=tuple(
            phrase
            if normalise(phrase.text) == normalise(join_words(phrase.words))
            else replace(phrase, text=redact_text(phrase.text, kinds, regions))
            for phrase in hypothesis.phrases
        ),
    )


Readings = Mapping[Source, Sequence[Original]]
"""What was taken out of each reading of a chunk."""


def restore(segments: Sequence[Segment], originals: Mapping[int, Readings]) -> list[Segment]:
    """The segments with originals for placeholders, as far as there are any.

    ``originals`` are by chunk. A placeholder takes the one of its kind that is nearest in time: of the segment's
    own reading, else of the refined one, else of the draft. None is taken twice.
    """
    left = {
        chunk: {source: list(reading) for source, reading in readings.items()}
        for chunk, readings in originals.items()
    }
    return [_restore_segment(segment, left.get(segment.chunk, {})) for segment in segments]


def _restore_segment(segment: Segment, left: Mapping[Source, list[Original]]) -> Segment:
    readings = [left[source] for source in dict.fromkeys((segment.source, *PREFERENCE)) if source in left]
    words, taken = [], []
    for word in segment.words:
        texts = [_take(kind, word, readings) for kind in placeholders(word.text)]
        words.append(replace(word, text=_fill(word.text, texts)))
        taken += texts
    return replace(segment, words=tuple(words), text=_fill(segment.text, taken))


def _take(kind: PersonalData, word: Word, readings: Sequence[list[Original]]) -> str | None:
    for reading in readings:
        near = [o for o in reading if o.kind is kind and _distance(o, word)[0] <= MAX_DISTANCE_SECONDS]
        if near:
            nearest = min(near, key=lambda original: _distance(original, word))
            reading.remove(nearest)
            return nearest.text
    return None


def _distance(original: Original, word: Word) -> tuple[float, float]:
    """The seconds between the two, and between their middles."""
    apart = max(original.start - word.end, word.start - original.end, 0.0)
    return apart, abs(original.start + original.end - word.start - word.end) / 2


def _fill(text: str, texts: Sequence[str | None]) -> str:
    """The text with each placeholder replaced, but for those without a text."""
    remaining = iter(texts)
    return PLACEHOLDER.sub(lambda placeholder: next(remaining, None) or placeholder[0], text)
