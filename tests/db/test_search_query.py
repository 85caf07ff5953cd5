"""What a search means, without a database."""

from __future__ import annotations

import pytest

from db.search.lexemes import lexemes, mark, vector
from db.search.query import QueryError, other_spellings, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Café's 3 naïve GPT-4 ideas", ["the", "cafe", "s", "3", "naive", "gpt", "4", "ideas"]),
        ("Ｗｉｄｅ straße Ёлка", ["wide", "strasse", "елка"]),
        ("我们用GPT4开会。", ["我们", "们用", "用", "gpt4", "开会", "会"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "ー"]),
        ("회의를 시작", ["회의", "의를", "를", "시작", "작"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("snake_case … — “”", ["snake", "case"]),
    ],
)
def test_lexemes(text: str, expected: list[str]) -> None:
    found = list(lexemes(text))
    assert [lexeme.text for lexeme in found] == expected
    assert [lexeme.position for lexeme in found] == list(range(1, len(expected) + 1))


def test_lexemes_know_their_place_in_the_text() -> None:
    text = "Ｃafé, 会议室 𝕏"
    assert [text[lexeme.start : lexeme.end] for lexeme in lexemes(text)] == ["Ｃafé", "会议", "议室", "室", "𝕏"]


def test_a_vector_has_every_position() -> None:
    own = mark("acme")
    assert len(own) == 4
    assert vector("No, no: \\ it's", "acme") == f"'{own}no':1,2 '{own}it':3 '{own}s':4"
    assert vector("…", "acme") == ""
    assert vector("No", "globex") != vector("No", "acme")


@pytest.mark.parametrize(
    ("typed", "tsquery"),
    [
        ("Budget meeting", "('budget') & ('meeting')"),
        ('"the budget" -draft', "('the' <1> 'budget') & !('draft')"),
        ("“Der Plan” never closed", "('der' <1> 'plan') & ('never') & ('closed')"),
        ('one "two three', "('one') & ('two' <1> 'three')"),
        ("kub* well-known", "('kub':*) & ('well' <1> 'known')"),
        ("会议室", "('会议' <1> '议室')"),
        ("水", "('水':*)"),
        ("用GPT4开会", "('用':* <1> 'gpt4' <1> '开会')"),
        ("开会GPT", "('开会' <2> 'gpt')"),
        ("'); DROP TABLE jobs; --", "('drop') & ('table') & ('jobs')"),
        ("ab:* & !b | c", "('ab':*) & ('b') & ('c')"),
    ],
)
def test_what_is_asked_of_postgres(typed: str, tsquery: str) -> None:
    assert parse(typed).tsquery("") == tsquery


def test_what_an_index_is_asked_for() -> None:
    assert parse('"to be or" not -nor to kub*').needed("~") == "'~to' & '~be' & '~or' & '~not' & '~kub':*"


@pytest.mark.parametrize("typed", ["-only", "…", '""', "-", "a*", "word " * 65, "字" * 70])
def test_what_cannot_be_looked_for(typed: str) -> None:
    with pytest.raises(QueryError):
        parse(typed)


@pytest.mark.parametrize(
    ("typed", "text", "found"),
    [
        ("budget", "The Budget, the budget.", ["Budget", "budget"]),
        ('"the budget"', "Budget: the budget", ["the budget"]),
        ("the budget", "the budget the", ["the", "budget", "the"]),
        ("kub*", "Kubernetes and kubectl", ["Kubernetes", "kubectl"]),
        ("well-known", "a well known, well-known fact", ["well known", "well-known"]),
        ("会议", "会议室开会议程", ["会议", "会议"]),
        ("水", "山水画", ["水"]),
        ("会议室", "会议室，会议", ["会议室"]),
        ("budget -plan", "budget", ["budget"]),
        ("naive", "a naïve idea", ["naïve"]),
    ],
)
def test_highlights(typed: str, text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in parse(typed).highlights(text)] == found


@pytest.mark.parametrize("typed", ["budgte", "budet", "buddget", "budgat", "ubdget"])
def test_other_spellings(typed: str) -> None:
    assert "budget" in other_spellings(typed)


def test_of_short_words_and_numbers_there_are_no_other_spellings() -> None:
    assert other_spellings("the") == {"the"}
    assert other_spellings("2026") == {"2026"}
    assert other_spellings("a" * 21) == {"a" * 21}
    assert parse('the 2026 "whole phrase" "quoted" 会议室 pre*').mistyped() is None


def test_other_spellings_are_highlighted() -> None:
    other = parse("kubernetis team").mistyped()
    assert other is not None
    text = "The tean runs Kubernetes."
    assert [text[start:end] for start, end in other.highlights(text)] == ["tean", "Kubernetes"]
