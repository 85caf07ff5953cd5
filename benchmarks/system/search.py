"""Searching ten thousand hours of transcripts, generated."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import sql
from rich.console import Group
from rich.table import Table
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from benchmarks.stack import running_parts, settings_of
from db.models import Base, Job, JobStatus, Passage, StoredSpeaker
from db.search.filters import Filters
from db.search.find import find
from db.search.lexemes import mark, vector
from db.search.query import parse
from db.session import Sessions, make_sessions
from db.tenancy import TenantSessions

TENANT = "default"
SMALL = "small"
"""Another tenant, with a hundredth as many recordings, all of them without spaces."""
OTHERS = 9
"""Tenants as small."""
WORDS_AN_HOUR = 4000
WORDS_A_SEGMENT = 11
SEGMENTS_AN_HOUR = WORDS_AN_HOUR // WORDS_A_SEGMENT
COLUMNS = [column.name for column in Passage.__table__.columns if column.identity is None]
TERMS = " ".join(f"'{{mark}}%s':{place}" for place in range(1, WORDS_A_SEGMENT + 1))
SEGMENTS_A_CHUNK = 3
VOCABULARY = 200_000
HAN_SHARE = 10
"""Every so many recordings one is in a script without spaces."""
HAN = 3000
KEPT = 50
"""Every so many segments one is kept, to ask for what is in it."""
QUERIES = 100
"""Of each kind."""
AT_ONCE = 25
"""Recordings that are added in one transaction."""
PAGE = 20
DEEP = 10
"""The page that is asked for last."""

FOLDER = Path(__file__).parents[1] / "results"

SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ai", "en")]


def measure(hours: float, folder: Path) -> Group:
    """In a database that is filled once, and kept in the folder."""
    kept = folder / f"search-{hours:.0f}"
    corpus = Corpus()
    with running_parts(kept, ("postgres", "redis", "s3")) as parts:
        sessions = make_sessions(settings_of(parts), name="bench")
        filled = kept / "filled.json"
        if not filled.exists():
            began = time.monotonic()
            _fill(sessions, corpus, hours)
            corpus.said["seconds"] = [str(round(time.monotonic() - began))]
            filled.write_text(json.dumps(corpus.said))
        corpus.said = json.loads(filled.read_text())
        with sessions() as session:
            last = session.scalars(select(func.max(Job.created_at))).one()
        table = Table(title=f"{hours:,.0f} hours; milliseconds of a page of {PAGE}")
        for heading in ("asked for", "median", "p95", "slowest", "median CPU", "p95 CPU", "with hits"):
            table.add_column(heading)
        taken: list[Taken] = []
        for kind, asked in _queries(corpus, last, 20 * hours / 60 / 24).items():
            times = [_ask(TenantSessions(sessions), each) for each in asked]
            taken += times
            table.add_row(kind, *_quantiles(times), f"{sum(each.found for each in times)} of {len(times)}")
        table.add_row("all of these", *_quantiles(taken))
        sizes = _sizes(sessions)
        sessions.kw["bind"].dispose()
    return Group(table, f"filled in {corpus.said['seconds'][0]} s; {sizes}")


class Corpus:
    """Words as often as words are (Zipf), from a seed."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        words = dict.fromkeys(self._word() for _ in range(2 * VOCABULARY))
        self.words = np.array(list(words)[:VOCABULARY], object)
        self._characters = np.array([chr(0x4E00 + n) for n in range(HAN)], object)
        self._draws = np.random.default_rng(7)
        self._shares = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
        self._character_shares = np.cumsum(1 / (np.arange(HAN) + 20))
        self.said: dict[str, list[str]] = {"spaced": [], "unspaced": []}
        """Some of what is in the transcripts."""

    def _word(self) -> str:
        return "".join(self.random.choices(SYLLABLES, k=self.random.choice((1, 2, 2, 3, 3, 4))))

    def sentences(self, count: int, length: int = WORDS_A_SEGMENT) -> list[list[str]]:
        return _drawn(self._draws, self.words, self._shares, count, length)

    def runs(self, count: int) -> list[str]:
        """Without spaces."""
        length = 2 * WORDS_A_SEGMENT
        return list(map("".join, _drawn(self._draws, self._characters, self._character_shares, count, length)))

    def word(self, first: int, last: int) -> str:
        """Of those between these places in the order of how often they are said."""
        return str(self.words[self.random.randrange(first, last)])


def _drawn(draws: np.random.Generator, what: Any, shares: Any, count: int, length: int) -> list[list[str]]:
    drawn = np.searchsorted(shares, draws.random((count, length)) * shares[-1])
    found: list[list[str]] = what[drawn].tolist()
    return found


def _fill(sessions: Sessions, corpus: Corpus, hours: float) -> None:
    """An hour a job. The index of words is made at the end, as for a table that is restored."""
    now, others = datetime.now(UTC), [SMALL, *(f"other {n}" for n in range(OTHERS))]
    (terms,) = (index for index in Base.metadata.tables["passages"].indexes if index.name == "ix_passages_terms")
    with sessions.begin() as session:
        terms.drop(session.connection())
    recordings = []
    for number in range(round(hours)):
        created = now - timedelta(minutes=20 * (hours - number))
        recordings.append(_Recording(TENANT, created, number))
        if number % 10 == 0:
            recordings.append(_Recording(others[number // 10 % len(others)], created, number))
    for at in range(0, len(recordings), AT_ONCE):
        with sessions.begin() as session:
            _unchecked(session)
            _add(session, corpus, recordings[at : at + AT_ONCE])
    with sessions.begin() as session:
        _unchecked(session)
        terms.create(session.connection())
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        session.execute(text("SET statement_timeout = 0"))
        session.execute(text("VACUUM ANALYZE"))


@dataclass
class _Recording:
    tenant: str
    created: datetime
    number: int
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def language(self) -> str:
        return "zh" if self.number % HAN_SHARE == 0 else "en"

    def values(self, chunks: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "tenant": self.tenant,
            "created_at": self.created,
            "filename": f"{self.number}.flac",
            "bytes": 1,
            "sha256": "",
            "source_key": "",
            "options": {"source": f"show {self.number % 50}"},
            "status": JobStatus.COMPLETED,
            "transcript_prefix": "",
            "chunks": chunks,
            "final": chunks,
        }

    def speakers(self) -> list[dict[str, Any]]:
        return [
            {
                "job_id": self.id,
                "label": f"SPEAKER_{n:02d}",
                "name": f"Person {(self.number + n) % 97}",
                "vector": [0],
            }
            for n in range(4)
        ]


def _unchecked(session: Session) -> None:
    """Rows refer to rows that are there."""
    for setting in (
        "session_replication_role = replica",
        "synchronous_commit = off",
        "statement_timeout = 0",
        "maintenance_work_mem = '1GB'",
    ):
        session.execute(text(f"SET LOCAL {setting}"))


def _add(session: Session, corpus: Corpus, recordings: Sequence[_Recording]) -> None:
    chunks = SEGMENTS_AN_HOUR // SEGMENTS_A_CHUNK
    session.execute(insert(Job), [each.values(chunks) for each in recordings])
    session.execute(insert(StoredSpeaker), [speaker for each in recordings for speaker in each.speakers()])
    connection = session.connection().connection.driver_connection
    spans = (f"{each.id}\t{n}\t{30 * n}\t{30 * n + 30}\t\n" for each in recordings for n in range(chunks))
    _copy(connection, "chunks", ("job_id", "index", "start", "end", "key"), spans)
    _copy(connection, "passages", COLUMNS, (line for each in recordings for line in _lines(corpus, each)))


def _lines(corpus: Corpus, recording: _Recording) -> Iterator[str]:
    """The passages of a recording, as ``COPY`` reads them."""
    language, said = recording.language, _said(corpus, recording)
    corpus.said["unspaced" if language == "zh" else "spaced"] += [sentence for sentence, _ in said[::KEPT]]
    rest = f"{recording.tenant}\t{recording.created}"
    for number, (sentence, terms) in enumerate(said):
        chunk, position = divmod(number, SEGMENTS_A_CHUNK)
        place = f"{recording.id}\t{100 * chunk + position}\t{chunk}\t{rest}\t{10 * number}\t{10 * number + 10}"
        yield f"{place}\t{sentence}\tSPEAKER_{number % 4:02d}\t{language}\tf\t{terms}\n"


def _said(corpus: Corpus, recording: _Recording) -> list[tuple[str, str]]:
    """Texts, and their terms as ``vector`` makes them: of ASCII words that takes no time."""
    if recording.language == "zh":
        return [(run, vector(run, recording.tenant)) for run in corpus.runs(SEGMENTS_AN_HOUR)]
    terms = TERMS.format(mark=mark(recording.tenant))
    sentences = corpus.sentences(SEGMENTS_AN_HOUR)
    return [(" ".join(words), terms % tuple(words)) for words in sentences]


def _copy(connection: Any, table: str, names: Sequence[str], lines: Iterator[str]) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for some in batched(lines, 1000):
            copy.write("".join(some))


def batched(lines: Iterator[str], count: int) -> Iterator[list[str]]:
    while some := list(islice(lines, count)):
        yield some


@dataclass(frozen=True)
class Asked:
    typed: str
    filters: Filters = field(default_factory=Filters)
    page: int = 1
    tenant: str = TENANT


@dataclass(frozen=True)
class Taken:
    wall: float
    processor: float
    """Milliseconds, the latter here and in PostgreSQL together."""
    found: bool


def _queries(corpus: Corpus, last: datetime, days: float) -> dict[str, list[Asked]]:
    """As people ask: words that mean something, alone and together, phrases that were said, beginnings, typos."""
    pick = corpus.random

    def rare() -> str:
        return corpus.word(1000, VOCABULARY // 4)

    def middling() -> str:
        return corpus.word(30, 1000)

    def common() -> str:
        return corpus.word(0, 30)

    def usual() -> str:
        return corpus.sentences(1, 1)[0][0]

    def phrase() -> str:
        words = pick.choice(corpus.said["spaced"]).split()
        at = pick.randrange(len(words) - 3)
        return '"' + " ".join(words[at : at + 3]) + '"'

    def characters() -> str:
        said = pick.choice(corpus.said["unspaced"])
        at = pick.randrange(len(said) - 4)
        return said[at : at + pick.choice((1, 2, 3, 4))]

    def mistyped() -> str:
        word = next(word for word in iter(rare, "") if len(word) >= 6)
        return word[:2] + word[3] + word[2] + word[4:]

    filters = {
        "a label and a source": Filters(speaker="SPEAKER_01", source="show 7"),
        "a speaker's name": Filters(speaker="Person 7"),
        "a tenth of the time": Filters(
            since=last - timedelta(days=0.7 * days), until=last - timedelta(days=0.6 * days)
        ),
        "a language that lacks it": Filters(language="zh"),
    }
    kinds: dict[str, Callable[[], Asked]] = {
        "a rare word": lambda: Asked(rare()),
        "one of the 1,000 most common words": lambda: Asked(middling()),
        "one of the 30 most common": lambda: Asked(common()),
        "two words, as often as words are": lambda: Asked(" ".join(corpus.sentences(1, 2)[0])),
        "two of the 1,000": lambda: Asked(f"{middling()} {middling()}"),
        "a phrase of three, as said": lambda: Asked(phrase()),
        "a phrase of two of the 30": lambda: Asked(f'"{common()} {common()}"'),
        "a phrase of three of the 30": lambda: Asked(f'"{common()} {common()} {common()}"'),
        "a common word without another": lambda: Asked(f"{usual()} -{common()}"),
        "a beginning of four letters": lambda: Asked(rare()[:4] + "*"),
        "a typo": lambda: Asked(mistyped()),
        "1 to 4 characters without spaces": lambda: Asked(characters()),
        **{
            f"a word, of {name}": lambda chosen=chosen: Asked(usual(), chosen)  # type: ignore[misc]
            for name, chosen in filters.items()
        },
        "a rare word, of a label and a source": lambda: Asked(rare(), filters["a label and a source"]),
        f"page {DEEP} of a common word": lambda: Asked(middling(), page=DEEP),
        "1 to 4 characters, in a small tenant": lambda: Asked(characters(), tenant=SMALL),
    }
    return {kind: [make() for _ in range(QUERIES)] for kind, make in kinds.items()}


def _ask(for_tenant: TenantSessions, asked: Asked) -> Taken:
    """Only the last page is measured."""
    place = None
    with for_tenant(asked.tenant)() as session:
        processes = os.getpid(), session.scalar(text("SELECT pg_backend_pid()"))
        session.rollback()
        for _ in range(asked.page):
            began, ran = time.perf_counter(), sum(map(_processor_seconds, processes))
            found = find(session, parse(asked.typed), asked.filters, limit=PAGE, after=place)
            session.rollback()
            taken = time.perf_counter() - began, sum(map(_processor_seconds, processes)) - ran
            if not found:
                break
            place = found[-1].place
    return Taken(1000 * taken[0], 1000 * taken[1], bool(found))


def _processor_seconds(process: int) -> float:
    """How long it ran, which others on the machine make no longer (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _quantiles(times: Sequence[Taken]) -> list[str]:
    wall, processor = [each.wall for each in times], [each.processor for each in times]
    values = (
        np.median(wall),
        np.quantile(wall, 0.95),
        max(wall),
        np.median(processor),
        np.quantile(processor, 0.95),
    )
    return [f"{value:.0f}" for value in values]


def _sizes(sessions: Sessions) -> str:
    with sessions() as session:
        rows = session.scalar(text("SELECT count(*) FROM passages"))
        names = "passages", "ix_passages_terms"
        sizes = [session.scalar(text("SELECT pg_relation_size(:name)"), {"name": name}) for name in names]
    table, terms = (f"{size / 1e6:,.0f} MB" for size in sizes)
    return f"{rows:,} segments: {table}, the index of words {terms}"
