"""How often a question finds the sentence that answers it: by meaning, by all of its words, by any of them."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from db.settings import get_settings
from speech.meaning import load_meaning

FIRST = 5
"""Sentences that somebody looks at."""

ASKED = {
    "Somebody is too poor to pay: all they care about is cash": "i just want my money",
    "a patient had problems with the brain and the circulation": "she had suffered strokes and heart failure",
    "Where was the deal made? Something was handed over in a vehicle": "a man approached the car and an exchange",
    "injured people were taken to hospital": "the others were treated in the emergency room",
    "the infant needed something to eat": "the baby was hungry",
    "what is the country that people were ashamed of": "pride in the country was also down",
    "hurry up": "there's no time to waste",
    "peace is better": "it makes more sense than going to war",
    "somebody was shivering with fear": "i could see that his hands were shaking too",
    "a couple loves each other": "she knows he loves her and she loves him",
    "which sentence contradicts itself": "it is a contradiction in terms",
    "when will the patient be allowed to leave the hospital?": "doctors have not set a date for his discharge",
    "weeping": "the tears were just running out of my eyes",
    "how did he stay alive? he leapt across a hole": "a quick jump over the widening gap saved him",
    "who was defeated in the election by the smallest margin": "i lost by one vote",
    "somebody leaves bed at dawn to earn their living": "i work for living and have to get up early",
    "was the child given to other parents? there are no papers": "there was no record of adoption",
    "what sort of clothing did the suspect wear": "the man you are talking about had a brown jacket",
    "murder of a parent": "this was the man who had killed his father",
    "shy with girls": "he is not used talking this way with a woman",
    "wealthy family": "i am rich and so was my father before me",
    "how to be rescued in the wilderness with flames": "lighting a fire is an easy way to get found",
    "statistics about shootings": "gun death at the bottom of the list",
    "vegetation becomes as large as its container": "plants grow to the size of the pot",
    "shortly before dawn": "it was probably about five o'clock in the morning",
    "an orphan who was picked up as an infant": "i was found by them when i was a baby",
    "holiday by the seaside is the greatest": "nothing better than a day at the beach",
    "insomnia: I should lie down": "well time for me to go to sleep",
    "raising profits": "the move is a part of plan to increase profits",
    "buying a house": "time to buy a new home",
}


def measure(folder: Path) -> Table:
    """Over the sentences of the folder's references: short, by many people, and of no common subject."""
    sentences = sorted(set(_sentences(folder)))
    answers = {question: [s for s in sentences if answer in s] for question, answer in ASKED.items()}
    asked = {question: given for question, given in answers.items() if given}
    if not asked:
        raise SystemExit(f"No recording in {folder} answers any of the questions.")
    model = load_meaning(get_settings().models_path)
    began = time.process_time()
    vectors = model.embed(sentences)
    each = 1000 * (time.process_time() - began) / len(sentences)
    tokens = [Counter(_words(sentence)) for sentence in sentences]
    rare = _rarity(tokens)

    def by_meaning(question: str) -> np.ndarray:
        return np.asarray(vectors @ model.embed([question])[0])

    def by_any_word(question: str) -> np.ndarray:
        wanted = set(_words(question))
        return np.array([sum(rare[w] for w in wanted & set(found)) / (2 + len(found)) for found in tokens])

    def by_all_words(question: str) -> np.ndarray:
        wanted = set(_words(question))
        return np.array([float(wanted <= set(found)) for found in tokens])

    title = f"{len(asked)} questions to {len(sentences):,} sentences; {each:.1f} ms of CPU to read one"
    table = Table(title=title)
    for heading in ("found by", "first", f"among the first {FIRST}", "among the first 20"):
        table.add_column(heading)
    ways: dict[str, Callable[[str], np.ndarray]] = {
        "meaning": by_meaning, "all words": by_all_words, "any word, rare ones first": by_any_word,
    }  # fmt: skip
    for name, way in ways.items():
        places = [_place(way(question), sentences, given) for question, given in asked.items()]
        table.add_row(name, *(f"{np.mean([place < most for place in places]):.0%}" for most in (1, FIRST, 20)))
    return table


def _sentences(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.ref.json")):
        yield from (each["text"].lower() for each in json.loads(path.read_text()))
    for path in sorted(folder.rglob("manifest.jsonl")):
        for line in path.read_text().splitlines():
            yield from (each["text"].lower() for each in json.loads(line).get("segments") or ())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _rarity(tokens: Sequence[Counter[str]]) -> dict[str, float]:
    having = Counter(word for found in tokens for word in found)
    return {word: math.log(len(tokens) / count) for word, count in having.items()}


def _place(likeness: np.ndarray, sentences: Sequence[str], given: Sequence[str]) -> float:
    """How many sentences stand before the first that answers; infinite where it is not found at all."""
    best = max(likeness[sentences.index(each)] for each in given)
    return float(np.sum(likeness > best)) if best > 0 else math.inf
