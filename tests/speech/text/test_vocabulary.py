from __future__ import annotations

import pytest

from speech.text.retiming import retime
from speech.text.script import join_words
from speech.text.vocabulary import Proposal, Term, Vocabulary, learn, sound_of
from speech.text.words import Word

TERMS = Vocabulary(
    [
        Term("Ada Lovelace", ("either lovely",)),
        Term("Kubernetes"),
        Term("Dashwood"),
        Term("kubectl", ("cube control",), "en"),
        Term("王晓明"),
        Term("Müller"),
        Term("Bo"),
        Term("Andy"),
    ]
)


def heard(text: str, confidence: float = 0.4) -> list[Word]:
    return [
        Word(word.text, word.start, word.end, confidence, word.glued)
        for word in retime((), text, 0.0, float(len(text)))
    ]


def applied(text: str, confidence: float = 0.4, language: str = "en", *, by_sound: bool = True) -> str:
    return join_words(TERMS.apply(heard(text, confidence), language, by_sound=by_sound))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("then Mr. Dashwud, of course", "then Mr. Dashwood, of course"),
        ("Ashwood and Dashwude's son", "Ashwood and Dashwood's son"),
        ("we run Cooper Netties now.", "we run Kubernetes now."),
        ("either lovely wrote it", "Ada Lovelace wrote it"),
        ("“Aida Lovelass” wrote", "“Ada Lovelace” wrote"),
        ("say cube control apply", "say kubectl apply"),
        ("Herr Muller kommt", "Herr Müller kommt"),
        ("我是王小明。", "我是王晓明。"),
        ("Dashwood and Ada Lovelace", "Dashwood and Ada Lovelace"),
        ("beau is a short word", "beau is a short word"),
        ("call [PHONE] dashwud", "call [PHONE] Dashwood"),
        ("", ""),
    ],
)
def test_what_sounds_like_a_term_becomes_it(said: str, meant: str) -> None:
    assert applied(said) == meant


def test_only_where_the_model_was_unsure() -> None:
    assert applied("the Dashwud house", 0.9) == "the Dashwud house"
    assert applied("cube control apply", 0.9) == "kubectl apply", "people said that it is misheard so"
    assert applied("cube control apply", 0.99) == "cube control apply"


def test_a_model_that_was_told_the_terms_is_believed() -> None:
    said = "Dashwud and either lovely"
    assert applied(said, by_sound=False) == "Dashwud and Ada Lovelace", "people said that it is misheard so"


def test_only_in_its_language() -> None:
    assert applied("cube control", language="de") == "cube control"


def test_times_stay_within_those_of_what_is_replaced() -> None:
    words = heard("we run cooper netties now")
    changed = TERMS.apply(words, "en")
    assert [word.text for word in changed] == ["we", "run", "Kubernetes", "now"]
    assert (changed[2].start, changed[2].end) == (words[2].start, words[3].end)
    assert changed[2].confidence == pytest.approx(0.4)
    assert changed[3] == words[4]


@pytest.mark.parametrize(
    "text",
    [
        "the dashboard would either love us or control cubes",
        "he would dash to Wood Street",
        "and then he went",
        "I wonder whether the million came by boat",
        "我说明天小王来",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert applied(text) == text


def test_a_draft_says_which_terms_may_be_meant() -> None:
    assert set(TERMS.heard_in(heard("Mr. dashwud knows cooper netties", 0.9), 5)) == {"Dashwood", "Kubernetes"}
    assert TERMS.heard_in(heard("nothing of it"), 5) == []
    assert TERMS.heard_in(heard("Dashwood"), 5) == ["Dashwood"]


def test_sounds() -> None:
    assert sound_of("Dashwud") == sound_of("Dashwood")
    assert sound_of("张伟") == sound_of("章薇") == sound_of("脏位")
    assert sound_of("Müller") == sound_of("Muller")


def test_what_people_correct_twice_is_proposed() -> None:
    corrections = [
        ("then aider spoke", "then Ada spoke"),
        ("aider, of course", "Ada, of course"),
        ("and ate a left", "and Ada left"),
        ("their house", "there house"),
        ("their house", "there house"),
        ("it was nice", "Completely Different Words"),
        ("it was nice", "Completely Different Words"),
        ("mr dashwud", "Mr. Dashwood"),
        ("小名来了", "晓明来了"),
        ("小名走了", "晓明走了"),
    ]
    assert learn(corrections) == [
        Proposal("Ada", ("aider", "ate"), 3),
        Proposal("晓明", ("小名",), 2),
    ]
    assert [each.term for each in learn(corrections, known=["ada"])] == ["晓明"]
    assert learn([]) == []
