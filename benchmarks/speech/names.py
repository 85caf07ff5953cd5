"""Names of people right and wrong, without a vocabulary and with one: as hotwords, afterwards, and both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rapidfuzz.distance import Levenshtein
from rich.table import Table

from benchmarks.recordings import error_rate, normalise_words, sources
from benchmarks.speech.accuracy import cut_into_chunks, transcribe_batches
from db.settings import get_settings
from speech.asr.alignment.align import align
from speech.engines import Utterance
from speech.load import load_draft, load_refine, load_vad
from speech.models.catalogue import Catalogue
from speech.models.names import DraftEngine, RefineEngine
from speech.text.vocabulary import NO_VOCABULARY, Term, Vocabulary
from tasks.steps.refine import MOST_HOTWORDS

NAMES = (
    *("Andy", "Ann", "Annie", "Billy", "Bob", "Dashwood", "David", "Dora", "Jack", "Jayme", "Jim", "John", "Kate"),
    *("Layla", "Lilly", "Lucy", "Lynda", "Mandy", "Mark", "Mary", "Mike", "Peter", "Teddy", "Tina", "Tom"),
)
"""All that the recordings' texts have."""

OTHERS = (
    *("Abernathy", "Beaumont", "Cavendish", "Delacroix", "Eriksson", "Fitzgerald"),
    *("Kubernetes", "Prometheus", "Terraform", "Wittgenstein"),
)
"""That nobody says."""


def measure(speech: Path) -> Table:
    settings = get_settings()
    catalogue = Catalogue(settings.models_path)
    threads = settings.refine_thread_count
    vad = load_vad(catalogue)
    drafter = load_draft(catalogue, DraftEngine.WHISPER, threads=threads)
    refiner = load_refine(catalogue, RefineEngine.WHISPER, device="cpu", threads=threads)
    vocabulary = Vocabulary([Term(name) for name in (*NAMES, *OTHERS)])
    said: dict[str, list[str]] = {"none": [], "as hotwords": [], "afterwards": [], "both": []}
    references = []
    for audio, reference in sources(speech):
        references.append(reference)
        chunks = cut_into_chunks(audio, vad)
        utterances = [Utterance(chunk.samples, language="en") for chunk in chunks]
        drafts = transcribe_batches(drafter.transcribe, utterances)
        told = [
            replace(utterance, hotwords=tuple(vocabulary.heard_in(draft.words, MOST_HOTWORDS)))
            for utterance, draft in zip(utterances, drafts, strict=True)
        ]
        plain, biased = (transcribe_batches(refiner.transcribe, each) for each in (utterances, told))
        biased = [replace(hypothesis, told_terms=True) for hypothesis in biased]
        for name, refined, used in (
            ("none", plain, NO_VOCABULARY),
            ("as hotwords", biased, NO_VOCABULARY),
            ("afterwards", plain, vocabulary),
            ("both", biased, vocabulary),
        ):
            said[name].append(
                " ".join(
                    segment.text
                    for chunk, draft, final in zip(chunks, drafts, refined, strict=True)
                    for segment in align(
                        chunk.timeline.place(draft),
                        chunk.timeline.place(final),
                        chunk=chunk.index,
                        timeline=chunk.timeline,
                        vocabulary=used,
                    ).segments
                )
            )
    table = Table("vocabulary", "names right", "names that nobody said", "word error rate")
    for name, texts in said.items():
        right, of_all, wrong = _count(references, texts)
        rate = error_rate(" ".join(references), " ".join(texts))
        table.add_row(name, f"{right} of {of_all}", str(wrong), f"{rate:.3f}")
    return table


def _count(references: Sequence[str], texts: Sequence[str]) -> tuple[int, int, int]:
    """Names that are right, that are said, and that stand where nobody says them."""
    names = {name.lower() for name in (*NAMES, *OTHERS)}
    right = of_all = written = 0
    for reference, text in zip(references, texts, strict=True):
        meant, heard = ([_bare(word) for word in normalise_words(each).split()] for each in (reference, text))
        of_all += sum(word in names for word in meant)
        written += sum(word in names for word in heard)
        for block in Levenshtein.opcodes(meant, heard):
            if block.tag == "equal":
                right += sum(word in names for word in meant[block.src_start : block.src_end])
    return right, of_all, written - right


def _bare(word: str) -> str:
    return word.removesuffix("'s")
