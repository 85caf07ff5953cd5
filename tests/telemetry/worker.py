"""``python -m tests.telemetry.worker``: runs all steps there are with scripted engines, as a worker would."""

from __future__ import annotations

from prometheus_client import REGISTRY

from db.settings import get_settings
from db.telemetry.exposition import render
from db.telemetry.process import flush_traces, start_telemetry
from speech.engines import Utterance
from tasks.errors import Transient
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import failing, run_until_done

SECRET = "the merger with Contoso"


def main() -> None:
    settings = get_settings()
    start_telemetry("cpu", settings)
    refine = failing(3, Transient(f"no host, while it heard {SECRET}"))

    def draft(utterance: Utterance) -> str:
        return SECRET

    runtime = FakeRuntime(settings, draft, refine)
    run_until_done(runtime)
    print(render(REGISTRY, "application/openmetrics-text")[0].decode())  # noqa: T201
    flush_traces()


if __name__ == "__main__":
    main()
