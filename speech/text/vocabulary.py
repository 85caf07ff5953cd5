"""A vocabulary of names and terms: finding in what was heard those that were meant.

Two words sound alike if their keys do: Metaphone's for what is written in Latin letters, pinyin without tones for
Chinese. Speech models are mostly right where they are sure, so words are only changed where they were not.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import jellyfish
from pypinyin import lazy_pinyin
from rapidfuzz.distance import Levenshtein

from speech.text.redaction.kinds import PLACEHOLDER
from speech.text.retiming import words_of
from speech.text.script import has_cjk, join_words, normalise
from speech.text.words import Word, mean_confidence

UNSURE_BELOW = 0.5
"""Mean confidence of words that may be replaced by what sounds like them."""

SPELLED_BELOW = 0.95
"""The same where they are spelled as people said that the term is misheard."""

LEAST_LETTERS = 4
"""Of a term that is found by its sound, and of what was heard in its place: shorter ones sound like too much."""

LEAST_LIKENESS = 0.5
"""Of the spellings of words that sound alike."""

LONG_KEY, LEAST_SHORT_LIKENESS = 4, 0.6
"""A name of fewer sounds is put only where all of them are there, and so much of its letters: `cat` is no Kate."""

LEAST_SOUND = 0.75
"""Of their keys."""

LEAST_JOINED = 0.8
"""The same where a term of one word would take the place of two."""

MOST_WORDS = 6
"""Of a term, and of what it is misheard as."""

POSSESSIVE = re.compile(r"['’]s$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """A name or term as it is to be written; ``sounds_like``: how it has been misheard, or is spoken."""

    text: str
    sounds_like: tuple[str, ...] = ()
    language: str | None = None
    """None for all languages."""


@dataclass(frozen=True, slots=True)
class _Spelling:
    """One way in which a term may be heard."""

    term: Term
    words: int
    letters: str
    key: str


class Vocabulary:
    """Made once, for many chunks. Without terms it does nothing."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._written = {tuple(units_of(term.text)) for term in terms}
        self._spelled: dict[str, _Spelling] = {}
        self._by_initial: defaultdict[str, list[_Spelling]] = defaultdict(list)
        for term in terms:
            for text, given in ((term.text, False), *((each, True) for each in term.sounds_like)):
                units = units_of(text)
                if 0 < len(units) <= MOST_WORDS:
                    spelling = _Spelling(term, len(units), _letters(units), sound_of(text))
                    self._spelled.setdefault(spelling.letters, spelling)
                    if not given and (len(spelling.letters) >= LEAST_LETTERS or has_cjk(text)):
                        self._by_initial[spelling.key[:1]].append(spelling)
        self._longest = max((spelling.words for spelling in self._spelled.values()), default=0) + 1

    def __bool__(self) -> bool:
        return bool(self._spelled)

    def apply(self, words: Sequence[Word], language: str | None, *, by_sound: bool = True) -> list[Word]:
        """The words, with terms in place of what was misheard. Times stay within those of what is replaced.

        Without ``by_sound`` only of what people said that it is misheard as: a model that was told the terms, and
        wrote something else, has heard something else.
        """
        if not self:
            return list(words)
        result: list[Word] = []
        right = self._right(words)
        at = 0
        while at < len(words):
            found = None if at in right else self._find(words, at, right, language, by_sound=by_sound)
            if found is None:
                result.append(words[at])
                at += 1
            else:
                length, term = found
                result += _written(term, words[at : at + length])
                at += length
        return result

    def _right(self, words: Sequence[Word]) -> set[int]:
        """Where terms stand already."""
        places: set[int] = set()
        for at in range(len(words)):
            for length in range(1, min(self._longest, len(words) - at) + 1):
                if tuple(_units(words[at : at + length])) in self._written:
                    places.update(range(at, at + length))
        return places

    def heard_in(self, words: Sequence[Word], most: int) -> list[str]:
        """Terms that these words may have meant, however sure the model was of them, the likeliest first."""
        likeness: dict[str, float] = {}
        for at in range(len(words)):
            for length in range(1, min(self._longest, len(words) - at) + 1):
                window = words[at : at + length]
                letters = _letters(_units(window))
                if letters in self._spelled:
                    likeness[self._spelled[letters].term.text] = 1.0
                for spelling, alike in self._alike(window, letters):
                    text = spelling.term.text
                    likeness[text] = max(likeness.get(text, 0.0), alike)
        return sorted(likeness, key=lambda text: -likeness[text])[:most]

    def _find(
        self, words: Sequence[Word], at: int, right: Collection[int], language: str | None, *, by_sound: bool
    ) -> tuple[int, Term] | None:
        """How many words from here on are to be replaced, and by what."""
        best: tuple[float, int, Term] | None = None
        for length in range(1, min(self._longest, len(words) - at) + 1):
            window = words[at : at + length]
            if at + length - 1 in right or PLACEHOLDER.search(window[-1].text):
                break
            letters, sure = _letters(_units(window)), mean_confidence(window)
            spelled = self._spelled.get(letters)
            if spelled is not None and sure < SPELLED_BELOW and _is_of(spelled.term, language):
                # the longest of them
                best = 2.0, length, spelled.term
            elif by_sound and sure < UNSURE_BELOW and (len(letters) >= LEAST_LETTERS or has_cjk(letters)):
                for spelling, alike in self._alike(window, letters):
                    if best is not None and alike <= best[0]:
                        continue
                    if _is_of(spelling.term, language) and _is_sure(spelling, window, letters):
                        best = alike, length, spelling.term
        return None if best is None else (best[1], best[2])

    def _alike(self, window: Sequence[Word], letters: str) -> Iterable[tuple[_Spelling, float]]:
        """Spellings that sound like the words, with how alike they are, from 0 to 1."""
        key = sound_of(join_words(window))
        for spelling in self._by_initial.get(key[:1], ()):
            if has_cjk(letters) != has_cjk(spelling.letters) or len(window) > spelling.words + 1:
                continue
            sound = Levenshtein.normalized_similarity(key, spelling.key)
            likeness = Levenshtein.normalized_similarity(letters, spelling.letters)
            if has_cjk(letters):
                if sound == 1.0 and len(letters) == len(spelling.letters) >= 2:
                    yield spelling, sound
            elif (
                sound >= (LEAST_SOUND if len(window) == spelling.words else LEAST_JOINED)
                and likeness >= LEAST_LIKENESS
            ):
                yield spelling, (sound + likeness) / 2


def _is_sure(spelling: _Spelling, window: Sequence[Word], letters: str) -> bool:
    """Whether so few sounds as a short name has are enough: then all of them, and most letters."""
    if has_cjk(letters) or len(spelling.key) >= LONG_KEY:
        return True
    likeness = Levenshtein.normalized_similarity(letters, spelling.letters)
    return sound_of(join_words(window)) == spelling.key and likeness >= LEAST_SHORT_LIKENESS


NO_VOCABULARY = Vocabulary(())


def _is_of(term: Term, language: str | None) -> bool:
    return term.language is None or language is None or term.language == language


def units_of(text: str) -> list[str]:
    """The words of a text as they are compared; one for each character of Chinese."""
    return _units(words_of(text))


def _units(words: Sequence[Word]) -> list[str]:
    bare = (POSSESSIVE.sub("", word.text.rstrip('.,;:!?…"”)，。！？、')) for word in words)
    return [unit for text in bare if (unit := normalise(text))]


def _letters(units: Sequence[str]) -> str:
    """Without the places between words, which are misheard first."""
    return "".join(units)


def sound_of(text: str) -> str:
    """A key that is equal for what sounds alike."""
    letters = _letters(units_of(text))
    if has_cjk(letters):
        return " ".join(map(_syllable, lazy_pinyin(letters)))
    plain = "".join(c for c in unicodedata.normalize("NFKD", letters) if not unicodedata.combining(c))
    return jellyfish.metaphone(plain).replace(" ", "") or plain


def _syllable(pinyin: str) -> str:
    """Without the differences that many speakers do not make: zh and z, n and ng at the end."""
    for written, spoken in (("zh", "z"), ("ch", "c"), ("sh", "s")):
        if pinyin.startswith(written):
            pinyin = spoken + pinyin[len(written) :]
    return pinyin[:-1] if pinyin.endswith("ng") else pinyin


def _written(term: Term, replaced: Sequence[Word]) -> list[Word]:
    """The term's words in the time of those that they replace, with the punctuation around these."""
    first, last = replaced[0], replaced[-1]
    words = words_of(term.text)
    head = first.text[: len(first.text) - len(first.text.lstrip("\"'“‘(¿¡"))]
    stripped = last.text.rstrip('.,;:!?…"”)，。！？、')
    tail = last.text[len(stripped) :]
    if possessive := POSSESSIVE.search(stripped):
        tail = possessive.group() + tail
    step = (last.end - first.start) / len(words)
    sure = mean_confidence(replaced)
    written = [
        replace(
            word,
            start=first.start + place * step,
            end=first.start + (place + 1) * step,
            confidence=sure,
            glued=word.glued if place else first.glued,
        )
        for place, word in enumerate(words)
    ]
    written[0] = replace(written[0], text=head + written[0].text)
    written[-1] = replace(written[-1], text=written[-1].text + tail)
    return written


@dataclass(frozen=True, slots=True)
class Proposal:
    """A term that people have put in place of what was heard."""

    term: str
    heard: tuple[str, ...]
    corrections: int
    """Segments in which they did."""


MOST_HEARD = 10
LEAST_CORRECTIONS = 2


def learn(corrections: Iterable[tuple[str, str]], known: Iterable[str] = ()) -> list[Proposal]:
    """What may be terms, of pairs of what a model wrote and what a person made of it; the most frequent first.

    ``known``: terms that are in the vocabulary or were rejected.
    """
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    heard: defaultdict[str, list[str]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for wrong, right in corrections:
        meant = dict(_replaced(wrong, right))
        for term, misheard in meant.items():
            key = _letters(units_of(term))
            spellings[key].append(term)
            heard[key].append(misheard)
            counts[key] += 1
    passed = {_letters(units_of(term)) for term in known}
    proposals = [
        Proposal(_commonest(spellings[key]), tuple(dict.fromkeys(heard[key]))[:MOST_HEARD], count)
        for key, count in counts.items()
        if count >= LEAST_CORRECTIONS and key not in passed
    ]
    return sorted(proposals, key=lambda each: (-each.corrections, each.term))


def _commonest(texts: Sequence[str]) -> str:
    """The first of those that are as common."""
    return Counter(texts).most_common(1)[0][0]


def _replaced(wrong: str, right: str) -> Iterable[tuple[str, str]]:
    """(meant, heard) of the spans that were replaced by something that sounds a little like them."""
    before, after = words_of(wrong), words_of(right)
    for block in Levenshtein.opcodes([normalise(w.text) for w in before], [normalise(w.text) for w in after]):
        if block.tag != "replace":
            continue
        old, new = before[block.src_start : block.src_end], after[block.dest_start : block.dest_end]
        heard, meant = _bare(old), _bare(new)
        if len(old) <= MOST_WORDS and len(new) <= MOST_WORDS and _may_be_term(meant) and _is_near(heard, meant):
            yield meant, heard


def _bare(words: Sequence[Word]) -> str:
    return POSSESSIVE.sub("", join_words(words).strip(".,;:!?…\"'“”‘’()，。！？、"))


def _may_be_term(text: str) -> bool:
    letters = _letters(units_of(text))
    if PLACEHOLDER.search(text):
        return False
    if has_cjk(letters):
        return len(letters) >= 2
    has_case = any(c.isupper() or c.islower() for c in text)
    return len(letters) >= 3 and (not has_case or any(c.isupper() or c.isdigit() for c in text))


def _is_near(heard: str, meant: str) -> bool:
    """Whether one may have been heard for the other; what was put differently is not."""
    one, other = _letters(units_of(heard)), _letters(units_of(meant))
    if one == other:
        return False
    by_sound = Levenshtein.normalized_similarity(sound_of(heard), sound_of(meant))
    return max(by_sound, Levenshtein.normalized_similarity(one, other)) >= LEAST_LIKENESS
