"""Short recordings: seconds from the upload's end to the transcript, one alone and many at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.table import Table

from benchmarks.recordings import sources, write_flac
from benchmarks.stack import stack, transcribe
from speech.engines import SAMPLE_RATE

CLIP_SECONDS = (2, 5)
REPETITIONS = 7
AT_ONCE = 16


def measure(speech: Path) -> Table:
    table = Table(title=f"seconds to a transcript, without speakers; medians of {REPETITIONS}")
    for heading in ("recording", "language told", "not told", f"{AT_ONCE} at once, told", "not told"):
        table.add_column(heading)
    options: list[dict[str, str]] = [{"diarize": "false", "language": "en"}, {"diarize": "false"}]
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, client):
        clips = [samples for samples, _ in sources(speech) if len(samples) > 2 * max(CLIP_SECONDS) * SAMPLE_RATE]
        for seconds in CLIP_SECONDS:
            paths = []
            for number in range(AT_ONCE):
                path = Path(folder) / f"{seconds}-{number}.flac"
                write_flac(path, [clips[number % len(clips)][: seconds * SAMPLE_RATE]])
                paths.append(path)
            for told in options:
                transcribe(started, client, paths[0], **told)  # engines load
            alone = [
                median(transcribe(started, client, paths[i], **told).wall for i in range(REPETITIONS))
                for told in options
            ]
            together = []
            for told in options:
                begun = time.monotonic()
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    list(pool.map(lambda path, told=told: transcribe(started, client, path, **told), paths))
                together.append(time.monotonic() - begun)
            table.add_row(f"{seconds} s", *(f"{value:.2f}" for value in (*alone, *together)))
    return table
