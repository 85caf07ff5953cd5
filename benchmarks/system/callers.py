"""Short recordings over OpenAI's API, of one caller and of many, beside faster-whisper in a FastAPI handler."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import httpx
from rich.table import Table

from benchmarks.recordings import sources, write_flac
from benchmarks.stack import stack
from cli.stack.process import HOST, free_port
from db.settings import Settings, get_settings
from speech.engines import SAMPLE_RATE, Transcriber, Utterance
from speech.load import load_refine
from speech.models.catalogue import Catalogue
from speech.models.names import RefineEngine
from tests.waiting import until

CALLERS = (1, 8, 32)
REQUESTS = 20
"""At least so many of each system, with each number of callers."""

CLIP_SECONDS = 5
TIMEOUT = 120.0


def measure(speech: Path) -> Table:
    settings = get_settings()
    clips = [samples for samples, _ in sources(speech) if len(samples) > 2 * CLIP_SECONDS * SAMPLE_RATE]
    samples = clips[0][: CLIP_SECONDS * SAMPLE_RATE]
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, _), _plain(settings) as plain:
        path = Path(folder) / "clip.flac"
        write_flac(path, [samples])
        urls = {"Longhand": started.api_url, "plain": plain}
        for url in urls.values():
            _round(url, path, 2)  # the first requests find models cold
        table = Table(
            title=f"{CLIP_SECONDS} s of speech, language told, rounds of the two systems in turn: seconds"
        )
        for heading in (
            "callers",
            "Longhand: median",
            "p95",
            "plain: median",
            "p95",
            "ratio of medians",
            "of p95",
        ):
            table.add_column(heading)
        engine = _engine(settings)
        for callers in CALLERS:
            taken: defaultdict[str, list[float]] = defaultdict(list)
            while len(taken["plain"]) < REQUESTS:
                for name, url in urls.items():
                    taken[name] += _round(url, path, callers)
                if callers == 1:
                    taken["engine"].append(
                        _seconds(lambda: engine.transcribe([Utterance(samples, language="en")]))
                    )
            ours, theirs = (_summary(taken[name]) for name in urls)
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            values = (*ours, *theirs, *ratios)
            table.add_row(str(callers), *(f"{value:.2f}" for value in values))
            if callers == 1:
                own = median(taken["engine"])
                table.caption = (
                    f"in the same rounds the refining engine alone took {own:.2f} s: the answer to one caller may "
                    f"take 1.5 times that and 0.3 s, which are {1.5 * own + 0.3:.2f} s"
                )
    return table


@contextmanager
def _plain(settings: Settings) -> Iterator[str]:
    port = free_port()
    arguments = [str(settings.models_path / "whisper-base"), str(settings.refine_thread_count), str(port)]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.system.plain_server", *arguments])
    url = f"http://{HOST}:{port}"
    try:
        until(lambda: httpx.get(f"{url}/docs").is_success, despite=(httpx.ConnectError,))
        yield url
    finally:
        server.terminate()
        server.wait()


def _round(url: str, path: Path, callers: int) -> list[float]:
    """The seconds of each of so many requests that begin together."""
    with ThreadPoolExecutor(callers) as pool, httpx.Client(timeout=TIMEOUT, limits=httpx.Limits()) as client:
        return list(pool.map(lambda _: _ask(client, url, path), range(callers)))


def _ask(client: httpx.Client, url: str, path: Path) -> float:
    def post() -> None:
        answer = client.post(
            f"{url}/v1/audio/transcriptions",
            files={"file": (path.name, path.read_bytes())},
            data={"model": "whisper-1", "language": "en"},
        )
        answer.raise_for_status()
        assert answer.json()["text"]

    return _seconds(post)


def _seconds(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def _summary(seconds: list[float]) -> tuple[float, float]:
    """Median, and the 95th percentile."""
    return median(seconds), quantiles(seconds, n=20, method="inclusive")[-1]


def _engine(settings: Settings) -> Transcriber:
    return load_refine(
        Catalogue(settings.models_path),
        RefineEngine.WHISPER,
        model=settings.refine_model,
        threads=settings.refine_thread_count,
    )
