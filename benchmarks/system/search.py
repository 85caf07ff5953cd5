"""Searching ten thousand hours of transcripts, generated."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from psycopg import sql
from rich.console import Group
from rich.table import Table
from sqlalchemy import text

from benchmarks.stack import running_parts, settings_of
from db.models import Base, Job, Passage
from db.search.find import Filters, find
from db.search.passages import passage
from db.search.query import parse
from db.session import Sessions, make_sessions
from db.tenancy import TenantSessions
from tests.jobs import make_job

TENANT = "default"
WORDS_AN_HOUR = 4000
HOURS_A_JOB = 1
WORDS_A_SEGMENT = 11
SEGMENTS_A_CHUNK = 3
VOCABULARY = 200_000
HAN_SHARE = 0.1
"""Of the recordings, in a script without spaces."""
HAN = 3000
KEPT = 50
"""Every so many segments one is kept, to ask for what is in it."""
QUERIES = 400

SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ai", "en")]


def measure(hours: float) -> Group:
    with (
        TemporaryDirectory() as folder,
        running_parts(Path(folder) / "stack", ("postgres", "redis", "s3")) as parts,
    ):
        settings = settings_of(parts)
        sessions = make_sessions(settings, name="bench")
        corpus = Corpus()
        began = time.monotonic()
        words = _fill(sessions, corpus, hours)
        filled = time.monotonic() - began
        sizes = _sizes(sessions)
        table = Table(
            title=f"{hours:,.0f} hours, {words / 1e6:.1f} million words; milliseconds of a first page of 20"
        )
        for heading in ("asked for", "median", "p95", "slowest", "p95 on a processor", "with hits"):
            table.add_column(heading)
        kinds = _queries(corpus)
        taken: list[tuple[float, float]] = []
        for kind, queries in kinds.items():
            times, hits = _ask(TenantSessions(sessions), queries)
            taken += times
            table.add_row(kind, *_quantiles(times), f"{hits} of {len(queries)}")
        table.add_row("all of these", *_quantiles(taken))
        sessions.kw["bind"].dispose()
    return Group(table, f"filled in {filled:.0f} s; {sizes}")


class Corpus:
    """Words as often as words are (Zipf), from a seed."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        words = dict.fromkeys(self._word() for _ in range(2 * VOCABULARY))
        self.words = list(words)[:VOCABULARY]
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self.words))))
        self.spoken: list[str] = []
        self.written: list[str] = []
        """Some of what is in the transcripts, the latter without spaces."""
        self._characters = [chr(0x4E00 + n) for n in range(HAN)]
        self._character_weights = list(accumulate(1 / (rank + 20) for rank in range(HAN)))

    def _word(self) -> str:
        return "".join(self.random.choices(SYLLABLES, k=self.random.choice((1, 2, 2, 3, 3, 4))))

    def sentence(self, count: int) -> list[str]:
        return self.random.choices(self.words, cum_weights=self._weights, k=count)

    def characters(self, count: int) -> str:
        return "".join(self.random.choices(self._characters, cum_weights=self._character_weights, k=count))

    def rare(self) -> str:
        return self.words[self.random.randrange(1000, len(self.words) // 4)]


def _fill(sessions: Sessions, corpus: Corpus, hours: float) -> int:
    """Returns the number of words, where two characters of a script without spaces count as one."""
    now, words = datetime.now(UTC), 0
    (terms,) = (index for index in Base.metadata.tables["passages"].indexes if index.name == "ix_passages_terms")
    with sessions.begin() as session:
        terms.drop(session.connection())
    for number in range(round(hours / HOURS_A_JOB)):
        created = now - timedelta(minutes=20 * number)
        job_id = make_job(sessions, tenant=TENANT, created_at=created, options={"source": f"show {number % 50}"})
        job = Job(id=job_id, tenant=TENANT, created_at=created)
        segments = list(_segments(corpus, is_han=number % 10 == 0))
        words += WORDS_AN_HOUR * HOURS_A_JOB
        chunks = segments[-1]["chunk"] + 1
        with sessions.begin() as session:
            connection = session.connection().connection.driver_connection
            assert connection is not None
            _copy(
                connection,
                "chunks",
                ("job_id", "index", "start", "end", "key"),
                ((job_id, n, 10.0 * n, 10.0 * n + 10, "") for n in range(chunks)),
            )
            names = [column.name for column in Passage.__table__.columns]
            rows = (passage(job, segment) for segment in segments)
            _copy(connection, "passages", names, ([row[name] for name in names] for row in rows))
    with sessions.begin() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        terms.create(session.connection())
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.execute(text("SET statement_timeout = 0"))
        session.execute(text("VACUUM ANALYZE passages, jobs"))
    return words


def _segments(corpus: Corpus, *, is_han: bool) -> Iterator[dict[str, Any]]:
    count = WORDS_AN_HOUR * HOURS_A_JOB // WORDS_A_SEGMENT
    for number in range(count):
        said = (
            corpus.characters(2 * WORDS_A_SEGMENT) if is_han else " ".join(corpus.sentence(WORDS_A_SEGMENT)) + "."
        )
        if number % KEPT == 0:
            (corpus.written if is_han else corpus.spoken).append(said)
        chunk, position = divmod(number, SEGMENTS_A_CHUNK)
        yield {
            "index": 100 * chunk + position,
            "chunk": chunk,
            "start": 10.0 * number,
            "end": 10.0 * number + 10,
            "text": said,
            "speaker": f"SPEAKER_{number % 4:02d}",
            "language": "zh" if is_han else "en",
        }


def _copy(connection: Any, table: str, names: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _queries(corpus: Corpus) -> dict[str, list[tuple[str, Filters]]]:
    """As people ask: words that mean something, alone and together, phrases that were said, beginnings, typos."""
    anything = Filters()

    def some(make: Any, filters: Filters = anything) -> list[tuple[str, Filters]]:
        return [(make(), filters) for _ in range(QUERIES // 8)]

    def phrase() -> str:
        words = corpus.random.choice(corpus.spoken).split()
        at = corpus.random.randrange(len(words) - 3)
        return '"' + " ".join(words[at : at + 3]) + '"'

    def characters() -> str:
        text = corpus.random.choice(corpus.written)
        at = corpus.random.randrange(len(text) - 4)
        return text[at : at + corpus.random.choice((1, 2, 3, 4))]

    def mistyped() -> str:
        word = next(word for word in iter(corpus.rare, "") if len(word) >= 6)
        return word[:2] + word[3] + word[2] + word[4:]

    return {
        "a word": some(corpus.rare),
        "a word as often as words are": some(lambda: corpus.sentence(1)[0]),
        "two words": some(lambda: " ".join(corpus.sentence(2))),
        "a phrase": some(phrase),
        "a beginning": some(lambda: corpus.rare()[:4] + "*"),
        "a typo": some(mistyped),
        "characters without spaces": some(characters),
        "a word, of one speaker and source": some(
            lambda: corpus.sentence(1)[0], Filters(speaker="SPEAKER_01", source="show 7")
        ),
    }


def _ask(
    for_tenant: TenantSessions, queries: Sequence[tuple[str, Filters]]
) -> tuple[list[tuple[float, float]], int]:
    """(milliseconds of each, and of these those on a processor, here or in Postgres; how many found something)."""
    times, hits = [], 0
    for typed, filters in queries:
        with for_tenant(TENANT)() as session:
            processes = os.getpid(), session.scalar(text("SELECT pg_backend_pid()"))
            session.rollback()
            began, ran = time.perf_counter(), sum(map(_processor_seconds, processes))
            found = find(session, parse(typed), filters, limit=20)
            session.rollback()
            both = time.perf_counter() - began, sum(map(_processor_seconds, processes)) - ran
        times.append((1000 * both[0], 1000 * both[1]))
        hits += bool(found)
    return times, hits


def _processor_seconds(process: int) -> float:
    """How long it ran, which others on the machine make no longer (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _quantiles(times: Sequence[tuple[float, float]]) -> list[str]:
    wall, processor = zip(*times, strict=True)
    values = np.median(wall), np.quantile(wall, 0.95), max(wall), np.quantile(processor, 0.95)
    return [f"{value:.0f}" for value in values]


def _sizes(sessions: Sessions) -> str:
    with sessions() as session:
        rows = session.scalar(text("SELECT count(*) FROM passages"))
        names = "passages", "ix_passages_terms", "ix_passages_newest"
        sizes = [session.scalar(text("SELECT pg_relation_size(:name)"), {"name": name}) for name in names]
    table, terms, newest = (f"{size / 1e6:,.0f} MB" for size in sizes)
    return f"{rows:,} segments: {table}, the index of words {terms}, that of times {newest}"
