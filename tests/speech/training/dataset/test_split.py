from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.training.dataset.split import MAX_HELD_OUT_SHARE, PersonSpeech, select_held_out


def speech(person: int, seconds: float, human: float = 0.0) -> PersonSpeech:
    return PersonSpeech(person, seconds, human, f"voice {person}")


def test_corrected_speech_is_held_out_first() -> None:
    people = [speech(0, 500), speech(1, 100, 10), speech(2, 100, 90), speech(3, 300)]
    assert select_held_out(people, 0.09) == {2}


def test_only_corrected_speech_counts() -> None:
    people = [speech(0, 500), speech(1, 100, 10), speech(2, 100, 90), speech(3, 300)]
    assert select_held_out(people, 0.1) == {1, 2}


def test_uncorrected_people_follow_where_too_little_is_corrected() -> None:
    people = [speech(0, 10, 10), *(speech(person, 100) for person in range(1, 10))]
    selected = select_held_out(people, 0.1)
    assert 0 in selected
    assert len(selected) == 2


def test_without_corrections_the_hash_decides() -> None:
    people = [speech(person, 60) for person in range(20)]
    selected = select_held_out(people, 0.1)
    assert len(selected) == 2
    assert selected == select_held_out([speech(person, 61) for person in range(20)], 0.1)
    assert selected != select_held_out(
        [PersonSpeech(person, 60, 0, f"other {person}") for person in range(20)], 0.1
    )


def test_somebody_remains_to_train_on() -> None:
    assert select_held_out([]) == set()
    assert select_held_out([speech(0, 100, 100)]) == set()
    assert select_held_out([speech(0, 100, 100), speech(1, 0)]) == set()
    assert len(select_held_out([speech(0, 100, 100), speech(1, 1, 1)], 1.0)) == 1


def test_at_most_half_of_the_speech_is_held_out() -> None:
    assert select_held_out([speech(0, 900, 900), speech(1, 100)]) == {0}
    # after the first, a person with too much speech is skipped
    assert select_held_out([speech(0, 10, 10), speech(1, 900, 800), speech(2, 90, 45)], 0.5) == {0, 2}


def test_a_person_must_not_be_listed_twice() -> None:
    with pytest.raises(ValueError, match="more than one share"):
        select_held_out([speech(0, 1), speech(0, 2)])


PEOPLE = st.lists(
    st.tuples(st.floats(0, 1e4), st.floats(0, 1)).map(lambda pair: (pair[0], pair[0] * pair[1])), max_size=12
).map(lambda spoken: [speech(person, *seconds) for person, seconds in enumerate(spoken)])


@given(PEOPLE, st.floats(0, 1), st.randoms(use_true_random=False))
def test_invariants(people: list[PersonSpeech], portion: float, random: object) -> None:
    selected = select_held_out(people, portion)
    shuffled = list(people)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as an object
    assert select_held_out(shuffled, portion) == selected
    speaking = {one.person for one in people if one.seconds > 0}
    assert selected <= speaking
    assert not speaking or selected < speaking
    if len(selected) > 1:
        held_out_seconds = sum(one.seconds for one in people if one.person in selected)
        assert held_out_seconds <= MAX_HELD_OUT_SHARE * sum(one.seconds for one in people) * (1 + 1e-9)
