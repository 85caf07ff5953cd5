"""What people type into a search box: words, "phrases", pre*, -without; and what of a text it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from db.search.lexemes import Lexeme, lexemes, quoted

PART = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
"""A quotation mark that is never closed quotes the rest."""
QUOTATION_MARKS = str.maketrans("“”„«»「」『』＂", '""""""""""')

MAX_LEXEMES = 64
MIN_PREFIX = 2
MIN_MISTYPED, MAX_MISTYPED = 4, 20
"""Letters of a word of which other spellings are looked for: the long have too many, each of them long."""

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзиклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
)


class QueryError(ValueError):
    """Nothing can be looked for by this. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One lexeme of a term: as it is, as a beginning, or in any of several spellings."""

    spellings: frozenset[str]
    offset: int
    """Positions behind the term's first."""
    prefix: bool = False
    unspaced: bool = False

    def matches(self, lexeme: Lexeme) -> bool:
        if self.prefix:
            return any(map(lexeme.text.startswith, self.spellings))
        return lexeme.text in self.spellings

    def tsquery(self, mark: str) -> str:
        options = [quoted(mark + spelling) + (":*" if self.prefix else "") for spelling in sorted(self.spellings)]
        return options[0] if len(options) == 1 else f"({' | '.join(options)})"


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase: its atoms stand behind each other."""

    atoms: tuple[Atom, ...]
    excluded: bool = False
    quoted: bool = False

    def tsquery(self, mark: str) -> str:
        parts = [self.atoms[0].tsquery(mark)]
        for before, atom in zip(self.atoms, self.atoms[1:], strict=False):
            parts.append(f"<{atom.offset - before.offset}> {atom.tsquery(mark)}")
        joined = " ".join(parts)
        return f"!({joined})" if self.excluded else f"({joined})"

    def mistyped(self) -> Term:
        """The same in other spellings, where it is one long word."""
        (atom, *more) = self.atoms
        if self.excluded or self.quoted or more or atom.prefix or atom.unspaced:
            return self
        (word,) = atom.spellings
        return replace(self, atoms=(replace(atom, spellings=frozenset(other_spellings(word))),))

    def spans(self, found: Sequence[Lexeme]) -> Iterator[tuple[int, int]]:
        """Where a text with these lexemes has it."""
        for first in range(len(found)):
            places = [found[first + atom.offset] for atom in self.atoms if first + atom.offset < len(found)]
            if len(places) == len(self.atoms) and all(map(Atom.matches, self.atoms, places)):
                last = places[-1]
                # of a bigram that only its first character was looked for in, that one
                short = self.atoms[-1].prefix and self.atoms[-1].unspaced
                yield places[0].start, last.start + 1 if short else last.end


@dataclass(frozen=True, slots=True)
class Query:
    """All its terms must be in a segment, and none of those that are excluded."""

    terms: tuple[Term, ...]

    def tsquery(self, mark: str) -> str:
        """In PostgreSQL's notation, with the mark of a tenant (``lexemes.mark``)."""
        return " & ".join(term.tsquery(mark) for term in self.terms)

    def needed(self, mark: str) -> str:
        """The words that are to be there, in any order: what an index tells without a look at the rows."""
        atoms = [atom for term in self.terms if not term.excluded for atom in term.atoms]
        return " & ".join(dict.fromkeys(atom.tsquery(mark) for atom in atoms))

    def mistyped(self) -> Query | None:
        """The same with other spellings of its words; None where it has no words long enough."""
        other = Query(tuple(term.mistyped() for term in self.terms))
        return None if other == self else other

    def highlights(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of what it finds in a text, in order and apart from each other; offsets in characters."""
        found = list(lexemes(text))
        spans = sorted(span for term in self.terms if not term.excluded for span in term.spans(found))
        apart: list[tuple[int, int]] = []
        for start, end in spans:
            if apart and start <= apart[-1][1]:
                apart[-1] = apart[-1][0], max(end, apart[-1][1])
            else:
                apart.append((start, end))
        return apart


def parse(text: str) -> Query:
    """Raises QueryError."""
    terms = []
    for part in PART.finditer(text.translate(QUOTATION_MARKS)):
        atoms = _atoms(part["word"] or part["phrase"] or "")
        if atoms:
            terms.append(Term(atoms, part["minus"] is not None, part["phrase"] is not None))
    if not any(not term.excluded for term in terms):
        raise QueryError("Give at least one word that is to be found.")
    if sum(len(term.atoms) for term in terms) > MAX_LEXEMES:
        raise QueryError(f"Give at most {MAX_LEXEMES} words, or characters of a script without spaces.")
    return Query(tuple(terms))


def _atoms(text: str) -> tuple[Atom, ...]:
    """Raises QueryError."""
    found = list(lexemes(text))
    if not found:
        return ()
    # the last character of a run is in the bigram before it, unless it stands alone
    kept = [one for one, before in zip(found, [None, *found], strict=False) if not _is_covered(one, before)]
    atoms = [
        Atom(
            frozenset((lexeme.text,)),
            lexeme.position - kept[0].position,
            prefix=lexeme.is_end,
            unspaced=lexeme.unspaced,
        )
        for lexeme in kept
    ]
    if text.endswith("*") and not kept[-1].unspaced:
        if len(kept[-1].text) < MIN_PREFIX:
            raise QueryError(f"Give at least {MIN_PREFIX} letters before `*`.")
        atoms[-1] = replace(atoms[-1], prefix=True)
    return tuple(atoms)


def _is_covered(lexeme: Lexeme, before: Lexeme | None) -> bool:
    return lexeme.is_end and before is not None and before.unspaced and before.end == lexeme.end


def other_spellings(word: str) -> set[str]:
    """The word, and what it becomes by one letter less, more or other, or by two that change places. The first
    letter is rarely mistyped by itself."""
    if not MIN_MISTYPED <= len(word) <= MAX_MISTYPED or not word.isalpha():
        return {word}
    alphabet = next((letters for letters in ALPHABETS if word[0] in letters), word)
    cuts = [(word[:at], word[at:]) for at in range(1, len(word) + 1)]
    swapped = {word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :] for at in range(1, len(word))}
    shorter = {head + tail[1:] for head, tail in cuts if tail}
    other = {head + letter + tail[1:] for head, tail in cuts if tail for letter in alphabet}
    longer = {head + letter + tail for head, tail in cuts for letter in alphabet}
    return {word} | swapped | shorter | other | longer
