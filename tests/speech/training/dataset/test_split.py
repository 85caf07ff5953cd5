from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.training.dataset.split import LARGEST, Share, held_out


def share(person: int, seconds: float, human: float = 0.0) -> Share:
    return Share(person, seconds, human, f"voice {person}")


def test_corrected_speech_is_held_out_first() -> None:
    shares = [share(0, 500), share(1, 100, 10), share(2, 100, 90), share(3, 300)]
    assert held_out(shares, 0.09) == {2}


def test_only_corrected_speech_counts() -> None:
    shares = [share(0, 500), share(1, 100, 10), share(2, 100, 90), share(3, 300)]
    assert held_out(shares, 0.1) == {1, 2}


def test_others_follow_where_too_little_is_corrected() -> None:
    shares = [share(0, 10, 10), *(share(person, 100) for person in range(1, 10))]
    chosen = held_out(shares, 0.1)
    assert 0 in chosen
    assert len(chosen) == 2


def test_without_corrections_the_hash_decides() -> None:
    shares = [share(person, 60) for person in range(20)]
    chosen = held_out(shares, 0.1)
    assert len(chosen) == 2
    assert chosen == held_out([share(person, 61) for person in range(20)], 0.1)
    assert chosen != held_out([Share(person, 60, 0, f"other {person}") for person in range(20)], 0.1)


def test_somebody_is_left_to_train_on() -> None:
    assert held_out([]) == set()
    assert held_out([share(0, 100, 100)]) == set()
    assert held_out([share(0, 100, 100), share(1, 0)]) == set()
    assert len(held_out([share(0, 100, 100), share(1, 1, 1)], 1.0)) == 1


def test_most_of_the_speech_is_left_to_train_on() -> None:
    assert held_out([share(0, 900, 900), share(1, 100)]) == {0}
    # after the first, who has too much is passed over
    assert held_out([share(0, 10, 10), share(1, 900, 800), share(2, 90, 45)], 0.5) == {0, 2}


def test_one_share_each() -> None:
    with pytest.raises(ValueError, match="more than one share"):
        held_out([share(0, 1), share(0, 2)])


SHARES = st.lists(
    st.tuples(st.floats(0, 1e4), st.floats(0, 1)).map(lambda pair: (pair[0], pair[0] * pair[1])), max_size=12
).map(lambda spoken: [share(person, *seconds) for person, seconds in enumerate(spoken)])


@given(SHARES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_rules_hold_for_everybody(shares: list[Share], portion: float, random: object) -> None:
    chosen = held_out(shares, portion)
    shuffled = list(shares)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as an object
    assert held_out(shuffled, portion) == chosen
    speaking = {one.person for one in shares if one.seconds > 0}
    assert chosen <= speaking
    assert not speaking or chosen < speaking
    if len(chosen) > 1:
        spent = sum(one.seconds for one in shares if one.person in chosen)
        assert spent <= LARGEST * sum(one.seconds for one in shares) * (1 + 1e-9)
